"""Which sessions the page Sessions shows, and in which order: read from its address. Pure."""

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar

import msgspec

from schemas.events import us_from_time
from services.admin.ui.list_view import ORDERS, ListView, filters_in, problem_of
from services.admin.ui.log_view import PERIODS

__all__ = ["FIELDS", "SESSION_PERIODS", "SORTS", "SessionView", "read_session_view"]

SESSION_PERIODS = {name: PERIODS[name] for name in ("24h", "7d", "30d")}
SORTS = {
    "time": ("max(ended_at)", "make_timestamp({}::BIGINT)"),
    "duration": ("date_diff('millisecond', min(started_at), max(ended_at))", "{}::BIGINT"),
    "requests": ("count(*)", "{}::BIGINT"),
    "tokens": ("sum(total_tokens)::BIGINT", "{}::BIGINT"),
    "cost": ("coalesce(sum(cost_usd), 0)", "{}::DECIMAL(38, 12)"),
}
"""What `sort` may say: the SQL of the order, and of a value in it."""
FIELDS = ("key", "user", "team", "model")
_PLACE = re.compile(r"\d{1,20}")


class SessionView(ListView, frozen=True, kw_only=True):
    """What an address asks for. `problem`: what is wrong with it; then nothing is to be shown.

    `at_once`: the page is to wait for its rows, however long they take.
    """

    path = "/ui/sessions"
    usual: ClassVar[Mapping[str, str]] = {**ListView.usual, "period": "7d"}

    period: str = "7d"
    at_once: bool = False

    @property
    def is_newest_first(self) -> bool:
        """Whether the first sessions are found without adding up all of the period."""
        return (self.sort, self.order) == ("time", "desc")

    @property
    def comes_later(self) -> bool:
        """Whether the page fetches its rows once it is there: they take longer than a page may."""
        return not self.at_once and (self.period == "30d" or not self.is_newest_first)

    @property
    def shown_to_us(self) -> int | None:
        """The last answer of the last session that was shown; None: none was, or no such order."""
        if self.sort != "time" or self.mark is None:
            return None
        return int(str(self.mark[0]))

    @property
    def chosen(self) -> dict[str, str]:
        """What is chosen on the page, by the names that an address has for it."""
        return {**self.filters, "period": self.period, "sort": self.sort, "order": self.order}

    def mark_of(self, row: Mapping[str, Any]) -> str:
        """Return what stands for a row in `below`."""
        value = us_from_time(row["ended_at"]) if self.sort == "time" else row[self._column]
        return f"{value}~{row['place']}"

    @property
    def _column(self) -> str:
        names = {"duration": "duration_ms", "tokens": "total_tokens", "cost": "cost_usd"}
        return names.get(self.sort, self.sort)

    @property
    def mark(self) -> tuple[object, str] | None:
        """The value and the session's place in `below`; None where it holds none."""
        text, _, place = self.below.partition("~")
        try:
            value = Decimal(text)
        except InvalidOperation:
            return None
        if not (_PLACE.fullmatch(place) and value.is_finite() and 0 <= value < 10**18):
            return None
        if self.sort == "cost":
            return f"{value:f}", place
        return (int(value), place) if value == int(value) else None


def read_session_view(query: Mapping[str, str]) -> SessionView:
    """Return what an address asks for."""
    view = SessionView(
        filters=filters_in(query, FIELDS),
        period=query.get("period") or "7d",
        sort=query.get("sort") or "time",
        order=query.get("order") or "desc",
        below=query.get("below", ""),
        at_once=bool(query.get("at_once")),
    )
    return msgspec.structs.replace(view, problem=_problem(view, query))


def _problem(view: SessionView, query: Mapping[str, str]) -> str:
    for name in query:
        if name not in (*FIELDS, "period", "sort", "order", "below", "at_once"):
            return f"There is no filter {name[:40]!r}: there are {', '.join(FIELDS)}, period."
    chosen: list[tuple[str, str | None, Iterable[str]]] = [
        ("period", view.period, SESSION_PERIODS),
        ("sort", view.sort, SORTS),
        ("order", view.order, ORDERS),
    ]
    if problem := problem_of(view.filters, chosen):
        return problem
    if view.below and view.mark is None:
        return "This address does not say from which session on to go on: start with the newest."
    return ""
