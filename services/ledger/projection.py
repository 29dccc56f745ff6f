"""The projection: from messages of the stream USAGE to rows. Pure, and the same every time.

Each event counts once: a producer's events are numbered without gaps, so a number that is not
above the last one is a repeat, and one that leaves numbers out is a gap, which is reported. What
cannot be read is kept as a dead letter, and nothing waits for it.

A result of a message batch counts once however often it is fetched, by whichever proxies: all of
its events have one request id, of which the first in the stream counts.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from schemas.events import (
    Rejection,
    RequestFacts,
    RequestRejected,
    RequestStarted,
    UsageEvent,
    UsageRecord,
    UsageRecorded,
    decode_usage_event,
)
from schemas.money import usd_from_picos
from schemas.usage import TOKENS_MAX, IterationUsage, Usage
from services.ledger.price_book import PriceBook
from services.ledger.pricing import Cost, cost_picos
from services.runtime.bus import StreamMessage

__all__ = ["DEAD_LETTER_BYTES_MAX", "Projected", "Projection", "Spend"]

log = logging.getLogger(__name__)

DEAD_LETTER_BYTES_MAX = 64 * 1024
"""A dead letter keeps at most so many of its bytes."""
COST_PICOS_MAX = 10**18 - 1
"""The largest cost that DECIMAL(18,12) holds: a request above 999,999 USD is not believed."""
PRODUCER_LENGTH_MAX = 128
_SOURCE = "/proxy/"
_REASON_MAX = 500
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_batch_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_PAID = frozenset({"messages", "batch_result"})
_nothing = Usage()
_free = Cost()


class Spend(msgspec.Struct, frozen=True):
    """What one request adds to the budgets: whose, when it started, how much."""

    key_id: str
    started_at_us: int
    cost_picos: int


class Projected(msgspec.Struct):
    """Everything that some messages change in the books, to be committed as one."""

    sequence: int = 0
    requests: list[tuple[Any, ...]] = []
    opened: dict[str, tuple[Any, ...]] = {}
    closed: list[str] = []
    producers: dict[str, int] = {}
    gaps: list[tuple[Any, ...]] = []
    dead_letters: list[tuple[Any, ...]] = []
    spends: list[Spend] = []
    repeats: int = 0


class _Envelope(msgspec.Struct):
    source: str
    id: str


_envelope_decoder = msgspec.json.Decoder(_Envelope)
BookedResults = Callable[[Sequence[tuple[str, str]]], set[str]]
"""Tells which of some batch results, given as (batch id, request id), have rows: their ids."""
_Origin = tuple[str, int, int]
"""Where a row comes from: producer, its number, sequence in the stream."""


class _Poison(Exception):
    """An event that must not become a row; the message says why."""


class _Entry(NamedTuple):
    """One event as it was found; a text in its place says why it cannot be read."""

    stream_sequence: int
    position: int
    raw: msgspec.Raw
    event: UsageEvent | str

    @property
    def result(self) -> tuple[str, str] | None:
        """The batch and the request id of a batch result, None of all else."""
        if not isinstance(self.event, UsageRecorded):
            return None
        record = self.event.data
        if record.endpoint != "batch_result" or record.batch_id is None:
            return None
        return record.batch_id, record.request_id


class Projection:
    """Knows how far each producer has come and which requests are open; makes rows of messages."""

    def __init__(
        self,
        book: PriceBook,
        producers: dict[str, int],
        open_requests: Iterable[str],
        booked_results: BookedResults,
    ) -> None:
        self._book = book
        self._producers = producers
        self._open = set(open_requests)
        self._booked_results = booked_results
        self._booked: set[str] = set()

    def project(self, messages: Iterable[StreamMessage]) -> Projected:
        """Return what the messages change. What they change must then be committed."""
        out = Projected()
        entries = list(self._entries(out, messages))
        results = [entry.result for entry in entries if entry.result is not None]
        self._booked = self._booked_results(results) if results else set()
        for entry in entries:
            try:
                if isinstance(entry.event, str):
                    raise _Poison(entry.event)  # noqa: TRY301
                self._take(out, entry.stream_sequence, entry.event)
            except _Poison as error:
                self._bury(out, entry.stream_sequence, entry.position, str(error), bytes(entry.raw))
                self._count_buried(out, entry.stream_sequence, entry.raw)
        return out

    def _entries(self, out: Projected, messages: Iterable[StreamMessage]) -> Iterator[_Entry]:
        """Yield every event of the messages, or why it cannot be read."""
        for message in messages:
            out.sequence = message.sequence
            try:
                raws = _batch_decoder.decode(message.payload)
            except _UNREADABLE as error:
                self._bury(out, message.sequence, -1, f"not a batch: {error}", message.payload)
                continue
            for position, raw in enumerate(raws):
                event: UsageEvent | str
                try:
                    event = decode_usage_event(raw)
                except _UNREADABLE as error:
                    event = str(error)
                yield _Entry(message.sequence, position, raw, event)

    def _bury(
        self, out: Projected, sequence: int, position: int, reason: str, payload: bytes
    ) -> None:
        log.error("an event cannot be read and is kept as a dead letter: %s", reason[:_REASON_MAX])
        kept = payload[:DEAD_LETTER_BYTES_MAX]
        out.dead_letters.append((sequence, position, reason[:_REASON_MAX], kept, len(payload)))

    def _count_buried(self, out: Projected, stream_sequence: int, raw: msgspec.Raw) -> None:
        """Take a dead letter's number as come, where it can be read: it is no gap."""
        try:
            producer, number = _identity(_envelope_decoder.decode(raw))
        except (*_UNREADABLE, _Poison):
            return
        self._arrived(out, producer, number, stream_sequence)

    def _arrived(self, out: Projected, producer: str, number: int, stream_sequence: int) -> None:
        """Count a producer's event; note the numbers that it leaves out."""
        last = self._producers.get(producer, 0)
        if number <= last:
            return
        if number > last + 1:
            log.error("events %d to %d of producer %s are missing", last + 1, number - 1, producer)
            out.gaps.append((producer, last + 1, number - 1, stream_sequence))
        self._producers[producer] = out.producers[producer] = number

    def _take(self, out: Projected, stream_sequence: int, event: UsageEvent) -> None:
        producer, number = _identity(event)
        if number <= self._producers.get(producer, 0):
            out.repeats += 1
            return
        origin = (producer, number, stream_sequence)
        if isinstance(event, UsageRecorded):
            self._recorded(out, event.data, origin)
        elif isinstance(event, RequestRejected):
            out.requests.append(_rejected(event.data, origin))
        self._arrived(out, producer, number, stream_sequence)
        if isinstance(event, RequestStarted):
            facts = event.data
            self._open.add(facts.request_id)
            out.opened[facts.request_id] = (
                facts.request_id,
                facts.started_at_us,
                facts.key_id,
                facts.model_name,
                producer,
            )
        else:
            self._close(out, event.data.request_id)

    def _close(self, out: Projected, request_id: str) -> None:
        if request_id not in self._open:
            return
        self._open.discard(request_id)
        if out.opened.pop(request_id, None) is None:
            out.closed.append(request_id)

    def _recorded(self, out: Projected, record: UsageRecord, origin: _Origin) -> None:
        if record.endpoint == "batch_result":
            if record.batch_id is None:
                raise _Poison("a batch result names no batch")
            if record.request_id in self._booked:
                out.repeats += 1
                return
            self._booked.add(record.request_id)
        usage = record.usage or _nothing
        _check(usage)
        cost, unpriced = self._cost(record, usage)
        if cost is not None and cost.total > COST_PICOS_MAX:
            raise _Poison(f"a cost of {cost.total} pico-dollars is not believed")
        out.requests.append(_row(record, usage, cost, unpriced, origin))
        if cost is not None and cost.total and record.key_id is not None:
            out.spends.append(Spend(record.key_id, record.started_at_us, cost.total))

    def _cost(self, record: UsageRecord, usage: Usage) -> tuple[Cost | None, str | None]:
        if record.endpoint == "pass_through":
            return None, "what a pass-through path costs is not known"
        if record.endpoint == "batch_result" and record.usage is None:
            return None, "the usage of this batch result could not be read"
        if record.usage is None or record.endpoint not in _PAID:
            return _free, None
        # The model that answered decides; a name that the book does not know is no better than
        # the one that was asked for.
        model = record.response_model
        if model is None or self._book.canonical_name(model) is None:
            model = record.model or model or ""
        priced = cost_picos(self._book, usage, model, record.started_at_us)
        return priced.cost, priced.unpriced


