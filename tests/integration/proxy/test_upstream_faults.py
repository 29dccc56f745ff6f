"""Faults of a deployment beyond single answers (those: test_fault_corpus.py).

Never a hang, never a 500, and exactly one record.
"""

import json
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from schemas.events import UsageRecord
from tests.support.fault_scripts import GOOD, SSE, chunk, stream
from tests.support.mock import MockAnthropic, Scenario, record_usage, scenario_headers
from tests.support.nats import NatsServer
from tests.support.proxy import ProxyProcess, gateway_config, model_entry, running_proxy
from tests.support.scripted import ScriptedServer


@pytest.fixture(scope="module")
def proxy(
    tmp_path_factory: pytest.TempPathFactory,
    nats: NatsServer,
    mock: MockAnthropic,
    scripted: ScriptedServer,
) -> Iterator[ProxyProcess]:
    config = gateway_config(
        model_entry(mock.url),
        model_entry(scripted.url, name="claude-scripted", timeout=1),
        idle_timeout_s=1,
        connect_timeout_s=2,
    )
    with running_proxy(tmp_path_factory.mktemp("proxy"), nats.url, config) as running:
        yield running


@pytest.fixture(scope="module")
def key(proxy: ProxyProcess) -> str:
    return proxy.issue_key()


def question(model: str, *, stream: bool = True) -> bytes:
    return json.dumps({"model": model, "stream": stream, "messages": []}).encode()


def ask(
    proxy: ProxyProcess, key: str, model: str, headers: dict[str, str] | None = None
) -> tuple[int | None, str | None, bytes]:
    """Return status, request id, and body; the status is None where the answer was cut."""
    request_id = None
    body = b""
    status: int | None = None
    sent = {"x-litellm-api-key": key, "authorization": "Bearer sk-ant-oat01-mock"}
    try:
        with httpx.stream(
            "POST",
            f"{proxy.url}/v1/messages",
            content=question(model),
            headers=sent | (headers or {}),
            timeout=10,
            trust_env=False,
        ) as answer:
            request_id = answer.headers.get("x-tallygate-request-id")
            status = answer.status_code
            for part in answer.iter_raw():
                body += part
    except httpx.RemoteProtocolError:
        status = None
    return status, request_id, body


def booked(proxy: ProxyProcess, request_id: str | None) -> UsageRecord:
    assert request_id is not None
    deadline = time.monotonic() + 40
    while True:
        found = [
            event.data
            for event in proxy.events()
            if isinstance(event.data, UsageRecord) and event.data.request_id == request_id
        ]
        if found or time.monotonic() > deadline:
            (record,) = found
            return record
        time.sleep(0.02)


def test_deployment_that_speaks_first_is_not_believed(
    proxy: ProxyProcess, key: str, scripted: ScriptedServer
) -> None:
    """Given an answer that lies ready before the request, then it is not taken for the answer."""
    for _ in range(5):
        scripted.script(b"", close="fin", greeting=b"HTTP/1.1 418 No\r\ncontent-length: 0\r\n\r\n")
        status, request_id, _ = ask(proxy, key, "claude-scripted")
        assert status in {502, 418}
        booked(proxy, request_id)
        scripted.script(GOOD, close="keep")
        assert ask(proxy, key, "claude-scripted")[0] == 200


def test_bytes_between_two_answers_do_not_reach_the_next_client(
    proxy: ProxyProcess, key: str, scripted: ScriptedServer
) -> None:
    """Given an idle connection on which an answer was slipped in, then it is not used again."""
    for _ in range(3):
        late = b"HTTP/1.1 418 No\r\ncontent-length: 0\r\n\r\n"
        scripted.script(GOOD, 0.05, late, close="keep")
        assert ask(proxy, key, "claude-scripted")[0] == 200
        time.sleep(0.15)
        scripted.script(GOOD, close="keep")
        assert ask(proxy, key, "claude-scripted")[0] == 200


def test_broken_stream_ends_with_an_error_event_between_two_events(
    proxy: ProxyProcess, key: str, scripted: ScriptedServer
) -> None:
    scripted.script(stream(chunk(SSE)), 0.1, close="reset")

    status, _, body = ask(proxy, key, "claude-scripted")

    assert status == 200
    assert body.startswith(SSE)
    event = body.removeprefix(SSE)
    assert event.startswith(b'event: error\ndata: {"type":"error","error":{"type":"api_error"')
    assert event.endswith(b"}\n\n")


