"""The projection: from messages of the stream USAGE to rows. Pure, and the same every time.

What it makes is a function of the stream alone: neither the grouping of messages into commits nor
the time at which they are read changes a row. So any two books of one stream are the same.

Each event counts once: a producer's events are numbered without gaps, so a number that is not
above the last one is a repeat, and one that leaves numbers out is a gap, which is reported. What
cannot be read is kept as a dead letter, and nothing waits for it.

A result of a message batch counts once however often it is fetched, by whichever proxies: all of
its events have one request id, of which the first in the stream counts.

A request whose end does not come is closed as lost by the stream's own clock (docs/adr/0011).

Changes of prices are messages of the same stream: they hold for the ends that follow them
(docs/adr/0015).
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from schemas.events import (
    GuardrailTriggered,
    RequestFacts,
    RequestStarted,
    UsageEvent,
    UsageRecord,
    UsageRecorded,
)
from schemas.prices import PriceChange, Repricing
from services.ledger.guardrail_rows import guardrail_rows
from services.ledger.messages import (
    UNREADABLE,
    Entry,
    Message,
    entries_of,
    is_about_prices,
    raw_entries,
    read_message,
)
from services.ledger.price_history import PriceState, book_in_force
from services.ledger.quota_rows import quota_row
from services.ledger.reprice_rows import DueRepricing
from services.ledger.repricing import laid_over
from services.ledger.request_rows import (
    Origin,
    Poison,
    checked_cost,
    lost_row,
    recorded_row,
    rejected_row,
)
from services.ledger.spends import Spend, counted_model
from services.runtime.bus import StreamMessage
from services.runtime.price_book import PriceBook

__all__ = [
    "DEAD_LETTER_BYTES_MAX",
    "LOST_AFTER_S",
    "Correction",
    "Counts",
    "OpenRequest",
    "Projected",
    "Projection",
    "ProjectionState",
    "why_unreadable",
]

log = logging.getLogger(__name__)

DEAD_LETTER_BYTES_MAX = 64 * 1024
"""A dead letter keeps at most so many of its bytes."""
LOST_AFTER_S = 24 * 3600
"""A request is lost when so much time of the stream has passed since its start was stored."""
PRODUCER_LENGTH_MAX = 128
PRODUCERS_CACHED_MAX = 256
_SOURCE = "/proxy/"
_REASON_MAX = 500


class Counts(msgspec.Struct):
    """What the events of the stream were, counted as they came: the other side of the books.

    `events`: those that count, by their producers' numbers; each is one of `started`, `ends` (rows
    of `requests`), `again` (a batch result or a start that is known already), `guarded` (what a
    guardrail found) or a dead letter.
    `repeats` do not count. `closed`, `lost` and `corrected` are about requests that had `started`:
    their end came, did not come, came after all.
    """

    events: int = 0
    repeats: int = 0
    started: int = 0
    ends: int = 0
    again: int = 0
    closed: int = 0
    lost: int = 0
    corrected: int = 0
    guarded: int = 0

    def add(self, other: "Counts") -> None:
        """Add what was counted elsewhere."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class OpenRequest(msgspec.Struct, frozen=True):
    """A request that has begun: its facts, where that was told, and the stream's clock then."""

    facts: RequestFacts
    origin: Origin
    opened_at_us: int


class ProjectionState(msgspec.Struct):
    """What a projection knows of all that came before; the books hold it."""

    producers: dict[str, int] = {}
    open_requests: list[OpenRequest] = []
    """In the order in which they were opened."""
    lost: dict[str, int] = {}
    """By request id: the message at which it was closed as lost."""
    clock_us: int = 0
    prices: dict[str, PriceState] = {}
    """By kind of the part."""


class Correction(NamedTuple):
    """A lost request whose end came: the messages that closed it as lost and that told the end."""

    request_id: str
    lost_sequence: int
    corrected_sequence: int


class Projected(msgspec.Struct):
    """Everything that some messages change in the books, to be committed as one.

    `lost` are rows of requests closed as lost, to be stored first; `corrected` are those of them
    (or of earlier ones) whose end came after all; `requests` come last.
    """

    sequence: int = 0
    clock_us: int = 0
    requests: list[tuple[Any, ...]] = []
    lost: list[tuple[Any, ...]] = []
    corrected: list[Correction] = []
    opened: dict[str, OpenRequest] = {}
    closed: list[str] = []
    producers: dict[str, int] = {}
    gaps: list[tuple[Any, ...]] = []
    dead_letters: list[tuple[Any, ...]] = []
    spends: list[Spend] = []
    price_changes: list[PriceState] = []
    repricings: list[DueRepricing] = []
    quotas: list[tuple[Any, ...]] = []
    guarded: list[tuple[Any, ...]] = []
    counts: Counts = msgspec.field(default_factory=Counts)


