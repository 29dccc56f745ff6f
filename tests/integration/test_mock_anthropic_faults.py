"""The mock of the Anthropic API misbehaves as it is told to, and knows what it told before."""

import gzip
import json
import socket
import time
import zlib
from typing import Any

import pytest

from tests.support.mock import MockAnthropic, Scenario, record_usage
from tests.support.wire import (
    ask,
    content_length,
    question,
    raw_ask,
    read_to_end,
    read_until,
    sse_events,
    whole_answer,
)


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
    first, second = mock_anthropic.messages()
    assert record_usage(first) == record_usage(second)
    assert first.usage_final
    # and on the wire the chunks are as wished
    with raw_ask(mock_anthropic, scenario) as connection:
        wire = read_until(connection, lambda wire: wire.endswith(b"0\r\n\r\n"))
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
        wire = read_until(connection, whole_answer)
    packed = wire.partition(b"\r\n\r\n")[2]
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
        read_until(connection, lambda wire: wire.count(b"event: ") == 4)
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
        wire = read_until(
            connection, lambda wire: wire.endswith(ending) and wire.count(b"event: ") >= 5
        )
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
    body = wire.partition(b"\r\n\r\n")[2]
    if after is None:
        assert wire == (b"HTTP/1.1 200 O" if fault == "half_chunk" else b"")
    else:
        assert 0 < len(body) < content_length(wire)
    assert mock_anthropic.wait_for_requests(1)[0].usage is None


@pytest.mark.parametrize("offset", [10, -10])
def test_wrong_content_length(mock_anthropic: MockAnthropic, offset: int) -> None:
    # given a length that is not true
    scenario = Scenario(content_length_offset=offset)
    with raw_ask(mock_anthropic, scenario, stream=False) as connection:
        wire, _ = read_to_end(connection)
    # then the body is whole all the same
    body = wire.partition(b"\r\n\r\n")[2]
    assert content_length(wire) == len(body) + offset
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
        wire = read_until(connection, lambda wire: b"503" in wire)
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


def test_gzip_flushes_each_event(mock_anthropic: MockAnthropic) -> None:
    # given a compressed stream that stalls after its first event
    scenario = Scenario(gzip=True, fault="stall", fault_after_events=1)
    with raw_ask(mock_anthropic, scenario) as connection:
        wire = read_until(connection, lambda wire: wire.endswith(b"\x00\x00\xff\xff\r\n"))
    # then that event can be read already
    chunk = wire.partition(b"\r\n\r\n")[2].partition(b"\r\n")[2]
    assert b"message_start" in zlib.decompressobj(31).decompress(chunk)
