"""The real client takes the mock for the Anthropic API.

Without that, no test of the gateway between the two would say anything.
"""

import json
from pathlib import Path

import pytest

from tests.support.claude_code import run_claude
from tests.support.mock import MockAnthropic, Scenario, header, headers_of, tool_round_trip

pytestmark = pytest.mark.claude

OAUTH_TOKEN = "sk-ant-oat01-direct"
VIRTUAL_KEY = "sk-virtual-direct"


def test_say_hi_is_exactly_one_request(mock_anthropic: MockAnthropic, tmp_path: Path) -> None:
    # given the tutorial's way of connecting, with the mock in the gateway's place
    mock_anthropic.set_default(Scenario(text="Hi from the mock."))
    # when one question is asked
    answer = run_claude(
        mock_anthropic.url, VIRTUAL_KEY, "say hi", home=tmp_path, oauth_token=OAUTH_TOKEN
    )
    # then the answer is shown
    assert (answer.exit_code, answer.is_error) == (0, False)
    assert answer.result == "Hi from the mock."
    # and there was one request, with both credentials in their places
    (record,) = mock_anthropic.requests()
    assert record.target == "/v1/messages?beta=true"
    assert headers_of(record, "authorization") == [f"Bearer {OAUTH_TOKEN}"]
    assert headers_of(record, "x-litellm-api-key") == [f"Bearer {VIRTUAL_KEY}"]
    assert headers_of(record, "x-api-key") == []
    assert header(record, "x-claude-code-session-id") == answer.session_id
    body = json.loads(record.body)
    assert (body["model"], body["stream"]) == ("anthropic-claude", True)
    assert {message["role"] for message in body["messages"]} == {"user", "system"}
    # and the client counted the usage that it was told
    assert record.complete
    assert record.usage is not None
    counted = answer.output["usage"]
    for name in ("input_tokens", "output_tokens", "cache_read_input_tokens"):
        assert counted[name] == record.usage[name]


def test_tools_run_and_their_results_come_back(
    mock_anthropic: MockAnthropic, tmp_path: Path
) -> None:
    # given an answer that asks for Bash, then for a file
    project = tmp_path / "project"
    project.mkdir()
    (project / "hello.txt").write_text("hello file contents 42\n")
    mock_anthropic.set_default(tool_round_trip(project / "hello.txt"))
    # when the client may run Bash
    answer = run_claude(
        mock_anthropic.url,
        VIRTUAL_KEY,
        "run echo",
        home=tmp_path,
        oauth_token=OAUTH_TOKEN,
        extra_args=["--allowedTools", "Bash"],
    )
    # then three requests led to the answer
    assert (answer.exit_code, answer.is_error) == (0, False)
    records = mock_anthropic.messages()
    assert len(mock_anthropic.requests()) == len(records) == 3
    # and the tools have really run
    contents = [json.loads(record.body)["messages"][-1]["content"] for record in records]
    assert "tally-42" in json.dumps(contents[1])
    assert "hello file contents 42" in json.dumps(contents[2])


def test_overloaded_answer_is_tried_again(mock_anthropic: MockAnthropic, tmp_path: Path) -> None:
    # given one 529
    mock_anthropic.queue(Scenario(reply="error", status=529, error_message="Overloaded"))
    # when a question is asked
    answer = run_claude(
        mock_anthropic.url, VIRTUAL_KEY, "say hi", home=tmp_path, oauth_token=OAUTH_TOKEN
    )
    # then the second request was answered
    assert (answer.exit_code, answer.is_error) == (0, False)
    assert [record.status for record in mock_anthropic.messages()] == [529, 200]


def test_error_is_shown_with_its_message(mock_anthropic: MockAnthropic, tmp_path: Path) -> None:
    # given a refusal
    refusal = Scenario(reply="error", status=402, error_message="budget exceeded for team blue")
    mock_anthropic.set_default(refusal)
    # when a question is asked
    answer = run_claude(
        mock_anthropic.url, VIRTUAL_KEY, "say hi", home=tmp_path, oauth_token=OAUTH_TOKEN
    )
    # then the message is shown after one request
    assert (answer.exit_code, answer.is_error, answer.api_error_status) == (1, True, 402)
    assert answer.result == "API Error: 402 budget exceeded for team blue"
    assert len(mock_anthropic.requests()) == 1


def test_broken_stream_falls_back_to_a_whole_answer(
    mock_anthropic: MockAnthropic, tmp_path: Path
) -> None:
    # given an error event within the stream, and a good answer afterwards
    mock_anthropic.queue(Scenario(fault="error_event", fault_after_events=5))
    # when a question is asked
    answer = run_claude(
        mock_anthropic.url, VIRTUAL_KEY, "say hi", home=tmp_path, oauth_token=OAUTH_TOKEN
    )
    # then the client asked again, not streamed, and shows that answer
    assert (answer.exit_code, answer.is_error) == (0, False)
    assert [record.stream for record in mock_anthropic.messages()] == [True, False]
    assert answer.result == "Hi from the mock of the API."
