"""Prices of a configuration become events: writer, reader and a replay price alike, for ever."""

from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from services.ledger.recompute import Mismatch, differing_costs
from services.ledger.store import digest
from services.runtime.price_book import PriceBook
from tests.support.ledger import CONFIG, LedgerProcess, Producer, batch, publish, read_books
from tests.support.nats import NatsServer

PRICES = "prices: [{model: claude-sonnet-4-0, multiplier: %s, source: a contract}]\n"
COSTS = "SELECT cost_usd FROM requests ORDER BY producer_sequence"
CHANGES = "SELECT kind, changed_by FROM price_changes ORDER BY stream_sequence"
IN_FORCE = (
    "SELECT DISTINCT multiplier, origin, source FROM prices WHERE model = 'claude-sonnet-4-0'"
)


def digest_of(path: Path) -> str:
    connection = duckdb.connect(str(path), read_only=True)
    try:
        return digest(connection)
    finally:
        connection.close()


def mismatches(path: Path) -> list[Mismatch]:
    connection = duckdb.connect(str(path))
    try:
        return differing_costs(connection, PriceBook.load())
    finally:
        connection.close()


@pytest.mark.timeout(240)
def test_prices_of_the_file_hold_from_their_event_on_for_every_reader(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    # Given a request at list price, then one after the file's discount, then one after another,
    producer = Producer()
    writer = LedgerProcess(tmp_path, nats_server.url)
    config = tmp_path / "config.yaml"
    for text in (CONFIG, CONFIG + PRICES % "0.5", CONFIG + PRICES % "0.333333"):
        config.write_text(text)
        writer.start()
        writer.wait_ready()
        publish(nats_server.url, [batch(producer.recorded(producer.record()))])
        assert writer.stop() == 0
    costs = read_books(writer.database, COSTS)
    # then each costs what was in force (a cache read of the last in a tenth of a pico-dollar),
    # every change is written down once, and the costs can be computed anew.
    assert [cost for (cost,) in costs] == [
        Decimal(c) for c in ("0.0165", "0.00825", "0.0054999945")
    ]
    changes = [("book", "version"), ("file", "config"), ("file", "config")]
    assert read_books(writer.database, CHANGES) == changes
    assert read_books(writer.database, IN_FORCE) == [(Decimal("0.333333"), "file", "a contract")]
    assert mismatches(writer.database) == []
    # When a reader with a file of its own builds its books, and the writer starts once more,
    config.write_text(CONFIG)
    reader = LedgerProcess(tmp_path, nats_server.url, "reader")
    config.write_text(CONFIG + PRICES % "0.1")
    reader.catch_up()
    # then the reader has the writer's books: its own file counts for nothing.
    assert read_books(reader.database, COSTS) == costs
    assert read_books(reader.database, CHANGES) == changes
    assert digest_of(reader.database) == digest_of(writer.database)
