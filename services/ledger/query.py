"""The reader's query service: one harmless SELECT in, an exact JSON answer out, within limits.

Three walls, one behind the other: the rules (`sql_rules`: only what is known to be harmless), the
locked instance (`lock_down`: no files, no extensions, no settings, a memory limit) and a read-only
transaction that is always rolled back. Behind them stands that the reader is a process of its
own whose file can be rebuilt from the events: the books are not reachable from here.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import msgspec
import pyarrow as pa

from schemas.rpc import (
    QUERY_PARTS_ROWS_MAX,
    QUERY_ROWS_MAX,
    QUERY_TIMEOUT_S,
    Column,
    QueryControl,
    QueryReply,
    QueryRequest,
)
from services.ledger.cells import UnsupportedType, cell_reader
from services.ledger.query_counts import QueryCounts
from services.ledger.query_formats import arrow_stream, csv_content
from services.ledger.query_open import OpenAnswer, OpenAnswers
from services.ledger.query_parts import AnswerTooLarge, parts_of
from services.ledger.query_watch import QueryWatch, Run
from services.ledger.sql_rules import SqlInvalid, SqlRefused, check_sql
from services.ledger.team_scope import TeamScope

__all__ = [
    "QUERIES_AT_ONCE_MAX",
    "QUERY_ANSWER_BYTES_MAX",
    "QUERY_PAYLOAD_BYTES_MAX",
    "QUERY_QUEUE_WAIT_S",
    "QueryService",
    "lock_down",
]

QUERY_ANSWER_BYTES_MAX = 4 * 1024 * 1024
"""An answer in JSON is at most this long, so that it fits a NATS message; longer: `too_large`."""
QUERY_PAYLOAD_BYTES_MAX = 1024 * 1024
"""A request (the query and its parameters) is at most this long; longer: `too_large`."""
QUERIES_AT_ONCE_MAX = 4
"""So many queries run at a time; the next one waits."""
QUERY_QUEUE_WAIT_S = 2.0
"""A query waits so long for a place; then it is answered `unavailable`."""
_BATCH_ROWS = 2048

_log = logging.getLogger(__name__)


def lock_down(
    connection: duckdb.DuckDBPyConnection,
    *,
    memory_bytes_max: int,
    threads: int = 1,
    temporary_bytes_max: int = 0,
) -> None:
    """Close the instance of `connection` for good: no files, no extensions, no more settings.

    It holds for every cursor of the instance and cannot be undone; the open database file itself
    can still be read, written and checkpointed. `memory_bytes_max` is DuckDB's memory limit;
    `temporary_bytes_max` how much it may put aside on disk (0: nothing, the query fails instead).
    A second call changes nothing.
    """
    locked = connection.execute("SELECT current_setting('lock_configuration')").fetchall()
    if locked == [(True,)]:
        return
    settings = [
        "TimeZone = 'UTC'",
        f"threads = {int(threads)}",
        f"memory_limit = '{int(memory_bytes_max)}B'",
        f"max_temp_directory_size = '{int(temporary_bytes_max)}B'",
        "python_enable_replacements = false",
        "python_scan_all_frames = false",
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "allow_community_extensions = false",
        "enable_external_access = false",
        "lock_configuration = true",
    ]
    if not temporary_bytes_max:
        settings.insert(0, "temp_directory = ''")
    for setting in settings:
        connection.execute(f"SET GLOBAL {setting}")


class QueryService:
    """Answers queries on one DuckDB instance, from several threads at a time.

    Making it locks the instance down (`lock_down`): the file must be open, and extensions loaded,
    before. The reader's projection goes on using its own cursor of the same instance.
    `sequence_query`, a SELECT of one number, is asked in the transaction of each query: the answer
    then says up to which message of the stream it holds (`stream_sequence`).
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        *,
        memory_bytes_max: int,
        threads: int = 1,
        temporary_bytes_max: int = 0,
        sequence_query: str | None = None,
        queries_at_once_max: int = QUERIES_AT_ONCE_MAX,
    ) -> None:
        self._root = connection.cursor()
        paths = self._root.execute("SELECT path, database_name FROM duckdb_databases()").fetchall()
        self._paths = [(path, name) for path, name in paths if path]
        lock_down(
            self._root,
            memory_bytes_max=memory_bytes_max,
            threads=threads,
            temporary_bytes_max=temporary_bytes_max,
        )
        self._root_lock = threading.Lock()
        self._sequence_query = sequence_query
        self._at_once = threading.BoundedSemaphore(queries_at_once_max)
        self._queries_at_once_max = queries_at_once_max
        self._failed = False
        self.counts = QueryCounts()
        self._watch = QueryWatch(self._root.cursor(), memory_bytes_max)
        self._answers = OpenAnswers()

    @property
    def failed(self) -> bool:
        """True once DuckDB has given up its instance: the process must be started again."""
        return self._failed

    def close(self) -> None:
        """Interrupt what runs and end the watching thread."""
        self._watch.close()
        self._answers.close()
        with self._root_lock:
            self._root.close()

    def answer(self, payload: bytes) -> bytes:
        """Answer a QueryRequest in JSON with a QueryReply in JSON. Blocks; never raises."""
        started = time.perf_counter()
        self.close_given_up()
        with self.counts.running():
            reply = self._reply(payload)
        reply = msgspec.structs.replace(
            reply, duration_ms=round((time.perf_counter() - started) * 1000, 3)
        )
        encoded = msgspec.json.encode(reply)
        if len(encoded) > QUERY_ANSWER_BYTES_MAX:
            reply = _answer_too_large()
            encoded = msgspec.json.encode(reply)
        self.counts.ended(reply.error_kind or "ok", time.perf_counter() - started)
        return encoded

    def control(self, payload: bytes) -> bytes:
        """Answer a QueryControl in JSON: with the next part, or with nothing. Never raises."""
        try:
            asked = msgspec.json.decode(payload, type=QueryControl)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return msgspec.json.encode(_error("invalid", f"this asks for nothing: {error}"))
        if asked.action == "cancel":
            self._answers.cancel(asked.query_id)
            return msgspec.json.encode(QueryReply())
        answer = self._answers.take(asked.query_id)
        if answer is None:
            return msgspec.json.encode(
                _error("unavailable", "the rest of this answer is not there any more: ask again")
            )
        try:
            reply = self._in_turn(lambda: self._part(asked.query_id, answer), answer.close)
        finally:
            self._answers.left(asked.query_id)
        return msgspec.json.encode(reply)

    def close_given_up(self) -> None:
        """Close the answers whose further parts nobody has asked for."""
        self._answers.close_given_up()

    def _reply(self, payload: bytes) -> QueryReply:
        if len(payload) > QUERY_PAYLOAD_BYTES_MAX:
            return _error(
                "too_large",
                f"the request is longer than {QUERY_PAYLOAD_BYTES_MAX} bytes "
                "(QUERY_PAYLOAD_BYTES_MAX): send fewer parameters",
            )
        try:
            request = msgspec.json.decode(payload, type=QueryRequest)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return _error("invalid", f"the request is no query: {error}")
        with self._answers.asked(request.query_id) as is_wanted:
            return self._in_turn(lambda: self._run(request) if is_wanted() else _cancelled())

    def _in_turn(
        self, work: Callable[[], QueryReply], on_refusal: Callable[[], None] | None = None
    ) -> QueryReply:
        """Do some work when there is a place for it."""
        if not self._at_once.acquire(timeout=QUERY_QUEUE_WAIT_S):
            if on_refusal is not None:
                on_refusal()
            return _error(
                "unavailable",
                f"{self._queries_at_once_max} queries run already (QUERIES_AT_ONCE_MAX): "
                "try again in some seconds",
            )
        try:
            return work()
        except Exception:  # noqa: BLE001 - whoever asked must get an answer, whatever happened
            _log.exception("a query failed in an unforeseen way")
            return _error("unavailable", "the query failed inside the ledger: its log says why")
        finally:
            self._at_once.release()

    def _run(self, request: QueryRequest) -> QueryReply:
        timeout_s = min(max(request.timeout_s, 0.0), QUERY_TIMEOUT_S)
        with self._root_lock:
            cursor = self._root.cursor()
        run = Run(cursor, timeout_s)
        self._answers.runs(request.query_id, run)
        if not (request.in_parts and request.format != "json"):
            try:
                return self._guarded(run, lambda: self._select(cursor, request), timeout_s)
            finally:
                cursor.close()
        answer = OpenAnswer(run, self._parts(cursor, request), timeout_s, request.team_id)
        return self._part(request.query_id, answer)

    def _part(self, query_id: str, answer: OpenAnswer) -> QueryReply:
        """Return the next part of an answer, which stays open where there are more."""
        timeout_s = answer.begins()
        if timeout_s <= 0:
            answer.close()
            return _error("timeout", "the rest of the answer took too long to make: ask for less")
        reply = self._guarded(answer.run, lambda: next(answer.parts), timeout_s)
        answer.pauses()
        if reply.more and not self._answers.keep(query_id, answer):
            reply = _error(
                "unavailable",
                "too many long answers are under way (ANSWERS_OPEN_MAX), or this one was "
                "cancelled: try again in some seconds",
            )
        if not reply.more:
            answer.close()
        if reply.error is not None:
            return reply
        return msgspec.structs.replace(reply, team_id=answer.team_id)

    def _guarded(self, run: Run, work: Callable[[], QueryReply], timeout_s: float) -> QueryReply:
        """Do a query's work under watch; what goes wrong becomes an error of ours."""
        try:
            with self._watch.watching(run):
                return work()
        except SqlRefused as error:
            return _error("refused", str(error))
        except (SqlInvalid, UnsupportedType) as error:
            return _error("invalid", self._clean(str(error)))
        except duckdb.FatalException as error:
            if not self._failed:
                self._failed = True
                _log.critical("DuckDB gave up its instance: %s", self._clean(str(error)))
            return _error("unavailable", "the ledger's reader must be started again")
        except (duckdb.OutOfMemoryException, MemoryError):
            return _memory_exceeded()
        except (_TooLarge, AnswerTooLarge):
            return _answer_too_large()
        except (duckdb.Error, pa.ArrowException, OSError, ValueError, TypeError) as error:
            # Arrow wraps DuckDB's errors, an interrupt among them, in its own.
            if run.stopped == "timeout":
                return _error(
                    "timeout",
                    f"the query took longer than {timeout_s:g} s and was stopped "
                    f"(the limit is {QUERY_TIMEOUT_S:g} s): read a shorter time, or group by "
                    "fewer columns",
                )
            if run.stopped == "memory" or "Out of Memory Error" in str(error):
                return _memory_exceeded()
            if run.stopped == "cancelled":
                return _cancelled()
            if run.stopped == "closed":
                return _error("unavailable", "the ledger's reader is stopping: try again")
            return _error("invalid", self._clean(str(error)))

    def _parts(
        self, cursor: duckdb.DuckDBPyConnection, request: QueryRequest
    ) -> Iterator[QueryReply]:
        """Yield an answer in CSV or Arrow part by part; its transaction stays open."""
        assert request.format != "json"
        cursor.execute("BEGIN TRANSACTION READ ONLY")
        kinds, sequence = self._execute(cursor, request)
        rows_max = min(max(request.rows_max, 0), QUERY_PARTS_ROWS_MAX)
        for reply in parts_of(cursor, request.format, kinds, rows_max):
            yield msgspec.structs.replace(reply, stream_sequence=sequence)

    def _select(self, cursor: duckdb.DuckDBPyConnection, request: QueryRequest) -> QueryReply:
        cursor.execute("BEGIN TRANSACTION READ ONLY")
        try:
            kinds, sequence = self._execute(cursor, request)
            rows_max = min(max(request.rows_max, 0), QUERY_ROWS_MAX)
            columns = tuple(Column(name, str(kind)) for name, kind in kinds)
            if request.format == "arrow":
                content, truncated = _arrow(cursor, rows_max)
                return QueryReply(
                    columns=columns,
                    content=content,
                    truncated=truncated,
                    stream_sequence=sequence,
                    team_id=request.team_id,
                )
            rows = list(_rows(cursor, [kind for _, kind in kinds], rows_max + 1))
            is_csv = request.format == "csv"
            cut = rows[:rows_max]
            return QueryReply(
                columns=columns,
                rows=() if is_csv else tuple(cut),
                content=csv_content([name for name, _ in kinds], cut) if is_csv else b"",
                truncated=len(rows) > rows_max,
                stream_sequence=sequence,
                team_id=request.team_id,
            )
        finally:
            cursor.execute("ROLLBACK")

    def _execute(
        self, cursor: duckdb.DuckDBPyConnection, request: QueryRequest
    ) -> tuple[list[tuple[str, Any]], int]:
        """Check a query and begin it; return its columns and up to which message it holds."""
        names = cursor.execute(
            "SELECT current_database(), table_name FROM information_schema.tables"
            " WHERE table_catalog = current_database() AND table_schema = 'main'"
        ).fetchall()
        database = names[0][0] if names else ""
        scope = None if request.team_id is None else TeamScope(request.team_id)
        if scope is not None:
            scope.open(cursor, database)
        statement = check_sql(
            cursor,
            request.query,
            [name for _, name in names],
            database,
            None if scope is None else scope.check,
        )
        sequence = 0
        if self._sequence_query is not None:
            row = cursor.execute(self._sequence_query).fetchone()
            sequence = int(row[0]) if row and row[0] is not None else 0
        cursor.execute(statement, list(request.parameters) or None)
        return [(entry[0], entry[1]) for entry in cursor.description or ()], sequence

    def _clean(self, message: str) -> str:
        """Take the host's paths out of DuckDB's words."""
        for path, name in self._paths:
            message = message.replace(path, name)
        return message


