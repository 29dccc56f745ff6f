"""What the API says of each subscription's quota: windows of five hours and of seven days. Pure.

The history leaves for each account how much of both is used; the stand-in for the API goes on
there.
"""

import random
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import msgspec

from schemas.events import QuotaSeen, UsageRecord
from services.demo.conversation import SECOND_US, Caller

__all__ = ["TOKEN_PREFIX", "Standings", "last_standings", "standing_headers", "with_quotas"]

TOKEN_PREFIX = "sk-ant-oat01-demo-"  # noqa: S105 - nobody's
"""Begins the OAuth tokens of the demo's people; the account follows."""

Standings: TypeAlias = dict[str, dict[str, str]]
"""The last words on the windows of each account, as headers have them."""

_FIVE_HOURS_US = 5 * 3600 * SECOND_US
_WEEK_US = 7 * 86_400 * SECOND_US
_WARNED_FROM = 0.8
_HOT_USER = "ana.novak"
"""Whose subscription is about used up."""
_FIRST = {"unified-5h-utilization": "0.12", "unified-7d-utilization": "0.31"}
_LENGTHS_S = {"5h": 5 * 3600, "7d": 7 * 86_400}
_STEPS = {"5h": 0.004, "7d": 0.0006}
"""What one more request uses of a window."""
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


def last_standings(callers: Sequence[Caller], records: Iterable[UsageRecord]) -> Standings:
    """Return what was said last of the account of each subscription."""
    accounts = {caller.key_id: caller.account for caller in callers if caller.plan.seat}
    found: Standings = {}
    for record in records:
        if record.quota is not None and record.key_id in accounts:
            found[accounts[record.key_id]] = record.quota.headers
    return found


def standing_headers(standings: Standings, account: str, now_s: int) -> dict[str, str]:
    """Count one more request of an account, and return what the API says of it then.

    The names are those of headers behind `anthropic-ratelimit-`. A window that is over begins anew.
    """
    before = standings.get(account, _FIRST)
    said: dict[str, str] = {}
    used: dict[str, float] = {}
    for window, length_s in _LENGTHS_S.items():
        resets_s = int(before.get(f"unified-{window}-reset", now_s + length_s))
        share = float(before[f"unified-{window}-utilization"])
        if now_s >= resets_s:
            resets_s, share = now_s + length_s, 0.0
        used[window] = min(_UTILIZATION_MAX, share + _STEPS[window])
        said[f"unified-{window}-status"] = _status(used[window])
        said[f"unified-{window}-utilization"] = f"{used[window]:.4f}"
        said[f"unified-{window}-reset"] = str(resets_s)
    tightest = max(used, key=lambda window: used[window])
    said["unified-status"] = _status(used[tightest])
    said["unified-representative-claim"] = "five_hour" if tightest == "5h" else "seven_day"
    said["unified-reset"] = said[f"unified-{tightest}-reset"]
    standings[account] = said
    return said
