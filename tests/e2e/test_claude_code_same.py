"""Claude Code cannot tell that the gateway is there: its sessions, with and without, are the same.

Each test runs the real client twice and compares all that the API got and all that the client saw;
tests.support.claude_compared names the few things that may differ.
"""

import base64
import json
import os
from pathlib import Path

import msgspec
import pytest

from schemas.events import UsageRecord
from services.client.cli import main
from services.client.profiles import Profile, read_profiles
from tests.support.certificates import Certificates
from tests.support.claude_compared import SESSION_ID, Client, Comparison, Mode, Printed
from tests.support.mock import (
    Scenario,
    ToolCall,
    UsageFigures,
    headers_of,
    record_usage,
    tool_round_trip,
)
from tests.support.mock_anthropic.scenario import Fault
from tests.support.tls_relay import tls_before

pytestmark = pytest.mark.claude

OAUTH = "sk-ant-oat01-of-a-subscriber"
OWN_KEY = "sk-ant-api03-of-a-developer"
COMPANY_KEY = "sk-ant-api03-of-the-company"
NEW_SESSION = ("--session-id", SESSION_ID)
EVERY_EVENT = ("--verbose", "--include-partial-messages")
ONE_DOT_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
GATEWAY_HEADER = "x-litellm-api-key: Bearer KEY"

SUBSCRIPTION = Mode(
    name="subscription",
    environment={"CLAUDE_CODE_OAUTH_TOKEN": OAUTH, "ANTHROPIC_CUSTOM_HEADERS": GATEWAY_HEADER},
    arrives={"authorization": f"Bearer {OAUTH}"},
    model="anthropic-claude",
)
OWN_API_KEY = Mode(
    name="own API key",
    environment={"ANTHROPIC_API_KEY": OWN_KEY, "ANTHROPIC_CUSTOM_HEADERS": GATEWAY_HEADER},
    arrives={"x-api-key": OWN_KEY},
)
KEY_AS_TOKEN = Mode(
    name="virtual key as token",
    environment={"ANTHROPIC_AUTH_TOKEN": "KEY"},
    arrives={"x-api-key": COMPANY_KEY},
)
KEY_AS_API_KEY = Mode(
    name="virtual key as API key",
    environment={"ANTHROPIC_API_KEY": "KEY"},
    arrives={"x-api-key": COMPANY_KEY},
)
KEY_BY_HELPER = Mode(
    name="virtual key by apiKeyHelper, in two headers",
    environment={},
    helper="echo KEY",
    arrives={"x-api-key": COMPANY_KEY},
)
MODES = [
    SUBSCRIPTION,
    OWN_API_KEY,
    KEY_AS_TOKEN,
    KEY_AS_API_KEY,
    KEY_BY_HELPER,
    Mode(
        name="own API key by apiKeyHelper, in two headers, beside the virtual key",
        environment={"ANTHROPIC_CUSTOM_HEADERS": GATEWAY_HEADER},
        helper=f"echo {OWN_KEY}",
        arrives={"x-api-key": OWN_KEY},
    ),
    Mode(
        name="virtual key as token, own API key beside it",
        environment={"ANTHROPIC_AUTH_TOKEN": "KEY", "ANTHROPIC_API_KEY": OWN_KEY},
        arrives={"x-api-key": OWN_KEY},
    ),
    Mode(
        name="virtual key in x-api-key, subscription beside it",
        environment={
            "CLAUDE_CODE_OAUTH_TOKEN": OAUTH,
            "ANTHROPIC_CUSTOM_HEADERS": "x-api-key: KEY",
        },
        arrives={"authorization": f"Bearer {OAUTH}"},
    ),
    Mode(
        name="subscription by /login",
        environment={"ANTHROPIC_CUSTOM_HEADERS": GATEWAY_HEADER},
        login=OAUTH,
        arrives={"authorization": f"Bearer {OAUTH}"},
        model="anthropic-claude",
    ),
    Mode(
        name="several custom headers",
        environment={
            "CLAUDE_CODE_OAUTH_TOKEN": OAUTH,
            "ANTHROPIC_CUSTOM_HEADERS": f"X-Team: blue, green\n{GATEWAY_HEADER}\nx-cost-center: 42",
        },
        arrives={"authorization": f"Bearer {OAUTH}"},
    ),
]


