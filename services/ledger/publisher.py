"""Publishes how the budgets stand: compares it with what was published last, and says the rest.

The stream BUDGET is followed by its own writer, so what was published is always known, whatever
became of an acknowledgement, and a restart finds what its predecessor did not come to say.
"""

import asyncio
import logging
import time
from datetime import UTC, datetime
from secrets import token_hex

import msgspec

from schemas.events import (
    BudgetCleared,
    BudgetExceeded,
    BudgetState,
    decode_budget_event,
    encode_event,
)
from schemas.streams import BUDGET, budget_subject
from services.ledger.books import Books
from services.ledger.budgets import Standing
from services.ledger.spends import Whose
from services.ledger.worker import Worker
from services.runtime.bus import Bus, BusError, StreamMessage

__all__ = ["BudgetPublisher"]

log = logging.getLogger(__name__)

RETRY_WAIT_S = 0.2
RECHECK_S = 60.0
"""All exceeded budgets are looked at again this often, whatever else happens."""


class _Published(msgspec.Struct, frozen=True):
    """The last word on one budget, and its sequence in the stream."""

    sequence: int
    is_exceeded: bool
    state: BudgetState


class BudgetPublisher:
    """Says on BUDGET which budgets are exceeded and which no longer are."""

    def __init__(self, bus: Bus, books: Books, worker: Worker) -> None:
        self._bus = bus
        self._books = books
        self._worker = worker
        self._source = f"/ledger/{token_hex(8)}"
        self._count = 0
        self._published: dict[str, _Published] = {}
        self._is_read = asyncio.Event()
        self._due: set[Whose] = set()
        self._wake = asyncio.Event()

    @property
    def said(self) -> int:
        """How many statements about budgets this process has made."""
        return self._count

    def look_at(self, owners: set[Whose]) -> None:
        """Look at some budgets soon: their spend or their settings changed."""
        self._due |= owners
        self._wake.set()

    async def follow_published(self) -> None:
        """Know what was published, for ever."""
        async for batch in self._bus.follow(BUDGET.name, last_per_subject=True):
            for message in batch.messages:
                self._read(message)
            if batch.pending == 0 and not self._is_read.is_set():
                self._is_read.set()
                self.look_at({_whose(each) for each in self._published.values()})

    def _read(self, message: StreamMessage) -> None:
        try:
            event = decode_budget_event(message.payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            log.error("a budget event cannot be read: %s", error)
            return
        self._published[message.subject] = _Published(
            message.sequence, isinstance(event, BudgetExceeded), event.data
        )

    async def publish_for_ever(self) -> None:
        """Publish changes as they come; a window's end is a change as well."""
        # What the stream holds is judged whole: half of it may look like money left.
        await self._is_read.wait()
        await self._worker.caught_up()
        while True:
            await self._wait()
            due, self._due = self._due, set()
            now_us = time.time_ns() // 1000
            standings = await self._worker.in_books(
                lambda due=due, now_us=now_us: self._books.standings(due, now_us)  # type: ignore[misc]
            )
            for owner, standing in standings.items():
                if not await self._say(owner, standing):
                    self._due.add(owner)
            if self._due:
                self._wake.set()
                await asyncio.sleep(RETRY_WAIT_S)

    async def _wait(self) -> None:
        """Wait for a change, or for the end of the next window of an exceeded budget."""
        now_us = time.time_ns() // 1000
        ends = [
            each.state.resets_at_us
            for each in self._published.values()
            if each.is_exceeded and each.state.resets_at_us is not None
        ]
        wait_s = min([RECHECK_S, *(max(0.0, (end - now_us) / 1e6) + 0.01 for end in ends)])
        try:
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        except TimeoutError:
            self._due |= {_whose(each) for each in self._published.values() if each.is_exceeded}
        self._wake.clear()

    async def _say(self, owner: Whose, standing: Standing | None) -> bool:
        """Publish a budget's state where it is news; False where that must be tried again."""
        subject = budget_subject(owner.scope, owner.scope_id)
        before = self._published.get(subject)
        if not _is_news(before, standing):
            return True
        if standing is None:
            assert before is not None
            standing = Standing(is_exceeded=False, state=before.state)
        self._count += 1
        kind = BudgetExceeded if standing.is_exceeded else BudgetCleared
        event = kind(
            source=self._source,
            id=str(self._count),
            time=datetime.now(UTC),
            subject=subject,
            data=standing.state,
        )
        try:
            sequence = await self._bus.publish(
                subject,
                encode_event(event),
                expected_last_subject_sequence=before.sequence if before else 0,
            )
        except BusError as error:
            log.warning("a budget's state is not published yet: %s", error)
            return False
        self._published[subject] = _Published(sequence, standing.is_exceeded, standing.state)
        verb = "exceeded" if standing.is_exceeded else "cleared"
        log.info("budget %s", verb, extra={"scope": owner.scope, "scope_id": owner.scope_id})
        return True


def _whose(published: _Published) -> Whose:
    return Whose(published.state.scope, published.state.scope_id)


def _is_news(before: _Published | None, standing: Standing | None) -> bool:
    was_exceeded = before is not None and before.is_exceeded
    is_exceeded = standing is not None and standing.is_exceeded
    if was_exceeded != is_exceeded:
        return True
    if before is None or standing is None or not is_exceeded:
        return False
    # Still exceeded, but of another window or another budget: the refusal must say so.
    return (before.state.resets_at_us, before.state.max_budget_usd) != (
        standing.state.resets_at_us,
        standing.state.max_budget_usd,
    )
