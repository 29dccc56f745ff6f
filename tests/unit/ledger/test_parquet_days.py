"""The Parquet files by day: exact, current, and whole whatever happens while they are written."""

import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from services.ledger import parquet_days
from services.ledger.parquet_days import ParquetDays, Stopped
from services.ledger.rows import REQUEST_COLUMNS
from services.ledger.store import Store, digest

ROOT = Path(__file__).parents[3]
FACTS = ", ".join(name for name, _ in REQUEST_COLUMNS)
FIRST, SECOND, THIRD = (date(2026, 11, day) for day in (1, 2, 3))
DIE_AT = """
import os, sys
from pathlib import Path
from services.ledger import parquet_days
from services.ledger.parquet_days import ParquetDays
from services.ledger.store import Store

step = sys.argv[3]

def dying(*_, **__):
    os._exit(9)

if step == "write": parquet_days.pq.ParquetWriter.write_batch = dying
if step == "fsync": parquet_days.os.fsync = dying
if step == "rename": parquet_days.os.rename = dying
if step == "folder": parquet_days._sync_folder = dying
store = Store(Path(sys.argv[1]))
ParquetDays(store.connection.cursor(), Path(sys.argv[2])).write_due(thorough=False)
"""


def add(store: Store, day: date, rows: int, first: int = 0) -> None:
    """Book made-up requests of a day, of which every third has a cost and every second a NULL."""
    cells = {
        "started_at": f"TIMESTAMP '{day} 00:00:00.000001' + INTERVAL 1 SECOND * n",
        "ended_at": f"TIMESTAMP '{day} 23:59:59.999999'",
        "cost_usd": "CASE WHEN n % 3 = 0 THEN n * 0.000000000001 END",
        "unpriced": "n % 3 <> 0",
        "http_status": "200::SMALLINT",
        "stream_sequence": f"{first} + n",
        "key_alias": "CASE WHEN n % 2 = 0 THEN 'ana ' || chr(128512) END",
    }
    kinds = store.connection.execute("DESCRIBE requests").fetchall()
    values = ", ".join(
        cells.get(
            name,
            f"'{name}-' || n"
            if kind == "VARCHAR"
            else f"(n % 2)::{kind}"
            if kind != "TIMESTAMP"
            else "NULL",
        )
        for name, kind, *_ in kinds
    )
    store.connection.execute(f"INSERT INTO requests SELECT {values} FROM range({rows}) AS t(n)")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Books of 200 requests on each of two days."""
    store = Store(tmp_path / "reader.duckdb")
    add(store, FIRST, 200)
    add(store, SECOND, 200, first=200)
    yield store
    store.close()


@pytest.fixture
def days(tmp_path: Path, store: Store) -> Iterator[ParquetDays]:
    days = ParquetDays(store.connection.cursor(), tmp_path / "data" / "parquet")
    yield days
    days.close()


def file_of(folder: Path, day: date) -> Path:
    return folder / "data" / "parquet" / "requests" / f"day={day}" / "requests.parquet"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "data").rglob("*") if path.is_file())


def read(folder: Path, query: str) -> list[tuple[object, ...]]:
    """Ask the files in a DuckDB that knows nothing else."""
    source = f"read_parquet('{folder}/data/parquet/requests/*/*.parquet', hive_partitioning = true)"
    with duckdb.connect(":memory:") as connection:
        return connection.execute(query.replace("FILES", source)).fetchall()


def digest_of_files(folder: Path) -> str:
    rows, total = read(folder, f"SELECT count(*), sum(hash({FACTS})::HUGEINT) FROM FILES")[0]
    return f"{rows}:{int(str(total)) % 2**64:016x}"


def test_files_hold_what_the_books_hold_to_the_last_digit(
    tmp_path: Path, store: Store, days: ParquetDays
) -> None:
    # Given books of two days, when the files are written, then their rows have the digest of the
    # books, columns, types and comments are those of the table, the day is a column, and no one
    # else may read them.
    assert days.write_due(thorough=True) == 2
    assert digest_of_files(tmp_path) == digest(store.connection)
    described = store.connection.execute("DESCRIBE requests").fetchall()
    assert read(tmp_path, "DESCRIBE FROM FILES") == [
        *((name, kind, "YES", None, None, None) for name, kind, *_ in described),
        ("day", "DATE", "YES", None, None, None),
    ]
    assert read(tmp_path, "SELECT day, count(*) FROM FILES GROUP BY 1 ORDER BY 1") == [
        (FIRST, 200),
        (SECOND, 200),
    ]
    field = pq.read_schema(file_of(tmp_path, FIRST)).field("cost_usd")
    assert field.metadata[b"comment"].startswith(b"The cost at list price, exact")
    assert file_of(tmp_path, FIRST).stat().st_mode & 0o777 == 0o600


def test_only_days_that_changed_are_written(
    tmp_path: Path, store: Store, days: ParquetDays
) -> None:
    # Given files that are current, when a request of an old day is priced anew, or a new day comes
    # or goes, then that day alone is written or removed; what changes no sum is found by the
    # thorough comparison, of a new process too, which knows the files alone.
    days.write_due(thorough=True)

    def written_at() -> dict[date, int]:
        return {
            day: file_of(tmp_path, day).stat().st_mtime_ns
            for day in (FIRST, SECOND, THIRD)
            if file_of(tmp_path, day).exists()
        }

    before = written_at()
    assert days.write_due(thorough=True) == 0
    store.connection.execute(
        f"UPDATE requests SET cost_usd = 1 WHERE started_at::DATE = '{FIRST}' AND cost_usd = 0"
    )
    assert days.write_due(thorough=False) == 1
    # A lost request whose end came after all: another row, with the same sums, in its place.
    store.connection.execute("DELETE FROM requests WHERE stream_sequence = 1")
    add(store, FIRST, 1, first=450)
    store.connection.execute(
        "UPDATE requests SET cost_usd = NULL, unpriced = true WHERE stream_sequence = 450"
    )
    assert days.write_due(thorough=False) == 1
    add(store, THIRD, 1, first=500)
    assert days.write_due(thorough=False) == 1
    assert written_at()[SECOND] == before[SECOND]
    assert written_at()[FIRST] != before[FIRST]
    store.connection.execute(f"DELETE FROM requests WHERE started_at::DATE = '{THIRD}'")
    assert days.write_due(thorough=False) == 0
    assert set(written_at()) == {FIRST, SECOND}
    store.connection.execute(
        f"UPDATE requests SET stop_reason = 'x' WHERE started_at::DATE = '{SECOND}'"
    )
    assert days.write_due(thorough=False) == 0
    again = ParquetDays(store.connection.cursor(), tmp_path / "data" / "parquet")
    assert again.write_due(thorough=True) == 1
    again.close()
    assert digest_of_files(tmp_path) == digest(store.connection)


def test_a_kill_at_any_step_leaves_whole_files(tmp_path: Path, store: Store) -> None:
    # Given files of a state before, when the process that writes the next one is killed at any
    # step, then every file can be read, and the next process leaves nothing but current ones.
    folder = tmp_path / "data" / "parquet"
    days = ParquetDays(store.connection.cursor(), folder)
    days.write_due(thorough=True)
    days.close()
    add(store, FIRST, 10, first=400)
    store.close()
    for step in ("write", "fsync", "rename", "folder"):
        done = subprocess.run(
            [sys.executable, "-c", DIE_AT, str(store.path), str(folder), step], check=False
        )
        assert done.returncode == 9, step
        rows = read(tmp_path, "SELECT count(*) FROM FILES")[0][0]
        assert rows == (410 if step == "folder" else 400), step
    store.__init__(store.path)  # type: ignore[misc]
    days = ParquetDays(store.connection.cursor(), folder)
    assert days.write_due(thorough=True) == 0
    days.close()
    assert files(tmp_path) == ["requests.parquet"] * 2
    assert digest_of_files(tmp_path) == digest(store.connection)


def test_a_disk_that_takes_nothing_leaves_the_older_file(
    tmp_path: Path, store: Store, days: ParquetDays, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a disk that is full, when a day is to be written, then its older file stays and nothing
    # else does; when there is room again, then it is written.
    days.write_due(thorough=True)
    before = digest_of_files(tmp_path)
    add(store, FIRST, 10, first=400)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(parquet_days.os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            days.write_due(thorough=False)
    assert (files(tmp_path), digest_of_files(tmp_path)) == (["requests.parquet"] * 2, before)
    assert days.write_due(thorough=False) == 1
    assert digest_of_files(tmp_path) == digest(store.connection)


def test_files_that_are_damaged_or_strange_are_written_anew(
    tmp_path: Path, store: Store, days: ParquetDays
) -> None:
    # Given a file that is cut off, one of a day that the books do not know, and one that something
    # else wrote, when a process looks at them first, then they are as the books say.
    days.write_due(thorough=True)
    whole = file_of(tmp_path, FIRST).read_bytes()
    file_of(tmp_path, THIRD).parent.mkdir()
    file_of(tmp_path, THIRD).write_bytes(whole)
    file_of(tmp_path, FIRST).write_bytes(whole[: len(whole) // 2])
    pq.write_table(
        pq.read_table(file_of(tmp_path, SECOND)).slice(1).replace_schema_metadata({}),
        file_of(tmp_path, SECOND),
    )
    again = ParquetDays(store.connection.cursor(), tmp_path / "data" / "parquet")
    assert again.write_due(thorough=False) == 2
    again.close()
    assert digest_of_files(tmp_path) == digest(store.connection)


def test_writing_ends_when_it_is_told_to(tmp_path: Path, days: ParquetDays) -> None:
    # Given a process that ends, when a round would begin, then it is not begun and nothing is left.
    days.stop()
    with pytest.raises(Stopped):
        days.write_due(thorough=True)
    assert not (tmp_path / "data" / "parquet" / "requests").exists()


def test_the_documented_ways_to_read_the_files_work(
    tmp_path: Path, days: ParquetDays, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given the files, when the examples of the document are run beside them, then each gives rows.
    days.write_due(thorough=True)
    monkeypatch.chdir(tmp_path)
    part = (ROOT / "docs" / "analytics.md").read_text().split("## Parquet files by day")[1]
    examples = re.findall(r"```python\n(.*?)```", part.split("\n## ")[0], re.DOTALL)
    assert len(examples) == 2
    asked = examples[0].replace("duckdb.sql(", "found = duckdb.sql(")
    names: dict[str, object] = {}
    exec(asked, names)
    exec(examples[1], names)
    assert names["found"].fetchall()  # type: ignore[attr-defined]
    assert names["table"].num_rows == 400  # type: ignore[attr-defined]
