"""What the reader says of itself: how long it has answered, and how far a rebuild has come.

A reader whose file was lost reads all events again. Until it has taken in what the stream held
when it began, an answer would be a part that looks like the whole: so queries are refused then,
with how far it is. Those who wait for an answer ask here whether the reader that had their query
still lives.
"""

import asyncio
import logging
import time

import msgspec

from schemas.rpc import QueryReply, ReaderState
from schemas.streams import READER_STATE_SUBJECT, USAGE
from services.ledger.worker import Worker, wait_for_stream
from services.runtime.bus import Bus

__all__ = ["PROGRESS_LOG_INTERVAL_S", "ReaderStatus"]

log = logging.getLogger(__name__)

PROGRESS_LOG_INTERVAL_S = 5.0
"""While the reader's file is built anew, its log says so often how far it is."""
_LOOK_INTERVAL_S = 0.05


class ReaderStatus:
    """Knows whether the reader's books are whole. `is_new`: its file has just been made."""

    def __init__(self, bus: Bus, worker: Worker, *, is_new: bool) -> None:
        self._bus = bus
        self._worker = worker
        self._rebuilding = is_new
        self._last_sequence: int | None = None
        self._began_at_s = time.monotonic()

    def state(self) -> ReaderState:
        """Return what the reader says of itself at this moment."""
        return ReaderState(
            uptime_s=time.monotonic() - self._began_at_s,
            rebuilding=self._rebuilding,
            sequence=self._worker.sequence,
            last_sequence=self._last_sequence or 0,
        )

    def refusal(self) -> bytes | None:
        """Return the answer to a query while the books are not whole; None once they are."""
        if not self._rebuilding:
            return None
        message = f"the reader is rebuilding its file from the events: {self._progress()}"
        reply = QueryReply(
            error=f"{message}. Nothing is lost, and requests go on being counted; try again later",
            error_kind="unavailable",
        )
        return msgspec.json.encode(reply)

    def _progress(self) -> str:
        if self._last_sequence is None:
            return "it waits for the stream"
        done, goal = self._worker.sequence, self._last_sequence
        return f"{100 * done // max(goal, 1)} % ({done} of {goal} messages)"

    async def serve(self) -> None:
        """Answer on READER_STATE_SUBJECT and watch the rebuild, until cancelled."""

        async def answer(_: bytes) -> bytes:
            return msgspec.json.encode(self.state())

        await self._bus.wait_connected()
        stop = await self._bus.serve(READER_STATE_SUBJECT, answer)
        try:
            if self._rebuilding:
                await self._watch_rebuild()
            await asyncio.Event().wait()
        finally:
            await stop()

    async def _watch_rebuild(self) -> None:
        goal = (await wait_for_stream(self._bus, USAGE.name)).last_sequence
        self._last_sequence = goal
        told_at_s = time.monotonic() - PROGRESS_LOG_INTERVAL_S
        while self._worker.sequence < goal:
            if time.monotonic() - told_at_s >= PROGRESS_LOG_INTERVAL_S:
                told_at_s = time.monotonic()
                log.info("the reader's file is built from the events: %s", self._progress())
            await asyncio.sleep(_LOOK_INTERVAL_S)
        self._rebuilding = False
        if goal:
            log.info("the reader's file is whole: %s", self._progress())
