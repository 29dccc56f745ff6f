"""Between which days a session's requests are looked for: all days take long in large books. Pure.

A session that goes on is one of few days, but nothing says which by its id alone. So links carry
its days; an address without them is looked up among the newest, then among all. What is outside
is counted once the page is there: see `session_page.elsewhere`.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from urllib.parse import urlencode

import msgspec

from schemas.errors import BadRequest
from schemas.events import us_from_time
from services.admin.sql_where import Conditions

__all__ = ["NEWEST_DAYS", "SessionScope", "read_scope"]

NEWEST_DAYS = 7
"""An address without days means so many, today included, where the session has requests then."""
_DAY = timedelta(days=1)
_MOMENT = "make_timestamp({}::BIGINT)"


class SessionScope(msgspec.Struct, frozen=True, kw_only=True):
    """Days, both included, and the one before and after them; None: all there are."""

    first: date | None = None
    last: date | None = None

    @property
    def is_all(self) -> bool:
        """Whether nothing is left out."""
        return self.first is None or self.last is None

    @property
    def query(self) -> str:
        """The scope as an address holds it."""
        if self.first is None or self.last is None:
            return "all=1"
        return urlencode({"from": self.first.isoformat(), "to": self.last.isoformat()})

    def add_to(self, conditions: Conditions) -> None:
        """Add that a request is within."""
        if not self.is_all:
            conditions.add(
                f"started_at >= {_MOMENT.format('{0}')} AND started_at < {_MOMENT.format('{1}')}",
                *self._bounds(),
            )

    def add_outside_to(self, conditions: Conditions) -> None:
        """Add that a request is outside; with `is_all` none is."""
        if self.is_all:
            conditions.add("false")
            return
        conditions.add(
            f"(started_at < {_MOMENT.format('{0}')} OR started_at >= {_MOMENT.format('{1}')})",
            *self._bounds(),
        )

    def _bounds(self) -> tuple[int, int]:
        assert self.first is not None, "only a scope of days has bounds"
        assert self.last is not None, "only a scope of days has bounds"
        return _midnight_us(self.first - _DAY), _midnight_us(self.last + 2 * _DAY)


def read_scope(query: Mapping[str, str], now: datetime) -> SessionScope:
    """Return what an address says: `from` and `to`, or `all=1`, or nothing. Raises BadRequest."""
    if query.get("all"):
        return SessionScope()
    today = now.date()
    first = _day(query, "from", today - (NEWEST_DAYS - 1) * _DAY)
    last = _day(query, "to", today)
    if last < first:
        raise BadRequest("`to` is before `from`: both are days as 2026-01-31")
    return SessionScope(first=first, last=last)


def _day(query: Mapping[str, str], name: str, usual: date) -> date:
    text = query.get(name)
    if not text:
        return usual
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise BadRequest(f"`{name}` is no day: write it as 2026-01-31") from None
    if not _FIRST_DAY <= found <= _LAST_DAY:
        raise BadRequest(f"`{name}` is a day from {_FIRST_DAY} to {_LAST_DAY}")
    return found


_FIRST_DAY, _LAST_DAY = date(1971, 1, 1), date(9000, 12, 31)


def _midnight_us(day: date) -> int:
    return us_from_time(datetime(day.year, day.month, day.day, tzinfo=UTC))
