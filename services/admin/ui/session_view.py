"""Which sessions the page Sessions shows, and in which order: read from its address. Pure."""

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import urlencode

import msgspec

from schemas.events import us_from_time
from services.admin.ui.log_view import PERIODS, VALUE_CHARS_MAX

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
_ORDERS = ("desc", "asc")
_PLACE = re.compile(r"\d{1,20}")


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    """What an address asks for. `problem`: what is wrong with it; then nothing is to be shown.

    `at_once`: the page is to wait for its rows, however long they take.
    """

    filters: dict[str, str] = {}
    period: str = "7d"
    sort: str = "time"
    order: str = "desc"
    below: str = ""
    at_once: bool = False
    problem: str = ""

    def get(self, name: str) -> str:
        """Return the value of a filter; empty where it is not set."""
        return self.filters.get(name, "")

    @property
    def by(self) -> str:
        """The order's name, for the heads of tables."""
        return self.sort

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

    def url(self, by: str) -> str:
        """Return the address of the same sessions in another order, or the other way round."""
        turned = "asc" if self.order == "desc" else "desc"
        return self.address("/ui/sessions", sort=by, order=turned if by == self.sort else "desc")

    def address(self, path: str, **changes: str) -> str:
        """Return an address with these filters and this order; `changes` are added."""
        given = {**self.filters, "period": self.period, "sort": self.sort, "order": self.order}
        usual = {"period": "7d", "sort": "time", "order": "desc"}
        said = {
            name: value
            for name, value in (given | changes).items()
            if value and value != usual.get(name)
        }
        return f"{path}?{urlencode(said)}" if said else path

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
        filters={name: value for name in FIELDS if (value := query.get(name, "").strip())},
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
    for name, value in view.filters.items():
        if len(value) > VALUE_CHARS_MAX:
            return f"The filter {name} is longer than {VALUE_CHARS_MAX} characters."
    chosen: list[tuple[str, str, Iterable[str]]] = [
        ("period", view.period, SESSION_PERIODS),
        ("sort", view.sort, SORTS),
        ("order", view.order, _ORDERS),
    ]
    for name, choice, known in chosen:
        if choice not in known:
            return f"{name} cannot be {choice[:40]!r}: it is one of {', '.join(known)}."
    if view.below and view.mark is None:
        return "This address does not say from which session on to go on: start with the newest."
    return ""
