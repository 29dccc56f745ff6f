"""What was spent since a window began is what a sum over all requests says."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib.resources import files

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events import us_from_time
from schemas.rpc import QueryReply
from services.admin.shapes import KeySpend
from services.admin.spends import Column, budgets_sql, spends_of
from services.ledger.rollups import count
from services.runtime.budget_sql import SPEND_OF_BUDGETS
from tests.support.query_reader import fill, request_row

FIRST = datetime(2026, 11, 1, tzinfo=UTC)
HOURS = 24 * 12
OWNERS = ("a", "b", "c")
_REQUESTS = """
INSERT INTO requests
SELECT one.* REPLACE (
    'tg_' || n AS request_id, owner AS key_id, owner AS team_id, owner AS user_id,
    began AS started_at, began + INTERVAL 1 HOUR * (n % 31) AS ended_at,
    CASE WHEN n % 7 > 0 THEN (n || '.000000000' || lpad(n::VARCHAR, 3, '0'))::DECIMAL(18, 12) END
        AS cost_usd,
    CASE WHEN n % 4 = 0 THEN 'subscription' ELSE 'api' END AS billing
) FROM one, (
    SELECT n, ($3::VARCHAR[])[n % 3 + 1] AS owner,
           $1::TIMESTAMP + INTERVAL 1 MINUTE * (n % 60)
           + INTERVAL 1 HOUR * (n * 37 % CASE WHEN n % 3 < 2 THEN $2::INTEGER ELSE 50 END) AS began
    FROM range(150) AS numbers(n)
)
"""


@pytest.fixture(scope="module")
def books() -> duckdb.DuckDBPyConnection:
    """Requests of twelve days, of which each lasts up to 30 hours; c's are older ones alone."""
    connection = duckdb.connect(":memory:")
    connection.execute(files("services.ledger.sql").joinpath("schema.sql").read_text())
    fill(connection, "requests", [request_row()])
    connection.execute("CREATE TEMP TABLE one AS SELECT * FROM requests; DELETE FROM requests")
    connection.execute(_REQUESTS, [FIRST.strftime("%Y-%m-%d"), HOURS, list(OWNERS)])
    count(connection, "in")
    return connection


async def _spends(
    books: duckdb.DuckDBPyConnection, column: Column, starts_us: list[int]
) -> dict[str, KeySpend]:
    async def ask(sql: str, parameters: Sequence[object]) -> QueryReply:
        rows = books.execute(sql, list(parameters)).fetchall()
        cells = [tuple(None if cell is None else str(cell) for cell in row) for row in rows]
        return QueryReply(rows=tuple(cells))

    return await spends_of(ask, column, [*OWNERS, "nobody"], [*starts_us, 0])


moments = st.one_of(
    st.just(0),
    st.integers(min_value=-24, max_value=HOURS + 24).map(
        lambda hour: us_from_time(FIRST + timedelta(hours=hour))
    ),
    st.integers(min_value=0, max_value=HOURS * 3600).map(
        lambda second: us_from_time(FIRST + timedelta(seconds=second))
    ),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(moments, min_size=3, max_size=3), st.sampled_from(["key_id", "team_id", "user_id"]))
def test_sums_of_any_windows_are_those_of_all_requests(
    books: duckdb.DuckDBPyConnection, starts_us: list[int], column: Column
) -> None:
    # Given requests, when it is asked what each owner spent since any moment, then the answer is
    # the sum over all requests, to the last digit; and the last end is the last.
    coroutine = _spends(books, column, starts_us)
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)
    found: dict[str, KeySpend] = ended.value.value
    assert set(found) == set(OWNERS)
    for owner, start_us in zip(OWNERS, starts_us, strict=True):
        row = books.execute(
            "SELECT sum(cost_usd), sum(cost_usd) FILTER (epoch_us(started_at) >= ?) "
            f"FROM requests WHERE {column} = ?",
            [start_us, owner],
        ).fetchone()
        assert row is not None
        assert found[owner].total_usd == row[0]
        assert found[owner].window_usd == (row[1] or Decimal(0))
        last = books.execute(
            f"SELECT max(ended_at) FROM requests WHERE {column} = ? AND started_at::DATE >= "
            f"(SELECT max(started_at)::DATE - 1 FROM requests WHERE {column} = ?)",
            [owner, owner],
        ).fetchone()
        assert last is not None
        assert found[owner].last_active == last[0]


@settings(max_examples=12, deadline=None)
@given(
    asked=st.lists(
        st.tuples(st.sampled_from([*OWNERS, "nobody"]), moments), min_size=1, max_size=5
    ),
    scope=st.sampled_from(["key", "team", "user", "member", "global"]),
    with_subscriptions=st.booleans(),
)
def test_what_counts_for_budgets_by_days_is_what_counts_by_requests(
    books: duckdb.DuckDBPyConnection,
    *,
    asked: list[tuple[str, int]],
    scope: str,
    with_subscriptions: bool,
) -> None:
    # Given budgets with any windows, of which an owner may have several, when it is asked by days
    # what counts for them, then the answer is that of the books, which look at all requests.
    names = {"member": "{0}/{0}", "global": "all"}
    ids = [names.get(scope, "{0}").format(owner) for owner, _ in asked]
    starts_us = [start_us for _, start_us in asked]
    sql, parameters = budgets_sql(scope, ids, starts_us, with_subscriptions=with_subscriptions)
    found = dict(books.execute(sql, parameters).fetchall())
    numbers, models = list(range(len(asked))), [None] * len(asked)
    by_requests = (numbers, ids, starts_us, models, min(starts_us), with_subscriptions)
    expected = dict(books.execute(SPEND_OF_BUDGETS[scope], by_requests).fetchall())
    assert {place: spent for place, spent in found.items() if spent} == expected
