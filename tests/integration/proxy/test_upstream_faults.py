"""Whatever a deployment does: an answer, never a hang, never a 500, and exactly one record."""

import gzip
import json
import os
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest

from schemas.events import UsageRecord
from tests.support.mock import MockAnthropic, Scenario, record_usage, scenario_headers
from tests.support.nats import NatsServer
from tests.support.proxy import ProxyProcess, gateway_config, model_entry, running_proxy
from tests.support.scripted import Close, ScriptedServer, Step

USAGE = {"input_tokens": 11, "output_tokens": 5, "cache_read_input_tokens": 7}
MESSAGE = json.dumps({"id": "m", "type": "message", "usage": USAGE}).encode()
START = b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","usage":'
SSE = (
    START + b'{"input_tokens":11,"cache_read_input_tokens":7,"output_tokens":1}}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":"12345678"}}\n\n'
)
SSE_END = (
    b'event: message_delta\ndata: {"type":"message_delta","delta":{},"usage":{"output_tokens":5}}'
    b'\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n'
)
HEAD = b"HTTP/1.1 200 OK\r\n"
JSON = b"content-type: application/json\r\n"
STREAM = b"content-type: text/event-stream\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"


def length(body: bytes, off: int = 0) -> bytes:
    return b"content-length: %d\r\n" % (len(body) + off)


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


GOOD = HEAD + JSON + length(MESSAGE) + b"\r\n" + MESSAGE
BOOK_WHOLE = {"status": "success", "input": 11, "estimated": False}
BOOK_BROKEN = {"status": "failure", "input": 11, "estimated": True}
UNREAD = -1
"""Input tokens are estimated from the bytes of the request: the answer told none."""
BOOK_UNREAD = {"status": "failure", "input": UNREAD, "estimated": True}
BOOK_NOTHING = {"status": "failure", "input": None, "estimated": False}

