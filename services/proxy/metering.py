"""Which meter reads an answer, and the decoded copy that it reads of a packed one. Pure."""

import zlib
from collections.abc import Callable

from services.proxy.meter import JsonMeter, Meter, NoMeter, StreamMeter

__all__ = ["Unpacker", "meter_for"]

_PACKED = frozenset({b"gzip", b"x-gzip", b"deflate"})


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
            while True:
                piece = self._inflate.decompress(chunk, self.PIECE_BYTES_MAX)
                self._given += len(piece)
                if self._given > self.RATIO_MAX * self._taken + self.PIECE_BYTES_MAX:
                    self._stop()
                    return
                if piece:
                    self._meter.feed(piece)
                chunk = self._inflate.unconsumed_tail
                # A piece that is full may have more behind it, though all bytes were taken in.
                if not chunk and len(piece) < self.PIECE_BYTES_MAX:
                    break
        except zlib.error:
            self._stop()
        # A packed stream cannot be continued by plain text.
        self._meter.boundary = False

    def _stop(self) -> None:
        self._stopped = True
        self._meter.boundary = False
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
