"""The newest requests that match, in parts: so many rows are longer than one answer may be.

A part goes on below the last row of the one before it, so a request that comes meanwhile neither
repeats a row nor hides one.
"""

from datetime import datetime

from schemas.events import us_from_time
from services.admin.bodies_spend import SpendLog
from services.admin.ledger_client import LedgerClient
from services.admin.report_sql import HashOf
from services.admin.spend_sql import logs_from, spend_logs
from services.admin.sql_where import Conditions

__all__ = ["BELOW", "LOGS_MAX", "newest_logs"]

LOGS_MAX = 10_000
"""An answer of GET /spend/logs has at most so many requests; /spend/logs/v2 has pages."""
LOGS_AT_ONCE_MAX = 2_500
"""A row is well below a kilobyte and an answer of the reader at most 4 MiB."""

BELOW = (
    "(started_at < make_timestamp({0}::BIGINT) OR "
    "(started_at = make_timestamp({0}::BIGINT) AND request_id < {1}::VARCHAR))"
)
"""Requests that come after one with this start and id, in the order of `spend_logs`."""


async def newest_logs(
    ledger: LedgerClient, conditions: Conditions, hash_of: HashOf
) -> tuple[list[SpendLog], bool]:
    """Return the newest requests that meet conditions, and whether there are more of them."""
    found: list[SpendLog] = []
    below = conditions
    while True:
        # One more than is wanted: so it is known whether there are more.
        sql = f"{spend_logs(below.where)} LIMIT {LOGS_AT_ONCE_MAX + 1}"
        reply = await ledger.query(sql, below.parameters)
        logs = logs_from(reply, hash_of)
        found += logs[:LOGS_AT_ONCE_MAX]
        has_more = len(logs) > LOGS_AT_ONCE_MAX
        if not has_more or len(found) >= LOGS_MAX:
            return found[:LOGS_MAX], has_more or len(found) > LOGS_MAX
        below = conditions.copy()
        last = found[-1]
        start_us = us_from_time(datetime.fromisoformat(last.start_time))
        below.add(BELOW, start_us, last.request_id)
