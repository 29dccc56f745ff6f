"""Which requests the page Logs shows, and in which order: read from its address. Pure.

Every state of the page has an address, and what stands in an address is checked here: a wrong
value is told on the page.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from schemas.errors import BadRequest
from schemas.events import us_from_time
from services.admin.days import moment_us
from services.admin.sql_where import Conditions
from services.admin.ui.list_view import ORDERS, ListView, filters_in, problem_of

__all__ = ["FIELDS", "PERIODS", "SORTS", "STATUSES", "LogView", "narrowed", "order_of", "read_view"]

PERIODS = {
    "1h": ("1 h", timedelta(hours=1)),
    "24h": ("24 h", timedelta(days=1)),
    "7d": ("7 d", timedelta(days=7)),
    "30d": ("30 d", timedelta(days=30)),
}
"""What `period` may say: how it is called, and how far back it reaches."""

STATUSES = {
    "success": ("Success", "status = 'success'"),
    "refused": ("Refused by the gateway", "status = 'refused'"),
    "error": ("Error", "status = 'failure' AND error_type IS DISTINCT FROM 'lost'"),
    "closed": ("Cancelled by the client", "status = 'client_closed'"),
    "lost": ("Lost", "error_type = 'lost'"),
}
"""What `status` may say: how it is called, and which rows are meant."""

SORTS = {
    "time": ("started_at", "make_timestamp({}::BIGINT)"),
    "tokens": ("total_tokens", "{}::BIGINT"),
    "cost": ("cost_usd", "{}::DECIMAL(18, 12)"),
    "duration": ("duration_ms", "{}::BIGINT"),
    "first_byte": ("ttfb_ms", "{}::BIGINT"),
}
"""What `sort` may say: the column, and the SQL of a value in it."""
_MAY_BE_UNKNOWN = ("cost", "first_byte")
_UNKNOWN = -1
"""Stands in an address for a value that is NULL, which is less than all others."""

FIELDS = ("key", "user", "team", "model", "status", "session", "period", "from", "to")
"""The filters, as they stand in an address."""
_OF_PAGING = ("sort", "order", "below", "after", "upto", "shown")
_ID = re.compile(r"[\x21-\x7e]{1,128}")
_KEY_ID = re.compile(r"key_[0-9a-f]{24,64}")


class LogView(ListView, frozen=True, kw_only=True):
    """What an address asks for. `problem`: what is wrong with it; then nothing is to be shown.

    `below` is the last row that was shown, as `value~request id`. `after` and `upto` are messages
    of the stream: rows that came after the one, or up to the other. `shown` rows came live.
    """

    path = "/ui/logs"

    after: int = 0
    upto: int = 0
    shown: int = 0

    @property
    def is_live(self) -> bool:
        """Whether requests that come now belong at the top."""
        is_newest_first = self.sort == "time" and self.order == "desc"
        return is_newest_first and not (self.below or self.problem or self.get("to"))

    def without(self, *names: str, **changes: str) -> str:
        """Return the address of the page with some filters left out and others changed."""
        kept = {name: value for name, value in self.filters.items() if name not in names}
        other = msgspec.structs.replace(self, filters={**kept, **changes}, below="")
        return other.address(self.path)

    def mark_of(self, row: Mapping[str, Any]) -> str:
        """Return what stands for a row in `below`."""
        value: object
        match self.sort:
            case "time":
                value = us_from_time(row["started_at"])
            case "cost":
                value = _UNKNOWN if row["cost_usd"] is None else f"{row['cost_usd']:f}"
            case "first_byte":
                value = _UNKNOWN if row["ttfb_ms"] is None else row["ttfb_ms"]
            case "tokens":
                value = row["total_tokens"]
            case _:
                value = row["duration_ms"]
        return f"{value}~{row['request_id']}"


def read_view(query: Mapping[str, str]) -> LogView:
    """Return what an address asks for."""
    view = LogView(
        filters=filters_in(query, FIELDS),
        sort=query.get("sort") or "time",
        order=query.get("order") or "desc",
        below=query.get("below", ""),
        after=_number(query.get("after", "")),
        upto=_number(query.get("upto", "")),
        shown=_number(query.get("shown", "")),
    )
    return msgspec.structs.replace(view, problem=_problem(view, query))


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else 0  # noqa: PLR2004


def _problem(view: LogView, query: Mapping[str, str]) -> str:
    for name in query:
        if name not in FIELDS and name not in _OF_PAGING:
            return f"There is no filter {name[:40]!r}: there are {', '.join(FIELDS)}."
    chosen: list[tuple[str, str | None, Iterable[str]]] = [
        ("status", view.filters.get("status"), STATUSES),
        ("period", view.filters.get("period"), PERIODS),
        ("sort", view.sort, SORTS),
        ("order", view.order, ORDERS),
    ]
    if problem := problem_of(view.filters, chosen):
        return problem
    try:
        bounds = [moment_us(name, view.get(name)) for name in ("from", "to") if view.get(name)]
    except BadRequest as error:
        return f"{error.message}."
    if len(bounds) == len(("from", "to")) and bounds[0] > bounds[1]:
        return "The time under “to” is before that under “from”."
    if view.below and _mark(view) is None:
        return "This address does not say from which row on to go on: start with the newest."
    return ""


def _mark(view: LogView) -> tuple[object, str] | None:
    """Return the value and the request id in `below`; None where it holds none."""
    text, _, request_id = view.below.partition("~")
    if not _ID.fullmatch(request_id):
        return None
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    if not (value.is_finite() and -1 <= value < 10**18):
        return None
    if view.sort == "cost":
        return (f"{value:f}", request_id) if value < 10**6 else None
    return (int(value), request_id) if value == int(value) else None


def narrowed(conditions: Conditions, view: LogView, now: datetime) -> Conditions:
    """Add what a view's rows of `requests` must meet. The view must have no problem."""
    filters = view.filters
    for name, template in (
        # By one column or the other: either is fast, while both with OR read all rows.
        ("key", f"{_key_column(view.get('key'))} = {{0}}::VARCHAR"),
        ("user", "user_id = {0}::VARCHAR"),
        ("team", "team_id = {0}::VARCHAR"),
        ("model", "(model_name = {0}::VARCHAR OR model = {0}::VARCHAR)"),
        ("session", "session_id = {0}::VARCHAR"),
    ):
        if name in filters:
            conditions.add(template, filters[name])
    if "status" in filters:
        conditions.add(f"({STATUSES[filters['status']][1]})")
    if "period" in filters:
        first = us_from_time(now - PERIODS[filters["period"]][1])
        conditions.add("started_at >= make_timestamp({0}::BIGINT)", first)
    if "from" in filters:
        first = moment_us("from", filters["from"])
        conditions.add("started_at >= make_timestamp({0}::BIGINT)", first)
    if "to" in filters:
        last = moment_us("to", filters["to"], is_end=True)
        conditions.add("started_at < make_timestamp({0}::BIGINT)", last)
    if view.after:
        conditions.add("stream_sequence > {0}::BIGINT", view.after)
    if view.upto:
        conditions.add("stream_sequence <= {0}::BIGINT", view.upto)
    if view.below:
        mark = _mark(view)
        assert mark is not None, "a view without a problem has a mark that can be read"
        conditions.add(*_after(view, *mark))
    return conditions


