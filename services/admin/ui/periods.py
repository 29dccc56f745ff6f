"""The days that a page is about, as its address says: `days=30`, or `from` and `to`. Pure."""

from collections.abc import Mapping
from datetime import date, timedelta

import msgspec

__all__ = ["CHOICES", "DAYS_MAX", "Period", "period_of"]

CHOICES = ((7, "7 days"), (30, "30 days"), (90, "90 days"), (365, "12 months"))
"""Periods that are one click away."""
DAYS_MAX = 3660
"""A chart has at most so many days: ten years."""


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """From `first` to `last`, both included. `days` is the choice it came from, None: own dates.

    `problem` says what was wrong with the dates that were given; the default is shown then.
    """

    first: date
    last: date
    days: int | None
    problem: str = ""

    @property
    def query(self) -> dict[str, str]:
        """What stands in an address for this period."""
        if self.days is not None:
            return {"days": str(self.days)}
        return {"from": self.first.isoformat(), "to": self.last.isoformat()}


def period_of(query: Mapping[str, str], today: date, default_days: int = 30) -> Period:
    """Return the period that an address names."""
    given = query.get("from", ""), query.get("to", "")
    if any(given):
        try:
            first = date.fromisoformat(given[0]) if given[0] else today - timedelta(days=29)
            last = date.fromisoformat(given[1]) if given[1] else today
        except ValueError:
            return _choice(default_days, today, "Dates are written like 2026-11-25.")
        if first > last:
            return _choice(default_days, today, "The first day is after the last one.")
        if (last - first).days >= DAYS_MAX:
            return _choice(default_days, today, f"At most {DAYS_MAX} days are shown.")
        return Period(first=first, last=last, days=None)
    text = query.get("days", "")
    if not text:
        return _choice(default_days, today)
    if not text.isdecimal() or not 1 <= int(text[:6]) <= DAYS_MAX:
        return _choice(default_days, today, f"days is a number from 1 to {DAYS_MAX}.")
    return _choice(int(text), today)


def _choice(days: int, today: date, problem: str = "") -> Period:
    return Period(first=today - timedelta(days=days - 1), last=today, days=days, problem=problem)
