"""The books: the only module that writes, and the only one that opens their file for writing.

Everything that some messages change is committed in one transaction with the checkpoint, so the
file never shows half of it. Nothing here is thread-safe: one thread owns the store.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from schemas.config import SeatPrice
from schemas.events import RequestFacts
from schemas.registry import KeyRecord, TeamRecord, UserRecord
from services.ledger import rollups, rows
from services.ledger.books_file import BooksOutdated, BooksUnreadable, open_books
from services.ledger.budget_rows import budget_rows
from services.ledger.owner_rows import key_row, member_rows, owned_limits, team_row, user_row
from services.ledger.price_history import PriceState, read_price_changes
from services.ledger.price_rows import price_change_row, price_rows
from services.ledger.projection import (
    Correction,
    Counts,
    OpenRequest,
    Projected,
    ProjectionState,
)
from services.ledger.reprice_rows import apply_repricing
from services.ledger.request_rows import LOST_ERROR_TYPE
from services.runtime.budget_limits import Limit, Whose, limits_of, whose
from services.runtime.price_book import PriceBook

__all__ = [
    "SCHEMA_VERSION",
    "BooksOutdated",
    "BooksUnreadable",
    "Checkpoint",
    "DeadLetter",
    "Store",
    "digest",
    "read_checkpoint",
]

log = logging.getLogger(__name__)

SCHEMA_VERSION = "23"
"""A file of an older version is built anew from the stream; one of a newer one is not opened."""
_OUTDATED = frozenset(str(version) for version in range(1, int(SCHEMA_VERSION)))
"""They lack columns, prices or rollups that the events alone can tell."""
LETTERS_AT_ONCE_MAX = 100
LISTED_MAX = 16
"""So many values go to DuckDB as a list; more as a table, which is a hundred times as fast for
thousands (and slower for one)."""
_BUDGET_STREAM = "budget_stream_created"


_FACTS = ", ".join(name for name, _ in rows.REQUEST_COLUMNS)
_COUNT_NAMES = Counts.__struct_fields__
_COUNTS = ", ".join(_COUNT_NAMES)


class Checkpoint(msgspec.Struct, frozen=True):
    """How far a stream has been taken in, and which stream of its name it was."""

    stream_created: str
    sequence: int
    clock_us: int
    counts: Counts


class DeadLetter(msgspec.Struct, frozen=True):
    """What could not be read: where it stood in the stream, its first bytes and its length."""

    stream_sequence: int
    position: int
    payload: bytes
    payload_bytes: int


class Store:
    """One DuckDB file, opened for writing. Raises ConfigError, BooksUnreadable."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connection = open_books(path)
        self._prepare()
        self._rollups = rollups.Rollups(self.connection)

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
        version = self._version()
        if version in _OUTDATED:
            found = self.connection.execute("SELECT stream_created FROM checkpoints").fetchone()
            created = str(found[0]) if found else None
            self.close()
            raise BooksOutdated(f"{self.path} is of an older version of tallygate", created)
        if version != SCHEMA_VERSION:
            self.close()
            raise BooksUnreadable(
                f"{self.path} was written by another version of tallygate: move it away, "
                "it is built anew from the stream"
            )

    def _version(self) -> str:
        return self.meta("schema_version") or ""

    def meta(self, name: str) -> str | None:
        """Return what the file says of itself under a name."""
        found = self.connection.execute("SELECT value FROM meta WHERE name = ?", [name]).fetchone()
        return str(found[0]) if found else None

    def set_meta(self, name: str, value: str) -> None:
        """Have the file say something of itself."""
        with self._transaction():
            self._delete("meta", "name", [name])
            self.connection.execute("INSERT INTO meta VALUES (?, ?)", [name, value])

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
        return read_checkpoint(self.connection, stream)

    def producers(self) -> dict[str, int]:
        """Return the last number of every producer."""
        found = self.connection.execute("SELECT producer, last_sequence FROM producers")
        return dict(found.fetchall())

    def projection_state(self, stream: str) -> ProjectionState:
        """Return what the projection of a stream goes on from."""
        lost = self.connection.execute(
            "SELECT request_id, stream_sequence FROM requests WHERE error_type = ? AND estimated",
            [LOST_ERROR_TYPE],
        ).fetchall()
        checkpoint = self.checkpoint(stream)
        return ProjectionState(
            producers=self.producers(),
            open_requests=self._open_requests(),
            lost=dict(lost),
            clock_us=checkpoint.clock_us if checkpoint is not None else 0,
            prices=self._prices(),
        )

    def _prices(self) -> dict[str, PriceState]:
        """Return the last change of each part of the prices."""
        return {each.change.kind: each for each in read_price_changes(self.connection)}

    def _open_requests(self) -> list[OpenRequest]:
        found = self.connection.execute(
            "SELECT facts, producer, producer_sequence, stream_sequence, epoch_us(opened_at) "
            "FROM open_requests ORDER BY stream_sequence, producer, producer_sequence"
        ).fetchall()
        decode = msgspec.json.Decoder(RequestFacts).decode
        return [OpenRequest(decode(row[0]), (row[1], row[2], row[3]), row[4]) for row in found]

    def dead_letters(self, letters_max: int) -> Iterator[DeadLetter]:
        """Yield the dead letters, the oldest first."""
        cursor = self.connection.cursor()
        try:
            cursor.execute(
                "SELECT stream_sequence, position, payload, payload_bytes FROM dead_letters "
                "ORDER BY stream_sequence, position LIMIT ?",
                [letters_max],
            )
            while found := cursor.fetchmany(LETTERS_AT_ONCE_MAX):
                for row in found:
                    yield DeadLetter(*row)
        finally:
            cursor.close()

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

    # ------------------------------------------------------------------------------ writing

    def commit(
        self,
        stream: str,
        stream_created: str,
        projected: Projected,
        book: PriceBook | None = None,
    ) -> None:
        """Store everything that some messages change, and the checkpoint, or nothing of it.

        `book` are the prices in force after them, where they changed.
        """
        with self._transaction():
            self._insert_requests(projected.lost)
            self._correct(projected.corrected)
            self._insert_requests(projected.requests)
            repriced = [apply_repricing(self.connection, due) for due in projected.repricings]
            self._insert("repricings", rows.REPRICING_COLUMNS, repriced)
            self._rollups.merge()
            self._insert("gaps", rows.GAP_COLUMNS, projected.gaps)
            self._insert("dead_letters", rows.DEAD_LETTER_COLUMNS, projected.dead_letters)
            opened = [_open_row(each) for each in projected.opened.values()]
            # One that was closed may have been opened again.
            self._delete("open_requests", "request_id", projected.closed)
            self._insert("open_requests", rows.OPEN_REQUEST_COLUMNS, opened)
            self._delete("producers", "producer", projected.producers)
            self._insert("producers", rows.PRODUCER_COLUMNS, list(projected.producers.items()))
            self._insert("quota_observations", rows.QUOTA_COLUMNS, projected.quotas)
            self._insert("guardrail_events", rows.GUARDRAIL_COLUMNS, projected.guarded)
            changes = [price_change_row(change) for change in projected.price_changes]
            self._insert("price_changes", rows.PRICE_CHANGE_COLUMNS, changes)
            if book is not None:
                self._put_prices(book)
            self._move_checkpoint(stream, stream_created, projected)

    def put_prices(self, book: PriceBook) -> None:
        """Have the table of prices say what is in force."""
        with self._transaction():
            self._put_prices(book)

    def put_seats(self, seats: Sequence[SeatPrice]) -> None:
        """Have the table of seats say what the configuration does."""
        with self._transaction():
            self.connection.execute("DELETE FROM seats")
            self._insert("seats", rows.SEAT_COLUMNS, [msgspec.structs.astuple(s) for s in seats])

    def _put_prices(self, book: PriceBook) -> None:
        self.connection.execute("DELETE FROM prices")
        self._insert("prices", rows.PRICE_COLUMNS, price_rows(book))

    def _correct(self, corrections: Sequence[Correction]) -> None:
        """Take away the rows of lost requests whose end came, and note what they counted for."""
        lost_one = "WHERE request_id = ? AND stream_sequence = ? AND error_type = ? AND estimated"
        for each in corrections:
            lost = [each.request_id, each.lost_sequence, LOST_ERROR_TYPE]
            self.connection.execute(
                "INSERT INTO corrections "  # noqa: S608
                f"SELECT request_id, stream_sequence, ?, hash({_FACTS}) FROM requests {lost_one}",
                [each.corrected_sequence, *lost],
            )
            rollups.count(self.connection, "out", "requests", lost_one.removeprefix("WHERE "), lost)
            self.connection.execute(f"DELETE FROM requests {lost_one}", lost)  # noqa: S608

    def _move_checkpoint(self, stream: str, stream_created: str, projected: Projected) -> None:
        before = self.checkpoint(stream)
        counts = before.counts if before is not None else Counts()
        counts.add(projected.counts)
        self._delete("checkpoints", "stream", [stream])
        self.connection.execute(
            f"INSERT INTO checkpoints (stream, stream_created, sequence, stream_time, {_COUNTS}) "  # noqa: S608
            f"VALUES (?, ?, ?, make_timestamp(?){', ?' * len(_COUNT_NAMES)})",
            [
                stream,
                stream_created,
                projected.sequence,
                projected.clock_us,
                *msgspec.structs.astuple(counts),
            ],
        )

    def put_keys(self, records: Sequence[KeyRecord]) -> None:
        """Set the state of some virtual keys (their hashes are not stored)."""
        with self._transaction():
            self._delete("keys", "key_id", [record.key_id for record in records])
            self._insert("keys", rows.KEY_COLUMNS, [key_row(record) for record in records])
            self._put_budgets({whose(each): limits_of(each) for each in records})

    def put_owners(self, records: Sequence[TeamRecord | UserRecord]) -> None:
        """Set the state of some teams and users."""
        teams = [each for each in records if isinstance(each, TeamRecord)]
        users = [each for each in records if isinstance(each, UserRecord)]
        with self._transaction():
            self._delete("teams", "team_id", [each.team_id for each in teams])
            self._insert("teams", rows.TEAM_COLUMNS, [team_row(each) for each in teams])
            self._delete("users", "user_id", [each.user_id for each in users])
            self._insert("users", rows.USER_COLUMNS, [user_row(each) for each in users])
            self._delete("team_members", "team_id", [each.team_id for each in teams])
            self._insert("team_members", rows.MEMBER_COLUMNS, member_rows(teams))
            self._put_budgets(owned_limits(self.connection, records))

    def put_budgets(self, owner: Whose, limits: Sequence[Limit]) -> None:
        """Set the budgets of one owner that has no record: of all together."""
        with self._transaction():
            self._put_budgets({owner: limits})

    def _put_budgets(self, limits: Mapping[Whose, Sequence[Limit]]) -> None:
        for scope in {owner.scope for owner in limits}:
            ids = [owner.scope_id for owner in limits if owner.scope == scope]
            self._delete("budgets", "scope_id", ids, f"scope = '{scope}'")
        found = budget_rows(limit for some in limits.values() for limit in some)
        self._insert("budgets", rows.BUDGET_COLUMNS, found)

    def budget_events_of(self, stream_created: str) -> int:
        """Return the last message of the stream BUDGET in the table `budget_events`.

        Where the table is of another stream of that name, it is emptied: the answer is 0 then.
        """
        if self.meta(_BUDGET_STREAM) != stream_created:
            with self._transaction():
                self.connection.execute("DELETE FROM budget_events")
            self.set_meta(_BUDGET_STREAM, stream_created)
        found = self.connection.execute("SELECT max(stream_sequence) FROM budget_events").fetchall()
        return int(found[0][0] or 0)

    def put_budget_events(self, events: Sequence[tuple[Any, ...]]) -> None:
        """Write down what was told of budgets, which is not there yet."""
        with self._transaction():
            self._insert("budget_events", rows.BUDGET_EVENT_COLUMNS, events)

    def put_registry_changes(self, changes: Sequence[tuple[Any, ...]]) -> None:
        """Write down what was changed in the registry, which is not there yet."""
        with self._transaction():
            self._insert("registry_changes", rows.REGISTRY_CHANGE_COLUMNS, changes)

    def _insert_requests(self, values: Sequence[tuple[Any, ...]]) -> None:
        """Store rows of requests, and count them in every rollup."""
        self._insert("requests", rows.REQUEST_COLUMNS, values, rolled_up=True)

    def _insert(
        self,
        table: str,
        columns: rows.Columns,
        values: Sequence[tuple[Any, ...]],
        *,
        rolled_up: bool = False,
    ) -> None:
        if not values:
            return
        names = ", ".join(name for name, _ in columns)
        self.connection.register("incoming", rows.table(columns, values))
        try:
            if rolled_up:
                rollups.count(self.connection, "in", "incoming")
            self.connection.execute(
                f"INSERT INTO {table} ({names}) SELECT {names} FROM incoming"  # noqa: S608
            )
        finally:
            self.connection.unregister("incoming")

    def _delete(
        self, table: str, column: str, values: Iterable[str], condition: str = "true"
    ) -> None:
        """Delete the rows whose column has one of some values, and that meet a condition."""
        listed = list(values)
        if not listed:
            return
        delete = f"DELETE FROM {table} WHERE {condition} AND {column} IN "  # noqa: S608 - ours
        if len(listed) <= LISTED_MAX:
            self.connection.execute(f"{delete}(SELECT unnest(?::VARCHAR[]))", [listed])
            return
        self.connection.register("listed", rows.table(rows.VALUE_COLUMNS, [(x,) for x in listed]))
        try:
            self.connection.execute(f"{delete}(SELECT value FROM listed)")  # noqa: S608 - ours
        finally:
            self.connection.unregister("listed")

    def close(self) -> None:
        """Close the file; everything committed is in it."""
        self.connection.close()


