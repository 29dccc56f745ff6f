"""A report over many days whose lines are more than one answer may hold: asked for in parts.

Each part is about whole days, so no sum is cut. A part that is too long is halved.
"""

from collections.abc import Callable
from datetime import date, timedelta

import msgspec

from schemas.errors import BadRequest
from schemas.events import time_from_us
from schemas.rpc import QueryReply
from services.admin.days import midnight_us
from services.admin.ledger_client import LedgerClient
from services.admin.sql_where import Conditions, day_conditions

__all__ = ["REPORT_LINES_MAX", "query_by_days", "whole"]

REPORT_LINES_MAX = 100_000
"""A report in JSON has at most so many lines; CSV and Arrow have more."""


async def query_by_days(
    ledger: LedgerClient,
    sql: Callable[[str], str],
    conditions: Conditions,
    start_date: str,
    end_date: str,
    *,
    column: str = "day",
) -> QueryReply:
    """Return all lines of a report about some days (UTC, both included), the oldest day first.

    `sql` makes the query of its WHERE; its rows are in the order of the days. `conditions` are all
    others. Raises BadRequest where a date is none or the lines are too many.
    """
    first, last = (
        time_from_us(midnight_us(name, text)).date()
        for name, text in (("start_date", start_date), ("end_date", end_date))
    )
    lines = 0

    async def part(begin: date, end: date) -> QueryReply:
        nonlocal lines
        some = conditions.copy()
        day_conditions(some, begin.isoformat(), end.isoformat(), column)
        reply = await ledger.query(sql(some.where), some.parameters)
        if not reply.truncated:
            lines += len(reply.rows)
            if lines > REPORT_LINES_MAX:
                raise _too_long()
            return reply
        if begin >= end:
            raise _too_long()
        middle = begin + timedelta(days=(end - begin).days // 2)
        older = await part(begin, middle)
        newer = await part(middle + timedelta(days=1), end)
        return msgspec.structs.replace(newer, rows=(*older.rows, *newer.rows))

    return await part(first, last)


def whole(reply: QueryReply) -> QueryReply:
    """Return a reply that holds all lines. Raises BadRequest: part of a sum is a wrong sum."""
    if reply.truncated:
        raise _too_long()
    return reply


def _too_long() -> BadRequest:
    return BadRequest(
        "the report has too many lines for JSON: choose fewer days, one user, team or key, or ask "
        "for it with format=csv",
        param="start_date",
    )
