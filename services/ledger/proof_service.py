"""A role of the ledger proves its books on request, while it goes on keeping them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import duckdb
import msgspec

from schemas.proof import Proof, ProofReply, ProofRequest, ProofRole, StreamFacts
from schemas.streams import USAGE, proof_subject
from services.ledger.archive_proof import with_archive
from services.ledger.proof import digest_at, prove
from services.runtime.bus import Bus, BusError, StreamState
from services.runtime.price_book import PriceBook
from services.runtime.tasks import end_tasks

__all__ = ["ProofService", "stream_facts"]

log = logging.getLogger(__name__)

ANSWER_WITHIN_S = 10.0
"""A request is answered by then: with the proof, or that it is on its way."""
REQUESTS_AT_ONCE_MAX = 4


class ProofService:
    """Makes one proof at a time; the latest is kept until the next is asked for.

    It reads with a connection of its own to the same database, so nothing waits for it.
    `archives` is the folder of the archive, where it is this role that proves it.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        book: PriceBook,
        role: ProofRole,
        bus: Bus,
        archives: Path | None = None,
    ) -> None:
        self._archives = archives
        self._connection = connection.cursor()
        self._book = book
        self._role = role
        self._bus = bus
        self._id = ""
        self._task: asyncio.Task[Proof] | None = None

    async def serve(self) -> None:
        """Answer until cancelled."""
        await self._bus.wait_connected()
        stop = await self._bus.serve(
            proof_subject(self._role), self.answer, parallel_max=REQUESTS_AT_ONCE_MAX
        )
        try:
            await asyncio.Event().wait()
        finally:
            await stop()

    async def answer(self, payload: bytes) -> bytes:
        """Answer a ProofRequest with a ProofReply; never raises."""
        try:
            request = msgspec.json.decode(payload, type=ProofRequest)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return msgspec.json.encode(ProofReply(error=f"the request is no request: {error}"))
        if request.id != self._id:
            if self._task is not None and not self._task.done():
                # Somebody else's; this one's turn comes when it is asked for again.
                await asyncio.wait({self._task}, timeout=ANSWER_WITHIN_S)
                return msgspec.json.encode(ProofReply(running=True))
            self._id = request.id
            self._task = asyncio.create_task(self._prove(request.sequence))
        assert self._task is not None
        await asyncio.wait({self._task}, timeout=ANSWER_WITHIN_S)
        return msgspec.json.encode(self._reply(self._task))

    def _reply(self, task: "asyncio.Task[Proof]") -> ProofReply:
        if not task.done():
            return ProofReply(running=True)
        if task.cancelled():
            return ProofReply(error="the ledger is stopping")
        error = task.exception()
        if error is None:
            return ProofReply(proof=task.result())
        log.error("the books could not be proved: %s", error)
        return ProofReply(error=f"the {self._role}'s books could not be read: {error}")

    async def _prove(self, sequence: int | None) -> Proof:
        if sequence is not None:
            return await asyncio.to_thread(digest_at, self._connection, self._role, sequence)
        stream = await _stream(self._bus.stream_state)
        proof = await asyncio.to_thread(prove, self._connection, self._book, self._role, stream)
        if self._archives is not None:
            proof = await asyncio.to_thread(with_archive, proof, self._archives)
        return proof

    async def close(self) -> None:
        """Stop what runs."""
        if self._task is not None and not self._task.done():
            self._connection.interrupt()
            await end_tasks(self._task)
        self._connection.close()


async def _stream(ask: Callable[[str], Awaitable[StreamState]]) -> StreamFacts | None:
    try:
        return stream_facts(await ask(USAGE.name))
    except BusError as error:
        log.warning("the stream could not be asked for the proof: %s", error)
        return None


def stream_facts(state: StreamState) -> StreamFacts:
    """Return what a proof says of the stream."""
    return StreamFacts(
        created=state.created,
        first_sequence=state.first_sequence,
        last_sequence=state.last_sequence,
    )
