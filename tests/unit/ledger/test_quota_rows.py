"""Observations of quotas: rows that are exact where a header is known, NULL where it is odd."""

from collections.abc import Iterator
from decimal import Decimal
from importlib import resources
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import QuotaSeen, UsageRecord
from services.ledger import rows
from services.ledger.quota_rows import quota_row

HEADERS = {
    "unified-status": "allowed_warning",
    "unified-representative-claim": "five_hour",
    "unified-reset": "1795498669",
    "unified-5h-utilization": "0.91",
    "unified-5h-reset": "4102444800",
    "unified-7d-utilization": "0.3000001",
    "unified-7d-reset": "1000000000",
    "unified-overage-disabled-reason": "org_level_disabled",
    "requests-limit": "4000",
    "requests-remaining": "3999",
    "requests-reset": "2026-01-01T00:00:00Z",
    "unified-7d_opus-utilization": "0.5",
}


def observed(at_us: int, headers: dict[str, str], seat: str = "a") -> tuple[Any, ...]:
    record = UsageRecord(
        request_id="tg_1",
        started_at_us=at_us,
        ended_at_us=at_us + 5,
        first_byte_at_us=at_us + 1,
        billing="subscription",
        quota=QuotaSeen(seat=seat, headers=headers),
    )
    row = quota_row(record, ("p", 1, 7))
    assert row is not None
    return row


@pytest.fixture(scope="module")
def books() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect(":memory:")
    schema = resources.files("services.ledger.sql").joinpath("schema.sql").read_text("utf-8")
    connection.execute(schema)
    yield connection
    connection.close()


def test_the_headers_become_a_row_and_the_last_one_of_a_seat_counts(
    books: duckdb.DuckDBPyConnection,
) -> None:
    # Given two observations of a seat and one of another, when they are stored, then quota_now has
    # the later one, exactly, and a window that is over counts as empty.
    found = [
        observed(2_000_000, HEADERS),
        observed(1_000_000, {"unified-5h-utilization": "0.1"}),
        observed(1_000_000, {"tokens-remaining": "12"}, seat="b"),
    ]
    table = rows.table(rows.QUOTA_COLUMNS, found)
    books.register("incoming", table)
    books.execute("INSERT INTO quota_observations SELECT * FROM incoming")
    now = books.execute(
        "SELECT seat, status, five_hour_utilization, seven_day_utilization, tokens_remaining, "
        "epoch_us(observed_at), epoch(five_hour_resets_at) FROM quota_now ORDER BY seat"
    ).fetchall()
    assert now == [
        ("a", "allowed_warning", Decimal("0.91"), Decimal(0), None, 2_000_001, 4102444800.0),
        ("b", None, None, None, 12, 1_000_001, None),
    ]
    kept = books.execute(
        "SELECT headers->>'unified-7d_opus-utilization', seven_day_utilization::VARCHAR, "
        "epoch(requests_reset_at), overage_disabled_reason FROM quota_observations "
        "WHERE status IS NOT NULL"
    ).fetchall()
    assert kept == [("0.5", "0.300000", 1767225600.0, "org_level_disabled")]


@given(st.sampled_from(sorted(HEADERS)), st.text(max_size=130))
def test_no_header_makes_a_row_that_cannot_be_stored(name: str, value: str) -> None:
    # Given any value of a header, when it becomes a row, then Arrow takes it.
    assert rows.table(rows.QUOTA_COLUMNS, [observed(1, {name: value})]).num_rows == 1


@pytest.mark.parametrize("value", ["1e3", "-1", "NaN", "99999", "", "0x1", "１", "9" * 400])
def test_an_odd_value_is_unknown(value: str) -> None:
    # Given a utilisation that is no plain fraction, then its column is NULL and the row is there.
    names = [name for name, _ in rows.QUOTA_COLUMNS]
    row = dict(zip(names, observed(1, {"unified-5h-utilization": value}), strict=True))
    assert row["five_hour_utilization"] is None
