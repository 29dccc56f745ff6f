"""Requests as Parquet files by day: FOLDER/requests/day=YYYY-MM-DD/requests.parquet.

Each file holds all rows of `requests` that started on a day (UTC), with all columns and their
types, and in its own metadata what of the books it was made from. So which days must be written is
found by comparing the two, after a kill, a rebuild or a change of old rows alike; nothing else is
kept. A file gets its name when it is whole and on disk.
"""

import logging
import os
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from services.ledger.rows import REQUEST_COLUMNS
from services.ledger.store import SCHEMA_VERSION

__all__ = ["ROWS_AT_ONCE", "DayMark", "ParquetDays", "Stopped"]

log = logging.getLogger(__name__)

ROWS_AT_ONCE = 32_768
"""So many rows are in memory at a time, and in one row group of a file."""
_NAME = "requests.parquet"
_PARTIAL = f".{_NAME}.partial"
_DAY = re.compile(r"day=(\d{4}-\d{2}-\d{2})")
_MARK = b"tallygate.books"
_FACTS = ", ".join(name for name, _ in REQUEST_COLUMNS)
_MARKS = (
    "count(*), max(stream_sequence), count(*) FILTER (unpriced), "
    "coalesce(sum(cost_usd), 0)::VARCHAR"
)
_COMMENTS = "SELECT column_name, comment FROM duckdb_columns() WHERE table_name = 'requests'"
_DIGEST = f"sum(hash({_FACTS})::HUGEINT)"


T = TypeVar("T")


class Stopped(Exception):
    """The work was broken off because the process ends."""


class DayMark(msgspec.Struct, frozen=True, kw_only=True):
    """What tells the rows of a day from what they were: counts and sums of them.

    `digest` is that of all columns of its rows, as services.ledger.store.digest has it; empty
    where it was not computed.
    """

    rows: int
    stream_sequence: int
    unpriced: int
    cost_usd: str
    digest: str = ""
    schema_version: str = SCHEMA_VERSION

    def is_like(self, other: "DayMark") -> bool:
        """Tell whether both are of the same rows, as far as both know."""
        if not (self.digest and other.digest):
            return self._counted() == other._counted()
        return self == other

    def _counted(self) -> tuple[object, ...]:
        return (
            self.rows,
            self.stream_sequence,
            self.unpriced,
            self.cost_usd,
            self.schema_version,
        )


class ParquetDays:
    """The files below a folder and the books in an open database. For one thread at a time.

    `connection` is a cursor for this alone; it is closed with it.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
        self._connection = connection
        self._folder = folder / "requests"
        self._stop = threading.Event()
        self._files: dict[date, DayMark] | None = None

    def stop(self) -> None:
        """Break off, from another thread, what runs; it raises Stopped."""
        self._stop.set()
        self._connection.interrupt()

    def close(self) -> None:
        """Give the cursor back."""
        self._connection.close()

    def write_due(self, *, thorough: bool) -> int:
        """Write the days that differ from the books, the newest first; return how many those were.

        With `thorough` every column of every row is compared, by digests; else counts and sums.
        Files of days that have no rows are removed. Raises OSError where the disk does not take
        a file (its day's older one stays), duckdb.Error, Stopped.
        """
        if self._files is None:
            self._files = self._read_marks()
        books = self._books(thorough=thorough)
        for day in self._files.keys() - books.keys():
            self._path(day).unlink(missing_ok=True)
            with suppress(OSError):
                self._path(day).parent.rmdir()
            del self._files[day]
        written = 0
        for day in sorted(books, reverse=True):
            file = self._files.get(day)
            if file is None or not file.is_like(books[day]):
                self._in_transaction(lambda day=day: self._write(day))  # type: ignore[misc]
                written += 1
        return written

    def _path(self, day: date) -> Path:
        return self._folder / f"day={day.isoformat()}" / _NAME

    def _read_marks(self) -> dict[date, DayMark]:
        """Return what the files say of themselves; remove what a killed process left."""
        found: dict[date, DayMark] = {}
        for path in self._folder.glob("day=*"):
            (path / _PARTIAL).unlink(missing_ok=True)
            match = _DAY.fullmatch(path.name)
            if match is None or not (path / _NAME).exists():
                continue
            try:
                raw = pq.read_metadata(path / _NAME).metadata or {}
                found[date.fromisoformat(match[1])] = msgspec.json.decode(raw[_MARK], type=DayMark)
            except KeyError:
                log.warning("%s is written anew: something else has written it", path / _NAME)
            except (pa.ArrowException, OSError, ValueError) as error:
                log.warning("%s is written anew: %s", path / _NAME, str(error)[:200])
        return found

    def _books(self, *, thorough: bool) -> dict[date, DayMark]:
        digest = _DIGEST if thorough else "NULL"
        query = f"SELECT started_at::DATE, {_MARKS}, {digest} FROM requests GROUP BY 1"  # noqa: S608
        rows = self._in_transaction(lambda: self._ask(query))
        return {row[0]: _mark(*row[1:]) for row in rows}

    def _in_transaction(self, work: Callable[[], T]) -> T:
        """Do something in one transaction, which sees one moment of the books."""
        self._check()
        self._connection.execute("BEGIN TRANSACTION READ ONLY")
        try:
            return work()
        except duckdb.InterruptException:
            raise Stopped from None
        finally:
            self._connection.execute("ROLLBACK")

    def _ask(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, list(parameters)).fetchall()

    def _write(self, day: date) -> None:
        assert self._files is not None
        where = "started_at >= $1::DATE AND started_at < $1::DATE + 1"
        mark = _mark(*self._ask(f"SELECT {_MARKS}, {_DIGEST} FROM requests WHERE {where}", day)[0])  # noqa: S608
        comments = dict(self._ask(_COMMENTS))
        path = self._path(day)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = path.with_name(_PARTIAL)
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                self._connection.execute(f"SELECT {_FACTS} FROM requests WHERE {where}", [day])  # noqa: S608
                self._copy(file, self._connection.to_arrow_reader(ROWS_AT_ONCE), comments, mark)
                file.flush()
                os.fsync(file.fileno())
            os.rename(partial, path)  # noqa: PTH104 - the step that tests break off at
        finally:
            partial.unlink(missing_ok=True)
        _sync_folder(path.parent)
        _sync_folder(self._folder)
        self._files[day] = mark

    def _copy(
        self, file: Any, rows: pa.RecordBatchReader, comments: dict[str, str], mark: DayMark
    ) -> None:
        fields = [
            each.with_metadata({"comment": comments.get(each.name) or ""}) for each in rows.schema
        ]
        schema = pa.schema(fields, metadata={_MARK: msgspec.json.encode(mark)})
        written = 0
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for batch in rows:
                self._check()
                named = pa.RecordBatch.from_arrays(batch.columns, schema=schema)
                writer.write_batch(named, row_group_size=ROWS_AT_ONCE)
                written += batch.num_rows
        assert written == mark.rows, "the file has other rows than the books"

    def _check(self) -> None:
        if self._stop.is_set():
            raise Stopped


def _mark(
    rows: int, stream_sequence: int, unpriced: int, cost_usd: str, digest: int | None
) -> DayMark:
    return DayMark(
        rows=rows,
        stream_sequence=stream_sequence or 0,
        unpriced=unpriced,
        cost_usd=cost_usd,
        digest="" if digest is None else f"{rows}:{int(digest) % 2**64:016x}",
    )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
