"""What goes through the proxy goes through unchanged, both ways, and at once."""

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from schemas.usage import Usage
from tests.support.mock import (
    MockAnthropic,
    Scenario,
    UsageFigures,
    record_usage,
    scenario_headers,
)
from tests.support.nats import running_nats
from tests.support.proxy import ProxyProcess, gateway_config, model_entry, running_proxy
from tests.support.recorded import claude_code_body, recorded_requests
from tests.support.wire import question

OAUTH = "Bearer sk-ant-oat01-mock-token-of-a-subscriber"
DROPPED = {
    "connection",
    "content-length",
    "host",
    "authorization",
    "x-api-key",
    "x-litellm-api-key",
    "accept-encoding",
}


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockAnthropic]:
    with MockAnthropic.started(tmp_path_factory.mktemp("mock")) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory, mock: MockAnthropic) -> Iterator[ProxyProcess]:
    folder: Path = tmp_path_factory.mktemp("proxy")
    entries = (
        model_entry(mock.url),
        model_entry(mock.url, name="claude-*", model="anthropic/*"),
    )
    with (
        running_nats(folder) as nats,
        running_proxy(folder, nats.url, gateway_config(*entries)) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def key(proxy: ProxyProcess) -> str:
    return proxy.issue_key(key_alias="faithful")


@pytest.fixture(autouse=True)
def _fresh(mock: MockAnthropic) -> None:
    mock.reset()


def ask(
    proxy: ProxyProcess, key: str, body: bytes, headers: dict[str, str] | None = None
) -> httpx.Response:
    return httpx.post(
        f"{proxy.url}/v1/messages?beta=true",
        content=body,
        headers={
            "x-litellm-api-key": f"Bearer {key}",
            "authorization": OAUTH,
            "content-type": "application/json",
            **(headers or {}),
        },
        timeout=30,
        trust_env=False,
    )


def test_body_without_alias_arrives_byte_for_byte(
    proxy: ProxyProcess, key: str, mock: MockAnthropic
) -> None:
    """Given odd JSON for a model that has no alias, then the upstream sees the same bytes."""
    odd = (
        b' {\r\n "max_tokens" : 12345678901234567890 ,"model":\t"claude-opus-5-5" , "stream":true,'
        b'"messages":[{"role":"user","content":"\\u00e9 \xc3\xa9 \\"model\\":\\"x\\""}],'
        b'"metadata":{"model":"nested"}} '
    )

    answer = ask(proxy, key, odd)

    assert answer.status_code == 200
    record = mock.wait_for_requests(1)[0]
    assert record.body == odd
    assert record.target == "/v1/messages?beta=true"


def test_alias_changes_the_model_and_no_other_byte(
    proxy: ProxyProcess, key: str, mock: MockAnthropic
) -> None:
    """Given the real client's body for an alias, then only the model's value is another one."""
    body = claude_code_body()

    ask(proxy, key, body)

    expected = body.replace(b'"anthropic-claude"', b'"claude-sonnet-4-20250514"', 1)
    record = mock.wait_for_requests(1)[0]
    assert record.body_sha256 == hashlib.sha256(expected).hexdigest()


def test_headers_of_every_recorded_request_arrive_as_a_set(
    proxy: ProxyProcess, key: str, mock: MockAnthropic
) -> None:
    """Given each kind of POST of the real client, then all of its end-to-end headers go on."""
    for kind, recorded in recorded_requests().items():
        if recorded.method != "POST":
            continue
        mock.reset()
        body = claude_code_body(stream=False)
        replaced = {"x-litellm-api-key": f"Bearer {key}", "x-api-key": key}
        sent = recorded.headers_for(body, replaced=replaced)
        if not any(name.lower() == "x-litellm-api-key" for name, _ in sent):
            sent.append(("x-litellm-api-key", key))
        if not any(name.lower() == "authorization" for name, _ in sent):
            sent.append(("Authorization", OAUTH))
        sent = [(n, OAUTH if n.lower() == "authorization" else v) for n, v in sent]
        answer = httpx.post(
            proxy.url + recorded.target, content=body, headers=sent, trust_env=False
        )
        assert answer.status_code == 200, (kind, answer.text)
        record = mock.wait_for_requests(1)[0]
        given = {(n.lower(), v) for n, v in sent if n.lower() not in DROPPED}
        arrived = {(n.lower(), v) for n, v in record.headers if n.lower() not in DROPPED}
        assert arrived == given, kind
        names = [name.lower() for name, _ in record.headers]
        assert "x-litellm-api-key" not in names
        assert "connection" not in names
        assert [v for n, v in record.headers if n.lower() == "authorization"] == [OAUTH]


def test_answer_comes_back_byte_for_byte_with_its_headers(
    proxy: ProxyProcess, key: str, mock: MockAnthropic
) -> None:
    """Given the same scenario asked directly and through the proxy, then both answers are alike."""
    for stream in (True, False):
        body = json.dumps(question(stream=stream)).encode()
        scenario = Scenario(events=40, thinking_events=3, pings=4)
        headers = {**scenario_headers(scenario), "authorization": OAUTH}
        direct = httpx.post(
            f"{mock.url}/v1/messages", content=body, headers=headers, trust_env=False
        )
        proxied = ask(proxy, key, body, scenario_headers(scenario))
        assert proxied.status_code == direct.status_code == 200
        # Ids are the answer's own; all else is the same.
        assert len(proxied.content) == len(direct.content)
        ours = {"x-tallygate-request-id"}
        assert set(proxied.headers) - ours == set(direct.headers) - {"connection", "keep-alive"}
        assert proxied.headers["request-id"] == mock.requests()[-1].request_id
        limits = {k: v for k, v in direct.headers.items() if k.startswith("anthropic-ratelimit")}
        assert limits
        assert {k: proxied.headers[k] for k in limits} == limits


def test_first_event_arrives_before_the_second_is_sent(
    proxy: ProxyProcess, key: str, mock: MockAnthropic
) -> None:
    """Given a deployment that pauses between events, then each is passed on at once."""
    body = json.dumps(question(stream=True)).encode()
    headers = {
        "x-litellm-api-key": key,
        "authorization": OAUTH,
        **scenario_headers(Scenario(events=3, pace_ms=400)),
    }
    arrivals: list[tuple[float, bytes]] = []
    with httpx.stream(
        "POST", f"{proxy.url}/v1/messages", content=body, headers=headers, trust_env=False
    ) as answer:
        arrivals.extend((time.monotonic(), chunk) for chunk in answer.iter_raw())

    assert b"message_start" in arrivals[0][1]
    assert b"message_stop" not in arrivals[0][1]
    assert len(arrivals) >= 4
    assert arrivals[-1][0] - arrivals[0][0] > 0.8


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("gzip", [True, False])
def test_usage_is_recorded_as_the_upstream_told_it(
    tmp_path: Path, mock: MockAnthropic, *, stream: bool, gzip: bool
) -> None:
    """Given figures of all kinds, then the event holds exactly these, packed or not."""
    figures = UsageFigures(web_search_requests=2, inference_geo="us", speed="fast", vary=True)
    with (
        running_nats(tmp_path) as nats,
        running_proxy(tmp_path, nats.url, gateway_config(model_entry(mock.url))) as proxy,
    ):
        key, record = proxy.issue_record(key_alias="alice", user_id="u1", team_id="t1")
        scenario = Scenario(usage=figures, gzip=gzip)
        body = json.dumps(question(stream=stream, model="anthropic-claude")).encode()
        answer = ask(
            proxy, key, body, {**scenario_headers(scenario), "x-claude-code-session-id": "s-1"}
        )
        (booked,) = proxy.recorded(1)
        told = mock.wait_for_requests(1)[0]

    assert answer.status_code == 200
    expected = record_usage(told)
    assert isinstance(expected, Usage)
    assert booked.usage == expected
    assert (booked.status, booked.estimated, booked.http_status) == ("success", False, 200)
    assert (booked.key_id, booked.key_alias) == (record.key_id, "alice")
    assert (booked.user_id, booked.team_id, booked.session_id) == ("u1", "t1", "s-1")
    assert booked.client is not None
    assert (booked.client.message_count, booked.client.purpose) == (1, None)
    assert booked.model_name == "anthropic-claude"
    assert booked.model == booked.response_model == "claude-sonnet-4-20250514"
    assert booked.billing == "subscription"
    assert booked.message_id == told.message_id
    assert booked.upstream_request_id == told.request_id
    assert booked.request_id == answer.headers["x-tallygate-request-id"]
    assert booked.stream is stream
    assert booked.request_bytes == len(body)
    assert booked.stop_reason == "end_turn"
    assert booked.first_byte_at_us is not None
    assert booked.started_at_us <= booked.first_byte_at_us <= booked.ended_at_us


def test_count_tokens_goes_through_and_is_no_paid_request(
    proxy: ProxyProcess, key: str, mock: MockAnthropic
) -> None:
    """Given a count of tokens, then it is answered, and booked without usage."""
    before = {event.id for event in proxy.events()}
    answer = httpx.post(
        f"{proxy.url}/v1/messages/count_tokens?beta=true",
        json=question(model="anthropic-claude"),
        headers={"x-litellm-api-key": key, "authorization": OAUTH},
        trust_env=False,
    )

    assert answer.json()["input_tokens"] > 0
    assert mock.wait_for_requests(1)[0].target == "/v1/messages/count_tokens?beta=true"
    deadline = time.monotonic() + 40
    while True:
        counted = [
            event.data
            for event in proxy.events()
            if event.id not in before and event.data.endpoint == "count_tokens"
        ]
        if counted or time.monotonic() > deadline:
            break
    (record,) = counted
    assert getattr(record, "usage", 0) is None
