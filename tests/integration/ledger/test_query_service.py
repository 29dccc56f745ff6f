"""The query service on a real file, with a projection that writes meanwhile."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import duckdb
import msgspec
import pyarrow as pa
import pytest

from schemas.rpc import QUERY_ROWS_MAX, QueryReply
from services.ledger import query, query_watch
from services.ledger.query import QueryService, lock_down
from tests.support.sql_corpus import ALLOWED, INVALID, REFUSED, harm_state, names_what_is_wrong

MEMORY_BYTES_MAX = 512 * 1024 * 1024
ROWS = 20_000
BUSY_ROWS = 60_000_000
"""So many keep a query busy for longer than the watch needs to look at it."""
SCHEMA = """
CREATE TABLE requests (
    request_id VARCHAR, started_at TIMESTAMPTZ, ended_at TIMESTAMPTZ, key_id VARCHAR,
    key_alias VARCHAR, user_id VARCHAR, team_id VARCHAR, model VARCHAR, status VARCHAR,
    input_tokens BIGINT, output_tokens BIGINT, cost_usd DECIMAL(18, 12), duration_ms DOUBLE,
    estimated BOOLEAN);
CREATE TABLE keys (key_id VARCHAR, started_at TIMESTAMPTZ, model VARCHAR);
CREATE TABLE checkpoint (stream_sequence BIGINT);
INSERT INTO checkpoint VALUES (0);
INSERT INTO keys SELECT 'key-' || range, TIMESTAMPTZ '2026-01-01', 'claude' FROM range(10);
"""
FILL = f"""
INSERT INTO requests SELECT 'req-' || range, TIMESTAMPTZ '2026-01-01' + INTERVAL 1 MINUTE * range,
    TIMESTAMPTZ '2026-01-02', 'key-' || range % 10, 'alias', 'user-' || range % 7, NULL,
    '{{"a": [1]}}', 'success', range, 7, range * 0.000000000001, 1.5, false FROM range({ROWS})
"""


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect(str(tmp_path / "reader.duckdb"))
    connection.execute(SCHEMA)
    connection.execute(FILL)
    yield connection
    connection.close()


@pytest.fixture
def service(
    connection: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> Iterator[QueryService]:
    # The process of the tests holds what earlier tests have left in it; a reader begins small.
    held_bytes = query_watch._resident_bytes()
    allowed_bytes = query_watch.PROCESS_RESIDENT_BYTES_MAX + held_bytes
    monkeypatch.setattr(query_watch, "PROCESS_RESIDENT_BYTES_MAX", allowed_bytes)
    service = QueryService(
        connection,
        memory_bytes_max=MEMORY_BYTES_MAX,
        sequence_query="SELECT max(stream_sequence) FROM checkpoint",
    )
    yield service
    service.close()


def ask(service: QueryService, text: str, *parameters: Any, **limits: Any) -> QueryReply:
    request = {"query": text, "parameters": parameters, **limits}
    return msgspec.json.decode(service.answer(msgspec.json.encode(request)), type=QueryReply)


def value(service: QueryService, text: str, *parameters: Any) -> Any:
    reply = ask(service, text, *parameters)
    assert reply.error is None, reply.error
    return reply.rows[0][0]


class Projection:
    """Inserts batches through Arrow, with its checkpoint, as the reader does, until stopped."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.batches = 0
        self.error: Exception | None = None
        self._cursor = connection.cursor()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._cursor.close()

    def _work(self) -> None:
        batch = pa.table({"request_id": [f"new-{n}" for n in range(50)]})
        while not self._stop.wait(0.002):
            try:
                self._cursor.register("batch", batch)
                self._cursor.execute("BEGIN")
                self._cursor.execute(
                    "INSERT INTO requests BY NAME SELECT request_id, 'claude' AS model FROM batch"
                )
                self._cursor.execute("UPDATE checkpoint SET stream_sequence = stream_sequence + 1")
                self._cursor.execute("COMMIT")
                self._cursor.unregister("batch")
                self.batches += 1
            except duckdb.Error as error:
                self.error = error
                return
            if self.batches % 20 == 0:
                # While a query still sees an older checkpoint row, DuckDB puts this off.
                with contextlib.suppress(duckdb.TransactionException):
                    self._cursor.execute("CHECKPOINT")