def say_hi(client: Client) -> Printed:
    return client.ask("say hi", *NEW_SESSION)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_each_way_of_signing_in_is_the_same_but_for_the_credential(
    comparison: Comparison, mode: Mode
) -> None:
    # given a client that is set up in one of the ways, when it asks once
    compared = comparison.run(say_hi, mode)
    # then there was one request, alike in both runs, with the credential that is meant for the API
    assert len(compared.arrived) == 1
    assert compared.shown.exit_code == 0
    assert compared.shown.result["result"] == "Hi from the mock of the API."
    # and headers of the developer's own arrive
    if "X-Team" in mode.environment.get("ANTHROPIC_CUSTOM_HEADERS", ""):
        assert headers_of(compared.arrived[0], "x-team") == ["blue, green"]
        assert headers_of(compared.arrived[0], "x-cost-center") == ["42"]


@pytest.mark.parametrize(
    ("model", "arrives"),
    [
        ("anthropic-claude", {"authorization": f"Bearer {OAUTH}"}),
        ("claude-opus-5-5", {"x-api-key": COMPANY_KEY}),
    ],
    ids=["on for the model group", "off"],
)
def test_a_subscription_is_forwarded_where_that_is_on_and_all_else_everywhere(
    group_comparison: Comparison, model: str, arrives: dict[str, str]
) -> None:
    # given a gateway that forwards credentials for one model group alone, when a subscriber asks
    mode = msgspec.structs.replace(
        SUBSCRIPTION, model=model, arrives=arrives, is_other_account="x-api-key" in arrives
    )
    compared = group_comparison.run(say_hi, mode)
    # then the API got the token, or the company's key, and every other header in either case
    assert len(compared.arrived) == 1
    assert headers_of(compared.arrived[0], "x-claude-code-session-id") == [SESSION_ID]


@pytest.mark.parametrize("mode", [SUBSCRIPTION, KEY_AS_TOKEN], ids=lambda mode: mode.name)
def test_tools_run_the_same(comparison: Comparison, mode: Mode) -> None:
    # given answers that ask for Bash, then for a file
    def session(client: Client) -> Printed:
        (client.project / "hello.txt").write_text("hello file contents 42\n")
        asked = (*NEW_SESSION, "--allowedTools", "Bash,Read", *EVERY_EVENT)
        return client.ask("run echo, then read hello.txt", *asked, output="stream-json")

    hello = comparison.home / "project" / "hello.txt"
    compared = comparison.run(session, mode, answers=tool_round_trip(hello))
    # then three requests led to the answer, and every line that was printed is the same
    assert len(compared.arrived) == 3
    assert b"hello file contents 42" in compared.arrived[2].body
    assert [line["type"] for line in compared.shown.lines].count("user") == 2


@pytest.mark.parametrize(
    "answers",
    [
        Scenario(thinking_events=5, pings=4, events=12, pace_ms=20),
        Scenario(gzip=True, events=30),
        Scenario(chunk_bytes=7, thinking_events=2),
        Scenario(burst=True, text="Grüße an alle: 你好, 🙂 \u2028 and so on. "),
        Scenario(stop_reason="max_tokens"),
    ],
    ids=["thinking, pings, paced", "compressed", "in small pieces", "in one piece", "cut short"],
)
def test_each_form_of_an_answer_reads_the_same(comparison: Comparison, answers: Scenario) -> None:
    # given an answer of a form that the API uses, when every event of it is printed
    compared = comparison.run(
        lambda client: client.ask("say hi", *NEW_SESSION, *EVERY_EVENT, output="stream-json"),
        SUBSCRIPTION,
        answers=answers,
    )
    # then each event of the stream was there
    events = [line for line in compared.shown.lines if line["type"] == "stream_event"]
    assert len(events) >= 5
    assert compared.shown.lines[-1]["type"] == "result"


def test_an_image_and_letters_of_all_kinds_arrive_the_same(comparison: Comparison) -> None:
    # given a picture that the client reads, and a question that is not plain ASCII
    def session(client: Client) -> Printed:
        (client.project / "dot.png").write_bytes(ONE_DOT_PNG)
        question = 'sieh dir "dot.png" an: 你好 🙂 \\u0041 \u2028 "model":"x"'
        return client.ask(question, *NEW_SESSION, "--allowedTools", "Read")

    dot = comparison.home / "project" / "dot.png"
    read = ToolCall(name="Read", input={"file_path": str(dot)})
    compared = comparison.run(session, SUBSCRIPTION, answers=Scenario(reply="tools", tools=(read,)))
    # then the picture was sent in the second request, and the question in both, byte for byte
    assert len(compared.arrived) == 2
    assert b'"media_type":"image/' in compared.arrived[1].body
    assert all("你好 🙂".encode() in each.body for each in compared.arrived)


