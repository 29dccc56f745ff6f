"""The books: the only module that writes SQL, and the only one that opens the database file.

Everything that some messages change is committed in one transaction with the checkpoint, so the
file never shows half of it. Nothing here is thread-safe: one thread owns the store.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from schemas.errors import ConfigError
from schemas.money import picos_from_usd
from schemas.registry import KeyRecord
from services.ledger import rows
from services.ledger.projection import Projected

__all__ = ["SCHEMA_VERSION", "BooksUnreadable", "Checkpoint", "Store", "digest"]

log = logging.getLogger(__name__)

SCHEMA_VERSION = "2"
"""A file of an older version is brought up to it; one of a newer version is not opened."""
_UPGRADES = {"1": "upgrades/1.sql"}
"""What brings a file of a version up to the next one."""
MEMORY_LIMIT = "1GB"
THREADS = 2
WAL_CHECKPOINT = "64MB"


class BooksUnreadable(ConfigError):
    """The file is damaged, or of another version; the message says what to do."""


class Checkpoint(msgspec.Struct, frozen=True):
    """How far a stream has been taken in, and which stream of its name it was."""

    stream_created: str
    sequence: int


class Store:
    """One DuckDB file, opened for writing. Raises ConfigError, BooksUnreadable."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connection = _open(path)
        self._prepare()

    def _prepare(self) -> None:
        tables = self.connection.execute(
            "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'meta'"
        ).fetchall()
        if tables[0][0] == 0:
            with self._transaction():
                self.connection.execute(_script("schema.sql"))
                self.connection.execute(
                    "INSERT INTO meta VALUES ('schema_version', ?)", [SCHEMA_VERSION]
                )
            return
        while (version := self._version()) in _UPGRADES:
            log.info("%s is brought from version %s to the next", self.path, version)
            with self._transaction():
                self.connection.execute(_script(_UPGRADES[version]))
                self.connection.execute(
                    "UPDATE meta SET value = ? WHERE name = 'schema_version'",
                    [str(int(version) + 1)],
                )
        if version != SCHEMA_VERSION:
            self.close()
            raise BooksUnreadable(
                f"{self.path} was written by another version of tallygate: move it away, "
                "it is built anew from the stream"
            )

    def _version(self) -> str:
        found = self.connection.execute(
            "SELECT value FROM meta WHERE name = 'schema_version'"
        ).fetchall()
        return str(found[0][0]) if found else ""

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self.connection.execute("BEGIN TRANSACTION")
        try:
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            # A failed COMMIT has ended the transaction by itself.
            try:
                self.connection.execute("ROLLBACK")
            except duckdb.Error:
                log.debug("the transaction was already over")
            raise

    # ------------------------------------------------------------------------------ reading

    def checkpoint(self, stream: str) -> Checkpoint | None:
        """Return how far a stream has been taken in; None: nothing of it."""
        found = self.connection.execute(
            "SELECT stream_created, sequence FROM checkpoints WHERE stream = ?", [stream]
        ).fetchall()
        return Checkpoint(*found[0]) if found else None

    def producers(self) -> dict[str, int]:
        """Return the last number of every producer."""
        found = self.connection.execute("SELECT producer, last_sequence FROM producers")
        return dict(found.fetchall())

    def open_requests(self) -> list[str]:
        """Return the ids of the requests that are not over."""
        found = self.connection.execute("SELECT request_id FROM open_requests").fetchall()
        return [row[0] for row in found]

    def booked_results(self, results: Sequence[tuple[str, str]]) -> set[str]:
        """Return the request ids of those batch results that have a row.

        `results` are (batch id, request id). The bounds on the batch let DuckDB pass over all
        row groups that hold no batch results.
        """
        batches = [batch for batch, _ in results]
        found = self.connection.execute(
            "SELECT request_id FROM requests WHERE batch_id BETWEEN ? AND ? "
            "AND endpoint = 'batch_result' AND request_id IN (SELECT unnest(?::VARCHAR[]))",
            [min(batches), max(batches), [request for _, request in results]],
        ).fetchall()
        return {row[0] for row in found}

    def spend_picos(self, key_id: str, since_us: int) -> int:
        """Return what a key's requests that started at or after a moment cost, exactly."""
        found = self.connection.execute(
            "SELECT coalesce(sum(cost_usd), 0)::DECIMAL(38, 12) FROM requests "
            "WHERE key_id = ? AND started_at >= make_timestamp(?)",
            [key_id, since_us],
        ).fetchall()
        return picos_from_usd(found[0][0])

    # ------------------------------------------------------------------------------ writing

    def commit(self, stream: str, stream_created: str, projected: Projected) -> None:
        """Store everything that some messages change, and the checkpoint, or nothing of it."""
        with self._transaction():
            self._insert("requests", rows.REQUEST_COLUMNS, projected.requests)
            self._insert("gaps", rows.GAP_COLUMNS, projected.gaps)
            self._insert("dead_letters", rows.DEAD_LETTER_COLUMNS, projected.dead_letters)
            self._insert(
                "open_requests", rows.OPEN_REQUEST_COLUMNS, list(projected.opened.values())
            )
            self._delete("open_requests", "request_id", projected.closed)
            self._delete("producers", "producer", projected.producers)
            self._insert("producers", rows.PRODUCER_COLUMNS, list(projected.producers.items()))
            self._delete("checkpoints", "stream", [stream])
            self.connection.execute(
                "INSERT INTO checkpoints VALUES (?, ?, ?)",
                [stream, stream_created, projected.sequence],
            )

    def put_keys(self, records: Sequence[KeyRecord]) -> None:
        """Set the state of some virtual keys (their hashes are not stored)."""
        with self._transaction():
            self._delete("keys", "key_id", [record.key_id for record in records])
            self._insert("keys", rows.KEY_COLUMNS, [_key_row(record) for record in records])

    def _insert(self, table: str, columns: rows.Columns, values: Sequence[tuple[Any, ...]]) -> None:
        if not values:
            return
        names = ", ".join(name for name, _ in columns)
        self.connection.register("incoming", rows.table(columns, values))
        try:
            self.connection.execute(
                f"INSERT INTO {table} ({names}) SELECT {names} FROM incoming"  # noqa: S608
            )
        finally:
            self.connection.unregister("incoming")

    def _delete(self, table: str, column: str, values: Iterable[str]) -> None:
        listed = list(values)
        if listed:
            self.connection.execute(
                f"DELETE FROM {table} WHERE {column} IN (SELECT unnest(?::VARCHAR[]))",  # noqa: S608
                [listed],
            )

    def close(self) -> None:
        """Close the file; everything committed is in it."""
        self.connection.close()