@pytest.mark.parametrize(
    ("expression", "kind", "cell"),
    [
        ("1.5::DECIMAL(18, 12)", "DECIMAL(18,12)", "1.500000000000"),
        ("-0.000000000001::DECIMAL(18, 12)", "DECIMAL(18,12)", "-0.000000000001"),
        ("9007199254740992", "BIGINT", 9007199254740992),
        ("9007199254740993", "BIGINT", "9007199254740993"),
        ("18446744073709551615::UBIGINT", "UBIGINT", "18446744073709551615"),
        ("sum(1)", "HUGEINT", 1),
        ("-170141183460469231731687303715884105727::HUGEINT", "HUGEINT",
         "-170141183460469231731687303715884105727"),
        ("'nan'::DOUBLE", "DOUBLE", "NaN"),
        ("'-inf'::FLOAT", "FLOAT", "-Infinity"),
        ("0.1::DOUBLE", "DOUBLE", 0.1),
        ("TIMESTAMPTZ '2026-11-24 05:06:07.5+01'", "TIMESTAMP WITH TIME ZONE",
         "2026-11-24T04:06:07.5Z"),
        ("TIMESTAMP '1969-12-31 23:59:59'", "TIMESTAMP", "1969-12-31T23:59:59Z"),
        ("'2024-02-29 00:00:00.123456789'::TIMESTAMP_NS", "TIMESTAMP_NS",
         "2024-02-29T00:00:00.123456789Z"),
        ("'infinity'::TIMESTAMP", "TIMESTAMP", "infinity"),
        ("'290000-02-03'::TIMESTAMP", "TIMESTAMP", "+290000-02-03T00:00:00Z"),
        ("'0044-03-15 (BC)'::DATE", "DATE", "-0043-03-15"),
        ("DATE '9999-12-31'", "DATE", "9999-12-31"),
        ("TIME '12:00:00.000001'", "TIME", "12:00:00.000001"),
        ("INTERVAL '14 months -2 days 3 seconds'", "INTERVAL", "1 year 2 months -2 days 00:00:03"),
        ("'a\\x00'::BLOB", "BLOB", "6100"),
        ("NULL::DECIMAL(4, 2)", "DECIMAL(4,2)", None),
        ("'5e1f0b6a-0000-4000-8000-000000000000'::UUID", "UUID",
         "5e1f0b6a-0000-4000-8000-000000000000"),
        ("[[1.50], NULL, []]", "DECIMAL(3,2)[][]", [["1.50"], None, []]),
        ("[1, 2]::INTEGER[2]", "INTEGER[2]", [1, 2]),
        ("{'a': [{'b': 1::HUGEINT}], 'c': NULL::INTEGER}",
         "STRUCT(a STRUCT(b HUGEINT)[], c INTEGER)",
         {"a": [{"b": 1}], "c": None}),
        ("map {[1]: 2}", "MAP(INTEGER[], INTEGER)", {"[1]": 2}),
        ("'a'::ENUM ('a', 'b')", "ENUM('a', 'b')", "a"),
        ("'{\"a\": 1}'::JSON", "JSON", '{"a": 1}'),
    ],
)  # fmt: skip
def test_cells_are_exact(service: QueryService, expression: str, kind: str, cell: object) -> None:
    # given a value of each type, when it is asked for, then its JSON form has lost nothing
    reply = ask(service, f"SELECT {expression} AS v")
    assert reply.error is None, reply.error
    assert [(column.name, column.type) for column in reply.columns] == [("v", kind)]
    assert reply.rows == ((cell,),)


