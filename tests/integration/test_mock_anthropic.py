"""The mock of the Anthropic API keeps its own promises: other tests take it for the truth."""

import json
import time
from pathlib import Path

import httpx
import pytest

from schemas.usage import IterationUsage, Usage
from tests.support.mock import (
    API_KEY_HEADERS,
    OAUTH_HEADERS,
    MockAnthropic,
    Scenario,
    ToolCall,
    UsageFigures,
    header,
    headers_of,
    record_usage,
)
from tests.support.wire import ask, question, raw_ask, sse_events

DEFAULT_USAGE = Usage(
    input_tokens=1_213,
    output_tokens=357,
    cache_read_tokens=45_677,
    cache_write_5m_tokens=1_511,
    cache_write_1h_tokens=307,
    service_tier="standard",
    inference_geo="not_available",
)


def test_streamed_text_has_the_shape_of_anthropic(mock_anthropic: MockAnthropic) -> None:
    # given no scenario, when a streamed question is asked
    answer = ask(mock_anthropic, tag="t1")
    # then the stream runs from message_start to message_stop and tells cumulative usage
    events = sse_events(answer.text)
    names = [name for name, _ in events]
    assert names[:3] == ["message_start", "ping", "content_block_start"]
    assert names[3:-3] == ["content_block_delta"] * 8
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    start, end = events[0][1]["message"], events[-2][1]
    assert start["model"] == "claude-opus-5-5"
    assert start["usage"]["cache_creation"]["ephemeral_1h_input_tokens"] == 307
    assert start["usage"]["output_tokens"] < end["usage"]["output_tokens"] == 357
    assert end["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    # and the headers are those of the API
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["anthropic-ratelimit-unified-status"] == "allowed"
    # and the log knows all of it
    (record,) = mock_anthropic.wait_for_requests(1)
    logged = next(line for line in mock_anthropic.log() if line.tag == "t1")
    assert logged.request_id == record.request_id == answer.headers["request-id"]
    assert logged.message_id == start["id"]
    assert (logged.complete, logged.usage_final, logged.status) == (True, True, 200)
    assert record_usage(logged) == DEFAULT_USAGE


def test_whole_answer_tells_the_same_usage(mock_anthropic: MockAnthropic) -> None:
    # given a question that is not streamed
    answer = ask(mock_anthropic, stream=False)
    # then the answer is one JSON message with its length
    assert answer.headers["content-length"] == str(len(answer.content))
    assert answer.json()["content"] == [{"type": "text", "text": "Hi from the mock of the API."}]
    (record,) = mock_anthropic.messages()
    assert record.usage == answer.json()["usage"]
    assert record_usage(record) == DEFAULT_USAGE


def test_every_answer_has_ids_of_its_own(mock_anthropic: MockAnthropic) -> None:
    # given three answers of each kind
    scenario = Scenario(reply="tools")
    answers = [ask(mock_anthropic, scenario, stream=False).json() for _ in range(3)]
    # then no id is used twice
    ids = [answer["id"] for answer in answers] + [a["content"][0]["id"] for a in answers]
    ids += [record.request_id for record in mock_anthropic.messages()]
    assert len(set(ids)) == 9


def test_usage_can_be_set_to_the_last_field(mock_anthropic: MockAnthropic) -> None:
    # given server tools whose cumulative cache writes outrun the split, and iterations
    iteration = {"type": "advisor_message", "model": "claude-opus-5", "input_tokens": 50_000}
    usage = UsageFigures(
        input_tokens=10,
        cache_read_input_tokens=0,
        ephemeral_5m_input_tokens=2_000,
        ephemeral_1h_input_tokens=0,
        web_search_requests=3,
        service_tier="priority",
        speed="fast",
        inference_geo="us",
        iterations=(iteration,),
        final={"cache_creation_input_tokens": 20_000, "input_tokens": None},
    )
    # when it is asked for
    events = sse_events(ask(mock_anthropic, Scenario(usage=usage)).text)
    # then it is told in the places where Anthropic tells it
    told = events[-2][1]["usage"]
    assert "input_tokens" not in told
    assert told["server_tool_use"] == {"web_search_requests": 3, "web_fetch_requests": 0}
    # and the ground truth lays the later over the earlier
    (record,) = mock_anthropic.messages()
    assert record_usage(record) == Usage(
        input_tokens=10,
        output_tokens=357,
        cache_write_5m_tokens=20_000,
        web_search_requests=3,
        service_tier="priority",
        speed="fast",
        inference_geo="us",
        iterations=(
            IterationUsage(type="advisor_message", model="claude-opus-5", input_tokens=50_000),
        ),
    )


def test_varied_usage_tells_answers_apart(mock_anthropic: MockAnthropic) -> None:
    # given usage that varies
    scenario = Scenario(usage=UsageFigures(vary=True))
    for stream in (True, False, True):
        ask(mock_anthropic, scenario, stream=stream)
    # then no two answers tell the same, on either side
    usages = [record_usage(record) for record in mock_anthropic.messages()]
    assert len({usage.input_tokens for usage in usages if usage}) == 3
    assert len({usage.output_tokens for usage in usages if usage}) == 3


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens", "/v1/models"])
@pytest.mark.parametrize("authorization", [None, "Bearer sk-virtual"])
def test_missing_credentials_are_refused(
    mock_anthropic: MockAnthropic, path: str, authorization: str | None
) -> None:
    # given a request without a credential of Anthropic
    headers = {"authorization": authorization} if authorization else {}
    method = "GET" if path == "/v1/models" else "POST"
    answer = httpx.request(
        method, mock_anthropic.url + path, json=question(), headers=headers, trust_env=False
    )
    # then it is refused in Anthropic's shape
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "authentication_error"
    assert answer.json()["request_id"] == answer.headers["request-id"]


def test_other_paths_answer(mock_anthropic: MockAnthropic) -> None:
    # given the other requests that the client sends
    with httpx.Client(base_url=mock_anthropic.url, trust_env=False) as client:
        assert client.head("/api/hello").status_code == 200
        assert client.get("/").status_code == 200
        models = client.get("/v1/models?limit=1000", headers=API_KEY_HEADERS).json()
        assert models["data"][0]["type"] == "model"
        path = "/v1/messages/count_tokens?beta=true"
        count = client.post(path, json=question(), headers=API_KEY_HEADERS).json()
        assert count["input_tokens"] > 0
        assert client.get("/v1/other", headers=API_KEY_HEADERS).status_code == 404


@pytest.mark.parametrize(
    "body", [b"{", b"\xff", b'{"model":1,"messages":[]}', b"[" * 100_000, b'{"messages":[]}']
)
def test_bad_bodies_are_refused(mock_anthropic: MockAnthropic, body: bytes) -> None:
    # given a body that is no question
    url = mock_anthropic.url + "/v1/messages"
    bad = httpx.post(url, content=body, headers=API_KEY_HEADERS, trust_env=False)
    # then the answer is Anthropic's 400
    assert (bad.status_code, bad.json()["error"]["type"]) == (400, "invalid_request_error")


def test_odd_messages_are_no_mistake_of_the_mock(mock_anthropic: MockAnthropic) -> None:
    messages = [{"role": "user", "content": ["text", 1, None]}, {"content": {}}, {}]
    assert ask(mock_anthropic, messages=messages).status_code == 200


def test_requests_are_recorded_as_they_came(mock_anthropic: MockAnthropic) -> None:
    # given a request with repeated headers in odd case
    body = json.dumps(question()).encode()
    sent = [("X-Odd", "one"), ("x-odd", "two"), *OAUTH_HEADERS.items()]
    answer = httpx.post(
        mock_anthropic.url + "/v1/messages", content=body, headers=sent, trust_env=False
    )
    assert answer.status_code == 200
    # then its bytes, order and case are kept
    (record,) = mock_anthropic.messages()
    assert record.body == body
    assert record.body_bytes == len(body)
    assert headers_of(record, "x-odd") == ["one", "two"]
    assert ("X-Odd", "one") in record.headers
    assert header(record, "authorization") == OAUTH_HEADERS["authorization"]


def test_queue_comes_before_default(mock_anthropic: MockAnthropic) -> None:
    # given a default and a queue of one
    mock_anthropic.set_default(Scenario(text="default", events=1))
    mock_anthropic.queue(Scenario(reply="error", status=529))
    # when two questions are asked
    answers = [ask(mock_anthropic, stream=False) for _ in range(2)]
    # then the queue is used up first
    assert [answer.status_code for answer in answers] == [529, 200]
    assert answers[1].json()["content"][0]["text"] == "default"


def test_unknown_scenario_fields_are_refused(mock_anthropic: MockAnthropic) -> None:
    # given a typing error in a scenario
    answer = httpx.post(
        mock_anthropic.url + "/v1/messages",
        json=question(),
        headers=OAUTH_HEADERS | {"x-mock-scenario": '{"evnts": 3}'},
        trust_env=False,
    )
    # then it does not pass for the default
    assert answer.status_code == 500
    assert "evnts" in answer.json()["error"]["message"]


def test_tools_are_asked_for_in_turn(mock_anthropic: MockAnthropic) -> None:
    # given a conversation with one tool
    call = ToolCall(name="Bash", input={"command": "echo 1"})
    scenario = Scenario(reply="tools", tools=(call,), thinking_events=2)
    # when it begins, the tool is asked for piece by piece
    events = sse_events(ask(mock_anthropic, scenario).text)
    pieces = [
        event["delta"]["partial_json"]
        for _, event in events
        if event.get("delta", {}).get("type") == "input_json_delta"
    ]
    assert json.loads("".join(pieces)) == call.input
    assert events[-2][1]["delta"]["stop_reason"] == "tool_use"
    # and when its result comes, the answer is a text
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "1"}
    messages = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1"}]},
        {"role": "user", "content": [result]},
    ]
    events = sse_events(ask(mock_anthropic, scenario, messages=messages).text)
    assert events[-2][1]["delta"]["stop_reason"] == "end_turn"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "invalid_request_error"), (429, "rate_limit_error"), (529, "overloaded_error")],
)
def test_errors_have_the_shape_of_anthropic(
    mock_anthropic: MockAnthropic, status: int, kind: str
) -> None:
    # given an error with headers
    headers = {"retry-after": "7", "x-should-retry": "false"}
    scenario = Scenario(reply="error", status=status, headers=headers, error_message="No.")
    answer = ask(mock_anthropic, scenario)
    # then status, body and headers are there, and no usage was told
    assert answer.status_code == status
    assert answer.json()["error"] == {"type": kind, "message": "No."}
    assert answer.headers["retry-after"] == "7"
    assert mock_anthropic.messages()[0].usage is None


