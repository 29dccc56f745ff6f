"""States of the books that are worth an alert: told once, and again only after they were over."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import Any

import duckdb
import msgspec
import pytest

from schemas.alerts import (
    CaughtUp,
    DeadLetters,
    GuardrailHits,
    LedgerLagged,
    MissingEvents,
    SeatQuota,
    UnpricedModel,
)
from schemas.rpc import QueryReply
from services.admin.alert_guardrails import (
    GUARDRAILS_SQL,
    GUARDRAILS_START_SQL,
    guardrail_findings,
)
from services.admin.alert_watch import LAG_S_MAX, STATES_SQL, LagWatch, findings
from services.ledger.query import QueryService

NOW = datetime.now(UTC).replace(tzinfo=None, microsecond=0)


@pytest.fixture(scope="module")
def books() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect(":memory:")
    schema = resources.files("services.ledger.sql").joinpath("schema.sql").read_text("utf-8")
    connection.execute(schema)
    needed = connection.execute(
        "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT is_nullable "
        "AND table_name IN ('requests', 'quota_observations')"
    ).fetchall()
    for table, name, kind in needed:
        plain = {"VARCHAR": "''", "TIMESTAMP": "now()::TIMESTAMP", "BOOLEAN": "false"}
        default = plain.get(kind, "0")
        connection.execute(f"ALTER TABLE {table} ALTER {name} SET DEFAULT {default}")
    yield connection
    connection.close()


def insert(books: duckdb.DuckDBPyConnection, table: str, **cells: Any) -> None:
    marks = ", ".join("?" for _ in cells)
    books.execute(f"INSERT INTO {table} ({', '.join(cells)}) VALUES ({marks})", [*cells.values()])


def ask(books: duckdb.DuckDBPyConnection, sql: str, *parameters: int) -> Sequence[Sequence[Any]]:
    """Return the reader's own answer: it allows few functions."""
    service = QueryService(books, memory_bytes_max=256 * 1024 * 1024)
    try:
        payload = msgspec.json.encode({"query": sql, "parameters": parameters})
        reply = msgspec.json.decode(service.answer(payload), type=QueryReply)
    finally:
        service.close()
    assert reply.error is None, reply.error
    return reply.rows


def test_each_state_is_told_once_and_again_when_it_is_worse_or_was_over(
    books: duckdb.DuckDBPyConnection,
) -> None:
    # Given books with a model without a price, a gap, a dead letter and a refused subscription,
    # and requests that have no price for other reasons or are old, then four alerts; none when
    # nothing has changed; one for more dead letters; and the model again once it was away.
    usual = {"endpoint": "messages", "unpriced": True, "total_tokens": 9}
    insert(books, "requests", model="claude-new", started_at=NOW, **usual)
    insert(books, "requests", model="old", started_at=NOW - timedelta(days=2), **usual)
    insert(books, "requests", model="lost", started_at=NOW, error_type="lost", **usual)
    other = {"unpriced": True, "total_tokens": 9, "started_at": NOW}
    insert(books, "requests", model="passed", endpoint="pass_through", **other)
    insert(books, "gaps", producer="p", first_missing=3, last_missing=5, stream_sequence=1)
    letter = {"position": 0, "reason": "r", "payload": b"", "payload_bytes": 0}
    insert(books, "dead_letters", stream_sequence=1, **letter)
    resets_at = NOW + timedelta(hours=1)
    for seat, status in (("spent", "rejected"), ("well", "allowed")):
        insert(
            books,
            "quota_observations",
            seat=seat,
            billing="subscription",
            user_id="alice",
            observed_at=NOW,
            status=status,
            resets_at=resets_at,
            representative_claim="five_hour",
        )

    def look(told: dict[str, str]) -> tuple[list[Any], dict[str, str]]:
        found, now = findings(ask(books, STATES_SQL), told)
        return [finding.data for finding in found], now

    first, told = look({})
    seat = SeatQuota(
        seat="spent",
        user_id="alice",
        window="five_hour",
        resets_at_us=int(resets_at.replace(tzinfo=UTC).timestamp()) * 1_000_000,
    )
    assert first == [
        UnpricedModel(model="claude-new", requests=1),
        MissingEvents(events=3, events_before=0),
        DeadLetters(events=1, events_before=0),
        seat,
    ]
    assert look(told) == ([], told)
    insert(books, "dead_letters", stream_sequence=2, **letter)
    assert look(told)[0] == [DeadLetters(events=2, events_before=1)]
    away = {name: value for name, value in told.items() if not name.startswith("unpriced:")}
    assert UnpricedModel(model="claude-new", requests=1) in look(away)[0]


