"""The answers of the benchmark's upstream, and what each must look like in the ledger.

They are Anthropic's in shape and have fixed lengths, so that the ledger's figures of a whole run
can be foretold: requests times tokens, requests times bytes.
"""

import json
import re
from typing import Any

import msgspec

__all__ = [
    "INPUT_TOKENS",
    "OUTPUT_TOKENS",
    "STAMP",
    "STAMP_DIGITS",
    "Answer",
    "body_bytes",
    "frame",
    "json_answer",
    "stream_pieces",
    "text_event",
]

INPUT_TOKENS = 1_213
OUTPUT_TOKENS = 357
STAMP_DIGITS = 20
"""Digits of the monotonic clock (nanoseconds) that each event carries as its text."""
STAMP = re.compile(rb'"text":"(\d{20})"')

_MODEL = "claude-sonnet-4-20250514"
_USAGE = {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS}
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\nrequest-id: req_bench\r\ntransfer-encoding: chunked\r\n\r\n"
)


class Answer(msgspec.Struct, frozen=True):
    """One kind of answer: `events` 0 is not streamed; `pace_ms` 0 writes a burst."""

    events: int = 0
    pace_ms: float = 0

    @property
    def header(self) -> bytes:
        """The value of the request header that asks for it."""
        return f"{self.events}:{self.pace_ms:g}".encode()

    @classmethod
    def from_header(cls, field: bytes) -> "Answer":
        """Read such a value."""
        events, _, pace_ms = field.partition(b":")
        return cls(int(events), float(pace_ms))


def frame(payload: bytes) -> bytes:
    """Return a chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def _event(name: str, fields: dict[str, Any]) -> bytes:
    encoded = json.dumps({"type": name, **fields}, separators=(",", ":")).encode()
    return b"event: " + name.encode() + b"\ndata: " + encoded + b"\n\n"


def text_event(stamp_ns: int) -> bytes:
    """Return a text event whose text is a moment."""
    return _TEXT_EVENT % stamp_ns


_TEXT_EVENT = _event(
    "content_block_delta",
    {"index": 0, "delta": {"type": "text_delta", "text": f"%0{STAMP_DIGITS}d"}},
)

_BEGIN = _event(
    "message_start",
    {
        "message": {
            "id": "msg_bench",
            "type": "message",
            "role": "assistant",
            "model": _MODEL,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": _USAGE | {"output_tokens": 1},
        }
    },
) + _event("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}})

_END = (
    _event("content_block_stop", {"index": 0})
    + _event(
        "message_delta",
        {"delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": _USAGE},
    )
    + _event("message_stop", {})
)

_JSON_BODY = json.dumps(
    {
        "id": "msg_bench",
        "type": "message",
        "role": "assistant",
        "model": _MODEL,
        "content": [{"type": "text", "text": "x" * 400}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": _USAGE,
    },
    separators=(",", ":"),
).encode()


def json_answer() -> bytes:
    """Return a whole answer that is not streamed, its head included."""
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nrequest-id: req_bench\r\n"
        b"content-length: %d\r\n\r\n%b" % (len(_JSON_BODY), _JSON_BODY)
    )


def stream_pieces() -> tuple[bytes, bytes]:
    """Return what stands before (the head included) and after a stream's text events."""
    return _STREAM_HEAD + frame(_BEGIN), frame(_END) + b"0\r\n\r\n"


def body_bytes(answer: Answer) -> int:
    """Return the length of an answer's body, without the framing of its transfer."""
    if not answer.events:
        return len(_JSON_BODY)
    return len(_BEGIN) + answer.events * len(text_event(0)) + len(_END)
