"""Three weeks of requests: when who works, what comes of it, and what it sums up to. Pure.

The same seed, size and moment make the same history, but for nothing: ids too.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TypeAlias

import msgspec

from schemas.events import (
    GuardrailHit,
    Rejection,
    RequestFacts,
    UsageRecord,
    time_from_us,
    us_from_time,
)
from schemas.money import usd_from_picos
from services.demo.conversation import SECOND_US, Caller, converse
from services.demo.mishaps import failed, guarded, refused
from services.demo.people import SPENT_ALIAS, KeyPlan
from services.demo.quota import with_quotas
from services.runtime.price_book import PriceBook
from services.runtime.pricing import cost_picos

__all__ = [
    "DAYS",
    "Draft",
    "Entry",
    "History",
    "Totals",
    "entry_time",
    "make_draft",
    "spent_since",
    "told",
]

DAYS = 21
Entry: TypeAlias = RequestFacts | UsageRecord | Rejection | GuardrailHit
"""What an event is about: a beginning (just RequestFacts), an end, a refusal, a finding."""

_RECENT_SHARE = 0.05
_RECENT_S = 3 * 3600
_SESSION_MEDIAN_MAX = 46.0
_SESSIONS_WANTED = 160
"""However small a history is, it has about so many sessions at least."""
_REQUESTS_OF_SESSION_MAX = 180
_SURE_REQUESTS = 14
_NIGHT = (1, 4)
_DAY_SHARE_MAX = 1.3


class Totals(msgspec.Struct):
    """What the ledger must say of a history: the sums over all of its requests."""

    requests: int = 0
    refused: int = 0
    failed: int = 0
    findings: int = 0
    sessions: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: Decimal = Decimal(0)


class Draft(msgspec.Struct):
    """What happened, not yet in the order in which it was told."""

    records: list[UsageRecord] = []
    others: list[Rejection | GuardrailHit] = []
    sessions: int = 0
    count: int = 0
    """Requests so far, refused ones included."""


class History(msgspec.Struct, frozen=True):
    """The entries, in the order in which their events were written, and their sums."""

    entries: list[Entry]
    totals: Totals

    @property
    def records(self) -> Iterator[UsageRecord]:
        """The requests that were forwarded."""
        return (entry for entry in self.entries if isinstance(entry, UsageRecord))


def make_draft(
    rng: random.Random, callers: Sequence[Caller], requests: int, now: datetime
) -> Draft:
    """Return a history of so many requests, refused ones included, that ends about now."""
    draft = Draft()
    end_us = us_from_time(now) - 2 * SECOND_US
    median = min(_SESSION_MEDIAN_MAX, max(4.0, requests / _SESSIONS_WANTED))
    shares = [caller.plan.share for caller in callers]
    # One thing is sure in every history: the key whose budget is used up was used not long ago.
    caller = next(caller for caller in callers if caller.plan.alias == SPENT_ALIAS)
    start_us = us_from_time(now) - 2 * 3600 * SECOND_US
    length = _SURE_REQUESTS
    while draft.count < requests:
        names, weights = zip(*caller.plan.models, strict=True)
        model = rng.choices(names, weights)[0]
        draft.sessions += caller.is_claude_code
        for record in converse(rng, caller, model, start_us, length):
            if record.ended_at_us > end_us or draft.count >= requests:
                break
            _add(rng, caller.plan, draft, record, requests)
        caller = rng.choices(callers, shares)[0]
        start_us = _session_start_us(rng, caller, now, is_recent=rng.random() < _RECENT_SHARE)
        length = min(_REQUESTS_OF_SESSION_MAX, max(2, int(median * rng.lognormvariate(0, 0.7))))
    draft.records.sort(key=lambda record: record.ended_at_us)
    draft.records = with_quotas(rng, callers, draft.records)
    return draft


def _add(
    rng: random.Random, plan: KeyPlan, draft: Draft, record: UsageRecord, requests: int
) -> None:
    """Add a request, and what went wrong with it or beside it."""
    draft.records.append(failed(rng, record))
    draft.count += 1
    draft.others += guarded(rng, record)
    if draft.count < requests:
        beside = list(refused(rng, plan, record))
        draft.count += sum(isinstance(each, Rejection) for each in beside)
        draft.others += beside


def spent_since(records: Iterable[UsageRecord], since_us: int) -> dict[tuple[str, str], Decimal]:
    """Return what keys, users and teams spent on requests that began since a moment.

    By scope and id, in US dollars.
    """
    book = PriceBook.load()
    picos: dict[tuple[str, str], int] = {}
    for record in records:
        if record.started_at_us < since_us:
            continue
        cost = _cost_picos(book, record)
        for scope, owner in (
            ("key", record.key_id),
            ("user", record.user_id),
            ("team", record.team_id),
        ):
            if owner is not None:
                picos[scope, owner] = picos.get((scope, owner), 0) + cost
    return {owner: usd_from_picos(spend) for owner, spend in picos.items()}


def told(draft: Draft) -> History:
    """Return everything in the order in which a proxy would have told it."""
    records, others = draft.records, draft.others
    timed: list[tuple[int, int, Entry]] = []
    for record in records:
        facts = {name: getattr(record, name) for name in RequestFacts.__struct_fields__}
        timed.append((record.started_at_us, 0, RequestFacts(**facts)))
        timed.append((record.ended_at_us, 1, record))
    for other in others:
        at_us = other.found_at_us if isinstance(other, GuardrailHit) else other.ended_at_us
        timed.append((at_us, 1, other))
    timed.sort(key=lambda each: each[:2])
    totals = _totals(records, others)
    totals.sessions = draft.sessions
    return History([entry for *_, entry in timed], totals)


def _totals(records: list[UsageRecord], others: Sequence[Rejection | GuardrailHit]) -> Totals:
    book = PriceBook.load()
    totals = Totals()
    picos = 0
    for record in records:
        totals.requests += 1
        totals.failed += record.status != "success"
        picos += _cost_picos(book, record)
        if (usage := record.usage) is not None:
            totals.input_tokens += usage.input_tokens
            totals.output_tokens += usage.output_tokens
            totals.cache_read_tokens += usage.cache_read_tokens
            totals.cache_write_tokens += usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
    for other in others:
        if isinstance(other, GuardrailHit):
            totals.findings += len(other.findings)
        else:
            totals.requests += 1
            totals.refused += 1
    totals.cost_usd = usd_from_picos(picos)
    return totals


def _cost_picos(book: PriceBook, record: UsageRecord) -> int:
    if record.usage is None or record.response_model is None:
        return 0
    priced = cost_picos(book, record.usage, record.response_model, record.started_at_us)
    if priced.cost is None:
        raise AssertionError(f"the demo asks for a model without a price: {priced.unpriced}")
    return priced.cost.total


def _session_start_us(rng: random.Random, caller: Caller, now: datetime, *, is_recent: bool) -> int:
    """Return when a session begins: in the hours of its person, on a day on which they work."""
    if is_recent:
        return us_from_time(now - timedelta(seconds=rng.uniform(60, _RECENT_S)))
    while True:
        day = now - timedelta(days=rng.randrange(DAYS + 1))
        midnight = day.replace(hour=0, minute=0, second=0, microsecond=0)
        if caller.plan.style == "batch":
            hour = rng.uniform(*_NIGHT)
        else:
            if not _works_on(rng, caller, midnight):
                continue
            hour = _hour(rng, caller)
        start = midnight + timedelta(hours=hour)
        if now - timedelta(days=DAYS) < start < now - timedelta(minutes=2):
            return us_from_time(start)


def _works_on(rng: random.Random, caller: Caller, midnight: datetime) -> bool:
    """Tell whether a session may be on a day: weekends are quiet, and weekdays differ."""
    if midnight.weekday() >= 5:
        return rng.random() < caller.person.weekend
    # A day has its own weight, the same for all of the company.
    of_day = random.Random(midnight.toordinal())
    return rng.random() * _DAY_SHARE_MAX < of_day.uniform(0.7, _DAY_SHARE_MAX)


def _hour(rng: random.Random, caller: Caller) -> float:
    """Return an hour of a working day: most in its two middles, few at lunch."""
    first, last = caller.person.hours
    if caller.plan.style == "pipeline" and rng.random() < 0.3:
        return rng.uniform(0, 24)
    middle = rng.choice((0.28, 0.72))
    return min(23.9, max(0.0, first + (last - first) * rng.gauss(middle, 0.13)))


def entry_time(entry: Entry) -> datetime:
    """Return when an entry's event was written."""
    if isinstance(entry, UsageRecord | Rejection):
        at_us = entry.ended_at_us
    elif isinstance(entry, GuardrailHit):
        at_us = entry.found_at_us
    else:
        at_us = entry.started_at_us
    return time_from_us(at_us)