# name, steps, how the connection ends, the status for the client (None: cut), what is booked
SCRIPTS: list[tuple[str, Sequence[Step], Close, int | None, dict[str, Any]]] = [
    ("good", (GOOD,), "keep", 200, BOOK_WHOLE),
    ("no_keep_alive", (GOOD.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1),), "fin",
     200, BOOK_WHOLE),
    ("http_1_0", (b"HTTP/1.0 200 OK\r\n" + JSON + b"\r\n" + MESSAGE,), "fin", 200, BOOK_WHOLE),
    ("ends_with_close", (HEAD + JSON + b"\r\n" + MESSAGE,), "fin", 200, BOOK_WHOLE),
    ("stream_ends_with_close", (HEAD + STREAM + b"\r\n" + SSE + SSE_END,), "fin", 200, BOOK_WHOLE),
    ("ends_with_reset", (HEAD + JSON + b"\r\n" + MESSAGE[:10], 0.1), "reset", None, BOOK_UNREAD),
    ("early_hints", (b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + GOOD,), "keep", 200,
     BOOK_WHOLE),
    ("many_interim", (b"HTTP/1.1 100 Continue\r\n\r\n" * 100 + GOOD,), "keep", 200, BOOK_WHOLE),
    ("interim_alone", (b"HTTP/1.1 100 Continue\r\n\r\n",), "hold", 504, BOOK_NOTHING),
    ("byte_by_byte", tuple(GOOD[i:i + 1] for i in range(len(GOOD))), "keep", 200, BOOK_WHOLE),
    ("two_answers", (GOOD + GOOD.replace(b"200 OK", b"418 No"),), "keep", 200, BOOK_WHOLE),
    ("garbage_behind", (GOOD + b"\x00\xffgarbage",), "keep", 200, BOOK_WHOLE),
    ("more_than_length", (HEAD + JSON + length(MESSAGE) + b"\r\n" + MESSAGE + b"}}}",), "keep",
     200, BOOK_WHOLE),
    ("less_than_length", (HEAD + JSON + length(MESSAGE, 50) + b"\r\n" + MESSAGE,), "fin", None,
     BOOK_UNREAD),
    ("two_lengths", (HEAD + length(MESSAGE) + length(MESSAGE, 1) + b"\r\n" + MESSAGE,), "fin",
     502, BOOK_NOTHING),
    ("negative_length", (HEAD + b"content-length: -1\r\n\r\n",), "fin", 502, BOOK_NOTHING),
    ("length_and_chunked", (HEAD + JSON + length(MESSAGE) + CHUNKED + b"\r\n" + chunk(MESSAGE)
     + b"0\r\n\r\n",), "fin", 502, BOOK_NOTHING),
    ("nothing_then_fin", (), "fin", 502, BOOK_NOTHING),
    ("nothing_then_reset", (), "reset", 502, BOOK_NOTHING),
    ("nothing_then_silence", (), "hold", 504, BOOK_NOTHING),
    ("half_status_line", (b"HTTP/1.1 2",), "fin", 502, BOOK_NOTHING),
    ("half_headers", (HEAD + b"content-ty",), "fin", 502, BOOK_NOTHING),
    ("half_headers_then_silence", (HEAD + b"content-ty",), "hold", 504, BOOK_NOTHING),
    ("garbage", (os.urandom(2000),), "fin", 502, BOOK_NOTHING),
    ("tls_alert", (b"\x15\x03\x01\x00\x02\x02\x28",), "fin", 502, BOOK_NOTHING),
    ("status_999", (b"HTTP/1.1 999 Odd\r\n" + length(b"") + b"\r\n",), "keep", 502, BOOK_NOTHING),
    ("status_42", (b"HTTP/1.1 042 Odd\r\n" + length(b"") + b"\r\n",), "keep", 502, BOOK_NOTHING),
    ("protocol_change", (b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",),
     "hold", 502, BOOK_NOTHING),
    ("control_in_header", (HEAD + b"x-odd: a\x01b\r\n" + JSON + length(MESSAGE) + b"\r\n"
     + MESSAGE,), "fin", 502, BOOK_NOTHING),
    ("delete_in_header", (HEAD + b"x-odd: a\x7fb\r\n" + JSON + length(MESSAGE) + b"\r\n"
     + MESSAGE,), "fin", 502, BOOK_NOTHING),
    ("odd_header_name", (HEAD + b"x(odd): a\r\n" + JSON + length(MESSAGE) + b"\r\n" + MESSAGE,),
     "fin", 502, BOOK_NOTHING),
    ("long_headers", (HEAD + b"x-long: " + b"y" * 70_000 + b"\r\n\r\n",), "fin", 502,
     BOOK_NOTHING),
    ("many_headers", (HEAD + b"x-h: y\r\n" * 250 + b"\r\n",), "fin", 502, BOOK_NOTHING),
    ("no_content", (b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n",), "keep", 204,
     BOOK_NOTHING | {"status": "failure"}),
    ("html", (HEAD + b"content-type: text/html\r\n" + length(b"<p>") + b"\r\n<p>",), "keep", 200,
     BOOK_NOTHING),
    ("json_without_usage", (HEAD + JSON + length(b"{}") + b"\r\n{}",), "keep", 200,
     BOOK_UNREAD | {"status": "success"}),
    ("json_that_is_none", (HEAD + JSON + length(b"{{{") + b"\r\n{{{",), "keep", 200,
     BOOK_UNREAD),
    ("packed_garbage", (HEAD + JSON + b"content-encoding: gzip\r\n" + length(b"\x1f\x8bxxx")
     + b"\r\n\x1f\x8bxxx",), "keep", 200, BOOK_UNREAD),
    ("packed", (HEAD + STREAM + b"content-encoding: gzip\r\n"
     + length(gzip.compress(SSE + SSE_END)) + b"\r\n" + gzip.compress(SSE + SSE_END),), "keep",
     200, BOOK_WHOLE),
    ("error_500", (b"HTTP/1.1 500 Bad\r\n" + JSON + length(b"{}") + b"\r\n{}",), "keep", 500,
     BOOK_NOTHING),
    ("error_529_without_body", (b"HTTP/1.1 529 Busy\r\n" + length(b"") + b"\r\n",), "keep", 529,
     BOOK_NOTHING),
    ("half_chunk", (HEAD + STREAM + CHUNKED + b"\r\n" + chunk(SSE) + b"50\r\nhalf",), "fin", None,
     BOOK_BROKEN),
    ("bad_chunk", (HEAD + STREAM + CHUNKED + b"\r\n" + chunk(SSE) + b"zz\r\n",), "fin", 200,
     BOOK_BROKEN),
    ("no_last_chunk", (HEAD + STREAM + CHUNKED + b"\r\n" + chunk(SSE),), "fin", 200, BOOK_BROKEN),
    ("reset_in_stream", (HEAD + STREAM + CHUNKED + b"\r\n" + chunk(SSE), 0.2), "reset", 200,
     BOOK_BROKEN),
    ("silence_in_stream", (HEAD + STREAM + CHUNKED + b"\r\n" + chunk(SSE),), "hold", 200,
     BOOK_BROKEN),
    ("silence_in_event", (HEAD + STREAM + CHUNKED + b"\r\n" + chunk(SSE + b"event: x"),), "hold",
     None, BOOK_BROKEN),
    ("ends_without_stop", (HEAD + STREAM + CHUNKED + b"\r\n" + chunk(SSE) + b"0\r\n\r\n",), "keep",
     200, BOOK_BROKEN),
    ("reset_after_head", (HEAD + STREAM + CHUNKED + b"\r\n", 0.2), "reset", 200,
     BOOK_UNREAD),
    ("trailers", (HEAD + STREAM + CHUNKED + b"\r\n" + chunk(SSE + SSE_END)
     + b"0\r\nx-trailer: y\r\n\r\n",), "keep", 200, BOOK_WHOLE),
    ("chunk_extension", (HEAD + STREAM + CHUNKED + b"\r\n"
     + chunk(SSE + SSE_END).replace(b"\r\n", b";ext=" + b"z" * 500 + b"\r\n", 1) + b"0\r\n\r\n",),
     "keep", 200, BOOK_WHOLE),
    ("answer_before_the_end", (HEAD + STREAM + CHUNKED + b"\r\n" + chunk(SSE + SSE_END), 0.3),
     "reset", 200, BOOK_WHOLE),
]  # fmt: skip


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
    deadline = time.monotonic() + 10
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


@pytest.mark.parametrize(
    ("steps", "close", "status", "books"),
    [pytest.param(*script[1:], id=script[0]) for script in SCRIPTS],
)
def test_misbehaving_deployment_is_answered_and_booked_once(
    proxy: ProxyProcess,
    key: str,
    scripted: ScriptedServer,
    steps: Sequence[Step],
    close: Close,
    status: int | None,
    books: dict[str, Any],
) -> None:
    scripted.script(*steps, close=close)

    answered, request_id, _ = ask(proxy, key, "claude-scripted")

    assert answered == status
    record = booked(proxy, request_id)
    assert record.status == books["status"]
    expected = books["input"]
    if expected == UNREAD:
        expected = -(-len(question("claude-scripted")) // 4)
    assert (record.usage.input_tokens if record.usage else None) == expected
    assert record.estimated is books["estimated"]
    # T25: the deployment is asked once, whatever it does.
    assert len(scripted.requests) == 1
    # The next request is not hurt by what the last connection was left in.
    scripted.script(GOOD, close="keep")
    assert ask(proxy, key, "claude-scripted")[0] == 200
    assert len(scripted.requests) == 1


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
    scripted.script(HEAD + STREAM + CHUNKED + b"\r\n" + chunk(SSE), 0.1, close="reset")

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
    deadline = time.monotonic() + 10
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
