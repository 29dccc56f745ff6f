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
from services.ledger.asked import OneAtATime, answer_until_cancelled
from services.ledger.proof import digest_at, prove
from services.runtime.bus import Bus, BusError, StreamState
from services.runtime.price_book import PriceBook

__all__ = ["ProofService", "stream_facts"]

log = logging.getLogger(__name__)


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
        self._proofs: OneAtATime[Proof] = OneAtATime()

    async def serve(self) -> None:
        """Answer until cancelled."""
        await answer_until_cancelled(self._bus, proof_subject(self._role), self.answer)

    async def answer(self, payload: bytes) -> bytes:
        """Answer a ProofRequest with a ProofReply; never raises."""
        try:
            request = msgspec.json.decode(payload, type=ProofRequest)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return msgspec.json.encode(ProofReply(error=f"the request is no request: {error}"))
        task = await self._proofs.ask(request.id, lambda: self._prove(request.sequence))
        return msgspec.json.encode(ProofReply(running=True) if task is None else self._reply(task))

    def _reply(self, task: "asyncio.Task[Proof]") -> ProofReply:
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
        await self._proofs.close(self._connection.interrupt)
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
