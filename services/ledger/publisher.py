"""Publishes how the budgets stand: compares it with what was published last, and says the rest.

Every change is told as a mark first (services.ledger.marks), and what is news as an event. The
stream BUDGET is followed by its own writer, so what was published is always known, whatever
became of an acknowledgement, and a restart finds what its predecessor did not come to say.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from secrets import token_hex

import msgspec

from schemas.budgets import (
    BudgetCleared,
    BudgetExceeded,
    BudgetId,
    BudgetState,
    BudgetWarned,
    decode_budget_event,
)
from schemas.events import encode_event
from schemas.streams import BUDGET, budget_subject
from services.ledger.books import Books
from services.ledger.budget_news import Kind, Said, news
from services.ledger.budgets import Standing
from services.ledger.marks import MarkTeller
from services.ledger.worker import Worker
from services.runtime.bus import Bus, BusError, StreamMessage

__all__ = ["BudgetPublisher"]

log = logging.getLogger(__name__)

_LOGGED: dict[Kind, str] = {
    BudgetExceeded: "budget exceeded",
    BudgetCleared: "budget cleared",
    BudgetWarned: "budget nearly spent",
}
RETRY_WAIT_S = 0.2
SAID_AT_ONCE_MAX = 32
"""So many statements are on their way to NATS at a time."""
MARKS_BEAT_S = 1.0
"""Marks are told this often where nothing changes: who listens knows that none is missed."""
RECHECK_S = 60.0
"""All exceeded budgets are looked at again this often, whatever else happens."""


class BudgetPublisher:
    """Says on BUDGET which budgets are exceeded and which no longer are, and tells all marks."""

    def __init__(self, bus: Bus, books: Books, worker: Worker) -> None:
        self._bus = bus
        self._books = books
        self._worker = worker
        self._source = f"/ledger/{token_hex(8)}"
        self._count = 0
        self._published: dict[BudgetId, Said] = {}
        self._is_read = asyncio.Event()
        self._due: set[BudgetId] = set()
        self._next_end_us: int | None = None
        self._wake = asyncio.Event()
        self.marks = MarkTeller(bus, self._source)

    @property
    def said(self) -> int:
        """How many statements about budgets this process has made."""
        return self._count

    def look(self) -> None:
        """Look soon at what changed."""
        self._wake.set()

    async def follow_published(self) -> None:
        """Know what was published, for ever."""
        async for batch in self._bus.follow(BUDGET.name, last_per_subject=True):
            for message in batch.messages:
                self._read(message)
            if batch.pending == 0 and not self._is_read.is_set():
                self._is_read.set()
                self._due |= self._published.keys()
                self.look()

    def _read(self, message: StreamMessage) -> None:
        try:
            event = decode_budget_event(message.payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            log.error("a budget event cannot be read: %s", error)
            return
        known = self._published.get(event.data.budget_id)
        if known is not None and known.sequence > message.sequence:
            return  # What this process has said since.
        self._published[event.data.budget_id] = Said(
            message.sequence, isinstance(event, BudgetExceeded), event.data
        )

    async def publish_for_ever(self) -> None:
        """Publish changes as they come; a window's end is a change as well."""
        # What the stream holds is judged whole: half of it may look like money left.
        await self._is_read.wait()
        await self._worker.caught_up()
        rechecked_at_s = time.monotonic()
        while True:
            if time.monotonic() - rechecked_at_s > RECHECK_S:
                rechecked_at_s = time.monotonic()
                self._due |= {each for each, said in self._published.items() if said.is_exceeded}
            due, self._due = self._due, set()
            now_us = time.time_ns() // 1000
            changes = await self._worker.in_books(
                lambda due=due, now_us=now_us: self._books.budget_changes(due, now_us)  # type: ignore[misc]
            )
            self._next_end_us = changes.next_end_us
            await self.marks.tell(changes.sequence, changes.standings, changes.prices)
            if not await self._say_all(changes.standings):
                self._wake.set()
                await asyncio.sleep(RETRY_WAIT_S)
            await self._wait()

    async def _say_all(self, standings: Mapping[BudgetId, Standing | None]) -> bool:
        """Publish what is news, exceeded budgets first; False where some must be tried again.

        At the end of a month there may be thousands. A change that comes meanwhile is not kept
        waiting by them: what is not said yet is looked at again together with it.
        """
        waiting = [
            each for each, found in standings.items() if news(self._published.get(each), found)
        ]
        waiting.sort(key=lambda each: not _is_exceeded(standings[each]))
        failed: set[BudgetId] = set()
        while waiting and not failed:
            some, waiting = waiting[:SAID_AT_ONCE_MAX], waiting[SAID_AT_ONCE_MAX:]
            done = await asyncio.gather(*(self._say(each, standings[each]) for each in some))
            failed = {each for each, is_said in zip(some, done, strict=True) if not is_said}
            if waiting and self._wake.is_set():
                break
        self._due |= failed | set(waiting)
        return not failed

    async def _wait(self) -> None:
        """Wait for a change, or for the end of a window; a beat of marks is told meanwhile."""
        wait_s = MARKS_BEAT_S
        if self._next_end_us is not None:
            until_end_s = (self._next_end_us - time.time_ns() // 1000) / 1e6
            wait_s = min(wait_s, max(0.0, until_end_s) + 0.01)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        self._wake.clear()

    async def _say(self, budget_id: BudgetId, standing: Standing | None) -> bool:
        """Publish what is news about a budget; False where that must be tried again."""
        while (due := news(self._published.get(budget_id), standing)) is not None:
            if not await self._publish(budget_id, *due):
                return False
        return True

    async def _publish(self, budget_id: BudgetId, kind: Kind, state: BudgetState) -> bool:
        before = self._published.get(budget_id)
        self._count += 1
        subject = budget_subject(*budget_id)
        event = kind(
            source=self._source,
            id=str(self._count),
            time=datetime.now(UTC),
            subject=subject,
            data=state,
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
        self._published[budget_id] = Said(sequence, kind is BudgetExceeded, state)
        log.info(_LOGGED[kind], extra=budget_id._asdict())
        return True


def _is_exceeded(standing: Standing | None) -> bool:
    return standing is not None and standing.is_exceeded
