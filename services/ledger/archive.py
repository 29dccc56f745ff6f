"""The archive: messages of the stream USAGE as Parquet files, exact to the byte.

DIR/archive/USAGE-<when the stream was made>/<first>-<last>.parquet

Each file holds the messages `first` to `last` of one stream without a gap, and in its own metadata
the stream's identity and a SHA-256 over its messages and the digest of the file before it. So a
file that was changed, exchanged or left out is found. A file has its name when it is whole and on
disk, and is never changed afterwards; one that was being written when its writer was killed has
another name and is removed by the next one.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import ConfigError
from schemas.streams import USAGE
from services.runtime.bus import StreamMessage

__all__ = [
    "CHUNK_BYTES_MAX",
    "CHUNK_MESSAGES_MAX",
    "Archive",
    "ArchiveDamaged",
    "ArchiveFile",
    "chunk_bytes",
]

CHUNK_MESSAGES_MAX = 20_000
"""A file holds at most so many messages …"""
CHUNK_BYTES_MAX = 32 * 1024 * 1024
"""… and so many bytes of them (one message that is larger has a file of its own): the bound of what
waits in memory."""
READ_MESSAGES_MAX = 500
"""So many messages are read from a file at a time."""
_NAME = re.compile(r"(\d{20})-(\d{20})\.parquet")
_PARTIAL = ".partial"
_FIELDS: "list[pa.Field[Any]]" = [
    pa.field("stream_sequence", pa.int64(), nullable=False),
    pa.field("subject", pa.string(), nullable=False),
    pa.field("stored_at", pa.timestamp("us", tz="UTC"), nullable=False),
    pa.field("payload", pa.binary(), nullable=False),
]
_SCHEMA = pa.schema(_FIELDS)


class ArchiveDamaged(ConfigError):
    """A file of the archive is not what was written; the message names it and says what to do."""


class ArchiveFile(msgspec.Struct, frozen=True):
    """One file: the messages that it holds, the first and the last included."""

    path: Path
    first: int
    last: int


class Archive:
    """The archive below a folder, for one stream. Nothing is made until something is written.

    `created` is the stream's identity (services.runtime.bus.StreamState): a stream that was made
    anew has a folder of its own.
    """

    def __init__(self, folder: Path, created: str) -> None:
        self.created = created
        self.folder = folder / f"{USAGE.name}-{re.sub(r'[^0-9A-Za-z.-]', '', created)}"

    def files(self) -> list[ArchiveFile]:
        """Return the whole files, in order. Raises ArchiveDamaged where two hold one message."""
        try:
            names = [entry.name for entry in self.folder.iterdir()]
        except FileNotFoundError:
            return []
        found = [
            ArchiveFile(self.folder / name, int(match[1]), int(match[2]))
            for name in sorted(names)
            if (match := _NAME.fullmatch(name)) is not None
        ]
        for before, after in pairwise(found):
            if after.first <= before.last:
                raise ArchiveDamaged(
                    f"the archive's files {before.path} and {after.path.name} hold the same "
                    "messages: move away the one that was not there before"
                )
        return found

    def last(self) -> int:
        """Return the last message that is archived; 0: none is."""
        files = self.files()
        return files[-1].last if files else 0

    def covered(self, sequence: int) -> int:
        """Return up to which message the archive holds everything that follows `sequence`."""
        for file in self.files():
            if file.first <= sequence + 1 <= file.last:
                sequence = file.last
        return sequence

    # ------------------------------------------------------------------------------ writing

    def remove_partial(self) -> None:
        """Remove what a killed writer left half written."""
        if self.folder.is_dir():
            for path in self.folder.glob(f"*{_PARTIAL}"):
                path.unlink(missing_ok=True)

    def write(self, messages: Sequence[StreamMessage]) -> ArchiveFile:
        """Store messages without a gap among them; they are on disk when this returns.

        Raises OSError where the disk does not take them: nothing is there then.
        """
        first, last = messages[0].sequence, messages[-1].sequence
        assert last - first + 1 == len(messages), "the messages have a gap"
        files = self.files()
        assert not files or files[-1].last < first, "the messages are archived already"
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        previous = self._digest_of(files[-1]) if files else ""
        metadata = {
            "tallygate.stream": USAGE.name,
            "tallygate.stream_created": self.created,
            "tallygate.first_sequence": str(first),
            "tallygate.last_sequence": str(last),
            "tallygate.previous_sha256": previous,
            "tallygate.sha256": _digest(previous, messages),
        }
        path = self.folder / f"{first:020}-{last:020}.parquet"
        partial = path.with_name(path.name + _PARTIAL)
        try:
            with partial.open("wb") as file:
                os.chmod(file.fileno(), 0o600)  # noqa: PTH101 - the open file itself
                pq.write_table(_table(messages, metadata), file, compression="zstd")
                file.flush()
                os.fsync(file.fileno())
            os.rename(partial, path)  # noqa: PTH104 - the step that tests break off at
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        _sync_folder(self.folder)
        _sync_folder(self.folder.parent)
        return ArchiveFile(path, first, last)

    # ------------------------------------------------------------------------------ reading

    def read(self, start: int) -> Iterator[tuple[StreamMessage, ...]]:
        """Yield the messages from `start` on, as far as the files follow one another.

        Raises ArchiveDamaged where a file is not what was written: its digest is computed from
        the bytes that are yielded.
        """
        expected = start
        for file in self.files():
            if not file.first <= expected <= file.last:
                continue
            for messages in self._messages(file):
                wanted = tuple(each for each in messages if each.sequence >= expected)
                if wanted:
                    expected = wanted[-1].sequence + 1
                    yield wanted

    def check(self) -> list[str]:
        """Read every file whole; return what is wrong, each in words. Empty: nothing is."""
        faults: list[str] = []
        previous: ArchiveFile | None = None
        for file in self.files():
            try:
                for _ in self._messages(file):
                    pass
                before = self._metadata(file)["tallygate.previous_sha256"]
                if before != (self._digest_of(previous) if previous is not None else ""):
                    faults.append(f"{file.path} does not follow the file before it: one is missing")
            except ArchiveDamaged as error:
                faults.append(str(error))
            expected = previous.last + 1 if previous is not None else 1
            if file.first != expected:
                faults.append(f"messages {expected} to {file.first - 1} are not in the archive")
            previous = file
        return faults

    def verify_file(self, file: ArchiveFile) -> None:
        """Read a file whole. Raises ArchiveDamaged where it is not what was written."""
        for _ in self._messages(file):
            pass

    def _messages(self, file: ArchiveFile) -> Iterator[list[StreamMessage]]:
        metadata = self._metadata(file)
        hashed = _begin_digest(metadata["tallygate.previous_sha256"])
        expected = file.first
        try:
            with pq.ParquetFile(file.path) as parquet:
                for batch in parquet.iter_batches(READ_MESSAGES_MAX):
                    messages = _from_batch(batch)
                    for message in messages:
                        if message.sequence != expected:
                            raise _damaged(file.path, f"message {expected} is not in it")
                        expected += 1
                    _add_to_digest(hashed, messages)
                    yield messages
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _damaged(file.path, error) from None
        if expected != file.last + 1 or hashed.hexdigest() != metadata["tallygate.sha256"]:
            raise _damaged(file.path, "its digest is not that of its messages")

    def _metadata(self, file: ArchiveFile) -> dict[str, str]:
        try:
            raw = pq.read_metadata(file.path).metadata or {}
            found = {key.decode(): value.decode() for key, value in raw.items()}
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _damaged(file.path, error) from None
        if (
            found.get("tallygate.stream_created") != self.created
            or found.get("tallygate.first_sequence") != str(file.first)
            or found.get("tallygate.last_sequence") != str(file.last)
            or not {"tallygate.previous_sha256", "tallygate.sha256"} <= found.keys()
        ):
            raise _damaged(file.path, "it is of another stream, or of another place in it")
        return found

    def _digest_of(self, file: ArchiveFile) -> str:
        return self._metadata(file)["tallygate.sha256"]


def chunk_bytes(message: StreamMessage) -> int:
    """Return what a message counts for in CHUNK_BYTES_MAX."""
    return len(message.payload) + len(message.subject)


def _table(messages: Sequence[StreamMessage], metadata: dict[str, str]) -> pa.Table:
    columns: list[pa.Array[Any]] = [
        pa.array([each.sequence for each in messages], pa.int64()),
        pa.array([each.subject for each in messages], pa.string()),
        pa.array([each.stored_at_us for each in messages], pa.timestamp("us", tz="UTC")),
        pa.array([each.payload for each in messages], pa.binary()),
    ]
    return pa.Table.from_arrays(columns, schema=_SCHEMA.with_metadata(metadata))


def _from_batch(batch: pa.RecordBatch) -> list[StreamMessage]:
    sequences, subjects, stored_at, payloads = (
        batch.column(name) for name in ("stream_sequence", "subject", "stored_at", "payload")
    )
    rows: Iterator[tuple[Any, ...]] = (
        row
        for row in zip(
            sequences.to_pylist(),
            subjects.to_pylist(),
            payloads.to_pylist(),
            stored_at.cast(pa.int64()).to_pylist(),
            strict=True,
        )
    )
    return [StreamMessage(*row) for row in rows]


def _begin_digest(previous: str) -> "hashlib._Hash":
    return hashlib.sha256(previous.encode())


def _add_to_digest(hashed: "hashlib._Hash", messages: Iterable[StreamMessage]) -> None:
    for each in messages:
        subject = each.subject.encode()
        # Lengths first, so that no two sequences of messages give the same bytes.
        head = f"{each.sequence}:{each.stored_at_us}:{len(subject)}:{len(each.payload)}:"
        hashed.update(head.encode() + subject)
        hashed.update(each.payload)


def _digest(previous: str, messages: Sequence[StreamMessage]) -> str:
    hashed = _begin_digest(previous)
    _add_to_digest(hashed, messages)
    return hashed.hexdigest()


def _damaged(path: Path, why: object) -> ArchiveDamaged:
    reason = str(why).split("\n", 1)[0][:300]
    return ArchiveDamaged(
        f"{path} of the archive is damaged ({reason}): restore this file from a backup"
    )


def _sync_folder(folder: Path) -> None:
    """Have the names in a folder on disk, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