def _identity(event: UsageEvent | _Envelope) -> tuple[str, int]:
    """Return the producer and the number of an event. Raises _Poison."""
    producer = event.source.removeprefix(_SOURCE)
    if producer == event.source or not 0 < len(producer) <= PRODUCER_LENGTH_MAX:
        raise _Poison("the source is not that of a proxy")
    if not event.id.isascii() or not event.id.isdigit() or not 0 < len(event.id) <= 18:  # noqa: PLR2004
        raise _Poison("the id is not a producer's number")
    number = int(event.id)
    if number == 0:
        raise _Poison("a producer's numbers begin at 1")
    return producer, number


def _check(usage: Usage) -> None:
    """Raise _Poison for counts that no model can have."""
    parts: tuple[Usage | IterationUsage, ...] = (usage, *usage.iterations)
    for part in parts:
        if not all(0 <= count <= TOKENS_MAX for count in _counts(part)):
            raise _Poison("a token count is negative or impossibly large")


def _counts(part: Usage | IterationUsage) -> tuple[int, ...]:
    counts = (
        part.input_tokens,
        part.output_tokens,
        part.cache_read_tokens,
        part.cache_write_5m_tokens,
        part.cache_write_1h_tokens,
    )
    if isinstance(part, Usage):
        return (*counts, part.web_search_requests, part.web_fetch_requests)
    return counts


