"""The meter: reads the usage of an answer while its bytes pass by. Pure, no input or output.

Rules (docs/usage.md): `message_start` brings the input side, `message_delta` cumulative totals that
replace it; an absent field keeps the earlier value. An answer that breaks off is booked with what
was seen, and its output is estimated from the text that passed.
"""

import zlib
from collections.abc import Callable

import msgspec

from schemas.usage import TOKENS_MAX, IterationUsage, Usage

__all__ = [
    "LINE_BYTES_MAX",
    "JsonMeter",
    "Meter",
    "NoMeter",
    "StreamMeter",
    "Unpacker",
    "meter_for",
]

LINE_BYTES_MAX = 1024 * 1024
"""A line of a stream longer than this is passed over by the meter (never by the proxy)."""
ITERATIONS_MAX = 256
_PACKED = frozenset({b"gzip", b"x-gzip", b"deflate"})
_TEXT_MAX = 200
_CHARS_PER_TOKEN = 4


class _CacheCreation(msgspec.Struct):
    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class _ServerTools(msgspec.Struct):
    web_search_requests: int | None = None
    web_fetch_requests: int | None = None


class _Iteration(msgspec.Struct):
    type: str = "message"
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: _CacheCreation | None = None


class _Usage(msgspec.Struct):
    """Anthropic's usage object; null and absent mean the same."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: _CacheCreation | None = None
    server_tool_use: _ServerTools | None = None
    service_tier: str | None = None
    speed: str | None = None
    inference_geo: str | None = None
    iterations: list[_Iteration] | None = None


class _Delta(msgspec.Struct):
    stop_reason: str | None = None


class _Error(msgspec.Struct):
    type: str | None = None


class _Message(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    usage: _Usage | None = None
    type: str | None = None
    error: _Error | None = None


class _StreamEvent(msgspec.Struct):
    type: str
    message: _Message | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None
    error: _Error | None = None


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
        latest = self._latest
        writes_5m, writes_1h = self._writes(latest)
        tools = latest.server_tool_use or _ServerTools()
        return Usage(
            input_tokens=self._count(latest.input_tokens),
            output_tokens=max(self._count(latest.output_tokens), output_tokens_min),
            cache_read_tokens=self._count(latest.cache_read_input_tokens),
            cache_write_5m_tokens=writes_5m,
            cache_write_1h_tokens=writes_1h,
            web_search_requests=self._count(tools.web_search_requests),
            web_fetch_requests=self._count(tools.web_fetch_requests),
            service_tier=_cut(latest.service_tier),
            speed=_cut(latest.speed),
            inference_geo=_cut(latest.inference_geo),
            iterations=self._iterations(latest.iterations),
        )

    def _iterations(self, iterations: list[_Iteration] | None) -> tuple[IterationUsage, ...]:
        if not iterations:
            return ()
        if len(iterations) > ITERATIONS_MAX:
            self.unbelievable = True
        found = []
        for entry in iterations[:ITERATIONS_MAX]:
            writes_5m, writes_1h = self._writes(entry)
            found.append(
                IterationUsage(
                    type=_cut(entry.type) or "message",
                    model=_cut(entry.model),
                    input_tokens=self._count(entry.input_tokens),
                    output_tokens=self._count(entry.output_tokens),
                    cache_read_tokens=self._count(entry.cache_read_input_tokens),
                    cache_write_5m_tokens=writes_5m,
                    cache_write_1h_tokens=writes_1h,
                )
            )
        return tuple(found)

    def _writes(self, usage: _Usage | _Iteration) -> tuple[int, int]:
        """Return cache writes of 5 minutes and of 1 hour.

        The split may lag behind the total, or be absent: the rest counts as 5-minute writes.
        """
        total = self._count(usage.cache_creation_input_tokens)
        split = usage.cache_creation or _CacheCreation()
        writes_5m = self._count(split.ephemeral_5m_input_tokens)
        writes_1h = self._count(split.ephemeral_1h_input_tokens)
        return writes_5m + max(0, total - writes_5m - writes_1h), writes_1h

    def _count(self, value: int | None) -> int:
        if value is None:
            return 0
        if 0 <= value <= TOKENS_MAX:
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
        self._skipping = False

    def feed(self, chunk: bytes) -> None:
        """Take in the next bytes of the stream."""
        lines = (self._tail + chunk if self._tail else chunk).split(b"\n")
        self._tail = lines.pop()
        if self._skipping and lines:
            # The end of a line that was too long to be looked at.
            del lines[0]
            self._skipping = False
        for line in lines:
            if line[:5] == b"data:":
                self._line(line)
        if len(self._tail) > LINE_BYTES_MAX:
            self._tail = b""
            self._skipping = True
            self._unreadable = True
        last = lines[-1].rstrip(b"\r") if lines else None
        self.boundary = not self._tail and not self._skipping and last == b""

    def _line(self, line: bytes) -> None:
        # A quote inside a JSON string is escaped, so these marks are keys or values of their own.
        text_at = line.find(b'_delta","')
        if text_at >= 0 and b'"content_block_delta"' in line:
            value_at = line.find(b'":"', text_at + 8)
            if value_at >= 0:
                self.text_bytes += max(0, len(line.rstrip()) - value_at - 6)
            return
        if b'"message_' not in line and b'"error"' not in line:
            return
        if len(line) > LINE_BYTES_MAX:
            self._unreadable = True
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
            if event.delta is not None and event.delta.stop_reason is not None:
                self.stop_reason = _cut(event.delta.stop_reason)
        elif event.type == "message_stop":
            self.complete = True
        elif event.type == "error":
            self.error_type = _cut(event.error.type if event.error else None) or "api_error"

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
            self.error_type = _cut(message.error.type if message.error else None) or "api_error"


class NoMeter(Meter):
    """For answers whose body tells nothing of usage."""

    def feed(self, chunk: bytes) -> None:
        """Let it pass."""

    def finish(self) -> None:
        """Nothing was to be read, so all of it has been."""
        self.complete = True


class Unpacker:
    """Gives a meter the decoded copy of a compressed answer, a bounded piece at a time."""

    PIECE_BYTES_MAX = 256 * 1024
    RATIO_MAX = 200
    """Text packs 3 to 20 times; more than this is an attack: the meter stops reading."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        # 47: gzip or zlib, told apart by the header.
        self._inflate = zlib.decompressobj(47)
        self._taken = 0
        self._given = 0
        self._stopped = False

    def feed(self, chunk: bytes) -> None:
        """Decode a chunk and let the meter see it."""
        if self._stopped:
            return
        self._taken += len(chunk)
        try:
            while chunk:
                piece = self._inflate.decompress(chunk, self.PIECE_BYTES_MAX)
                self._given += len(piece)
                if self._given > self.RATIO_MAX * self._taken + self.PIECE_BYTES_MAX:
                    self._stop()
                    return
                if piece:
                    self._meter.feed(piece)
                chunk = self._inflate.unconsumed_tail
        except zlib.error:
            self._stop()
        # A packed stream cannot be continued by plain text.
        self._meter.boundary = False

    def _stop(self) -> None:
        self._stopped = True
        self._meter.unreadable()


def meter_for(
    content_type: bytes, content_encoding: bytes, json_bytes_max: int
) -> tuple[Meter, Callable[[bytes], None]]:
    """Return the meter for an answer with these headers, and what its chunks are to be fed to."""
    kind = content_type.split(b";", 1)[0].strip().lower()
    meter: Meter
    if kind == b"text/event-stream":
        meter = StreamMeter()
    elif kind.endswith(b"json"):
        meter = JsonMeter(json_bytes_max)
    else:
        meter = NoMeter()
    if content_encoding.strip().lower() in _PACKED:
        return meter, Unpacker(meter).feed
    return meter, meter.feed


def _cut(text: str | None) -> str | None:
    return text[:_TEXT_MAX] if text is not None else None