def test_nested_cells_are_exact_in_every_row_of_a_large_answer(service: QueryService) -> None:
    # given more rows than one batch holds, with gaps, when lists, structs and maps are asked for,
    # then each row has its own
    reply = ask(
        service,
        "SELECT range, CASE WHEN range % 3 = 0 THEN NULL ELSE [range, range + 1] END,"
        " CASE WHEN range % 2 = 0 THEN {'n': range} END, map {range: [range]}"
        " FROM range(5000) ORDER BY range",
    )
    assert reply.error is None
    assert reply.rows == tuple(
        (n, None if n % 3 == 0 else [n, n + 1], None if n % 2 else {"n": n}, {str(n): [n]})
        for n in range(5000)
    )


def test_types_without_an_exact_form_ask_for_a_cast(service: QueryService) -> None:
    # given types that Arrow cannot carry, when asked for, then the error says what to do
    for expression in ("'12:00:00+02'::TIMETZ", "'101'::BIT", "1::VARIANT", "union_value(k := 1)"):
        reply = ask(service, f"SELECT {expression}")
        assert reply.error_kind == "invalid"
        assert "CAST them AS VARCHAR" in str(reply.error)


def test_parameters_are_bound_not_pasted(service: QueryService) -> None:
    # given parameters, one of them an injection, when a query uses them, then they are values
    count = "SELECT count(*) FROM requests WHERE user_id = $1 AND input_tokens < $2"
    assert value(service, count, "user-1", 70) == 10
    assert value(service, count, "' OR 1=1; DROP TABLE requests --", 70) == 0
    assert (
        value(service, "SELECT count(*) FROM keys WHERE list_contains(?, key_id)", ["key-1"]) == 1
    )
    assert ask(service, "SELECT $1").error_kind == "invalid"
    assert ask(service, "SELECT 1", "one too many").error_kind == "invalid"


def test_rows_beyond_the_limit_are_cut_and_said_so(service: QueryService) -> None:
    # given more rows than asked for, when a query runs, then the answer is cut and says so
    reply = ask(service, "SELECT request_id FROM requests", rows_max=3)
    assert (len(reply.rows), reply.truncated) == (3, True)
    reply = ask(service, "SELECT * FROM range(3)", rows_max=3)
    assert (len(reply.rows), reply.truncated) == (3, False)
    reply = ask(service, "SELECT * FROM range(1000000000)", rows_max=10**9)
    assert (len(reply.rows), reply.truncated) == (QUERY_ROWS_MAX, True)


def test_answer_never_exceeds_its_limit(service: QueryService) -> None:
    # given answers that are too long, in all rows or in one cell, when asked for, then too_large
    for text in (
        "SELECT repeat('x', 1000) FROM range(10000)",
        "SELECT string_agg(repeat('x', 1000), '') FROM range(10000)",
        "SELECT repeat(chr(1), 1000) FROM range(3000)",
    ):
        payload = service.answer(msgspec.json.encode({"query": text}))
        assert len(payload) <= query.QUERY_ANSWER_BYTES_MAX
        assert msgspec.json.decode(payload, type=QueryReply).error_kind == "too_large"


def test_request_that_is_no_query_is_answered(service: QueryService) -> None:
    # given broken, wrong and huge requests, when they arrive, then each is answered in kind
    broken = (b"", b"{", b"\xff", b"[]", b'{"query": 1}', b"[" * 100_000)
    for payload in broken:
        reply = msgspec.json.decode(service.answer(payload), type=QueryReply)
        assert reply.error_kind == "invalid"
    huge = msgspec.json.encode({"query": "SELECT 1", "parameters": ["x" * 2**20]})
    assert msgspec.json.decode(service.answer(huge), type=QueryReply).error_kind == "too_large"


