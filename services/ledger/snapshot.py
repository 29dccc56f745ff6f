"""Making a snapshot: a copy of the books' file of one moment, while they are being kept.

The file and its log (.wal) are copied by a process of its own while the books' thread stands still,
so between two commits: that is the moment. Everything else (the log taken into the copy, all facts
read, the copy synced) is done when the books go on (docs/adr/0021).
"""

import asyncio
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

import msgspec

from schemas.errors import TallygateError
from schemas.snapshot import Snapshot
from services.ledger.rebuild import files_of
from services.ledger.snapshot_child import ChildLine

__all__ = [
    "HOLD_MAX_S",
    "ROOM_BYTES_MIN",
    "Hold",
    "SnapshotFailed",
    "make_snapshot",
    "remove_leftovers",
    "room_missing",
]

HOLD_MAX_S = 20.0
"""The books stand still for at most so long; a copy that takes longer is given up."""
START_TIMEOUT_S = 60.0
FINISH_TIMEOUT_S = 3600.0
"""So long the copy may be checked and synced."""
ROOM_BYTES_MIN = 64 * 1024 * 1024
"""So much stays free on the disk beside a snapshot."""
_PARTIAL = ".partial"

Hold = Callable[[Callable[[], float]], Awaitable[float]]
"""Runs something while nothing is written to the books, and returns its result."""


class SnapshotFailed(TallygateError):
    """No snapshot could be made; the message says why."""


def room_missing(folder: Path, size_bytes: int) -> str | None:
    """Return what is missing on the disk of `folder` for a file of a size, in words; or None."""
    free_bytes = shutil.disk_usage(folder).free
    needed_bytes = size_bytes + ROOM_BYTES_MIN
    if free_bytes >= needed_bytes:
        return None
    mib = 1024 * 1024
    return (
        f"the disk of {folder} has {free_bytes // mib:,} MiB free, the snapshot needs "
        f"{needed_bytes // mib:,} MiB"
    )


def remove_leftovers(folder: Path, *, older_than_s: float = 0.0) -> None:
    """Remove snapshots that nobody has fetched, and what a killed process left half made."""
    before_s = time.time() - older_than_s
    for path in folder.glob("*.duckdb*"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime <= before_s:
                path.unlink()


async def make_snapshot(source: Path, folder: Path, hold: Hold) -> Snapshot:
    """Copy the books in `source` into a new file in `folder` (0700); return what it is.

    `hold` runs the copying itself. Raises SnapshotFailed, and OSError for a folder that cannot be
    written to; nothing of the copy is left then.
    """
    began_s = time.monotonic()
    size_bytes = sum(each.stat().st_size for each in files_of(source) if each.exists())
    if (missing := room_missing(folder, size_bytes)) is not None:
        raise SnapshotFailed(missing)
    path = folder / f"{token_hex(8)}.duckdb"
    partial = path.with_name(path.name + _PARTIAL)
    child = _Child(source, partial)
    try:
        await child.until("ready", START_TIMEOUT_S)
        held_s = await hold(child.copy)
        done = await child.until("done", FINISH_TIMEOUT_S)
        partial.rename(path)
    finally:
        child.end()
        for each in files_of(partial):
            each.unlink(missing_ok=True)
    return Snapshot(
        path=str(path),
        sequence=done.sequence,
        stream_created=done.stream_created,
        digest=done.digest,
        requests=int(done.digest.split(":")[0]),
        size_bytes=path.stat().st_size,
        held_ms=round(held_s * 1000, 3),
        duration_s=round(time.monotonic() - began_s, 3),
    )


class _Child:
    """The process that copies."""

    def __init__(self, source: Path, target: Path) -> None:
        module = "services.ledger.snapshot_child"
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", module, str(source), str(target), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self._received = b""

    async def until(self, step: str, timeout_s: float) -> ChildLine:
        """Wait, beside everything else, for a line. Raises SnapshotFailed."""
        return await asyncio.to_thread(self._wait, step, timeout_s)

    def copy(self) -> float:
        """Have it copy; return how long that took, in seconds. Raises SnapshotFailed."""
        began_s = time.monotonic()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"go\n")
        except OSError:
            raise SnapshotFailed("the process that copies has ended") from None
        self._wait("copied", HOLD_MAX_S)
        return time.monotonic() - began_s

    def _wait(self, step: str, timeout_s: float) -> ChildLine:
        assert self._process.stdout is not None
        deadline_s = time.monotonic() + timeout_s
        while b"\n" not in self._received:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not select.select([self._process.stdout], [], [], left_s)[0]:
                self.end()
                raise SnapshotFailed(_too_slow(step, timeout_s))
            received = self._process.stdout.read(64 * 1024)
            if not received:
                raise SnapshotFailed("the process that copies has ended")
            self._received += received
        line, self._received = self._received.split(b"\n", 1)
        found = msgspec.json.decode(line, type=ChildLine)
        if found.step != step:
            raise SnapshotFailed(f"the books could not be copied: {found.error}")
        return found

    def end(self) -> None:
        """End it, wherever it is."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def _too_slow(step: str, timeout_s: float) -> str:
    if step == "copied":
        return (
            f"copying took longer than {timeout_s:g} s, for which the books may stand still: the "
            "disk is slow or busy. Try again at a quieter time, or with the gateway stopped"
        )
    return f"the process that copies was not {step} within {timeout_s:g} s"
