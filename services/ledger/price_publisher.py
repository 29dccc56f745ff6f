"""Publishes what prices the writer stands for: its price book, and `prices:` of its configuration.

Both become events of the stream USAGE where they differ from the last ones there, so that what is
in force is never a matter of files. The publisher knows the last ones by the books, which have
read all of the stream before.
"""

import asyncio
import logging
import time
import uuid
from datetime import UTC, datetime

from schemas.events import PriceChanged, encode_event
from schemas.prices import PriceChange, PriceOverlay
from schemas.streams import price_subject
from services.ledger.books import Books
from services.ledger.price_history import PriceState
from services.ledger.worker import Worker
from services.runtime.bus import Bus, BusError
from services.runtime.price_book import PriceBook

__all__ = ["PricePublisher"]

log = logging.getLogger(__name__)

RETRY_WAIT_S = 0.2
RETRY_WAIT_MAX_S = 5.0


class PricePublisher:
    """Says on USAGE which price book ships and what the configuration file says of prices."""

    def __init__(
        self,
        bus: Bus,
        books: Books,
        worker: Worker,
        shipped: PriceBook,
        overlays: tuple[PriceOverlay, ...],
    ) -> None:
        self._bus = bus
        self._books = books
        self._worker = worker
        self._shipped = shipped
        self._overlays = overlays
        self._due = asyncio.Event()
        self._due.set()
        self.settled = asyncio.Event()
        """Set while the stream holds what this process stands for."""

    def take(self, overlays: tuple[PriceOverlay, ...]) -> None:
        """Stand for another file's prices from now on."""
        self._overlays = overlays
        self.settled.clear()
        self._due.set()

    async def publish_for_ever(self) -> None:
        """Publish what differs, at the start and after each change of the file."""
        await self._worker.caught_up()
        wait_s = RETRY_WAIT_S
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                await self._publish()
            except BusError as error:
                log.warning("the prices are not published yet: %s", error)
                self._due.set()
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, RETRY_WAIT_MAX_S)
            else:
                wait_s = RETRY_WAIT_S
                if not self._due.is_set():
                    self.settled.set()

    async def _publish(self) -> None:
        states = await self._worker.in_books(self._books.prices)
        for change in self._changes(states):
            before = states.get(change.kind)
            sequence = await self._bus.publish(
                price_subject(change.kind),
                encode_event(_event(change)),
                expected_last_subject_sequence=before.sequence if before is not None else 0,
            )
            log.info("prices are published", extra={"part": change.kind, "sequence": sequence})
            # What was published is known when the books have it: then it is not said twice.
            await self._worker.reached(sequence)

    def _changes(self, states: dict[str, PriceState]) -> list[PriceChange]:
        """Return what the stream is to be told."""
        now_us = time.time_ns() // 1000
        changes = []
        known = states.get("book")
        content = self._shipped.content
        # An older version does not take back what a newer one brought.
        if known is None or (
            known.change.book is not None
            and known.change.book != content
            and known.change.book.version <= content.version
        ):
            changes.append(
                PriceChange(kind="book", book=content, changed_at_us=now_us, changed_by="version")
            )
        told = states.get("file")
        if self._overlays != (told.change.overlays if told is not None else ()):
            changes.append(
                PriceChange(
                    kind="file",
                    overlays=self._overlays,
                    changed_at_us=now_us,
                    changed_by="config",
                )
            )
        return changes


def _event(change: PriceChange) -> PriceChanged:
    return PriceChanged(
        source="/ledger",
        id=str(uuid.uuid4()),
        time=datetime.now(UTC),
        subject=price_subject(change.kind),
        data=change,
    )
