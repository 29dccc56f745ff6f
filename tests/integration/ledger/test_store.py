"""The books' file: all or nothing, exact, and described."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from schemas.events import (
    RequestFacts,
    RequestStarted,
    UsageRecord,
    UsageRecorded,
    encode_event,
)
from schemas.registry import BudgetWindow, KeyRecord, TeamRecord
from schemas.usage import Usage
from services.ledger import rows
from services.ledger.projection import (
    LOST_AFTER_S,
    Counts,
    Projected,
    Projection,
    ProjectionState,
)
from services.ledger.rollups import ROLLUPS, differing
from services.ledger.spends import SpendQuestion
from services.ledger.spent import spends_since
from services.ledger.store import SCHEMA_VERSION, BooksOutdated, Store, digest
from services.runtime.budget_limits import EVERYBODY, Whose
from services.runtime.bus import StreamMessage
from services.runtime.price_book import PriceBook

START_US = 1_795_478_400_123_456


def projected(count: int = 1, sequence: int = 1) -> Projected:
    events = [
        encode_event(
            UsageRecorded(
                source="/proxy/p",
                id=str(number),
                time=datetime.now(UTC),
                data=UsageRecord(
                    request_id=f"tg_{number}",
                    started_at_us=START_US,
                    ended_at_us=START_US + 1,
                    key_id="key_a",
                    model="claude-3-haiku-20240307",
                    usage=Usage(cache_read_tokens=1, input_tokens=3),
                ),
            )
        )
        for number in range(1, count + 1)
    ]
    message = StreamMessage(sequence, "usage.0", b"[" + b",".join(events) + b"]")
    return Projection(PriceBook.load(), ProjectionState(), lambda _: set()).project([message])


def test_every_column_is_in_the_schema_in_this_order_and_described(tmp_path: Path) -> None:
    # Given the schema, when its tables are compared with the code, then names and order agree,
    # and every table, every view and every column of them has its comment.
    store = Store(tmp_path / "ledger.duckdb")
    ask = store.connection.execute
    for table, columns in (
        ("requests", rows.REQUEST_COLUMNS),
        ("open_requests", rows.OPEN_REQUEST_COLUMNS),
        ("gaps", rows.GAP_COLUMNS),
        ("dead_letters", rows.DEAD_LETTER_COLUMNS),
        ("producers", rows.PRODUCER_COLUMNS),
        ("price_changes", rows.PRICE_CHANGE_COLUMNS),
        ("prices", rows.PRICE_COLUMNS),
        ("quota_observations", rows.QUOTA_COLUMNS),
        ("seats", rows.SEAT_COLUMNS),
        ("repricings", rows.REPRICING_COLUMNS),
        ("registry_changes", rows.REGISTRY_CHANGE_COLUMNS),
        ("guardrail_events", rows.GUARDRAIL_COLUMNS),
        ("budget_events", rows.BUDGET_EVENT_COLUMNS),
        ("budgets", rows.BUDGET_COLUMNS),
        ("keys", rows.KEY_COLUMNS),
        ("teams", rows.TEAM_COLUMNS),
        ("users", rows.USER_COLUMNS),
    ):
        found = ask(
            "SELECT column_name FROM duckdb_columns() WHERE table_name = ? ORDER BY column_index",
            [table],
        ).fetchall()
        assert [name for (name,) in found] == [name for name, _ in columns]
    assert ask("SELECT table_name FROM duckdb_tables() WHERE comment IS NULL").fetchall() == []
    views = "SELECT view_name FROM duckdb_views() WHERE NOT internal AND comment IS NULL"
    assert ask(views).fetchall() == []
    undescribed = ask(
        "SELECT table_name, column_name FROM duckdb_columns() "
        "WHERE NOT internal AND comment IS NULL"
    ).fetchall()
    assert undescribed == []
    store.close()


@pytest.mark.parametrize("count", [1, 40])
def test_a_record_takes_the_place_of_the_one_before_with_all_its_budgets(count: int) -> None:
    # Given few or many keys and a team of the same id, when the keys change, then the new states
    # and budgets alone are there, and what is the team's stays.
    store = Store(Path(":memory:"))
    team = TeamRecord(team_id="k0", max_budget_usd=Decimal(7))
    store.put_owners([team])

    def put(**fields: Any) -> None:
        names = [f"k{n}" for n in range(count)]
        store.put_keys([KeyRecord(key_id=n, key_hash=n, key_name=n, **fields) for n in names])

    put(max_budget_usd=Decimal(1), soft_budget_usd=Decimal(1))
    window = BudgetWindow(max_budget_usd=Decimal(3), budget_duration="1d")
    put(max_budget_usd=Decimal(2), budget_limits=(window,), strict_budget=True)
    ask = store.connection.execute
    assert ask("SELECT count(*), min(max_budget_usd) FROM keys").fetchall() == [(count, 2)]
    found = ask(
        "SELECT scope, budget, count(*), min(max_budget_usd), bool_and(strict) FROM budgets "
        "GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    assert found == [
        ("key", "max_budget", count, 2, True),
        ("key", "window-1d", count, 3, True),
        ("team", "max_budget", 1, 7, False),
    ]
    put(deleted=True)
    assert ask("SELECT scope FROM budgets").fetchall() == [("team",)]
    store.close()


def test_costs_and_times_are_stored_exactly(tmp_path: Path) -> None:
    # Given a cost of parts of a micro-dollar, when it is stored, then not a digit is lost.
    store = Store(tmp_path / "ledger.duckdb")
    store.commit("USAGE", "now", projected())
    found = store.connection.execute(
        "SELECT cost_usd, cache_read_cost_usd, epoch_us(started_at), typeof(cost_usd) FROM requests"
    ).fetchall()
    assert found == [
        (Decimal("0.000000780000"), Decimal("0.000000030000"), START_US, "DECIMAL(18,12)")
    ]
    key, other = Whose("key", "key_a"), Whose("key", "key_b")
    asked = [
        SpendQuestion(key, START_US),
        SpendQuestion(key, START_US + 1),
        SpendQuestion(EVERYBODY, 0),
        SpendQuestion(other, 0),
        SpendQuestion(Whose("user", "key_a"), 0),
    ]
    assert spends_since(store.connection, asked) == [780_000, 0, 780_000, 0, 0]
    store.close()


def test_a_commit_that_fails_stores_nothing_and_can_be_repeated(tmp_path: Path) -> None:
    # Given a commit that breaks half way, then no row and no checkpoint is there; repeated, it
    # stores everything once.
    store = Store(tmp_path / "ledger.duckdb")
    broken = projected(3)
    broken.gaps.append(("p", "not a number", 2, 1))
    with pytest.raises((duckdb.Error, ValueError, TypeError)):
        store.commit("USAGE", "now", broken)
    assert store.connection.execute("SELECT count(*) FROM requests").fetchall() == [(0,)]
    assert store.checkpoint("USAGE") is None
    broken.gaps.clear()
    store.commit("USAGE", "now", broken)
    assert store.connection.execute("SELECT count(*) FROM requests").fetchall() == [(3,)]
    checkpoint = store.checkpoint("USAGE")
    assert checkpoint is not None
    assert checkpoint.sequence == 1
    assert store.producers() == {"p": 3}
    store.close()


@pytest.mark.parametrize("version", [str(each) for each in range(1, int(SCHEMA_VERSION))])
def test_a_file_of_an_older_version_is_told_from_a_damaged_one(
    tmp_path: Path, version: str
) -> None:
    # Given books that an older tallygate has kept, when they are opened, then it is said that they
    # must be built anew and from which stream, and they are left as they are.
    path = tmp_path / "ledger.duckdb"
    store = Store(path)
    store.commit("USAGE", "then", projected(3))
    store.set_meta("schema_version", version)
    store.close()
    with pytest.raises(BooksOutdated, match="older version") as raised:
        Store(path)
    assert raised.value.stream_created == "then"
    connection = duckdb.connect(str(path), read_only=True)
    assert connection.execute("SELECT count(*) FROM requests").fetchall() == [(3,)]
    connection.close()


def stream(*parts: tuple[int, list[tuple[int, str, str]]]) -> list[StreamMessage]:
    """Return messages: (time in s, [(number, started or recorded, request id)])."""
    messages = []
    for sequence, (at_s, events) in enumerate(parts, 1):
        payload = []
        for number, kind, request in events:
            data = {"request_id": request, "started_at_us": START_US, "key_id": "key_a"}
            envelope = {"source": "/proxy/p", "id": str(number), "time": datetime.now(UTC)}
            if kind == "started":
                payload.append(RequestStarted(**envelope, data=RequestFacts(**data)))
            else:
                usage = {"usage": Usage(input_tokens=3), "model": "claude-3-haiku-20240307"}
                record = UsageRecord(**data, ended_at_us=START_US + 1, **usage)
                payload.append(UsageRecorded(**envelope, data=record))
        events_json = b",".join(encode_event(each) for each in payload)
        messages.append(
            StreamMessage(sequence, "usage.0", b"[" + events_json + b"]", at_s * 1_000_000)
        )
    return messages


def test_books_closed_and_opened_again_lose_and_correct_the_same_requests(tmp_path: Path) -> None:
    # Given requests that are lost, one of which ends after all, when the books are closed and
    # opened between any two messages, then digest, counts and corrections are those of one go; and
    # the digest at an earlier message is what it was then.
    messages = stream(
        (0, [(1, "started", "tg_1"), (2, "started", "tg_2"), (3, "started", "tg_3")]),
        (LOST_AFTER_S - 1, [(4, "recorded", "tg_3"), (5, "started", "tg_4")]),
        (LOST_AFTER_S, []),
        (LOST_AFTER_S + 1, [(6, "recorded", "tg_1")]),
        (LOST_AFTER_S + 2, [(7, "recorded", "tg_5")]),
    )
    whole = Store(tmp_path / "whole.duckdb")
    whole.commit("USAGE", "now", project(whole, messages))
    digests = []
    for each in messages:
        store = Store(tmp_path / "parts.duckdb")
        store.commit("USAGE", "now", project(store, [each]))
        digests.append(digest(store.connection))
        store.close()
    store = Store(tmp_path / "parts.duckdb")
    for opened in (store, whole):
        assert digest(opened.connection) == digests[-1]
        at_each = [digest(opened.connection, at) for at in range(1, len(messages) + 1)]
        assert at_each == digests
        ask = opened.connection.execute
        lost = "SELECT request_id FROM requests WHERE error_type = 'lost'"
        assert ask(lost).fetchall() == [("tg_2",)]
        assert ask("SELECT * EXCLUDE row_hash FROM corrections").fetchall() == [("tg_1", 3, 4)]
        assert [differing(opened.connection, rollup) for rollup in ROLLUPS] == [0, 0]
        assert ask("SELECT request_id FROM open_requests").fetchall() == [("tg_4",)]
        checkpoint = opened.checkpoint("USAGE")
        assert checkpoint is not None
        assert checkpoint.counts == Counts(
            events=7, started=4, ends=3, closed=1, lost=2, corrected=1
        )
    assert len(set(digests)) == 5
    store.close()
    whole.close()


def project(store: Store, messages: list[StreamMessage]) -> Projected:
    state = store.projection_state("USAGE")
    return Projection(PriceBook.load(), state, store.booked_results).project(messages)


def test_results_that_have_a_row_are_known(tmp_path: Path) -> None:
    # Given a batch result in the books, then it is told from others, also after the file was closed
    store = Store(tmp_path / "ledger.duckdb")
    event = UsageRecorded(
        source="/proxy/p",
        id="1",
        time=datetime.now(UTC),
        data=UsageRecord(
            request_id="tg_batch_a",
            started_at_us=START_US,
            ended_at_us=START_US,
            endpoint="batch_result",
            batch_id="msgbatch_b",
            custom_id="a",
        ),
    )
    message = StreamMessage(1, "usage.0", b"[" + encode_event(event) + b"]")
    books = Projection(PriceBook.load(), ProjectionState(), store.booked_results)
    store.commit("USAGE", "now", books.project([message]))
    store.close()

    store = Store(tmp_path / "ledger.duckdb")
    asked = [("msgbatch_a", "tg_batch_x"), ("msgbatch_b", "tg_batch_a"), ("msgbatch_c", "tg_y")]
    assert store.booked_results(asked) == {"tg_batch_a"}
    assert store.booked_results([("msgbatch_a", "tg_batch_a")]) == set()
    store.close()
