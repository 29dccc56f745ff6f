"""Reports that are longer than one answer of the ledger come whole, or are refused; never cut."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import BadRequest
from schemas.events import time_from_us
from schemas.rpc import Column, QueryReply
from services.admin import by_days, newest_logs
from services.admin.spend_sql import _LOG_COLUMNS
from services.admin.sql_where import Conditions

LINES_AT_ONCE = 5


class Days:
    """Stands for a ledger that has so many lines on each day, and gives LINES_AT_ONCE at most."""

    def __init__(self, lines: dict[date, int]) -> None:
        self._lines = lines
        self.queries = 0

    async def query(self, sql: str, parameters: Sequence[Any] = ()) -> QueryReply:
        self.queries += 1
        assert sql == "WHERE day >= make_timestamp($1::BIGINT) AND day < make_timestamp($2::BIGINT)"
        begin, end = (time_from_us(at).date() for at in parameters)
        rows = [
            (day.isoformat(), n)
            for day in sorted(self._lines)
            if begin <= day < end
            for n in range(self._lines[day])
        ]
        cut = tuple(rows[:LINES_AT_ONCE])
        return QueryReply(
            columns=(Column("day", "DATE"), Column("n", "BIGINT")),
            rows=cut,
            truncated=len(rows) > LINES_AT_ONCE,
        )


def report(ledger: Any, first: date, last: date) -> QueryReply:
    begin, end = first.isoformat(), last.isoformat()
    return asyncio.run(by_days.query_by_days(ledger, lambda where: where, Conditions(), begin, end))


@given(st.dictionaries(st.integers(0, 40), st.integers(0, LINES_AT_ONCE), max_size=20))
def test_every_line_of_every_day_comes_once_and_in_order(counts: dict[int, int]) -> None:
    # Given days with any numbers of lines that one answer can hold, when all are asked for, then
    # each line is there once, the oldest day first.
    first = date(2026, 11, 1)
    lines = {first + timedelta(days=n): count for n, count in counts.items()}
    found = report(Days(lines), first, first + timedelta(days=40))
    assert list(found.rows) == [
        (day.isoformat(), n) for day in sorted(lines) for n in range(lines[day])
    ]
    assert found.truncated is False


def test_a_day_that_is_too_long_is_refused_and_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a day with more lines than an answer holds, or more lines altogether than a report may
    # have, when it is asked for, then the answer says so.
    first = date(2026, 11, 1)
    with pytest.raises(BadRequest, match="too many lines"):
        report(Days({first: LINES_AT_ONCE + 1}), first, first)
    monkeypatch.setattr(by_days, "REPORT_LINES_MAX", 9)
    many = {first + timedelta(days=n): LINES_AT_ONCE for n in range(2)}
    with pytest.raises(BadRequest, match="too many lines"):
        report(Days(many), first, first + timedelta(days=1))
    assert report(Days({}), first, first - timedelta(days=1)).rows == ()


class Requests:
    """Stands for a ledger with requests of these seconds, to which each query adds a newer one."""

    def __init__(self, seconds: list[int]) -> None:
        self.rows = [(datetime.fromtimestamp(s, UTC), f"r{n}") for n, s in enumerate(seconds)]

    async def query(self, sql: str, parameters: Sequence[Any] = ()) -> QueryReply:
        limit = int(sql.rpartition(" ")[2])
        found = sorted(self.rows, reverse=True)
        if parameters:
            below = (time_from_us(parameters[0]), parameters[1])
            found = [row for row in found if row < below]
        self.rows.append((datetime(2099, 1, 1, tzinfo=UTC), f"later {len(self.rows)}"))
        empty: dict[str, Any] = dict.fromkeys(_LOG_COLUMNS)
        rows = [
            tuple(
                {
                    **empty,
                    "started_at": at.isoformat().replace("+00:00", "Z"),
                    "request_id": name,
                }.values()
            )
            for at, name in found[:limit]
        ]
        return QueryReply(rows=tuple(rows))


@pytest.mark.parametrize("at_once", [1, 3, 100])
@pytest.mark.parametrize("rows_max", [4, 9, 10, 11, 1000])
def test_newest_requests_come_once_each_while_others_arrive(
    monkeypatch: pytest.MonkeyPatch, at_once: int, rows_max: int
) -> None:
    # Given ten requests, some of the same moment, when the newest are read in parts while newer
    # ones come, then each comes once in order, and it is known whether there are more.
    monkeypatch.setattr(newest_logs, "LOGS_AT_ONCE_MAX", at_once)
    monkeypatch.setattr(newest_logs, "LOGS_MAX", rows_max)
    ledger: Any = Requests([5, 5, 5, 1, 2, 2, 9, 9, 9, 9])
    wanted = [name for _, name in sorted(ledger.rows, reverse=True)]
    logs, has_more = asyncio.run(newest_logs.newest_logs(ledger, Conditions(), lambda _: None))
    assert [each.request_id for each in logs] == wanted[:rows_max]
    assert has_more is (rows_max < len(wanted))
