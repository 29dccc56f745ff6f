"""The mock of the Anthropic API keeps its own promises: other tests take it for the truth."""

import gzip
import json
import socket
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
    scenario_headers,
)

DEFAULT_USAGE = Usage(
    input_tokens=1_213,
    output_tokens=357,
    cache_read_tokens=45_677,
    cache_write_5m_tokens=1_511,
    cache_write_1h_tokens=307,
    service_tier="standard",
    inference_geo="not_available",
)
ANSWER_TIMEOUT_S = 20.0


def question(*, stream: bool = True, **fields: Any) -> dict[str, Any]:
    base = {"model": "claude-opus-5-5", "max_tokens": 64, "stream": stream}
    return {**base, "messages": [{"role": "user", "content": "say hi"}], **fields}


def ask(
    mock: MockAnthropic,
    scenario: Scenario | None = None,
    *,
    stream: bool = True,
    tag: str = "",
    **fields: Any,
) -> httpx.Response:
    return httpx.post(
        f"{mock.url}/v1/messages?beta=true",
        json=question(stream=stream, **fields),
        headers=OAUTH_HEADERS | scenario_headers(scenario, tag=tag),
        timeout=ANSWER_TIMEOUT_S,
        trust_env=False,
    )


@contextmanager
def raw_ask(
    mock: MockAnthropic, scenario: Scenario, *, stream: bool = True
) -> Iterator[socket.socket]:
    """Send a question over a bare socket, so that every byte of the answer can be seen."""
    body = json.dumps(question(stream=stream)).encode()
    lines = [
        "POST /v1/messages HTTP/1.1",
        "Host: mock",
        f"Content-Length: {len(body)}",
        *(f"{key}: {text}" for key, text in (API_KEY_HEADERS | scenario_headers(scenario)).items()),
    ]
    with socket.create_connection(("127.0.0.1", mock.port), ANSWER_TIMEOUT_S) as connection:
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        yield connection


def read_to_end(connection: socket.socket) -> tuple[bytes, bool]:
    """Return all bytes of an answer, and whether it ended with RST."""
    parts: list[bytes] = []
    try:
        while part := connection.recv(65_536):
            parts.append(part)
    except ConnectionResetError:
        return b"".join(parts), True
    return b"".join(parts), False


