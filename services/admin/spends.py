"""What keys, teams or users spent, asked of the ledger's reader without reading all requests.

Sums are those of whole days (`spend_parts`, which change in the transaction of their requests), and
of single requests for the day in which a budget's window began. So at ten million requests a page
of keys takes a few hundredths of a second, whatever their windows are.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Literal

from schemas.events import time_from_us, us_from_time
from schemas.rpc import QueryReply
from services.admin.shapes import KeySpend
from services.runtime.budget_sql import OWNERS

__all__ = ["Ask", "Column", "budgets_sql", "last_active_sql", "spend_sql", "spends_of"]

Ask = Callable[[str, Sequence[object]], Awaitable[QueryReply]]
Column = Literal["key_id", "team_id", "user_id"]
_DAY = timedelta(days=1)
_MOMENT = "make_timestamp({}::BIGINT)"

_OF_DAYS = """
WITH wanted AS (
    SELECT unnest($1::VARCHAR[]) AS id, unnest($2::BIGINT[]) AS start_us,
           unnest($3::DATE[]) AS whole_from
), days AS (
    SELECT {column} AS id, day, sum(cost_usd) AS cost_usd, sum(requests) AS requests
    FROM spend_parts WHERE {column} IN (SELECT id FROM wanted) GROUP BY ALL
), sums AS (
    SELECT wanted.id, sum(cost_usd) AS total_usd,
           sum(cost_usd) FILTER (day >= whole_from) AS whole_usd,
           max(day) FILTER (requests > 0) AS last_day
    FROM wanted JOIN days ON days.id = wanted.id GROUP BY wanted.id
)
SELECT id, total_usd, coalesce(whole_usd, 0) + coalesce(part_usd, 0) AS window_usd, last_day
FROM sums LEFT JOIN ({parts}) AS parts USING (id)
"""
_PARTS = "SELECT id, sum(cost_usd) AS part_usd FROM ({found}) GROUP BY id"
_PART = """
SELECT wanted.id, cost_usd FROM requests JOIN wanted ON {column} = wanted.id
WHERE {bounds} AND epoch_us(started_at) >= start_us AND started_at < whole_from
"""
_ENDED = """
SELECT {column} AS id, max(ended_at) AS ended_at FROM requests
WHERE {bounds} AND {column} IN (SELECT unnest($1::VARCHAR[])) GROUP BY {column}
"""
_LAST_ENDED = "SELECT id, max(ended_at) AS last_active FROM ({found}) GROUP BY id"
_NO_PARTS = "SELECT NULL::VARCHAR AS id, NULL::DECIMAL(38, 12) AS part_usd"
_BUDGETS = """
WITH wanted AS (
    SELECT unnest($1::BIGINT[]) AS position, unnest($2::VARCHAR[]) AS id,
           unnest($3::BIGINT[]) AS start_us, unnest($4::DATE[]) AS whole_from
), days AS (
    SELECT {owner} AS id, day, sum(r.cost_usd) AS cost_usd FROM spend_parts AS r
    WHERE day >= $5::DATE AND ($6::BOOLEAN OR billing <> 'subscription') GROUP BY ALL
), found AS (
    SELECT position, cost_usd FROM wanted JOIN days ON days.id = wanted.id AND day >= whole_from
    {parts}
)
SELECT position, coalesce(sum(cost_usd), 0)::DECIMAL(38, 12) AS spent_usd
FROM found GROUP BY position
"""
_BUDGETS_PART = """UNION ALL
SELECT position, r.cost_usd FROM requests AS r JOIN wanted ON {owner} = wanted.id
WHERE {bounds} AND ($6::BOOLEAN OR billing <> 'subscription')
  AND epoch_us(started_at) >= start_us AND started_at < whole_from
