"""Replies: a scenario as a sequence of steps on the wire. Pure: nothing here touches a socket."""

import random
import zlib
from collections.abc import Iterator
from enum import Enum, auto
from http import HTTPStatus
from typing import Any

import msgspec

from tests.support.mock_anthropic.messages import (
    ERROR_TYPES,
    Ids,
    StreamEvent,
    answer_headers,
    error_body,
    message_body,
    stream_events,
    usage_at_end,
    usage_at_start,
)
from tests.support.mock_anthropic.scenario import Scenario, ToolCall

__all__ = ["Act", "Asked", "Pause", "Send", "Step", "http_head", "plain_reply", "reply_steps"]

_GIANT_PART_BYTES = 64 * 1024
_GARBAGE_BYTES = 512
_SETTLE_S = 0.02
"""The wait before a reset, so that what was written before it has left the machine's buffers."""


class Act(Enum):
    """The last step of an answer that ends badly."""

    RESET = auto()
    CLOSE = auto()
    STALL = auto()


class Send(msgspec.Struct, frozen=True):
    """Write bytes. `told` is the usage that the client knows once it has them."""

    data: bytes
    told: dict[str, Any] | None = None
    final: bool = False


class Pause(msgspec.Struct, frozen=True):
    """Wait; zero lets what was written leave by itself."""

    seconds: float


Step = Send | Pause | Act


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a reply depends on: the request, as far as the mock reads it."""

    number: int
    model: str
    stream: bool
    subscription: bool
    tool_results: int
    message_id: str
    request_id: str


def http_head(status: int, headers: dict[str, str]) -> bytes:
    """Return a status line and headers, with the blank line."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Overloaded" if status == 529 else "Unknown"
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {text}" for name, text in headers.items())]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def plain_reply(
    status: int,
    headers: dict[str, str],
    body: bytes,
    *,
    content_type: str = "application/json",
    head_only: bool = False,
) -> bytes:
    """Return a whole answer with its length, the body left out for a HEAD request."""
    whole = {"content-type": content_type, "content-length": str(len(body)), **headers}
    return http_head(status, whole) + (b"" if head_only else body)


class _Body:
    """Turns events into chunks: compressed, joined or cut as the scenario says."""

    def __init__(self, scenario: Scenario) -> None:
        self._gzip = zlib.compressobj(wbits=31) if scenario.gzip else None
        self._chunk_bytes = scenario.chunk_bytes

    def _chunked(self, data: bytes) -> Iterator[bytes]:
        size = self._chunk_bytes or len(data)
        for start in range(0, len(data), size or 1):
            part = data[start : start + size]
            yield b"%x\r\n%b\r\n" % (len(part), part)

    def steps(
        self, data: bytes, told: dict[str, Any] | None = None, *, final: bool = False
    ) -> Iterator[Step]:
        if self._gzip is not None:
            data = self._gzip.compress(data) + self._gzip.flush(zlib.Z_SYNC_FLUSH)
        chunks = list(self._chunked(data))
        for chunk in chunks[:-1]:
            yield Send(chunk)
            yield Pause(0)
        yield Send(chunks[-1] if chunks else b"", told, final)

    def end(self) -> Iterator[Step]:
        if self._gzip is not None:
            for chunk in self._chunked(self._gzip.flush()):
                yield Send(chunk)
        yield Send(b"0\r\n\r\n")


def _early_fault_steps(scenario: Scenario) -> Iterator[Step]:
    """Yield what goes wrong before the status line."""
    if scenario.fault == "half_chunk":
        yield Send(b"HTTP/1.1 200 O")
    yield from _final_act(scenario)


def _final_act(scenario: Scenario) -> Iterator[Step]:
    if scenario.fault == "stall":
        yield Act.STALL
    elif scenario.fault == "reset":
        yield Pause(_SETTLE_S)
        yield Act.RESET
    else:
        yield Act.CLOSE


def _stream_fault_steps(scenario: Scenario, asked: Asked, body: _Body) -> Iterator[Step]:
    """Yield what goes wrong between the events of a stream."""
    match scenario.fault:
        case "truncate":
            yield from body.end()
        case "error_event":
            kind = scenario.error_type or "overloaded_error"
            data = error_body(kind, scenario.error_message, asked.request_id)
            yield from body.steps(b"event: error\ndata: %b\n\n" % data)
            yield from body.end()
        case "half_chunk":
            yield Send(b'400\r\nevent: content_block_delta\ndata: {"type":"content')
            yield Act.CLOSE
        case _:
            yield from _final_act(scenario)


