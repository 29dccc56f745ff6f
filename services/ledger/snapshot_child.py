"""The process that copies the books: `python -m services.ledger.snapshot_child SOURCE TARGET`.

It is a process of its own because DuckDB's lock on a file is the kernel's for the whole process
that holds it: closing any other descriptor of the file in there gives the lock up. It says `ready`,
waits for a line on its standard input, copies, says `copied` (from then on the books may go on) and
at the end what the copy holds, each as a line of JSON.
"""

import errno
import os
import shutil
import sys
from pathlib import Path

import duckdb
import msgspec

from schemas.streams import USAGE
from services.ledger.rebuild import files_of
from services.ledger.store import digest, read_checkpoint
from services.runtime.child import die_with

__all__ = ["ChildLine", "copy_file", "main"]

MEMORY_LIMIT = "512MB"
NICENESS = 10
_CHUNK_BYTES = 256 * 1024 * 1024
_NO_RANGES = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM})


class ChildLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line: how far it is (`ready`, `copied`, `done` or `error`), and what was found."""

    step: str
    error: str = ""
    sequence: int = 0
    stream_created: str = ""
    digest: str = ""


def main() -> int:
    """Copy and check the copy; return the exit code."""
    source, target, parent = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    tie = die_with(parent)
    if tie is not None:
        tie()
    _say(ChildLine(step="ready"))
    if not sys.stdin.readline():
        return 1
    try:
        for each, copy in zip(files_of(source), files_of(target), strict=True):
            if each.exists():
                copy_file(each, copy)
        _say(ChildLine(step="copied"))
        # The books go on: they come first from here on.
        os.nice(NICENESS)
        _say(_finish(target))
    except (OSError, duckdb.Error) as error:
        _say(ChildLine(step="error", error=str(error).split("\n", 1)[0][:300]))
        return 1
    return 0


def copy_file(source: Path, target: Path) -> None:
    """Copy a file into a new one (0600): without its bytes where the file system can share them."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as written, source.open("rb") as read:
        try:
            while os.copy_file_range(read.fileno(), written.fileno(), _CHUNK_BYTES):
                pass
        except (OSError, AttributeError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_RANGES:
                raise
            written.seek(0)
            read.seek(0)
            shutil.copyfileobj(read, written, 1024 * 1024)


def _finish(target: Path) -> ChildLine:
    """Make one whole file of the copy and read all facts in it."""
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": MEMORY_LIMIT,
        "threads": 1,
    }
    with duckdb.connect(str(target), config=settings) as connection:
        # The copied log goes into the file itself.
        connection.execute("CHECKPOINT")
        checkpoint = read_checkpoint(connection, USAGE.name)
        found = digest(connection)
    log, _ = files_of(target)
    log.unlink(missing_ok=True)
    descriptor = os.open(target, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return ChildLine(
        step="done",
        sequence=checkpoint.sequence if checkpoint is not None else 0,
        stream_created=checkpoint.stream_created if checkpoint is not None else "",
        digest=found,
    )


def _say(line: ChildLine) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