def test_sub_agents_run_the_same(comparison: Comparison) -> None:
    # given an answer that starts an agent, which starts another one
    call = ToolCall(
        name="Agent",
        input={
            "description": "count",
            "prompt": "count to three",
            "subagent_type": "general-purpose",
            "run_in_background": False,
        },
    )
    compared = comparison.run(
        lambda client: client.ask("use an agent", *NEW_SESSION, "--allowedTools", "Agent"),
        SUBSCRIPTION,
        answers=Scenario(reply="tools", tools=(call,)),
    )
    # then the agents' own requests are the same, with the headers that tell whose they are
    agents = [headers_of(each, "x-claude-code-agent-id") for each in compared.arrived]
    assert len({agent[0] for agent in agents if agent}) >= 2
    assert any(headers_of(each, "x-claude-code-parent-agent-id") for each in compared.arrived)
    assert compared.shown.result["subagent_stats"]["completed"] >= 2


def test_a_session_goes_on_the_same_and_is_compacted(comparison: Comparison) -> None:
    # given a session that is continued, resumed and compacted
    def session(client: Client) -> list[Printed]:
        return [
            say_hi(client),
            client.ask("again", "--continue"),
            client.ask("and again", "--resume", SESSION_ID),
            client.ask("/compact", "--continue"),
            client.ask("what was it about?", "--continue"),
        ]

    compared = comparison.run(session, SUBSCRIPTION)
    # then the conversation grew, was summed up, and began anew with the summary
    counts = [len(json.loads(each.body)["messages"]) for each in compared.arrived]
    assert counts[:3] == [2, 4, 6]
    assert counts[-1] < 8
    assert all(each.exit_code == 0 for each in compared.shown)


def test_a_full_context_is_compacted_by_itself(comparison: Comparison) -> None:
    # given an answer that says that the context is nearly full
    full = Scenario(usage=UsageFigures(input_tokens=985_000, cache_read_input_tokens=0))

    def session(client: Client) -> list[Printed]:
        return [say_hi(client), client.ask("go on", "--continue")]

    compared = comparison.run(session, SUBSCRIPTION, first=[full])
    # then the next question was preceded by a summing up, the same in both runs
    assert len(compared.arrived) >= 3
    assert any(b"<summary>" in each.body for each in compared.arrived)
    assert compared.shown[-1].exit_code == 0


def test_models_are_discovered_through_the_gateway(comparison: Comparison) -> None:
    # given a client that asks for the models first, and probes whether the API is there
    mode = Mode(
        name="discovery",
        environment={
            "ANTHROPIC_API_KEY": "KEY",
            "CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY": "1",
        },
        arrives={"x-api-key": COMPANY_KEY},
        quiet=False,
    )

    def session(client: Client) -> Printed:
        printed = say_hi(client)
        cache = client.home / ".claude" / "cache" / "gateway-models.json"
        found.append([model["id"] for model in json.loads(cache.read_text())["models"]])
        return printed

    found: list[list[str]] = []
    # the order of the probe, the models and the question is the client's own affair
    compared = comparison.run(session, mode, ordered=False)
    # then it was told the models of the key, by the gateway
    asked = {each.path for each in compared.exchanges}
    assert {"/v1/models", "/api/hello", "/v1/messages"} <= asked
    assert "anthropic-claude" in found[1]
    assert {"claude-opus-4-5", "claude-sonnet-4-5"} <= set(found[1])


@pytest.mark.parametrize(
    ("faults", "streams"),
    [
        ([Scenario(fault="truncate", fault_after_events=5)] * 2, [True, True, False]),
        ([Scenario(fault="error_event", fault_after_events=5)], [True, False]),
        ([Scenario(reply="error", status=529, error_message="Overloaded")], [True, True]),
        (
            [Scenario(reply="error", status=429, headers={"retry-after": "1"})],
            [True, True],
        ),
    ],
    ids=["truncated", "error event", "overloaded", "short rate limit"],
)
def test_faults_of_the_api_are_lived_through_the_same_and_all_booked(
    comparison: Comparison, faults: list[Scenario], streams: list[bool]
) -> None:
    # given a fault of the API, when the client repeats, in the end perhaps without streaming
    booked = len(comparison.booked())
    compared = comparison.run(say_hi, SUBSCRIPTION, first=faults)
    # then it did so the same in both runs, with the same answer
    assert [each.stream for each in compared.arrived] == streams
    assert compared.shown.result["result"] == "Hi from the mock of the API."
    # and each attempt stands in the books with what the API told of it
    records: list[UsageRecord] = comparison.booked(booked + len(streams))[booked:]
    told = [record_usage(each) for each in compared.arrived]
    assert [record.usage for record in records] == told
    assert records[-1].status == "success"
    assert {record.status for record in records[:-1]} == {"failure"}