def test_what_guardrails_found_is_summed_and_told_once(
    books: duckdb.DuckDBPyConnection,
) -> None:
    # Given findings of two keys after a message of the stream, and one before it, then a sum for
    # each guardrail, action and key, with the rules; and from the last message on nothing.
    names = ["mode", "category", "place", "endpoint", "producer", "producer_sequence", "request_id"]
    usual = {"found_at": NOW, "kind": "secrets", **dict.fromkeys(names, "1")}
    for sequence, key, action, rule, hits in (
        (4, "k1", "block", "old", 1),
        (5, "k1", "block", "b", 2),
        (6, "k1", "block", "a", 1),
        (6, "k1", "mask", "a", 1),
        (7, "k2", "block", "a", 9),
    ):
        cells = {"key_id": key, "action": action, "rule": rule, "hits": hits}
        insert(books, "guardrail_events", guardrail="g", stream_sequence=sequence, **cells, **usual)
    rows = ask(books, GUARDRAILS_SQL, 4)
    found, reached = guardrail_findings(rows, 4)
    told = [finding.data for finding in found]
    assert [
        (d.key_id, d.action, d.rules, d.hits) for d in told if isinstance(d, GuardrailHits)
    ] == [
        ("k2", "block", ("a",), 9),
        ("k1", "block", ("a", "b"), 3),
        ("k1", "mask", ("a",), 1),
    ]
    assert reached == 7
    assert ask(books, GUARDRAILS_START_SQL) == ((7,),)
    assert guardrail_findings(ask(books, GUARDRAILS_SQL, 7), 7) == ([], 7)


def test_a_ledger_that_is_behind_for_long_is_told_once_and_when_it_has_caught_up() -> None:
    # Given a stream that grows and books that follow it, then nothing is told; given books that
    # stand still, it is told when that has lasted, once, and when they are there again, once.
    watch = LagWatch(is_told=False)
    for second in range(0, 200, 10):
        assert watch.look(second, 100 + second, 95 + second, None) is None
    stands = [watch.look(200 + second, 400, 290, None) for second in range(0, 200, 10)]
    told = [finding for finding in stands if finding is not None]
    assert [finding.kind for finding in told] == [LedgerLagged]
    lag: Any = told[0].data
    assert (lag.messages, lag.problem) == (110, None)
    assert lag.waited_s > LAG_S_MAX
    back = watch.look(500, 400, 400, None)
    assert back is not None
    assert back.kind is CaughtUp
    assert watch.look(510, 400, 400, None) is None


def test_books_that_nobody_answers_for_are_told_with_the_reason_and_after_a_restart_not_again() -> (
    None
):
    # Given a reader that does not answer, then it is told when that has lasted; a service that is
    # started anew knows of it, and tells when it is over.
    watch = LagWatch(is_told=False)
    found = [watch.look(float(second), 5, None, "nobody") for second in (0, 30, 60, 61, 90)]
    told = [finding for finding in found if finding is not None]
    assert [finding.kind for finding in told] == [LedgerLagged]
    assert getattr(told[0].data, "problem", None) == "nobody"
    again = LagWatch(is_told=True)
    assert again.look(0.0, 5, None, "nobody") is None
    assert again.look(100.0, 5, None, "nobody") is None
    back = again.look(101.0, 5, 5, None)
    assert back is not None
    assert back.kind is CaughtUp
