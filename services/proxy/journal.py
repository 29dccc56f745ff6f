"""The journal: an append-only log in segment files, the durable half of the outbox.

A record is in the operating system's hands when `append` returns, so it survives the death of the
process at any moment. (A loss of power can take what the disk did not have yet; what JetStream has
acknowledged is safe there.) A record torn by the death of the process is recognised by its
checksum and cut off.

Record: 4 bytes length of the payload, 4 bytes CRC-32 of kind and payload, 1 byte kind, payload.
Segment: `<number>.journal`, numbers counting up. `position`: how far the reader has come.
"""

import contextlib
import errno
import fcntl
import logging
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from schemas.errors import ConfigError

__all__ = [
    "RECORD_BYTES_MAX",
    "SEGMENT_BYTES_MAX",
    "Journal",
    "Position",
    "Record",
    "unread_bytes",
]

log = logging.getLogger(__name__)

SEGMENT_BYTES_MAX = 4 * 1024 * 1024
"""A segment longer than this is closed and a new one begun."""
RECORD_BYTES_MAX = 256 * 1024
"""No record is larger; a length above it is a torn or foreign record."""

_HEADER = struct.Struct("<IIc")
_POSITION = struct.Struct("<QQI")


class Record(msgspec.Struct, frozen=True):
    """One record: its kind (one byte) and its bytes."""

    kind: bytes
    payload: bytes

    @property
    def size(self) -> int:
        """How many bytes it takes in its segment."""
        return _HEADER.size + len(self.payload)


class Position(msgspec.Struct, frozen=True, order=True):
    """A place in the journal: segment number and byte offset."""

    segment: int
    offset: int