"""


async def spends_of(
    ask: Ask, column: Column, ids: Sequence[str], starts_us: Sequence[int]
) -> dict[str, KeySpend]:
    """Return by id what was spent since the windows began, and ever, and when it was last used.

    `starts_us` are microseconds since the epoch, of each id; 0: there is no window. Those that
    have no requests are left out. Raises ApiError as `ask` does.
    """
    reply = await ask(*spend_sql(column, ids, starts_us))
    last_days = {row[0]: date.fromisoformat(row[3]) for row in reply.rows if row[3] is not None}
    last: dict[str, datetime] = {}
    if last_days:
        told = await ask(*last_active_sql(column, ids, set(last_days.values())))
        last = {row[0]: datetime.fromisoformat(row[1]) for row in told.rows}
    return {
        row[0]: KeySpend(
            total_usd=Decimal(row[1]), window_usd=Decimal(row[2]), last_active=last.get(row[0])
        )
        for row in reply.rows
    }


def spend_sql(
    column: Column, ids: Sequence[str], starts_us: Sequence[int]
) -> tuple[str, list[object]]:
    """Return the query of sums, and its parameters."""
    begun, days = _days_of(starts_us)
    parameters: list[object] = [list(ids), list(starts_us), begun]
    branches = []
    for first, after in _stretches((each, each + _DAY) for each in days):
        bounds = _bounds(parameters, first, after)
        branches.append(_PART.format(column=column, bounds=bounds))
    parts = _NO_PARTS
    if branches:
        found = " UNION ALL ".join(branches)
        parts = _PARTS.format(found=found)
    return _OF_DAYS.format(column=column, parts=parts), parameters


def budgets_sql(
    scope: str, ids: Sequence[str], starts_us: Sequence[int], *, with_subscriptions: bool
) -> tuple[str, list[object]]:
    """Return the query of what counts for budgets of all models, and its parameters.

    It answers as SPEND_OF_BUDGETS does: the place of an id, and what was spent since its start.
    """
    begun, days = _days_of(starts_us)
    parameters: list[object] = [
        list(range(len(ids))),
        list(ids),
        list(starts_us),
        begun,
        min(begun),
        with_subscriptions,
    ]
    parts = "".join(
        _BUDGETS_PART.format(owner=OWNERS[scope], bounds=_bounds(parameters, first, after))
        for first, after in _stretches((each, each + _DAY) for each in days)
    )
    return _BUDGETS.format(owner=OWNERS[scope], parts=parts), parameters


def _days_of(starts_us: Sequence[int]) -> tuple[list[str], list[date]]:
    """Return the first whole day of each window, and the days in which a window begins."""
    starts = [time_from_us(each) for each in starts_us]
    begun = [each.date() if _is_midnight(each) else each.date() + _DAY for each in starts]
    days = sorted({each.date() for each in starts if not _is_midnight(each)})
    return [each.isoformat() for each in begun], days


def last_active_sql(
    column: Column, ids: Sequence[str], last_days: Iterable[date]
) -> tuple[str, list[object]]:
    """Return the query of the last ends of requests, which began on these days or before midnight.

    A request that began a day before may have ended last.
    """
    parameters: list[object] = [list(ids)]
    branches = []
    for first, after in _stretches((each - _DAY, each + _DAY) for each in sorted(last_days)):
        bounds = _bounds(parameters, first, after)
        branches.append(_ENDED.format(column=column, bounds=bounds))
    found = " UNION ALL ".join(branches)
    return _LAST_ENDED.format(found=found), parameters


def _bounds(parameters: list[object], first: date, after: date) -> str:
    marks = []
    for day in (first, after):
        parameters.append(us_from_time(datetime(day.year, day.month, day.day, tzinfo=UTC)))
        marks.append(_MOMENT.format(f"${len(parameters)}"))
    return f"started_at >= {marks[0]} AND started_at < {marks[1]}"


def _stretches(spans: Iterable[tuple[date, date]]) -> list[tuple[date, date]]:
    """Return spans of days, which come in order, with those that touch made one."""
    found: list[tuple[date, date]] = []
    for first, after in spans:
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(after, found[-1][1]))
        else:
            found.append((first, after))
    return found


def _is_midnight(moment: datetime) -> bool:
    return moment.time() == datetime.min.time()