def _row(
    record: UsageRecord,
    usage: Usage,
    cost: Cost | None,
    unpriced: str | None,
    origin: _Origin,
    *,
    reason: str | None = None,
) -> tuple[Any, ...]:
    """Return the row of a request, in the order of REQUEST_COLUMNS."""
    started, first, ended = record.started_at_us, record.first_byte_at_us, record.ended_at_us
    prompt = (
        usage.input_tokens
        + usage.cache_read_tokens
        + usage.cache_write_5m_tokens
        + usage.cache_write_1h_tokens
    )
    iterations = msgspec.json.encode(usage.iterations).decode() if usage.iterations else None
    if cost is None:
        money: tuple[Any, ...] = (None,) * 7
    else:
        money = tuple(usd_from_picos(picos) for picos in (cost.total, *cost))
    return (
        record.request_id,
        started,
        first,
        ended,
        max(0, ended - started) // 1000,
        max(0, first - started) // 1000 if first is not None else None,
        record.endpoint,
        record.key_id,
        record.key_alias,
        record.user_id,
        record.team_id,
        record.model_name,
        record.model,
        record.response_model,
        record.deployment,
        record.billing,
        record.stream,
        record.status,
        _http_status(record.http_status),
        record.error_type,
        reason,
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_5m_tokens,
        usage.cache_write_1h_tokens,
        prompt,
        prompt + usage.output_tokens,
        usage.web_search_requests,
        usage.web_fetch_requests,
        usage.service_tier,
        usage.speed,
        usage.inference_geo,
        iterations,
        *money,
        cost is None,
        unpriced,
        record.estimated,
        record.estimate_basis,
        record.session_id,
        record.user_agent,
        record.stop_reason,
        record.upstream_request_id,
        record.message_id,
        _size(record.request_bytes),
        _size(record.response_bytes),
        *origin,
        record.path,
        record.batch_id,
        record.custom_id,
    )


def _rejected(data: Rejection, origin: _Origin) -> tuple[Any, ...]:
    """Return the row of a refused request: no tokens, no cost."""
    record = UsageRecord(
        **{name: getattr(data, name) for name in RequestFacts.__struct_fields__},
        ended_at_us=data.ended_at_us,
        status="refused",
        http_status=data.http_status,
        error_type=data.error_type,
    )
    return _row(record, _nothing, _free, None, origin, reason=data.reason)


def _http_status(status: int) -> int:
    if not 0 <= status < 1000:  # noqa: PLR2004
        raise _Poison(f"an HTTP status of {status} does not exist")
    return status


def _size(count: int) -> int:
    if count > 2**62:
        raise _Poison("a length of a body is impossibly large")
    return count