def test_redirect_is_not_followed_nor_handed_on(
    proxy: ProxyProcess, key: str, mock: MockAnthropic, scripted: ScriptedServer
) -> None:
    """Given a redirect to a trap, then neither the proxy nor a client of it goes there."""
    scripted.script(GOOD, close="keep")
    trap = Scenario(reply="redirect", status=307, location=f"{scripted.url}/trap")

    status, request_id, body = ask(proxy, key, "anthropic-claude", scenario_headers(trap))

    assert status == 502
    assert scripted.url.encode() not in body
    assert booked(proxy, request_id).error_type == "redirect"
    assert not scripted.requests


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario(fault="reset"),
        Scenario(fault="reset", fault_after_events=3),
        Scenario(fault="close", fault_after_events=3),
        Scenario(fault="half_chunk", fault_after_events=3),
        Scenario(fault="truncate", fault_after_events=3),
        Scenario(fault="error_event", fault_after_events=3, error_type="overloaded_error"),
        Scenario(fault="stall", fault_after_events=3),
        Scenario(reply="error", status=529),
        Scenario(reply="error", status=429, headers={"retry-after": "7"}),
        Scenario(reply="html"),
        Scenario(reply="garbage"),
        Scenario(gzip=True, events=50),
        Scenario(giant_event_mib=3),
        Scenario(chunk_bytes=7),
        Scenario(early_hints=True, unasked_continue=True),
    ],
)
def test_each_fault_of_the_mock_is_booked_with_what_the_client_was_told(
    proxy: ProxyProcess, key: str, mock: MockAnthropic, scenario: Scenario
) -> None:
    mock.reset()
    status, request_id, _ = ask(proxy, key, "anthropic-claude", scenario_headers(scenario))

    record = booked(proxy, request_id)
    told = mock.wait_for_requests(1)[0]
    usage = record_usage(told)
    assert status is None or status in {200, 429, 502, 504, 529}
    if usage is not None and told.usage_final:
        assert record.usage == usage
    elif usage is not None:
        assert record.usage is not None
        assert record.estimated
        assert record.usage.input_tokens == usage.input_tokens
        assert record.usage.cache_read_tokens == usage.cache_read_tokens
    assert len(mock.messages()) == 1


def test_two_hundred_faults_leave_no_descriptor_behind(
    proxy: ProxyProcess, key: str, mock: MockAnthropic
) -> None:
    faults = [
        Scenario(fault="reset", fault_after_events=2),
        Scenario(fault="close", fault_after_events=1),
        Scenario(fault="half_chunk", fault_after_events=2),
        Scenario(reply="garbage"),
    ]
    for fault in faults:
        ask(proxy, key, "anthropic-claude", scenario_headers(fault))
    before = proxy.descriptors()
    for number in range(200):
        fault = faults[number % 4]
        if number % 10 == 9:
            leave_at_once(proxy, key)
        else:
            ask(proxy, key, "anthropic-claude", scenario_headers(fault))
    deadline = time.monotonic() + 40
    while proxy.descriptors() > before + 2 and time.monotonic() < deadline:
        time.sleep(0.05)

    assert proxy.descriptors() <= before + 2
    assert mock.stats().requests_open == 0
    assert "never awaited" not in proxy.log()
    assert "Traceback" not in proxy.log()
    assert "exception" not in proxy.log()


def leave_at_once(proxy: ProxyProcess, key: str) -> None:
    body = question("anthropic-claude")
    head = (
        f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-litellm-api-key: {key}\r\n"
        f"authorization: Bearer sk-ant-oat01-mock\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", proxy.port), 10) as connection:
        connection.sendall(head.encode() + body)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_step_that_failed_is_booked_by_its_name(
    tmp_path: Path, nats: NatsServer, scripted: ScriptedServer
) -> None:
    # Given deployments that cannot be reached, each in its way, then the ledger can tell them.
    entries = [
        model_entry("http://127.0.0.1:9", name="upstream_connect"),
        model_entry(f"https://127.0.0.1:{scripted.port}", name="upstream_tls"),
        model_entry("https://no-such-host.invalid", name="upstream_dns"),
    ]
    scripted.script(GOOD, greeting=b"no TLS\r\n")
    config = gateway_config(*entries, oauth_hosts=["127.0.0.1", "no-such-host.invalid"])
    with running_proxy(tmp_path, nats.url, config) as proxy:
        key = proxy.issue_key()
        for entry in entries:
            status, request_id, body = ask(proxy, key, entry["model_name"])
            assert status == 502
            assert b'"type":"api_error"' in body
            record = booked(proxy, request_id)
            assert (record.error_type, record.usage) == (entry["model_name"], None)
