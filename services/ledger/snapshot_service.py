"""The ledger's writer makes snapshots on request, while it goes on keeping its books."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from schemas.errors import TallygateError
from schemas.snapshot import Snapshot, SnapshotReply, SnapshotRequest
from schemas.streams import SNAPSHOT_SUBJECT
from services.ledger.snapshot import make_snapshot, remove_leftovers
from services.ledger.worker import Worker
from services.runtime.bus import Bus
from services.runtime.tasks import end_tasks

__all__ = ["SnapshotService"]

log = logging.getLogger(__name__)

ANSWER_WITHIN_S = 10.0
"""A request is answered by then: with the snapshot, or that it is on its way."""
REQUESTS_AT_ONCE_MAX = 4
KEPT_S = 600.0
"""A snapshot that nobody has fetched is removed when it is so old and another one is asked for."""


class SnapshotService:
    """Makes one snapshot at a time, in the folder `folder`, of the books in the file `source`."""

    def __init__(self, bus: Bus, worker: Worker, source: Path, folder: Path) -> None:
        self._bus = bus
        self._worker = worker
        self._source = source
        self._folder = folder
        self._id = ""
        self._task: asyncio.Task[Snapshot] | None = None

    async def serve(self) -> None:
        """Answer until cancelled."""
        remove_leftovers(self._folder)
        await self._bus.wait_connected()
        stop = await self._bus.serve(
            SNAPSHOT_SUBJECT, self.answer, parallel_max=REQUESTS_AT_ONCE_MAX
        )
        try:
            await asyncio.Event().wait()
        finally:
            await stop()

    async def answer(self, payload: bytes) -> bytes:
        """Answer a SnapshotRequest with a SnapshotReply; never raises."""
        try:
            request = msgspec.json.decode(payload, type=SnapshotRequest)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return msgspec.json.encode(SnapshotReply(error=f"the request is no request: {error}"))
        if request.id != self._id:
            if self._task is not None and not self._task.done():
                # Somebody else's; this one's turn comes when it is asked for again.
                await asyncio.wait({self._task}, timeout=ANSWER_WITHIN_S)
                return msgspec.json.encode(SnapshotReply(running=True))
            self._id = request.id
            self._task = asyncio.create_task(self._make())
        assert self._task is not None
        await asyncio.wait({self._task}, timeout=ANSWER_WITHIN_S)
        return msgspec.json.encode(_reply(self._task))

    async def _make(self) -> Snapshot:
        remove_leftovers(self._folder, older_than_s=KEPT_S)

        async def hold(copy: Callable[[], float]) -> float:
            return await self._worker.in_books(copy)

        return await make_snapshot(self._source, self._folder, hold)

    async def close(self) -> None:
        """Stop what runs."""
        if self._task is not None and not self._task.done():
            await end_tasks(self._task)


def _reply(task: "asyncio.Task[Snapshot]") -> SnapshotReply:
    if not task.done():
        return SnapshotReply(running=True)
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
