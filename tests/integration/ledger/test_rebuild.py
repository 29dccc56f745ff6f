"""Books that are built anew from the stream: of an older version, or with readable dead letters."""

from pathlib import Path
from typing import Any

import duckdb
import pytest

from services.ledger.rebuild import retry_due, set_aside
from services.ledger.store import Store, digest
from services.runtime.price_book import PriceBook
from tests.support.ledger import LedgerProcess, Producer, batch, publish, read_books
from tests.support.nats import NatsServer

BOOK = PriceBook.load()
LETTERS = "SELECT stream_sequence, position FROM dead_letters ORDER BY ALL"


def digest_of(path: Path) -> str:
    connection = duckdb.connect(str(path), read_only=True)
    try:
        return digest(connection)
    finally:
        connection.close()


def change(path: Path, *statements: str, **values: Any) -> None:
    """Make a closed file what another version of the program would have left."""
    connection = duckdb.connect(str(path))
    for statement in statements:
        connection.execute(statement, values if "$" in statement else None)
    connection.close()


def old_files(database: Path) -> list[Path]:
    return sorted(database.parent.glob(f"{database.name}.*.old"))


@pytest.mark.timeout(240)
def test_books_of_an_older_version_and_unread_events_are_built_anew_and_agree(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    # Given writer and reader that an older version kept: it could not read one event, and knew
    # nothing of another table; when this version starts on their files, then both are built anew,
    # the event counts once in its place, what still cannot be read stays, and they agree.
    producer = Producer()
    events = [producer.recorded(producer.record()) for _ in range(30)]
    publish(nats_server.url, [batch(*events[:10]), b"garbage", batch(*events[10:]), batch(*events)])
    both = [LedgerProcess(tmp_path, nats_server.url, role) for role in ("writer", "reader")]
    for ledger in both:
        ledger.catch_up()
    wanted = digest_of(both[0].database)
    for ledger in both:
        change(
            ledger.database,
            "DELETE FROM requests WHERE producer_sequence = 7",
            "INSERT INTO dead_letters VALUES (1, 6, 'a later type', $payload, 9, 'test', 7)",
            "UPDATE dead_letters SET payload_bytes = octet_length(payload)",
            payload=events[6],
        )
        assert digest_of(ledger.database) != wanted
    for _ in range(2):
        for ledger in both:
            ledger.catch_up()
            assert digest_of(ledger.database) == wanted
            assert read_books(ledger.database, LETTERS) == [(2, -1)]
    # The writer's old file is kept, once; the reader's was only a copy.
    assert len(old_files(both[0].database)) == 1
    assert old_files(both[1].database) == []

    for ledger in both:
        change(ledger.database, "UPDATE meta SET value = '2' WHERE name = 'schema_version'")
        ledger.catch_up()
        assert "built anew" in ledger.log()
        assert digest_of(ledger.database) == wanted
    assert len(old_files(both[0].database)) == 2


def test_old_books_of_another_stream_are_left_alone(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    # Given a file of an older version that was kept from another stream, when the writer starts,
    # then it refuses, says what to do, and the file is where it was.
    publish(nats_server.url, [])
    writer = LedgerProcess(tmp_path, nats_server.url)
    writer.data.mkdir()
    Store(writer.database).close()
    change(
        writer.database,
        "INSERT INTO checkpoints SELECT 'USAGE', 'elsewhere', 5, TIMESTAMP 'epoch', "
        "0, 0, 0, 0, 0, 0, 0, 0, 0",
        "UPDATE meta SET value = '2' WHERE name = 'schema_version'",
    )
    writer.start()
    assert writer.wait_end() == 78
    assert "restore them from a backup" in writer.log()
    assert old_files(writer.database) == []
    assert read_books(writer.database, "SELECT sequence FROM checkpoints") == [(5,)]


def test_letters_are_tried_once_and_only_what_can_be_read_counts(tmp_path: Path) -> None:
    # Given letters of which some can be read, when it is asked whether a rebuild is due, then these
    # are counted; built for the same ones before, it is not due again.
    store = Store(tmp_path / "ledger.duckdb")
    assert retry_due(store, BOOK) is None
    sound = Producer().recorded(Producer().record())
    insert = "INSERT INTO dead_letters VALUES (?, ?, 'why', ?, ?, NULL, NULL)"
    letters = [(1, -1, b"garbage", 7), (2, 0, sound, len(sound)), (3, 1, sound, len(sound))]
    letters.append((4, 0, sound[:100], len(sound)))
    letters.append((5, 0, sound, len(sound) + 1))
    for letter in letters:
        store.connection.execute(insert, letter)
    due = retry_due(store, BOOK)
    assert due is not None
    assert due.letters == 2
    assert due.reason == "2 of its dead letters can now be read"
    due.note(store)
    assert retry_due(store, BOOK) is None
    store.connection.execute(insert, (6, 0, sound, len(sound)))
    assert retry_due(store, BOOK) is not None
    store.close()


def test_a_file_that_is_set_aside_takes_its_log_along(tmp_path: Path) -> None:
    # Given a database with its log, when it is set aside, then both have the new name.
    path = tmp_path / "ledger.duckdb"
    path.write_bytes(b"a")
    path.with_name("ledger.duckdb.wal").write_bytes(b"b")
    aside = set_aside(path)
    assert aside.read_bytes() == b"a"
    assert aside.with_name(aside.name + ".wal").read_bytes() == b"b"
    assert sorted(each.name for each in tmp_path.iterdir()) == [aside.name, aside.name + ".wal"]