@pytest.mark.parametrize(
    ("fault", "streams"),
    [("reset", [True, False]), ("close", [True, False]), ("half_chunk", [True, True])],
)
def test_a_stream_that_is_cut_is_repeated_and_both_attempts_are_booked(
    comparison: Comparison, fault: Fault, streams: list[bool]
) -> None:
    # given an API whose connection breaks within a stream, between two events or within one
    booked = len(comparison.booked())
    comparison.mock.reset()
    comparison.mock.queue(Scenario(fault=fault, fault_after_events=5))
    comparison.tap.point_at(comparison.proxy.url)
    # when the client asks through the gateway, which ends the stream with an error event where it
    # can, and cuts it where it cannot
    printed = say_hi(comparison.client(SUBSCRIPTION, comparison.key))
    # then the client asks again, once (after such an event at once, and not streamed)
    assert printed.result["result"] == "Hi from the mock of the API."
    assert [each.stream for each in comparison.mock.messages()] == streams
    first = comparison.tap.exchanges[0]
    assert (b"event: error" in first.answer_body) is not streams[1]
    assert first.is_whole is not streams[1]
    # and both attempts stand in the books, the broken one with what was told until then
    broken, whole = comparison.booked(booked + 2)[booked:]
    assert (broken.status, whole.status) == ("failure", "success")
    assert (broken.session_id, whole.session_id) == (SESSION_ID, SESSION_ID)
    assert broken.estimated
    assert broken.usage is not None
    told = record_usage(comparison.mock.messages()[0])
    assert told is not None
    assert broken.usage.input_tokens == told.input_tokens


def test_what_the_command_line_writes_is_all_that_the_client_needs(
    comparison: Comparison, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # given subscribers with settings of their own, whose shell knows nothing of the gateway
    here = Mode(name="by settings", environment={}, login=OAUTH, arrives={})
    client = comparison.client(here, comparison.key)
    environment = {**client.environment}
    del environment["ANTHROPIC_BASE_URL"]
    file = client.home / ".claude" / "settings.json"
    file.write_text('{"env": {"ANTHROPIC_CUSTOM_HEADERS": "X-Team: blue"}}')
    # when `tallygate claude-code` writes what they need, once for each way to pay
    monkeypatch.setenv("TALLYGATE_KEY", comparison.key)
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(file.parent))
    for mode, model, credential in (
        ("subscription", "anthropic-claude", ("authorization", f"Bearer {OAUTH}")),
        ("api-key", "claude-sonnet-5-5", ("x-api-key", COMPANY_KEY)),
    ):
        command = ["claude-code", "--write", "--mode", mode, "--model", model]
        assert main([*command, "--url", comparison.proxy.url]) == 0
        comparison.mock.reset()
        printed = Client(client.home, environment).ask("say hi")
        # then the client asks through the gateway, which sends on what shall pay
        assert printed.result["result"] == "Hi from the mock of the API."
        (arrived,) = comparison.mock.messages()
        assert headers_of(arrived, "x-team") == ["blue"]
        found = {name: headers_of(arrived, name) for name in ("authorization", "x-api-key")}
        assert {name: values for name, values in found.items() if values} == {
            credential[0]: [credential[1]]
        }
    # and so it does where the gateway has a certificate of the company's own CA
    certificates = Certificates(tmp_path)
    monkeypatch.delenv("TALLYGATE_KEY")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    profiles = read_profiles(os.environ)
    with tls_before(comparison.proxy.port, certificates.good()) as url:
        profiles.all["default"] = Profile(
            url=url,
            key=comparison.key,
            is_master_key=False,
            signed_in_as="compared",
            ca_file=str(certificates.ca_file),
        )
        profiles.write()
        assert main(["claude-code", "--write"]) == 0
        printed = Client(client.home, environment).ask("say hi")
        assert printed.result["result"] == "Hi from the mock of the API."
    # and a key that the gateway does not know is not written
    before = file.read_bytes()
    monkeypatch.setenv("TALLYGATE_KEY", "sk-" + "x" * 43)
    assert main(["claude-code", "--write", "--url", comparison.proxy.url]) == 77
    assert file.read_bytes() == before


def test_the_limit_of_a_subscription_is_told_in_the_same_words(comparison: Comparison) -> None:
    # given a subscription whose five hours are used up
    limits = {
        "anthropic-ratelimit-unified-status": "rejected",
        "anthropic-ratelimit-unified-reset": "1900000000",
        "anthropic-ratelimit-unified-representative-claim": "five_hour",
        "retry-after": "3600",
    }
    refused = Scenario(reply="error", status=429, error_message="Limit reached", headers=limits)
    compared = comparison.run(say_hi, SUBSCRIPTION, answers=refused)
    # then the client says so in its own words, after one request
    assert len(compared.arrived) == 1
    assert compared.shown.exit_code == 1
    assert compared.shown.result["result"].startswith("You've hit your 5-hour limit · resets ")
