"""The ledger's writer makes snapshots on request, while it goes on keeping its books."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from schemas.errors import TallygateError
from schemas.snapshot import Snapshot, SnapshotReply, SnapshotRequest
from schemas.streams import SNAPSHOT_SUBJECT
from services.ledger.asked import OneAtATime, answer_until_cancelled
from services.ledger.snapshot import make_snapshot, remove_leftovers
from services.ledger.worker import Worker
from services.runtime.bus import Bus

__all__ = ["SnapshotService"]

log = logging.getLogger(__name__)

KEPT_S = 600.0
"""A snapshot that nobody has fetched is removed when it is so old and another one is asked for."""


class SnapshotService:
    """Makes one snapshot at a time, in the folder `folder`, of the books in the file `source`."""

    def __init__(self, bus: Bus, worker: Worker, source: Path, folder: Path) -> None:
        self._bus = bus
        self._worker = worker
        self._source = source
        self._folder = folder
        self._snapshots: OneAtATime[Snapshot] = OneAtATime()

    async def serve(self) -> None:
        """Answer until cancelled."""
        remove_leftovers(self._folder)
        await answer_until_cancelled(self._bus, SNAPSHOT_SUBJECT, self.answer)

    async def answer(self, payload: bytes) -> bytes:
        """Answer a SnapshotRequest with a SnapshotReply; never raises."""
        try:
            request = msgspec.json.decode(payload, type=SnapshotRequest)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return msgspec.json.encode(SnapshotReply(error=f"the request is no request: {error}"))
        task = await self._snapshots.ask(request.id, self._make)
        return msgspec.json.encode(SnapshotReply(running=True) if task is None else _reply(task))

    async def _make(self) -> Snapshot:
        remove_leftovers(self._folder, older_than_s=KEPT_S)

        async def hold(copy: Callable[[], float]) -> float:
            return await self._worker.in_books(copy)

        return await make_snapshot(self._source, self._folder, hold)

    async def close(self) -> None:
        """Stop what runs."""
        await self._snapshots.close()


def _reply(task: "asyncio.Task[Snapshot]") -> SnapshotReply:
    if task.cancelled():
        return SnapshotReply(error="the ledger is stopping")
    error = task.exception()
    if error is None:
        snapshot = task.result()
        log.info(
            "a snapshot is made",
            extra={"sequence": snapshot.sequence, "held_ms": snapshot.held_ms},
        )
        return SnapshotReply(snapshot=snapshot)
    log.error("no snapshot was made: %s", error)
    if isinstance(error, (TallygateError, OSError)):
        return SnapshotReply(error=str(error))
    return SnapshotReply(error="the snapshot failed inside the ledger: its log says why")