class _Envelope(msgspec.Struct):
    source: str
    id: str


_envelope_decoder = msgspec.json.Decoder(_Envelope)
BookedResults = Callable[[Sequence[tuple[str, str]]], set[str]]
"""Tells which of some batch results, given as (batch id, request id), have rows: their ids."""


class Projection:
    """Knows how far each producer has come and which requests are open; makes rows of messages."""

    def __init__(
        self, book: PriceBook, state: ProjectionState, booked_results: BookedResults
    ) -> None:
        self._shipped = book
        self.prices = state.prices
        self.book = book_in_force(book, self.prices)
        """The price book in force, with all that differs from it."""
        self._producers = state.producers
        self._open = {each.facts.request_id: each for each in state.open_requests}
        self._lost = state.lost
        self._clock_us = state.clock_us
        self._booked_results = booked_results
        self._booked: set[str] = set()

    def project(self, messages: Iterable[StreamMessage]) -> Projected:
        """Return what the messages change. What they change must then be committed."""
        out = Projected()
        read = [(message, read_message(message)) for message in messages]
        self._booked = self._known_results(read)
        for message, entries in read:
            out.sequence = sequence = message.sequence
            # A server's clock may be put back; the stream's time only goes forward.
            self._clock_us = max(self._clock_us, message.stored_at_us)
            self._close_lost(out, sequence)
            if isinstance(entries, Repricing):
                book = laid_over(self.book, entries)
                out.repricings.append(DueRepricing(sequence, entries, book))
            elif isinstance(entries, PriceChange):
                self._change_prices(out, sequence, entries)
            elif isinstance(entries, str):
                self._bury(out, sequence, -1, entries, message.payload)
            else:
                self._take_batch(out, sequence, entries, message.payload)
        out.clock_us = self._clock_us
        return out

    def _take_batch(
        self, out: Projected, sequence: int, entries: list[Entry], payload: bytes
    ) -> None:
        raws: list[msgspec.Raw] | None = None
        for position, entry in enumerate(entries):
            try:
                self._take(out, sequence, entry)
            except Poison as error:
                raws = raws or raw_entries(payload)
                self._bury(out, sequence, position, str(error), bytes(raws[position]))

    def _change_prices(self, out: Projected, sequence: int, change: PriceChange) -> None:
        state = PriceState(sequence, change)
        self.prices[change.kind] = state
        self.book = book_in_force(self._shipped, self.prices)
        out.price_changes.append(state)
        log.info("prices are changed", extra={"part": change.kind, "by": change.changed_by})

    def _known_results(self, read: list[tuple[StreamMessage, Message]]) -> set[str]:
        """Return which batch results of some messages have rows in the books."""
        results = [
            (entry.data.batch_id, entry.data.request_id)
            for _, entries in read
            if isinstance(entries, list)
            for entry in entries
            if isinstance(entry, UsageRecorded)
            and entry.data.endpoint == "batch_result"
            and entry.data.batch_id is not None
        ]
        return self._booked_results(results) if results else set()

    def _close_lost(self, out: Projected, sequence: int) -> None:
        """Close the requests whose time is over, the oldest first."""
        due_us = self._clock_us - LOST_AFTER_S * 1_000_000
        while self._open:
            request_id, oldest = next(iter(self._open.items()))
            if oldest.opened_at_us > due_us:
                return
            log.warning("request %s is closed as lost: its end never came", request_id)
            producer, number, _ = oldest.origin
            out.lost.append(lost_row(oldest.facts, (producer, number, sequence)))
            self._close(out, request_id)
            self._lost[request_id] = sequence
            out.counts.lost += 1

    def _bury(
        self, out: Projected, sequence: int, position: int, reason: str, payload: bytes
    ) -> None:
        """Keep what cannot be read. Where its number can be, it has come and is no gap."""
        producer: str | None = None
        number: int | None = None
        if position >= 0:
            try:
                producer, number = _identity(_envelope_decoder.decode(payload))
            except (*UNREADABLE, Poison):
                producer = number = None
        if producer is not None and number is not None:
            if number <= self._producers.get(producer, 0):
                out.counts.repeats += 1
                return
            self._arrived(out, producer, number, sequence)
        log.error("an event cannot be read and is kept as a dead letter: %s", reason[:_REASON_MAX])
        kept = payload[:DEAD_LETTER_BYTES_MAX]
        out.dead_letters.append(
            (sequence, position, reason[:_REASON_MAX], kept, len(payload), producer, number)
        )

    def _arrived(self, out: Projected, producer: str, number: int, stream_sequence: int) -> None:
        """Count a producer's event; note the numbers that it leaves out."""
        last = self._producers.get(producer, 0)
        if number > last + 1:
            log.error("events %d to %d of producer %s are missing", last + 1, number - 1, producer)
            out.gaps.append((producer, last + 1, number - 1, stream_sequence))
        self._producers[producer] = out.producers[producer] = number
        out.counts.events += 1

    def _take(self, out: Projected, stream_sequence: int, event: Entry) -> None:
        if isinstance(event, str):
            raise Poison(event)
        producer, number = _identity(event)
        if number <= self._producers.get(producer, 0):
            out.counts.repeats += 1
            return
        origin = (producer, number, stream_sequence)
        if isinstance(event, RequestStarted):
            self._started(out, event.data, origin)
        elif isinstance(event, UsageRecorded):
            self._recorded(out, event.data, origin)
        elif isinstance(event, GuardrailTriggered):
            out.guarded += guardrail_rows(event.data, origin)
            out.counts.guarded += 1
        else:
            row = rejected_row(event.data, origin)
            self._ended(out, event.data.request_id, row)
        self._arrived(out, producer, number, stream_sequence)

    def _started(self, out: Projected, facts: RequestFacts, origin: Origin) -> None:
        request_id = facts.request_id
        if request_id in self._open or request_id in self._lost:
            out.counts.again += 1
            return
        opened = OpenRequest(facts, origin, self._clock_us)
        self._open[request_id] = out.opened[request_id] = opened
        out.counts.started += 1

    def _recorded(self, out: Projected, record: UsageRecord, origin: Origin) -> None:
        is_result = record.endpoint == "batch_result"
        if is_result:
            if record.batch_id is None:
                raise Poison("a batch result names no batch")
            if record.request_id in self._booked:
                out.counts.again += 1
                return
        cost, unpriced = checked_cost(self.book, record)
        row = recorded_row(record, cost, unpriced, origin)
        if (quota := quota_row(record, origin)) is not None:
            out.quotas.append(quota)
        self._ended(out, record.request_id, row)
        if is_result:
            self._booked.add(record.request_id)
        if cost is not None and record.key_id is not None and (total := cost.total):
            spend = Spend(
                record.key_id,
                record.started_at_us,
                total,
                record.user_id,
                record.team_id,
                counted_model(record),
                record.billing == "subscription",
                record.alias_of,
            )
            out.spends.append(spend)

    def _ended(self, out: Projected, request_id: str, row: tuple[Any, ...]) -> None:
        out.requests.append(row)
        out.counts.ends += 1
        if request_id in self._open:
            self._close(out, request_id)
            out.counts.closed += 1
        elif request_id in self._lost:
            lost_sequence = self._lost.pop(request_id)
            out.corrected.append(Correction(request_id, lost_sequence, out.sequence))
            out.counts.corrected += 1

    def _close(self, out: Projected, request_id: str) -> None:
        del self._open[request_id]
        if out.opened.pop(request_id, None) is None:
            out.closed.append(request_id)