class Journal:
    """A journal in one folder, used by one process at a time (a lock tells: ConfigError)."""

    def __init__(self, folder: Path, *, segment_bytes_max: int = SEGMENT_BYTES_MAX) -> None:
        self._folder = folder
        self._segment_bytes_max = segment_bytes_max
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise ConfigError(
                f"{folder} is in use by another process: each proxy needs a folder of its own"
            ) from None
        self._position_file = os.open(
            folder / "position", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        self._readers: dict[int, int] = {}
        self._file = -1
        self._sizes = self._scan()
        self.read_position = self._load_position()
        self._begin_segment(max(self.read_position.segment, *self._sizes, 0) + 1)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:012d}.journal"

    def _scan(self) -> dict[int, int]:
        """Return the usable length of each segment that is there."""
        sizes = {}
        for path in self._folder.glob("*.journal"):
            size = path.stat().st_size
            if size == 0:
                path.unlink()
            elif path.stem.isdigit():
                sizes[int(path.stem)] = size
        return dict(sorted(sizes.items()))

    def _load_position(self) -> Position:
        raw = os.pread(self._position_file, _POSITION.size, 0)
        if len(raw) == _POSITION.size:
            segment, offset, checksum = _POSITION.unpack(raw)
            if zlib.crc32(raw[:16]) == checksum:
                return Position(segment, offset)
        # Reading too much again is harmless: the ledger knows what it has.
        return Position(min(self._sizes, default=1), 0)

    def _begin_segment(self, number: int) -> None:
        file = os.open(
            self._path(number), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        if self._file >= 0:
            os.close(self._file)
        self._file = file
        self.segment = number
        self._sizes[number] = os.fstat(file).st_size

    @property
    def bytes_unread(self) -> int:
        """How many bytes wait to be read, over all segments."""
        return sum(
            size - (self.read_position.offset if number == self.read_position.segment else 0)
            for number, size in self._sizes.items()
            if number >= self.read_position.segment
        )

    def append(self, kind: bytes, payload: bytes) -> None:
        """Append a record. Raises OSError (disk full) and then leaves the journal as it was."""
        assert 0 < len(payload) <= RECORD_BYTES_MAX, "no reader would take it for a record"
        header = _HEADER.pack(len(payload), zlib.crc32(payload, kind[0]), kind)
        record = header + payload
        written = os.write(self._file, record)
        if written != len(record):
            os.ftruncate(self._file, self._sizes[self.segment])
            raise OSError(errno.ENOSPC, "the disk is full")
        self._sizes[self.segment] += written

    @property
    def is_segment_full(self) -> bool:
        """Whether it is time for a new segment."""
        return self._sizes[self.segment] >= self._segment_bytes_max

    def rotate(self) -> None:
        """Close the segment and begin the next one. Raises OSError and stays with the old one."""
        self._begin_segment(self.segment + 1)

    def read(self, position: Position, bytes_max: int) -> tuple[list[Record], Position]:
        """Return whole records from a position on, and where they end.

        At most about `bytes_max` of one segment; an empty list means that all has been read.
        A record torn by the death of its process, or damaged on disk, is passed over.
        """
        while True:
            size = self._sizes.get(position.segment)
            if size is None or position.offset >= size:
                later = [number for number in self._sizes if number > position.segment]
                if not later:
                    return [], position
                position = Position(min(later), 0)
                continue
            length = min(size - position.offset, max(bytes_max, RECORD_BYTES_MAX + _HEADER.size))
            chunk = os.pread(self._reader(position.segment), length, position.offset)
            records, used = _parse(chunk)
            if used == 0:
                lost = _next_record(chunk) or length
                log.error(
                    "%d bytes of the outbox cannot be read and are passed over (segment %d, byte "
                    "%d): a torn or damaged record",
                    lost,
                    position.segment,
                    position.offset,
                )
                position = Position(position.segment, position.offset + lost)
                continue
            return records, Position(position.segment, position.offset + used)

    def _reader(self, number: int) -> int:
        if number not in self._readers:
            self._readers[number] = os.open(self._path(number), os.O_RDONLY | os.O_CLOEXEC)
        return self._readers[number]

    def records(self) -> Iterator[Record]:
        """Yield every record that is still in the journal, from the oldest on."""
        position = Position(min(self._sizes, default=1), 0)
        while True:
            found, position = self.read(position, SEGMENT_BYTES_MAX)
            if not found:
                return
            yield from found

    def acknowledge(self, position: Position) -> None:
        """Remember that everything before a position is done with, and drop whole segments."""
        self.read_position = position
        raw = struct.pack("<QQ", position.segment, position.offset)
        try:
            os.pwrite(self._position_file, raw + struct.pack("<I", zlib.crc32(raw)), 0)
        except OSError as error:
            # After a crash some would be read and published again: harmless, the ledger knows them.
            log.error("the position in the outbox cannot be written: %s", error)
        self.drop_segments(position.segment)

    def drop_read_segments(self) -> None:
        """Drop every segment that has been read to its end, but for the one being written."""
        position = self.read_position
        is_read = position.offset >= self._sizes.get(position.segment, 0)
        self.drop_segments(position.segment + 1 if is_read else position.segment)

    def drop_segments(self, before: int) -> None:
        """Drop the segments with a number below `before`, but for the one being written."""
        for number in [n for n in self._sizes if n < before and n != self.segment]:
            del self._sizes[number]
            reader = self._readers.pop(number, None)
            if reader is not None:
                os.close(reader)
            with contextlib.suppress(FileNotFoundError):
                self._path(number).unlink()

    def close(self) -> None:
        """Close all files and give the lock back."""
        for descriptor in (*self._readers.values(), self._file, self._position_file, self._lock):
            os.close(descriptor)
        self._readers.clear()


def _record_end(chunk: bytes, start: int) -> int | None:
    """Return where the record at `start` ends, None where there is no whole and sound one."""
    if start + _HEADER.size > len(chunk):
        return None
    length, checksum, kind = _HEADER.unpack_from(chunk, start)
    end: int = start + _HEADER.size + length
    # No record is empty: bytes of zero, which a crash of the machine can leave, are none.
    if not 0 < length <= RECORD_BYTES_MAX or end > len(chunk):
        return None
    sound = zlib.crc32(memoryview(chunk)[start + _HEADER.size : end], kind[0]) == checksum
    return end if sound else None


def _parse(chunk: bytes) -> tuple[list[Record], int]:
    """Return the whole records at the start of a chunk and how many bytes they take."""
    records = []
    used = 0
    while (end := _record_end(chunk, used)) is not None:
        kind_at = used + _HEADER.size - 1
        records.append(Record(chunk[kind_at : kind_at + 1], chunk[kind_at + 1 : end]))
        used = end
    return records, used


def _next_record(chunk: bytes) -> int | None:
    """Return where the next sound record begins behind a damaged one at the chunk's start."""
    starts = range(1, len(chunk) - _HEADER.size)
    return next((start for start in starts if _record_end(chunk, start) is not None), None)


def unread_bytes(folder: Path) -> int:
    """Return how many bytes of a journal wait to be read, by its files alone; nothing is changed.

    For who looks from outside, also while a process uses the journal. Raises OSError.
    """
    segment, offset = 0, 0
    with contextlib.suppress(FileNotFoundError):
        raw = (folder / "position").read_bytes()
        if len(raw) == _POSITION.size and zlib.crc32(raw[:16]) == _POSITION.unpack(raw)[2]:
            segment, offset, _ = _POSITION.unpack(raw)
    sizes = {
        int(path.stem): path.stat().st_size
        for path in folder.glob("*.journal")
        if path.stem.isdigit()
    }
    waiting = sum(size for number, size in sizes.items() if number >= segment)
    return max(0, waiting - (offset if segment in sizes else 0))