class _TooLarge(Exception):
    """The answer is longer than QUERY_ANSWER_BYTES_MAX."""


def _rows(
    cursor: duckdb.DuckDBPyConnection, kinds: list[Any], rows_max: int
) -> Iterator[tuple[Any, ...]]:
    """Give at most `rows_max` rows, reading no more of the result than they need."""
    readers = [cell_reader(kind) for kind in kinds]
    left = rows_max
    bytes_seen = 0
    for batch in cursor.to_arrow_reader(_BATCH_ROWS):
        part = batch.slice(0, left)
        # JSON is rarely shorter than half of Arrow's form; this stops the flood before it is
        # turned into Python objects, and the encoded answer is measured exactly.
        bytes_seen += part.nbytes
        if bytes_seen > 2 * QUERY_ANSWER_BYTES_MAX:
            raise _TooLarge
        columns = [read(column) for read, column in zip(readers, part.columns, strict=True)]
        yield from zip(*columns, strict=True)
        left -= part.num_rows
        if left <= 0:
            return


def _arrow(cursor: duckdb.DuckDBPyConnection, rows_max: int) -> tuple[bytes, bool]:
    """Return at most `rows_max` rows as Arrow's IPC stream, and whether there are more."""
    reader = cursor.to_arrow_reader(_BATCH_ROWS)
    batches: list[pa.RecordBatch] = []
    left, bytes_seen = rows_max, 0
    for batch in reader:
        part = batch.slice(0, left)
        bytes_seen += part.nbytes
        if bytes_seen > QUERY_ANSWER_BYTES_MAX:
            raise _TooLarge
        if part.num_rows:
            batches.append(part)
        left -= part.num_rows
        if batch.num_rows > part.num_rows:
            return arrow_stream(reader.schema, batches), True
    return arrow_stream(reader.schema, batches), False


def _error(kind: str, message: str) -> QueryReply:
    return QueryReply(error=message, error_kind=kind)


def _cancelled() -> QueryReply:
    return _error("cancelled", "the query was cancelled: nobody waited for its answer any more")


def _answer_too_large() -> QueryReply:
    return _error(
        "too_large",
        f"the answer is longer than {QUERY_ANSWER_BYTES_MAX} bytes (QUERY_ANSWER_BYTES_MAX): "
        "name the columns you need, group, or ask for fewer rows with LIMIT",
    )


def _memory_exceeded() -> QueryReply:
    return _error(
        "too_large",
        "the query needs more memory than a query may use (the setting query_memory_bytes_max): "
        "read a shorter time, group by fewer columns, or sort less",
    )