def _giant_steps(scenario: Scenario, body: _Body) -> Iterator[Step]:
    """Yield one event of the wanted size, made while it is sent and never whole in memory."""
    head = b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"'
    yield from body.steps(b"event: content_block_delta\ndata: " + head)
    filler = b"x" * _GIANT_PART_BYTES
    for number in range((scenario.giant_event_mib << 20) // _GIANT_PART_BYTES):
        yield from body.steps(filler)
        if number % 16 == 0:
            yield Pause(0)
    yield from body.steps(b'"}}\n\n')


def _told_by(events: list[StreamEvent]) -> dict[str, Any]:
    """Return the usage that a client knows after all of the events."""
    told: dict[str, Any] = {}
    for event in events:
        told |= event.told or {}
    return told


def _stream_steps(
    scenario: Scenario, asked: Asked, tool: ToolCall | None, headers: dict[str, str], ids: Ids
) -> Iterator[Step]:
    events = stream_events(
        scenario,
        message_id=asked.message_id,
        model=scenario.model or asked.model,
        number=asked.number,
        tool=tool,
        ids=ids,
    )
    head = {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-cache",
        "transfer-encoding": "chunked",
        **({"content-encoding": "gzip"} if scenario.gzip else {}),
        **headers,
    }
    body = _Body(scenario)
    yield Send(http_head(200, head))
    fault_after = scenario.fault_after_events if scenario.fault else None
    if scenario.flows:
        # Nothing lies between the events: one write is faster, and the chunks are the same.
        chunks = [b"%x\r\n%b\r\n" % (len(event.data), event.data) for event in events]
        yield Send(b"".join(chunks) + b"0\r\n\r\n", _told_by(events), final=True)
        return
    if scenario.burst and fault_after is None:
        data = b"".join(event.data for event in events)
        yield from body.steps(data, _told_by(events), final=True)
        yield from body.end()
        return
    giant_before = len(events) - 3 if scenario.giant_event_mib else -1
    for index, event in enumerate(events):
        if index == fault_after:
            yield from _stream_fault_steps(scenario, asked, body)
            return
        if index and scenario.pace_ms:
            yield Pause(scenario.pace_ms / 1000)
        if index == giant_before:
            yield from _giant_steps(scenario, body)
        yield from body.steps(event.data, event.told, final=event.final)
    if fault_after is not None:
        yield from _stream_fault_steps(scenario, asked, body)
        return
    yield from body.end()


def _whole_steps(
    scenario: Scenario, asked: Asked, tool: ToolCall | None, headers: dict[str, str], ids: Ids
) -> Iterator[Step]:
    usage = usage_at_start(scenario.usage, asked.number)
    usage |= usage_at_end(scenario.usage, asked.number)
    data = message_body(
        scenario,
        message_id=asked.message_id,
        model=scenario.model or asked.model,
        usage=usage,
        tool=tool,
        ids=ids,
    )
    if scenario.gzip:
        data = zlib.compress(data, wbits=31)
    length = len(data) + scenario.content_length_offset
    head = {
        "content-type": "application/json",
        "content-length": str(length),
        **({"content-encoding": "gzip"} if scenario.gzip else {}),
        **headers,
    }
    yield Send(http_head(200, head))
    if scenario.fault is not None:
        yield Send(data[: len(data) // 2])
        yield from _final_act(scenario)
        return
    yield Send(data, usage, final=True)
    if scenario.content_length_offset:
        # More was promised, or more was sent, than the other says: nothing can follow.
        yield Act.CLOSE


def reply_steps(scenario: Scenario, asked: Asked, ids: Ids) -> Iterator[Step]:
    """Yield the steps of the answer to a `POST /v1/messages` that was in order."""
    if scenario.delay_ms:
        yield Pause(scenario.delay_ms / 1000)
    if scenario.fault is not None and scenario.fault_after_events is None:
        yield from _early_fault_steps(scenario)
        return
    if scenario.unasked_continue:
        yield Send(b"HTTP/1.1 100 Continue\r\n\r\n")
    if scenario.early_hints:
        yield Send(http_head(103, {"link": "</style.css>; rel=preload"}))
    headers = answer_headers(asked.request_id, subscription=asked.subscription) | scenario.headers
    match scenario.reply:
        case "error":
            kind = scenario.error_type or ERROR_TYPES.get(scenario.status, "api_error")
            data = error_body(kind, scenario.error_message, asked.request_id)
            yield Send(plain_reply(scenario.status, headers, data))
        case "html":
            page = b"<html><body><h1>Sign in to the network</h1></body></html>"
            yield Send(plain_reply(200, headers, page, content_type="text/html"))
        case "garbage":
            yield Send(random.Random(asked.number).randbytes(_GARBAGE_BYTES))
            yield Act.CLOSE
        case "redirect":
            yield Send(plain_reply(307, {**headers, "location": scenario.location}, b""))
        case _:
            tool = None
            if scenario.reply == "tools" and asked.tool_results < len(scenario.tools):
                tool = scenario.tools[asked.tool_results]
            steps = _stream_steps if asked.stream else _whole_steps
            yield from steps(scenario, asked, tool, headers, ids)