def why_unreadable(book: PriceBook, payload: bytes, position: int) -> str | None:
    """Return why a dead letter still cannot be read; None where it now can be.

    `payload` are its whole bytes, `position` its place in its message (-1: it is the message).
    """
    message = payload if position < 0 else b"[" + payload + b"]"
    entries = entries_of(message)
    if position < 0:
        # The letter does not say which subject it came by: any will do.
        return entries if isinstance(entries, str) and not is_about_prices(payload) else None
    if isinstance(entries, str):
        return entries
    # A projection that expects exactly this event: it is poison, or it becomes what it is.
    projection = Projection(book, ProjectionState(), lambda _: set())
    out = projection.project([StreamMessage(1, "", message)])
    return out.dead_letters[0][2] if out.dead_letters else None


def _identity(event: UsageEvent | _Envelope) -> tuple[str, int]:
    """Return the producer and the number of an event. Raises Poison."""
    text = event.id
    producer = _producer(event.source)
    if not text.isascii() or not text.isdigit() or not 0 < len(text) <= 18:  # noqa: PLR2004
        raise Poison("the id is not a producer's number")
    number = int(text)
    if number == 0:
        raise Poison("a producer's numbers begin at 1")
    return producer, number


@lru_cache(PRODUCERS_CACHED_MAX)
def _producer(source: str) -> str:
    """Return the producer that a source names; all its events share one text then."""
    producer = source.removeprefix(_SOURCE)
    if len(producer) == len(source) or not 0 < len(producer) <= PRODUCER_LENGTH_MAX:
        raise Poison("the source is not that of a proxy")
    return producer
