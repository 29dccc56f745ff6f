"""A real reader keeps the Parquet files as its books are, also after it was killed."""

from pathlib import Path

import duckdb

from services.ledger.rows import REQUEST_COLUMNS
from services.ledger.store import digest
from tests.support.ledger import LedgerProcess, Producer, batch, publish
from tests.support.nats import NatsServer

DAY_US = 24 * 3600 * 1_000_000
START_US = 1_795_478_400_000_000
FACTS = ", ".join(name for name, _ in REQUEST_COLUMNS)


def usage(producer: Producer, day: int, requests: int) -> bytes:
    """Return a message with the events of some requests of a day."""
    at_us = START_US + day * DAY_US
    return batch(
        *(
            producer.recorded(producer.record(started_at_us=at_us + n, ended_at_us=at_us + n))
            for n in range(requests)
        )
    )


def test_files_follow_the_books_and_survive_kills_and_a_new_file_of_the_reader(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    # Given a reader, when usage comes, when it is killed while more comes, and when its own file is
    # lost, then the files hold each time what its books hold; days that did not change are not
    # written again; and with the setting at 0 none is written.
    producer = Producer()
    reader = LedgerProcess(tmp_path, nats_server.url, "reader")
    config = tmp_path / "config.yaml"
    plain = config.read_text()
    folder = reader.data / "parquet" / "requests"

    def rows() -> list[tuple[int, str]]:
        found = duckdb.execute(
            f"SELECT count(*), sum(cost_usd)::VARCHAR FROM read_parquet('{folder}/*/*.parquet')"
        ).fetchall()
        return found if folder.exists() else []

    def wait_for_rows(wanted: int) -> None:
        def reached() -> bool | None:
            files = list(folder.glob("day=*/requests.parquet"))
            return (len(files) > 0 and rows()[0][0] == wanted) or None

        reader.wait_for(reached, f"the files hold {wanted} requests")

    try:
        publish(nats_server.url, [usage(producer, 0, 300), usage(producer, 1, 300)])
        config.write_text(plain + "tallygate: {parquet_interval_s: 0}\n")
        reader.catch_up()
        assert not folder.exists()

        config.write_text(plain + "tallygate: {parquet_interval_s: 1}\n")
        reader.start()
        wait_for_rows(600)
        first = (folder / "day=2026-11-24" / "requests.parquet").stat().st_mtime_ns
        publish(nats_server.url, [usage(producer, day, 200) for day in (1, 2)])
        reader.kill()
        reader.start()
        wait_for_rows(1000)
        reader.kill()
        reader.database.unlink()
        reader.database.with_name(reader.database.name + ".wal").unlink(missing_ok=True)
        publish(nats_server.url, [usage(producer, 3, 100)])
        reader.start()
        wait_for_rows(1100)
        assert reader.stop() == 0
    finally:
        reader.stop()
    assert (folder / "day=2026-11-24" / "requests.parquet").stat().st_mtime_ns == first
    with duckdb.connect(str(reader.database), read_only=True) as connection:
        connection.execute(f"CREATE TEMP VIEW files AS FROM read_parquet('{folder}/*/*.parquet')")
        query = f"SELECT count(*), sum(cost_usd), sum(hash({FACTS})::HUGEINT) FROM "
        books = connection.execute(query + "requests").fetchall()
        assert connection.execute(query + "files").fetchall() == books
        assert digest(connection).startswith("1100:")
