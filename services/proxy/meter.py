"""The meter: reads the usage of an answer while its bytes pass by. Pure, no input or output.

Rules (docs/usage.md): `message_start` brings the input side, `message_delta` cumulative totals that
replace it; an absent field keeps the earlier value. An answer that breaks off is booked with what
was seen, and its output is estimated from the text that passed.
"""

import re
from typing import Any

import msgspec

from schemas.usage import TOKENS_MAX, IterationUsage, Usage

__all__ = [
    "LINE_BYTES_MAX",
    "JsonMeter",
    "Meter",
    "NoMeter",
    "StreamMeter",
]

LINE_BYTES_MAX = 1024 * 1024
"""A line of a stream longer than this is passed over by the meter (never by the proxy)."""
ITERATIONS_MAX = 256
_LONG_LINE_BYTES_KEPT = 128
_TEXT_MAX = 200
_CHARS_PER_TOKEN = 4


class _Usage(msgspec.Struct):
    """Anthropic's usage object, or an entry of its `iterations`; null and absent mean the same.

    No field has its type here: one odd figure must not cost all the others.
    """

    input_tokens: object = None
    output_tokens: object = None
    cache_read_input_tokens: object = None
    cache_creation_input_tokens: object = None
    cache_creation: object = None
    server_tool_use: object = None
    service_tier: object = None
    speed: object = None
    inference_geo: object = None
    iterations: object = None


class _Iteration(_Usage):
    type: object = None
    model: object = None


class _Message(msgspec.Struct):
    id: object = None
    model: object = None
    stop_reason: object = None
    usage: _Usage | None = None
    type: object = None
    error: object = None


class _StreamEvent(msgspec.Struct):
    type: str
    message: _Message | None = None
    delta: object = None
    usage: _Usage | None = None
    error: object = None


_EVENT_END = b"\n\n"
_TEXT_START = b"event: content_block_delta\n"
_TEXT_LINES = 3
"""An event of text has a line with its name, one with its data, and an empty one."""
_TEXTS = re.compile(rb'_delta","(?:text|thinking|partial_json)":"([^\n]*)"\}\}\r?(?:\n|\Z)')
"""The text in the data of such an event, as the API writes it."""

_message_decoder = msgspec.json.Decoder(_Message)
_event_decoder = msgspec.json.Decoder(_StreamEvent)
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class _Totals:
    """Usage as it is known so far, merged by Anthropic's rules."""

    def __init__(self) -> None:
        self.seen = False
        self.unbelievable = False
        self._latest = _Usage()

    def merge(self, new: _Usage) -> None:
        self.seen = True
        latest = self._latest
        for field in _Usage.__struct_fields__:
            value = getattr(new, field)
            if value is not None:
                setattr(latest, field, value)

    def result(self, output_tokens_min: int) -> Usage:
        self.unbelievable = False
        latest = self._latest
        writes_5m, writes_1h = self._writes(latest)
        tools = self._object(latest.server_tool_use)
        return Usage(
            input_tokens=self._count(latest.input_tokens),
            output_tokens=max(self._count(latest.output_tokens), output_tokens_min),
            cache_read_tokens=self._count(latest.cache_read_input_tokens),
            cache_write_5m_tokens=writes_5m,
            cache_write_1h_tokens=writes_1h,
            web_search_requests=self._count(tools.get("web_search_requests")),
            web_fetch_requests=self._count(tools.get("web_fetch_requests")),
            service_tier=_cut(latest.service_tier),
            speed=_cut(latest.speed),
            inference_geo=_cut(latest.inference_geo),
            iterations=self._iterations(latest.iterations),
        )

    def _iterations(self, iterations: object) -> tuple[IterationUsage, ...]:
        if iterations is None:
            return ()
        if not isinstance(iterations, list) or len(iterations) > ITERATIONS_MAX:
            self.unbelievable = True
            return ()
        return tuple(self._iteration(self._object(entry)) for entry in iterations)

    def _iteration(self, fields: dict[str, Any]) -> IterationUsage:
        entry = msgspec.convert(fields, _Iteration)
        writes_5m, writes_1h = self._writes(entry)
        return IterationUsage(
            type=_cut(entry.type) or "message",
            model=_cut(entry.model),
            input_tokens=self._count(entry.input_tokens),
            output_tokens=self._count(entry.output_tokens),
            cache_read_tokens=self._count(entry.cache_read_input_tokens),
            cache_write_5m_tokens=writes_5m,
            cache_write_1h_tokens=writes_1h,
        )

    def _writes(self, usage: _Usage) -> tuple[int, int]:
        """Return cache writes of 5 minutes and of 1 hour.

        The split may lag behind the total, or be absent: the rest counts as 5-minute writes.
        """
        total = self._count(usage.cache_creation_input_tokens)
        split = self._object(usage.cache_creation)
        writes_5m = self._count(split.get("ephemeral_5m_input_tokens"))
        writes_1h = self._count(split.get("ephemeral_1h_input_tokens"))
        return writes_5m + max(0, total - writes_5m - writes_1h), writes_1h

    def _object(self, value: object) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        self.unbelievable |= value is not None
        return {}

    def _count(self, value: object) -> int:
        if value is None:
            return 0
        # A bool is an int for Python, and no count.
        if type(value) is int and 0 <= value <= TOKENS_MAX:
            return value
        self.unbelievable = True
        return 0