def _script(name: str) -> str:
    return resources.files("services.ledger.sql").joinpath(name).read_text("utf-8")


def _open_row(opened: OpenRequest) -> tuple[Any, ...]:
    facts = opened.facts
    return (
        facts.request_id,
        facts.started_at_us,
        facts.key_id,
        facts.model_name,
        *opened.origin,
        opened.opened_at_us,
        msgspec.json.encode(facts).decode(),
    )


def read_checkpoint(connection: duckdb.DuckDBPyConnection, stream: str) -> Checkpoint | None:
    """Return how far a stream has been taken into a database; None: nothing of it."""
    found = connection.execute(
        f"SELECT stream_created, sequence, epoch_us(stream_time), {_COUNTS} "  # noqa: S608
        "FROM checkpoints WHERE stream = ?",
        [stream],
    ).fetchall()
    if not found:
        return None
    created, sequence, clock_us, *counts = found[0]
    return Checkpoint(created, sequence, clock_us, Counts(*counts))


def digest(connection: duckdb.DuckDBPyConnection, sequence: int | None = None) -> str:
    """Return a digest of all facts: the same for the same requests, in whatever order they came.

    The number of rows of `requests`, and the sum of a 64-bit hash of each (of all its columns).
    With `sequence` it is the digest that the books had when they stood at that message of the
    stream. To be compared between files that the same version of tallygate and of DuckDB wrote.
    """
    at = sequence if sequence is not None else 2**62
    found = connection.execute(
        "SELECT coalesce(sum(row), 0)::BIGINT, coalesce(sum(hash), 0) FROM ("  # noqa: S608
        f"SELECT 1 AS row, hash({_FACTS})::HUGEINT AS hash FROM requests "
        "WHERE stream_sequence <= $1 UNION ALL "
        "SELECT 1, row_hash::HUGEINT FROM corrections "
        "WHERE lost_sequence <= $1 AND $1 < corrected_sequence UNION ALL "
        "SELECT 0, hash_change FROM repriced_hashes "
        "WHERE stream_sequence <= $1 AND $1 < repriced_sequence)",
        [at],
    ).fetchall()
    count, total = found[0]
    return f"{count}:{int(total) % 2**64:016x}"
