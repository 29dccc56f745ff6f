"""The books over Quack: a real DuckDB client attaches, the attack corpus gets nothing."""

import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import duckdb
import pytest

from services.ledger import quack
from services.ledger.quack import Judge, QuackServer, is_free
from services.ledger.quack_extension import QuackMissing, extension_file, load_quack
from tests.support.ports import free_port
from tests.support.sql_corpus import ALLOWED, INVALID, REFUSED, harm_state, names_what_is_wrong

TOKEN = "token-of-the-tests-0123456789"
MEMORY_BYTES_MAX = 512 * 1024 * 1024
DEADLINE_S = 60.0
ROWS = 1000

pytestmark = pytest.mark.skipif(
    extension_file("quack") is None, reason="there is no wheel of Quack for this DuckDB"
)


class Server:
    """A server in this process: its address, and why it would have ended its process."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, folder: Path, port: int) -> None:
        self.folder = folder
        self.address = f"quack:127.0.0.1:{port}"
        self.harms: list[str] = []
        self.quack = QuackServer(
            connection,
            token=TOKEN,
            memory_bytes_max=MEMORY_BYTES_MAX,
            on_harm=self.harms.append,
        )
        self.quack.serve("127.0.0.1", port)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("quack")
    connection = duckdb.connect(str(folder / "books.duckdb"))
    connection.execute(files("services.ledger.sql").joinpath("schema.sql").read_text())
    connection.execute(
        "CREATE TABLE amounts AS SELECT range AS n, 0.000000000001::DECIMAL(18, 12) AS cost_usd"
        f" FROM range({ROWS})"
    )
    load_quack(connection)
    port = free_port()
    assert is_free("127.0.0.1", port)
    server = Server(connection, folder, port)
    assert not is_free("127.0.0.1", port)
    yield server
    server.quack.close()
    connection.close()


def attached(server: Server, token: str = TOKEN) -> duckdb.DuckDBPyConnection:
    client = duckdb.connect(":memory:")
    load_quack(client)
    client.execute("SET TimeZone = 'UTC'")
    client.execute(f"CREATE SECRET (TYPE quack, TOKEN '{token}')")
    client.execute(f"ATTACH '{server.address}' AS ledger")
    return client


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[duckdb.DuckDBPyConnection]:
    client = attached(server)
    yield client
    client.close()


def ask(client: duckdb.DuckDBPyConnection, text: str) -> list[tuple[object, ...]]:
    quoted = text.replace("'", "''")
    return client.execute(f"FROM ledger.query('{quoted}')").fetchall()


def test_client_attaches_and_reads_exact_amounts(client: duckdb.DuckDBPyConnection) -> None:
    # given the books over Quack, when a client attaches, then it reads tables as its own, and
    # every digit is there, whichever side computes
    here = client.execute("SELECT count(*), sum(cost_usd)::VARCHAR FROM ledger.amounts").fetchall()
    assert here == [(ROWS, "0.000000001000")]
    assert ask(client, "SELECT count(*), sum(cost_usd)::VARCHAR FROM amounts") == here
    assert client.execute("SELECT count(*) FROM ledger.requests").fetchall() == [(0,)]
    assert {"requests", "keys", "amounts"} <= {row[0] for row in ask(client, "SHOW TABLES")}


def test_wrong_token_reads_nothing(server: Server) -> None:
    # given another token, when a client attaches, then it is not let in
    with pytest.raises(duckdb.Error, match="Authentication failed"):
        attached(server, "another-token-0123456789")


def test_attack_corpus_gets_nothing_and_changes_nothing(
    server: Server, client: duckdb.DuckDBPyConnection
) -> None:
    # given the attack corpus, when a client sends each text, then none runs, the log has a reason
    # that names what is wrong, and the books, the settings and the server are as before
    root, folder = server.quack._root, server.folder
    before = harm_state(root, folder)
    went_through, other, unclear = [], {}, {}
    for name, text in {**REFUSED, **INVALID}.items():
        if "\0" in text:
            continue  # the client itself cuts it
        try:
            ask(client, text)
        except duckdb.Error as error:
            if "Authorization failed" not in str(error):
                other[name] = str(error)
            reason = str(server.quack.judge.reason(text))
            if not names_what_is_wrong(text, reason):
                unclear[name] = reason
            continue
        went_through.append(name)
    assert (went_through, other, unclear) == ([], {}, {})
    for text in (
        "DROP TABLE ledger.amounts",
        "INSERT INTO ledger.amounts VALUES (1, 1)",
        "DELETE FROM ledger.amounts",
        "CREATE TABLE ledger.evil AS SELECT 1 AS x",
    ):
        with pytest.raises(duckdb.Error):
            client.execute(text)
    assert ask(client, "SELECT count(*) FROM amounts") == [(ROWS,)]
    assert server.harms == []
    assert harm_state(root, folder) == before


def test_questions_of_analysts_are_judged_as_over_http(server: Server) -> None:
    # given the useful questions, when they are judged, then each may run; a refused text has a
    # reason that says why
    judge = server.quack.judge
    tables = judge._tables
    names = Judge(tables, "memory")
    refused = {name: reason for name, text in ALLOWED.items() if (reason := names.reason(text))}
    names.close()
    assert refused == {}
    assert "quack_stop is refused" in str(judge.reason(REFUSED["quack_stop"]))
    assert "DELETE is refused" in str(judge.reason("DELETE FROM requests"))


def test_query_that_takes_too_long_is_noticed(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a client that fetches only the first of many rows, when its time is over, then the
    # server would end its process, and says why
    monkeypatch.setattr(quack, "QUACK_TIMEOUT_S", 0.2)
    other = attached(server)
    lines = other.execute("FROM ledger.query('SELECT range FROM range(100000000)')")
    assert lines.fetchone() == (0,)
    deadline = time.monotonic() + DEADLINE_S
    while not server.harms and time.monotonic() < deadline:
        time.sleep(0.02)
    assert "QUACK_TIMEOUT_S" in server.harms[0]
    other.close()


def test_missing_extension_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # given a DuckDB without wheels and without a way to its makers' host, when Quack is loaded,
    # then the error says what is missing and what to do
    monkeypatch.setattr(
        "services.ledger.quack_extension.extension_file", lambda name: tmp_path / name
    )
    with (
        duckdb.connect(":memory:") as connection,
        pytest.raises(QuackMissing, match="duckdb-extension-httpfs of the same version"),
    ):
        load_quack(connection)