class Meter:
    """What has been read of one answer so far.

    `complete`: the answer's own end was seen, its figures are final. `boundary`: what has passed
    ends between two events, so that another event may follow. `revision` counts the reports of
    usage that were read, `text_bytes` the text that passed. Then the answer's own words:
    `error_type`, `message_id`, `model`, `stop_reason`.
    """

    def __init__(self) -> None:
        self.complete = False
        self.boundary = True
        self.error_type: str | None = None
        self.message_id: str | None = None
        self.model: str | None = None
        self.stop_reason: str | None = None
        self.revision = 0
        self._totals = _Totals()
        self._unreadable = False
        self.text_bytes = 0

    def feed(self, chunk: bytes) -> None:
        """Take in the next bytes of the answer."""
        raise NotImplementedError

    def finish(self) -> None:
        """The body has ended, as HTTP says."""
        raise NotImplementedError

    def unreadable(self) -> None:
        """Note that a part of the answer could not be read."""
        self._unreadable = True

    def _take_message(self, message: _Message) -> None:
        self.message_id = _cut(message.id)
        self.model = _cut(message.model)
        self.stop_reason = _cut(message.stop_reason)
        if message.usage is not None:
            self._merge(message.usage)

    def _merge(self, usage: _Usage) -> None:
        self._totals.merge(usage)
        self.revision += 1

    def usage(self) -> tuple[Usage | None, str | None]:
        """Return what was used, and how it was estimated (None: it is the upstream's word)."""
        estimated_output = 0
        reasons = []
        if not self.complete and self._totals.seen:
            estimated_output = -(-self.text_bytes // _CHARS_PER_TOKEN)
            reasons.append("the answer broke off: output from the bytes that passed, 4 a token")
        if not self._totals.seen:
            return None, None
        usage = self._totals.result(estimated_output)
        if self._totals.unbelievable:
            reasons.append("impossible figures of the upstream were left out")
        if self._unreadable:
            reasons.append("a part of the answer could not be read")
        return usage, "; ".join(reasons) or None


class StreamMeter(Meter):
    """Reads a stream of server-sent events, whichever way it is cut into chunks."""

    def __init__(self) -> None:
        super().__init__()
        self._tail = b""
        self._is_between_events = True
        # Of a line that is too long: its beginning, and how many bytes of it have gone by.
        self._long_line = b""
        self._long_bytes = 0

    def feed(self, chunk: bytes) -> None:
        """Take in the next bytes of the stream."""
        if not chunk:
            return
        data = self._tail + chunk if self._tail else chunk
        # Nearly all of a stream is events of text. From the first boundary of events to the last
        # they are read at once, which takes a quarter of the time of reading line by line.
        start = 0 if self._is_between_events else data.find(_EVENT_END) + len(_EVENT_END)
        end = data.rfind(_EVENT_END) + len(_EVENT_END)
        if (start >= end) or self._long_bytes or not self._take_text(data[start:end]):
            self._take_lines(data)
            return
        if start:
            self._take_lines(data[:start])
        self._take_lines(data[end:])

    def _take_text(self, events: bytes) -> bool:
        """Take in whole events of text; False, and nothing taken, where they are anything else."""
        if not events.startswith(_TEXT_START) or len(events) > LINE_BYTES_MAX:
            return False
        texts = _TEXTS.findall(events)
        if len(texts) * _TEXT_LINES != events.count(b"\n"):
            return False
        self.text_bytes += sum(map(len, texts))
        return True

    def _take_lines(self, data: bytes) -> None:
        lines = data.split(b"\n")
        self._tail = lines.pop()
        if lines:
            if self._long_bytes:
                self._end_long_line(lines[0])
                del lines[0]
            for line in lines:
                if line[:5] == b"data:":
                    self._line(line)
            self._is_between_events = bool(lines) and lines[-1].rstrip(b"\r") == b""
        if len(self._tail) > LINE_BYTES_MAX:
            self._long_line = self._long_line or self._tail[:_LONG_LINE_BYTES_KEPT]
            self._long_bytes += len(self._tail)
            self._tail = b""
        self.boundary = not self._tail and not self._long_bytes and self._is_between_events

    def _end_long_line(self, rest: bytes) -> None:
        self._pass_over(self._long_line, self._long_bytes + len(rest))
        self._long_line, self._long_bytes = b"", 0

    def _pass_over(self, line: bytes, line_bytes: int) -> None:
        """Count a line that is too long to be read, of which the beginning is given."""
        if line[:5] != b"data:":
            return
        if b'"content_block_' in line[:_LONG_LINE_BYTES_KEPT]:
            self.text_bytes += line_bytes
        else:
            self._unreadable = True

    def _line(self, line: bytes) -> None:
        if len(line) > LINE_BYTES_MAX:
            self._pass_over(line, len(line))
            return
        # A quote inside a JSON string is escaped, so these marks are keys or values of their own.
        if b'"content_block_delta"' in line:
            # The last value of any other delta is what it adds; a signature is no output.
            text = _TEXTS.search(line)
            if text is not None:
                self.text_bytes += len(text[1])
            elif b'"signature_delta"' not in line:
                value_at = line.rfind(b'":"')
                self.text_bytes += max(0, len(line.rstrip()) - value_at - 6) if value_at >= 0 else 0
            return
        if b'"message_' not in line and b'"error"' not in line:
            return
        try:
            event = _event_decoder.decode(line[5:])
        except _UNREADABLE:
            self._unreadable = True
            return
        self._event(event)

    def _event(self, event: _StreamEvent) -> None:
        if event.type == "message_start" and event.message is not None:
            self._take_message(event.message)
        elif event.type == "message_delta":
            if event.usage is not None:
                self._merge(event.usage)
            if isinstance(event.delta, dict) and event.delta.get("stop_reason") is not None:
                self.stop_reason = _cut(event.delta["stop_reason"])
        elif event.type == "message_stop":
            self.complete = True
        elif event.type == "error":
            self.error_type = _error_type(event.error)

    def finish(self) -> None:
        """Take in a last line that no line break ended."""
        if self._tail:
            self.feed(b"\n")


class JsonMeter(Meter):
    """Reads an answer that is one JSON object; keeps at most `bytes_max` of it."""

    def __init__(self, bytes_max: int) -> None:
        super().__init__()
        self._bytes_max = bytes_max
        self._size = 0
        self._chunks: list[bytes] = []

    def feed(self, chunk: bytes) -> None:
        """Keep the next bytes of the object."""
        self._size += len(chunk)
        self.text_bytes = self._size
        self.boundary = False
        if self._size > self._bytes_max:
            self._chunks.clear()
            self._unreadable = True
        else:
            self._chunks.append(chunk)

    def finish(self) -> None:
        """Read the object, now that it is whole."""
        body = b"".join(self._chunks)
        self._chunks.clear()
        try:
            message = _message_decoder.decode(body)
        except _UNREADABLE:
            self._unreadable = True
            return
        self._take_message(message)
        self.complete = True
        if message.type == "error":
            self.error_type = _error_type(message.error)


class NoMeter(Meter):
    """For answers whose body tells nothing of usage."""

    def feed(self, chunk: bytes) -> None:
        """Let it pass."""

    def finish(self) -> None:
        """Nothing was to be read, so all of it has been."""
        self.complete = True


def _cut(text: object) -> str | None:
    return text[:_TEXT_MAX] if isinstance(text, str) else None


def _error_type(error: object) -> str:
    return (_cut(error.get("type")) if isinstance(error, dict) else None) or "api_error"