def test_what_earlier_queries_left_in_the_process_stops_no_small_one(
    connection: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a process that holds more than it may before a query begins, when a small one is asked,
    # then it is answered; one that adds too much, or comes where far too much is held, is stopped
    small = f"SELECT count(*) FROM range({BUSY_ROWS}) a WHERE hash(a.range) % 7 = 1"
    large = "SELECT count(DISTINCT a.range || 'x') FROM range(100000000) a"
    limit = -MEMORY_BYTES_MAX + query_watch._resident_bytes()
    for held_too_much, text, error_kind in (
        (64 * 2**20, small, None),
        (64 * 2**20, large, "too_large"),
        (query_watch.HELD_BYTES_MAX + 2**40, small, "too_large"),
    ):
        monkeypatch.setattr(query_watch, "PROCESS_RESIDENT_BYTES_MAX", limit - held_too_much)
        monkeypatch.setattr(query_watch, "QUERY_GROWTH_BYTES_MAX", 64 * 2**20)
        service = QueryService(connection, memory_bytes_max=MEMORY_BYTES_MAX)
        reply = ask(service, text)
        service.close()
        assert reply.error_kind == error_kind, (held_too_much, reply)


def test_attacks_change_nothing(service: QueryService, tmp_path: Path) -> None:
    # given the attack corpus, when each statement is asked, then it is refused with an error that
    # names what is wrong and tells nothing of the host, and the books are as before
    before = harm_state(service._root, tmp_path)
    wrong = {}
    for name, text in REFUSED.items():
        reply = ask(service, text, *([5] if "$1" in text else []))
        message = str(reply.error)
        if reply.error_kind != "refused" or not names_what_is_wrong(text, message):
            wrong[name] = (reply.error_kind, message)
        assert reply.rows == ()
        assert str(tmp_path) not in message
    assert wrong == {}
    assert harm_state(service._root, tmp_path) == before


def test_locked_instance_stops_what_the_rules_would_let_through(
    connection: duckdb.DuckDBPyConnection, service: QueryService, tmp_path: Path
) -> None:
    # given the instance without the rules, when attacks run on it directly, then the second wall
    # stops files, extensions and settings
    cursor = connection.cursor()
    target = tmp_path / "evil"
    for text in (
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/etc/*')",
        f"COPY (SELECT 1) TO '{target}'",
        f"ATTACH '{target}'",
        f"EXPORT DATABASE '{target}'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET memory_limit = '100GB'",
        "SET enable_external_access = true",
        "SET GLOBAL lock_configuration = false",
        "SELECT * FROM ROWS",
    ):
        with pytest.raises(duckdb.Error):
            cursor.execute(text)
    assert not target.exists()
    assert lock_down(connection, memory_bytes_max=1) is None


def test_path_of_the_database_is_not_told(service: QueryService, tmp_path: Path) -> None:
    # given the ways to look around, when they are asked, then no path of the host is in an answer
    for text in (
        "SHOW ALL TABLES",
        "DESCRIBE requests",
        "SUMMARIZE keys",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM information_schema.columns LIMIT 500",
        "SELECT * FROM information_schema.schemata",
        "SELECT * FROM duckdb_tables()",
        "SELECT * FROM duckdb_views() LIMIT 500",
        "SELECT * FROM duckdb_columns() WHERE NOT internal",
        "SELECT current_database(), current_schema(), current_user",
        "SELECT nothing_like_this FROM requests",
    ):
        payload = service.answer(msgspec.json.encode({"query": text}))
        assert str(tmp_path).encode() not in payload
    assert ("requests",) in ask(service, "SHOW TABLES").rows


BOMBS = {
    "timeout": [
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t",
        "SELECT count(*) FROM range(10000000000) a, range(100000) b WHERE a.range * b.range = 7",
        "SELECT count(*) FROM requests a, requests b, requests c WHERE a.cost_usd > b.cost_usd",
        "SELECT range FROM range(1000000000000) WHERE range < 0",
    ],
    "too_large": [
        "SELECT * FROM range(100000000) ORDER BY hash(range)",
        "SELECT count(DISTINCT range) FROM range(1000000000)",
        "SELECT len(list(range)) FROM range(1000000000)",
        "SELECT len(list_transform(list(range), lambda x: x || 'x')) FROM range(100000000)",
        (
            "WITH RECURSIVE t(n) AS (SELECT 'xxxxxxxx' UNION ALL SELECT n || n FROM t)"
            " SELECT max(length(n)) FROM t"
        ),
        "SELECT string_agg(repeat('x', 1000), '') FROM range(10000000)",
    ],
}


def test_bombs_stop_while_the_projection_goes_on(
    connection: duckdb.DuckDBPyConnection, service: QueryService
) -> None:
    # given a projection that writes, when time and memory bombs run, then each is stopped in its
    # kind, and the projection loses nothing
    with Projection(connection) as projection:
        for kind, texts in BOMBS.items():
            for text in texts:
                before = projection.batches
                limit_s = 0.5 if kind == "timeout" else 10.0
                assert ask(service, text, timeout_s=limit_s).error_kind == kind, text
                while projection.batches <= before and projection.error is None:
                    assert value(service, "SELECT 1") == 1
    assert projection.error is None
    new = "SELECT count(*) FROM requests WHERE request_id LIKE 'new-%'"
    assert value(service, new) == 50 * projection.batches > 0
    assert ask(service, "SELECT 1").stream_sequence == projection.batches


def test_answer_and_its_sequence_are_of_one_moment(
    connection: duckdb.DuckDBPyConnection, service: QueryService
) -> None:
    # given a projection that writes, when queries run meanwhile, then each answer holds exactly
    # the rows of the sequence that it names
    with Projection(connection) as projection:
        for _ in range(50):
            reply = ask(service, "SELECT count(*) FROM requests")
            assert reply.rows[0][0] == ROWS + 50 * reply.stream_sequence
    assert projection.error is None


def test_queries_from_many_threads_are_answered_each_its_own(service: QueryService) -> None:
    # given more threads than places, when all ask at once, then each gets its own answer
    answers: dict[int, Any] = {}

    def work(number: int) -> None:
        answers[number] = [value(service, "SELECT $1 + count(*) FROM keys", number)] * 5

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: [number + 10] * 5 for number in range(12)}


def test_query_without_a_place_is_told_to_come_again(
    connection: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given one place, taken by a long query, when another comes, then it is unavailable in time
    monkeypatch.setattr(query, "QUERY_QUEUE_WAIT_S", 0.05)
    service = QueryService(connection, memory_bytes_max=MEMORY_BYTES_MAX, queries_at_once_max=1)
    replies: list[QueryReply] = []
    long = threading.Thread(target=lambda: replies.append(ask(service, BOMBS["timeout"][1])))
    long.start()
    while ask(service, "SELECT 1").error_kind != "unavailable":
        assert long.is_alive()
    service.close()
    long.join()
    assert replies[0].error_kind == "unavailable"


def test_questions_of_the_corpus_run_or_fail_on_their_own_terms(service: QueryService) -> None:
    # given the useful questions, when they run on a small schema, then none is refused, and most
    # are answered (the schema here lacks some columns)
    errors = {}
    for name, text in ALLOWED.items():
        if name == "own database":
            continue
        parameters = ["key-1", 0][: 2 if "$2" in text else 1 if "?" in text else 0]
        reply = ask(service, text, *parameters)
        if reply.error is not None:
            errors[name] = f"{reply.error_kind}: {reply.error}"
    assert errors == {}


@pytest.mark.parametrize("name", INVALID)
def test_text_that_is_no_sql_is_invalid(service: QueryService, name: str) -> None:
    # given a text that DuckDB cannot read, when it is asked, then its message comes back
    assert ask(service, INVALID[name]).error_kind == "invalid"
