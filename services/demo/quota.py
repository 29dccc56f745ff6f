"""What the API says of each subscription's quota: windows of five hours and of seven days. Pure."""

import random
from collections.abc import Sequence

import msgspec

from schemas.events import QuotaSeen, UsageRecord
from services.demo.conversation import SECOND_US, Caller

__all__ = ["with_quotas"]

_FIVE_HOURS_US = 5 * 3600 * SECOND_US
_WEEK_US = 7 * 86_400 * SECOND_US
_WARNED_FROM = 0.8
_HOT_USER = "ana.novak"
"""Whose subscription is about used up."""
_REPORT_EVERY = 0.01
_UTILIZATION_MAX = 0.97


class _Window(msgspec.Struct):
    """A window of one subscription: when it ends, and what of it is used."""

    length_us: int
    resets_at_us: int = 0
    used: float = 0.0

    def add(self, at_us: int, tokens: float, room: float) -> None:
        """Count a request; a new window begins where the last one is over."""
        if at_us >= self.resets_at_us:
            self.resets_at_us = at_us + self.length_us
            self.used = 0.0
        self.used = min(_UTILIZATION_MAX, self.used + tokens / room)


class _Seat(msgspec.Struct):
    seat: str
    five_hours: _Window
    week: _Window
    room: float
    told: float = -1.0


def with_quotas(
    rng: random.Random, callers: Sequence[Caller], records: list[UsageRecord]
) -> list[UsageRecord]:
    """Return the records, in the order of their ends, with what the API said of quotas."""
    seats = {
        caller.seat: _Seat(
            caller.seat,
            _Window(_FIVE_HOURS_US),
            _Window(_WEEK_US, resets_at_us=_first_reset(rng, records)),
            1.0,
        )
        for caller in callers
        if caller.plan.seat
    }
    of_key = {caller.key_id: caller for caller in callers if caller.plan.seat}
    _make_room(seats, of_key, records)
    told = []
    for record in records:
        caller = of_key.get(record.key_id or "")
        if caller is None or record.usage is None:
            told.append(record)
            continue
        told.append(_observed(seats[caller.seat], record))
    return told


def _first_reset(rng: random.Random, records: list[UsageRecord]) -> int:
    first_us = records[0].ended_at_us if records else 0
    return first_us + rng.randrange(_WEEK_US)


def _make_room(
    seats: dict[str, _Seat], of_key: dict[str, Caller], records: list[UsageRecord]
) -> None:
    """Give each subscription room for what its busiest hours hold, so that no window overflows."""
    week: dict[tuple[str, int], float] = {}
    for record in records:
        caller = of_key.get(record.key_id or "")
        if caller is not None and record.usage is not None:
            place = (caller.seat, record.ended_at_us // _WEEK_US)
            week[place] = week.get(place, 0.0) + _weight(record)
    users = {caller.seat: caller.person.user_id for caller in of_key.values()}
    for account, seat in seats.items():
        busiest = max((used for (of, _), used in week.items() if of == account), default=1.0)
        seat.room = busiest * (1.02 if users[account] == _HOT_USER else 1.9)


def _weight(record: UsageRecord) -> float:
    assert record.usage is not None
    usage = record.usage
    return (
        5 * usage.output_tokens
        + usage.input_tokens
        + 1.25 * (usage.cache_write_1h_tokens + usage.cache_write_5m_tokens)
        + 0.1 * usage.cache_read_tokens
    )


def _observed(seat: _Seat, record: UsageRecord) -> UsageRecord:
    weight = _weight(record)
    seat.week.add(record.ended_at_us, weight, seat.room)
    # A working day has one or two of the short windows, which are a fourth of a week's room.
    seat.five_hours.add(record.ended_at_us, weight, seat.room / 4)
    if abs(seat.five_hours.used - seat.told) < _REPORT_EVERY:
        return record
    seat.told = seat.five_hours.used
    highest = max(seat.five_hours.used, seat.week.used)
    claim = "five_hour" if seat.five_hours.used >= seat.week.used else "seven_day"
    window = seat.five_hours if claim == "five_hour" else seat.week
    headers = {
        "unified-status": _status(highest),
        "unified-representative-claim": claim,
        "unified-reset": str(window.resets_at_us // SECOND_US),
        "unified-5h-status": _status(seat.five_hours.used),
        "unified-5h-utilization": f"{seat.five_hours.used:.2f}",
        "unified-5h-reset": str(seat.five_hours.resets_at_us // SECOND_US),
        "unified-7d-status": _status(seat.week.used),
        "unified-7d-utilization": f"{seat.week.used:.2f}",
        "unified-7d-reset": str(seat.week.resets_at_us // SECOND_US),
        "unified-overage-status": "rejected",
        "unified-overage-disabled-reason": "org_level_disabled",
    }
    return msgspec.structs.replace(record, quota=QuotaSeen(seat=seat.seat, headers=headers))


def _status(used: float) -> str:
    return "allowed_warning" if used >= _WARNED_FROM else "allowed"