def sse_events(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Return (event, data) pairs of a stream and check its form, line by line."""
    assert text.endswith("\n\n")
    events = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append((event["type"], event))
    return events


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
    # then no two answers tell the same
    assert len({record_usage(record) for record in mock_anthropic.messages()}) == 3


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
        bad = client.post("/v1/messages", content=b"{", headers=API_KEY_HEADERS)
        assert (bad.status_code, bad.json()["error"]["type"]) == (400, "invalid_request_error")


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


def test_delays_and_paces(mock_anthropic: MockAnthropic) -> None:
    # given an answer with waits
    scenario = Scenario(delay_ms=60, pace_ms=5, events=4, pings=3)
    started_s = time.monotonic()
    events = sse_events(ask(mock_anthropic, scenario).text)
    # then it takes at least as long as they do
    assert time.monotonic() - started_s >= 0.06 + 0.005 * (len(events) - 1)
    assert [name for name, _ in events].count("ping") == 3


@pytest.mark.parametrize("scenario", [Scenario(burst=True), Scenario(chunk_bytes=7)])
def test_chunking_does_not_change_the_stream(
    mock_anthropic: MockAnthropic, scenario: Scenario
) -> None:
    # given the same answer in other chunks
    names = [name for name, _ in sse_events(ask(mock_anthropic, scenario).text)]
    # then its events are the same, and so is what was told
    assert names == [name for name, _ in sse_events(ask(mock_anthropic).text)]
    assert [record_usage(record) for record in mock_anthropic.messages()] == [DEFAULT_USAGE] * 2
    # and on the wire the chunks are as wished
    with raw_ask(mock_anthropic, scenario) as connection:
        wire = b""
        while not wire.endswith(b"0\r\n\r\n"):
            wire += connection.recv(65_536)
    sizes = [int(line, 16) for line in wire.partition(b"\r\n\r\n")[2].split(b"\r\n")[::2] if line]
    assert sizes[0] == 7 if scenario.chunk_bytes else len(sizes) == 2


def test_gzip_answers_unpack_to_the_same(mock_anthropic: MockAnthropic) -> None:
    # given compressed answers
    whole = ask(mock_anthropic, Scenario(gzip=True), stream=False)
    streamed = ask(mock_anthropic, Scenario(gzip=True))
    # then they say so and unpack to what they are
    assert whole.headers["content-encoding"] == streamed.headers["content-encoding"] == "gzip"
    assert whole.json()["type"] == "message"
    assert sse_events(streamed.text)[-1][0] == "message_stop"
    with raw_ask(mock_anthropic, Scenario(gzip=True), stream=False) as connection:
        head, _, packed = connection.recv(65_536).partition(b"\r\n\r\n")
        while len(packed) < int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]):
            packed += connection.recv(65_536)
    assert json.loads(gzip.decompress(packed))["type"] == "message"


def test_giant_event_and_bomb(mock_anthropic: MockAnthropic) -> None:
    # given one event of 3 MiB, plain and compressed
    plain = ask(mock_anthropic, Scenario(giant_event_mib=3))
    assert max(len(event) for event in plain.text.split("\n\n")) > 3 << 20
    assert sse_events(plain.text)[-1][0] == "message_stop"
    ask(mock_anthropic, Scenario(giant_event_mib=3, gzip=True))
    # then the bomb is small on the wire
    plain_record, bomb_record = mock_anthropic.messages()
    assert plain_record.response_bytes > 3 << 20
    assert bomb_record.response_bytes < 64 * 1024


def test_stall_before_headers_lasts_until_the_client_leaves(
    mock_anthropic: MockAnthropic,
) -> None:
    # given a stall, when the client gives up
    with raw_ask(mock_anthropic, Scenario(fault="stall")) as connection:
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)
    # then the record tells that it left, and that it was told nothing
    (record,) = mock_anthropic.wait_for_requests(1)
    assert record.client_closed_at is not None
    assert (record.complete, record.status, record.usage) == (False, 0, None)


def test_stall_within_a_stream_tells_the_usage_of_the_start(
    mock_anthropic: MockAnthropic,
) -> None:
    # given a stall after four events
    with raw_ask(mock_anthropic, Scenario(fault="stall", fault_after_events=4)) as connection:
        wire = b""
        while wire.count(b"event: ") < 4:
            wire += connection.recv(65_536)
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)
    # then the usage told is that of message_start
    (record,) = mock_anthropic.wait_for_requests(1)
    assert (record.complete, record.usage_final) == (False, False)
    usage = record_usage(record)
    assert usage is not None
    assert usage.output_tokens == 3


@pytest.mark.parametrize("after", [None, 0, 5])
def test_reset_is_a_reset(mock_anthropic: MockAnthropic, after: int | None) -> None:
    # given a reset after some events, then these arrive and RST follows
    scenario = Scenario(fault="reset", fault_after_events=after)
    with raw_ask(mock_anthropic, scenario) as connection:
        wire, was_reset = read_to_end(connection)
    assert was_reset
    assert wire.count(b"event: ") == (after or 0)
    assert bool(wire) is (after is not None)


@pytest.mark.parametrize(
    ("fault", "ending"),
    [
        ("close", b"}\n\n\r\n"),
        ("half_chunk", b'"type":"content'),
        ("truncate", b"\r\n0\r\n\r\n"),
        ("error_event", b"\r\n0\r\n\r\n"),
    ],
)
def test_streams_that_end_badly(mock_anthropic: MockAnthropic, fault: Any, ending: bytes) -> None:
    # given a fault after five events
    scenario = Scenario(fault=fault, fault_after_events=5, error_type="billing_error")
    with raw_ask(mock_anthropic, scenario) as connection:
        connection.settimeout(1.0)
        wire = b""
        while not wire.endswith(ending) or wire.count(b"event: ") < 5:
            wire += connection.recv(65_536)
    # then the stream ends there in that way
    assert b"message_stop" not in wire
    assert (b"event: error\ndata: " in wire) is (fault == "error_event")
    assert (b"billing_error" in wire) is (fault == "error_event")
    assert not mock_anthropic.wait_for_requests(1)[0].usage_final


@pytest.mark.parametrize("fault", ["close", "half_chunk"])
@pytest.mark.parametrize("after", [None, 1])
def test_whole_answers_that_end_badly(
    mock_anthropic: MockAnthropic, fault: Any, after: int | None
) -> None:
    # given an answer that is not streamed and breaks off
    scenario = Scenario(fault=fault, fault_after_events=after)
    with raw_ask(mock_anthropic, scenario, stream=False) as connection:
        wire, was_reset = read_to_end(connection)
    # then the body is cut, and nothing counts as told
    assert not was_reset
    head, _, body = wire.partition(b"\r\n\r\n")
    if after is None:
        assert wire == (b"HTTP/1.1 200 O" if fault == "half_chunk" else b"")
    else:
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        assert 0 < len(body) < length
    assert mock_anthropic.wait_for_requests(1)[0].usage is None


@pytest.mark.parametrize("offset", [10, -10])
def test_wrong_content_length(mock_anthropic: MockAnthropic, offset: int) -> None:
    # given a length that is not true
    scenario = Scenario(content_length_offset=offset)
    with raw_ask(mock_anthropic, scenario, stream=False) as connection:
        wire, _ = read_to_end(connection)
    # then the body is whole all the same
    head, _, body = wire.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    assert length == len(body) + offset
    assert json.loads(body)["type"] == "message"


def test_garbage_html_and_redirect(mock_anthropic: MockAnthropic) -> None:
    # given answers that are no answers of the API
    with raw_ask(mock_anthropic, Scenario(reply="garbage")) as connection:
        wire, _ = read_to_end(connection)
    assert len(wire) == 512
    assert not wire.startswith(b"HTTP/")
    page = ask(mock_anthropic, Scenario(reply="html"))
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html")
    redirect = ask(mock_anthropic, Scenario(reply="redirect", location="/elsewhere"))
    assert (redirect.status_code, redirect.headers["location"]) == (307, "/elsewhere")


def test_informational_answers_come_first(mock_anthropic: MockAnthropic) -> None:
    # given a 100 and a 103 before the answer
    scenario = Scenario(early_hints=True, unasked_continue=True, reply="error", status=503)
    with raw_ask(mock_anthropic, scenario) as connection:
        wire = b""
        while b"503" not in wire:
            wire += connection.recv(65_536)
    assert wire.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n")
    assert mock_anthropic.wait_for_requests(1)[0].status == 503


def test_expect_continue_is_answered(mock_anthropic: MockAnthropic) -> None:
    # given a client that waits for leave to send its body
    body = json.dumps(question(stream=False)).encode()
    head = f"POST /v1/messages HTTP/1.1\r\nx-api-key: k\r\nContent-Length: {len(body)}\r\n"
    with socket.create_connection(("127.0.0.1", mock_anthropic.port), 10) as connection:
        connection.sendall(head.encode() + b"Expect: 100-continue\r\nHost: mock\r\n\r\n")
        assert connection.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 OK\r\n")


def test_pipelined_requests_are_answered_in_order(mock_anthropic: MockAnthropic) -> None:
    # given two requests in one packet, the second to be answered at once
    request = b"POST /v1/messages HTTP/1.1\r\nHost: m\r\nx-api-key: k\r\n"
    body = json.dumps(question(stream=False)).encode()
    slow = b'x-mock-scenario: {"delay_ms": 50, "text": "first"}\r\n'
    fast = b'x-mock-scenario: {"text": "second"}\r\nConnection: close\r\n'
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", mock_anthropic.port), 10) as connection:
        connection.sendall(request + slow + length + body + request + fast + length + body)
        wire, _ = read_to_end(connection)
    assert 0 < wire.index(b'"first"') < wire.index(b'"second"')


def test_slow_reader_holds_the_mock_back(mock_anthropic: MockAnthropic) -> None:
    # given an answer of 64 MiB and a client that does not read
    with raw_ask(mock_anthropic, Scenario(giant_event_mib=64)) as connection:
        head = connection.recv(1024)
        assert head.startswith(b"HTTP/1.1 200 OK")
        time.sleep(0.2)  # the time in which an answer without limits would be written
        (record,) = mock_anthropic.requests()
    # then the answer was not made in memory
    assert record.ended_at is None
    assert record.response_bytes < 48 << 20
    assert mock_anthropic.wait_for_requests(1)[0].client_closed_at is not None


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
    deadline = time.monotonic() + 5
    while mock_anthropic.stats().connections_open > before.connections_open:
        assert time.monotonic() < deadline


def test_restarted_mock_keeps_port_and_log(tmp_path: Path) -> None:
    # given a mock that is killed after one answer
    with MockAnthropic.started(tmp_path) as mock:
        port = mock.port
        ask(mock, tag="before")
        mock.kill()
        with pytest.raises(httpx.ConnectError):
            ask(mock)
        # when it is started again
        mock.start()
        ask(mock, tag="after")
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


def test_gzip_flushes_each_event(mock_anthropic: MockAnthropic) -> None:
    # given a compressed stream that stalls after its first event
    scenario = Scenario(gzip=True, fault="stall", fault_after_events=1)
    with raw_ask(mock_anthropic, scenario) as connection:
        wire = b""
        while not wire.endswith(b"\x00\x00\xff\xff\r\n"):
            wire += connection.recv(65_536)
    # then that event can be read already
    chunk = wire.partition(b"\r\n\r\n")[2].partition(b"\r\n")[2]
    assert b"message_start" in zlib.decompressobj(31).decompress(chunk)
