"""The meter of a message batch's results: JSON Lines, read one by one as they pass. Pure.

Each result that succeeded is a usage of its own. Results that errored, expired or were canceled
are not billed and are passed over.
"""

import hashlib
import re
from collections.abc import Callable

import msgspec

from schemas.usage import Usage
from services.proxy.meter import JsonMeter, Meter

__all__ = ["BatchResult", "ResultsMeter", "result_request_id"]

_HEAD_BYTES_KEPT = 4096
_CUSTOM_ID = re.compile(rb'[ \t\r]*\{[ \t]*"custom_id"[ \t]*:[ \t]*("[^"\\]*+(?:\\.[^"\\]*+)*+")')
_SUCCEEDED = re.compile(rb'"type"[ \t]*:[ \t]*"succeeded"')
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_TIER = "batch"


class BatchResult(msgspec.Struct, frozen=True, kw_only=True):
    """A result that succeeded. `usage` is None where its line could not be read."""

    custom_id: str
    usage: Usage | None = None
    estimate_basis: str | None = None
    model: str | None = None
    message_id: str | None = None
    stop_reason: str | None = None
    line_bytes: int = 0


class _Result(msgspec.Struct):
    type: str
    message: msgspec.Raw = msgspec.Raw(b"null")


class _Line(msgspec.Struct):
    custom_id: str
    result: _Result


_line_decoder = msgspec.json.Decoder(_Line)


def result_request_id(batch_id: str, custom_id: str) -> str:
    """Return the request id of a result: the same each time that it is fetched."""
    identity = f"{batch_id}\0{custom_id}".encode(errors="surrogatepass")
    return f"tg_batch_{hashlib.sha256(identity).hexdigest()[:32]}"


class ResultsMeter(Meter):
    """Reads the results of a batch, whichever way they are cut into chunks.

    `on_result` is called for each that succeeded, once its line is whole. A line longer than
    `line_bytes_max` is passed over: it is reported without its usage where its beginning tells
    whose it is. Lines that cannot be read set `error_type`.
    """

    def __init__(self, on_result: Callable[[BatchResult], None], line_bytes_max: int) -> None:
        super().__init__()
        # Results are booked before they go to the client.
        self.boundary = False
        self._on_result = on_result
        self._line_bytes_max = line_bytes_max
        self._tail = bytearray()
        self._long_bytes = 0

    def feed(self, chunk: bytes) -> None:
        """Take in the next bytes."""
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            self._end_line(chunk[start:end])
            start = end + 1
        self._keep(chunk[start:])

    def finish(self) -> None:
        """Take in a last line that no line break ended."""
        self._end_line(b"")
        self.complete = True

    def unreadable(self) -> None:
        """Note that a packed answer could not be read on."""
        self.error_type = "unreadable_results"

    def _keep(self, rest: bytes) -> None:
        if self._long_bytes:
            self._long_bytes += len(rest)
            return
        self._tail += rest
        if len(self._tail) > self._line_bytes_max:
            self._long_bytes = len(self._tail)
            del self._tail[_HEAD_BYTES_KEPT:]

    def _end_line(self, rest: bytes) -> None:
        if self._long_bytes:
            self._take_long(bytes(self._tail), self._long_bytes + len(rest))
        else:
            line = bytes(self._tail) + rest if self._tail else rest
            if len(line) > self._line_bytes_max:
                self._take_long(line[:_HEAD_BYTES_KEPT], len(line))
            elif line.strip():
                self._take(line)
        self._tail.clear()
        self._long_bytes = 0

    def _take(self, line: bytes) -> None:
        try:
            read = _line_decoder.decode(line)
        except _UNREADABLE:
            self.unreadable()
            return
        if read.result.type != "succeeded":
            return
        meter = JsonMeter(len(line))
        meter.feed(bytes(read.result.message))
        meter.finish()
        usage, basis = meter.usage()
        self._on_result(
            BatchResult(
                custom_id=read.custom_id,
                # Whatever tier the message names: a result of a batch has the price of batches.
                usage=usage and msgspec.structs.replace(usage, service_tier=_TIER),
                estimate_basis=basis,
                model=meter.model,
                message_id=meter.message_id,
                stop_reason=meter.stop_reason,
                line_bytes=len(line),
            )
        )

    def _take_long(self, head: bytes, line_bytes: int) -> None:
        name = _CUSTOM_ID.match(head)
        try:
            custom_id = msgspec.json.decode(name[1], type=str) if name is not None else None
        except _UNREADABLE:
            custom_id = None
        if custom_id is None:
            self.unreadable()
        elif _SUCCEEDED.search(head):
            self._on_result(BatchResult(custom_id=custom_id, line_bytes=line_bytes))