def _script(name: str) -> str:
    return resources.files("services.ledger.sql").joinpath(name).read_text("utf-8")


def _open(path: Path) -> duckdb.DuckDBPyConnection:
    try:
        return duckdb.connect(
            str(path),
            config={
                "threads": THREADS,
                "memory_limit": MEMORY_LIMIT,
                "checkpoint_threshold": WAL_CHECKPOINT,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "allow_community_extensions": False,
            },
        )
    except duckdb.IOException as error:
        if "lock" in str(error):
            raise ConfigError(
                f"{path} is open in another process: only one ledger may write it (and no other "
                "program may have it open)"
            ) from None
        raise BooksUnreadable(_damaged(path, error)) from None
    except duckdb.Error as error:
        raise BooksUnreadable(_damaged(path, error)) from None


def _damaged(path: Path, error: Exception) -> str:
    reason = str(error).split("\n", 1)[0][:300]
    return (
        f"{path} cannot be opened ({reason}): move it and its .wal away and start again, "
        "it is built anew from the stream"
    )


def _key_row(record: KeyRecord) -> tuple[Any, ...]:
    return (
        record.key_id,
        record.key_alias,
        record.key_name,
        record.user_id,
        record.team_id,
        list(record.models),
        record.max_budget_usd,
        record.budget_duration,
        record.expires_at_us,
        record.blocked,
        record.deleted,
        record.created_at_us,
        record.updated_at_us,
    )


def digest(connection: duckdb.DuckDBPyConnection) -> str:
    """Return a digest of all facts: the same for the same requests, in whatever order they came.

    The sum of a 64-bit hash of every row (all columns of `requests`), and the number of rows.
    """
    names = ", ".join(name for name, _ in rows.REQUEST_COLUMNS)
    found = connection.execute(
        f"SELECT count(*), coalesce(sum(hash({names})::HUGEINT), 0) FROM requests"  # noqa: S608
    ).fetchall()
    count, total = found[0]
    return f"{count}:{int(total) % 2**64:016x}"
