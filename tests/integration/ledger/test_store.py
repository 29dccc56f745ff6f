"""The books' file: all or nothing, exact, and described."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from schemas.events import UsageRecord, UsageRecorded, encode_event
from schemas.usage import Usage
from services.ledger import rows
from services.ledger.price_book import PriceBook
from services.ledger.projection import Projected, Projection
from services.ledger.store import SCHEMA_VERSION, Store, digest
from services.runtime.bus import StreamMessage

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
    return Projection(PriceBook.load(), {}, [], lambda _: set()).project([message])


def test_every_column_is_in_the_schema_in_this_order_and_described(tmp_path: Path) -> None:
    # Given the schema, when its tables are compared with the code, then names and order agree,
    # and every table, view and column of a table has its comment.
    store = Store(tmp_path / "ledger.duckdb")
    ask = store.connection.execute
    for table, columns in (
        ("requests", rows.REQUEST_COLUMNS),
        ("open_requests", rows.OPEN_REQUEST_COLUMNS),
        ("gaps", rows.GAP_COLUMNS),
        ("dead_letters", rows.DEAD_LETTER_COLUMNS),
        ("producers", rows.PRODUCER_COLUMNS),
        ("keys", rows.KEY_COLUMNS),
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
        "SELECT table_name, column_name FROM duckdb_columns() JOIN duckdb_tables() "
        "USING (table_name) WHERE duckdb_columns.comment IS NULL"
    ).fetchall()
    assert undescribed == []
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
    assert store.spend_picos("key_a", START_US) == 780_000
    assert store.spend_picos("key_a", START_US + 1) == 0
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


def test_a_file_of_the_version_before_is_brought_up_to_date(tmp_path: Path) -> None:
    # Given books that an older tallygate has kept, when they are opened, then they have the tables
    # of new ones and all that was in them.
    store = Store(tmp_path / "ledger.duckdb")
    store.commit("USAGE", "now", projected(3))
    ask = store.connection.execute
    described = "SELECT column_name, data_type, comment FROM duckdb_columns() ORDER BY ALL"
    wanted = ask(described).fetchall()
    before = digest(store.connection)
    for column in ("path", "batch_id", "custom_id"):
        ask(f"ALTER TABLE requests DROP COLUMN {column}")
    ask("COMMENT ON COLUMN requests.endpoint IS 'old'")
    ask("UPDATE meta SET value = '1' WHERE name = 'schema_version'")
    store.close()

    store = Store(tmp_path / "ledger.duckdb")

    assert store.connection.execute(described).fetchall() == wanted
    assert digest(store.connection) == before
    assert store.connection.execute("SELECT value FROM meta").fetchall() == [(SCHEMA_VERSION,)]
    assert store.connection.execute("SELECT count(*) FROM sessions").fetchall() == [(0,)]
    store.close()


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
    books = Projection(PriceBook.load(), {}, [], store.booked_results)
    store.commit("USAGE", "now", books.project([message]))
    store.close()

    store = Store(tmp_path / "ledger.duckdb")
    asked = [("msgbatch_a", "tg_batch_x"), ("msgbatch_b", "tg_batch_a"), ("msgbatch_c", "tg_y")]
    assert store.booked_results(asked) == {"tg_batch_a"}
    assert store.booked_results([("msgbatch_a", "tg_batch_a")]) == set()
    store.close()