def test_connections_are_counted_and_closed(mock_anthropic: MockAnthropic) -> None:
    # given a client with one connection
    before = mock_anthropic.stats()
    with httpx.Client(base_url=mock_anthropic.url, trust_env=False) as client:
        for _ in range(3):
            client.get("/api/hello")
        during = mock_anthropic.stats()
        assert during.connections_total == before.connections_total + 1
        assert during.connections_open == before.connections_open + 1
        assert len({record.connection for record in mock_anthropic.requests()}) == 1
    # then it is gone when the client is
    deadline = time.monotonic() + 40
    while mock_anthropic.stats().connections_open > before.connections_open:
        assert time.monotonic() < deadline


def test_restarted_mock_keeps_port_and_log(tmp_path: Path) -> None:
    # given a mock that is killed after one answer
    with MockAnthropic.started(tmp_path) as mock:
        port = mock.port
        ask(mock, tag="before")
        # (an answer may be read before the mock has written down that it is over)
        mock.wait_for_requests(1)
        mock.kill()
        with pytest.raises(httpx.ConnectError):
            ask(mock)
        # when it is started again
        mock.start()
        ask(mock, tag="after")
        mock.wait_for_requests(1)
        # then it is found at the same place, and the log goes on
        assert mock.port == port
        assert [record.tag for record in mock.log()] == ["before", "after"]


def test_requests_that_are_open_at_the_end_are_logged(tmp_path: Path) -> None:
    # given a stalled answer when the mock is stopped
    with (
        MockAnthropic.started(tmp_path) as mock,
        raw_ask(mock, Scenario(fault="stall", fault_after_events=1)) as connection,
    ):
        connection.recv(65_536)
        mock.stop()
        # then the log has its line
        (record,) = mock.log()
    assert record.usage is not None
    assert not record.complete
