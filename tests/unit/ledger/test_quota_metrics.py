"""The metrics of quotas: what was told last of each seat, as long as it holds, of few seats."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import resources

import duckdb
import pytest

from services.ledger.quota_metrics import QUOTAS_LATELY, SEATS_TOLD_MAX, quota_samples

NOW = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
SOON, PAST = NOW + timedelta(hours=1), NOW - timedelta(minutes=1)


@pytest.fixture
def books() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect(":memory:")
    schema = resources.files("services.ledger.sql").joinpath("schema.sql").read_text("utf-8")
    connection.execute(schema)
    yield connection
    connection.close()


def observe(
    books: duckdb.DuckDBPyConnection,
    seat: str,
    observed_at: datetime,
    *,
    status: str = "allowed",
    used: float | None = 0.5,
    resets_at: datetime | None = SOON,
    billing: str = "subscription",
) -> None:
    books.execute(
        "INSERT INTO quota_observations (observed_at, seat, billing, request_id, http_status, "
        "status, resets_at, five_hour_utilization, five_hour_resets_at, headers, stream_sequence) "
        "VALUES (?, ?, ?, 'tg', 200, ?, ?, ?, ?, '{}', 1)",
        [observed_at, seat, billing, status, resets_at, used, resets_at],
    )


def told(books: duckdb.DuckDBPyConnection) -> dict[tuple[str, ...], float]:
    samples = quota_samples(books.execute(QUOTAS_LATELY).fetchall(), NOW)
    return {(s.metric.name, *(value for _, value in s.labels)): s.value for s in samples}


def test_the_last_word_on_each_seat_is_told_as_long_as_its_window_lasts(
    books: duckdb.DuckDBPyConnection,
) -> None:
    # Given a seat that was seen twice, one whose window is over, one that was not heard of for
    # long, and an API key, then the later word, an empty window, and nothing of the last two.
    observe(books, "a", NOW - timedelta(hours=2), used=0.1)
    observe(books, "a", NOW - timedelta(hours=1), used=0.92, status="rejected")
    observe(books, "b", NOW - timedelta(hours=3), used=1.0, status="rejected", resets_at=PAST)
    observe(books, "old", NOW - timedelta(days=9))
    observe(books, "key", NOW, billing="api")
    observe(books, "c", NOW, used=None, resets_at=None)
    soon_s = SOON.replace(tzinfo=UTC).timestamp()
    past_s = PAST.replace(tzinfo=UTC).timestamp()
    assert told(books) == {
        ("tallygate_quota_seats",): 3,
        ("tallygate_quota_status", "a", "rejected"): 1,
        ("tallygate_quota_utilization_ratio", "a", "five_hour"): 0.92,
        ("tallygate_quota_reset_time_seconds", "a", "five_hour"): soon_s,
        ("tallygate_quota_status", "b", "allowed"): 1,
        ("tallygate_quota_utilization_ratio", "b", "five_hour"): 0,
        ("tallygate_quota_reset_time_seconds", "b", "five_hour"): past_s,
        ("tallygate_quota_status", "c", "allowed"): 1,
    }


def test_few_seats_are_told_and_all_are_counted(books: duckdb.DuckDBPyConnection) -> None:
    # Given more seats than are told, then those that were heard of last are, and the count is
    # that of all; given none, it is 0.
    assert told(books) == {("tallygate_quota_seats",): 0}
    books.execute(
        "INSERT INTO quota_observations (observed_at, seat, billing, request_id, http_status, "
        "status, headers, stream_sequence) SELECT ?::TIMESTAMP - INTERVAL 1 MINUTE * n, "
        "'seat-' || n, 'subscription', 'tg', 200, 'allowed', '{}', n FROM range(?) AS t(n)",
        [NOW, SEATS_TOLD_MAX + 5],
    )
    found = told(books)
    assert found["tallygate_quota_seats",] == SEATS_TOLD_MAX + 5
    seats = {key[1] for key in found if key[0] == "tallygate_quota_status"}
    assert seats == {f"seat-{number}" for number in range(SEATS_TOLD_MAX)}