def order_of(view: LogView) -> str:
    """Return the SQL of a view's order: what is unknown is less than all that is known."""
    way = "DESC NULLS LAST" if view.order == "desc" else "ASC NULLS FIRST"
    return f"{SORTS[view.sort][0]} {way}, request_id {view.order.upper()}"


def _key_column(key: str) -> str:
    return "key_id" if _KEY_ID.fullmatch(key) else "key_alias"


def _after(view: LogView, value: object, request_id: str) -> tuple[str, *tuple[object, ...]]:
    """Return the condition of rows that come after one in a view's order, with its values."""
    column, cast = SORTS[view.sort]
    is_down = view.order == "desc"
    than = "<" if is_down else ">"
    if view.sort in _MAY_BE_UNKNOWN and Decimal(str(value)) == _UNKNOWN:
        same = f"({column} IS NULL AND request_id {than} {{0}}::VARCHAR)"
        return (same if is_down else f"({same} OR {column} IS NOT NULL)"), request_id
    text = cast.format("{0}")
    later = (
        f"{column} {than}= {text} AND ({column} {than} {text} OR request_id {than} {{1}}::VARCHAR)"
    )
    if is_down and view.sort in _MAY_BE_UNKNOWN:
        later = f"({later} OR {column} IS NULL)"
    return later, value, request_id
