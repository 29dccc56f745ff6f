"""The shell of `tallygate sql`, typed into a real terminal, against a real admin process."""

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.ledger.query import QueryService
from tests.support.admin import MASTER_KEY, RunningAdmin
from tests.support.nats import NatsServer
from tests.support.query_reader import request_row, running_query_reader
from tests.support.terminal import PROMPT, Terminal

DEADLINE_S = 40.0
SLOW = "SELECT count(*) FROM range(100000) a, range(100000) b, range(100) c WHERE a.range > b.range"
MORE = "...> "


@pytest.fixture(scope="module", autouse=True)
def _reader(nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    rows = [request_row(request_id="tg_1", key_alias="dev", cost_usd="0.249754000000")]
    with running_query_reader(tmp_path_factory.mktemp("reader"), nats.url, rows):
        yield


@pytest.fixture
def environment(admin: RunningAdmin, tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "TALLYGATE_URL": admin.url,
        "LITELLM_MASTER_KEY": MASTER_KEY,
    }


@pytest.fixture
def slow_is_asked(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Return what is set when the reader has the question SLOW."""
    asked, answer = threading.Event(), QueryService.answer

    def seen(service: QueryService, payload: bytes) -> bytes:
        if SLOW.encode() in payload:
            asked.set()
        return answer(service, payload)

    monkeypatch.setattr(QueryService, "answer", seen)
    return asked


def test_session_at_a_terminal(environment: dict[str, str], tmp_path: Path) -> None:
    # Given the shell at a terminal, when statements and commands are typed, then each does what
    # .help says, errors are shown where they are, and the session goes on.
    terminal = Terminal("sql", **environment)
    terminal.until(".help tells", PROMPT)

    # Statements take several lines and end with a semicolon, which may stand in a text.
    terminal.type("SELECT key_alias,\n")
    terminal.until(MORE)
    terminal.type("  cost_usd, 'a;b' AS t\n")
    terminal.until(MORE)
    shown = terminal.ask("FROM requests;")
    assert "0.249754000000" in shown
    assert "a;b" in shown
    assert "1 row in" in shown

    # Commands.
    assert "spend_by_day" in terminal.ask(".tables")
    assert "cost_usd" in terminal.ask(".schema requests")
    assert "did you mean requests?" in terminal.ask(".schema request")
    assert "did you mean .tables?" in terminal.ask(".table")
    assert "xml is no mode" in terminal.ask(".mode xml")
    assert ".schema [NAME]" in terminal.ask(".help")
    terminal.ask(".mode csv")
    assert terminal.ask("SELECT 1 AS n;  SELECT 2 AS n;").split() == ["n", "1", "n", "2"]
    terminal.ask(".mode json")
    assert '"truncated": false' in terminal.ask("SELECT 3 AS n;")

    # Errors show where they are; what follows one is dropped.
    shown = terminal.ask("SELECT 'é', 1 FRM requests WHERE; SELECT 777 * 1000;")
    line, mark = shown.rstrip("\n").split("\n")[-2:]
    assert mark.endswith("^"), shown
    assert line[len(mark) - 1 :].startswith(("requests", "WHERE", ";")), shown
    assert "777000" not in shown
    assert "DROP is refused" in terminal.ask("DROP TABLE requests;")
    assert "is not one of the ledger's" in terminal.ask("SELECT * FROM '/etc/passwd';")

    assert terminal.ask("SELECT no_such FROM requests;").rstrip().endswith("^")
    terminal.type("exit\n")
    assert terminal.exit_code() == 0


def test_tab_ctrl_c_and_history(
    environment: dict[str, str], tmp_path: Path, slow_is_asked: threading.Event
) -> None:
    # Given the shell at a terminal, when Tab and Ctrl-C are typed, then names are completed and
    # what is under way is dropped; what was asked is in the history, which no one else can read.
    terminal = Terminal("sql", **environment)
    terminal.until(PROMPT)
    terminal.type("SELECT web_search_req\t")
    terminal.until("web_search_requests")
    assert "1 row in" in terminal.ask(" AS n,\n key_alias FROM requests;")
    terminal.type(".mo\t js\t\n")
    terminal.until("mode: json", PROMPT)

    # Ctrl-C drops what is typed, and ends the waiting for an answer.
    terminal.type("SELECT 1,\n")
    terminal.until(MORE)
    terminal.interrupt()
    terminal.type(f"{SLOW};\n")
    assert slow_is_asked.wait(DEADLINE_S)
    assert "cancelled" in terminal.interrupt()
    assert "42" in terminal.ask("SELECT 6 * 7 AS n;")

    terminal.type(".exit\n")
    assert terminal.exit_code() == 0

    history = tmp_path / ".local" / "state" / "tallygate" / "sql_history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert stat.S_IMODE(history.parent.stat().st_mode) == 0o700
    assert "SELECT web_search_requests AS n, key_alias FROM requests;" in history.read_text()
    again = Terminal("sql", "--format", "csv", **environment)
    again.until(PROMPT)
    again.type("\x1b[A\n")
    again.until("SELECT 6 * 7 AS n;", "42", PROMPT)
    again.type("\x04")
    assert again.exit_code() == 0


def test_shell_without_a_gateway_ends_at_once(environment: dict[str, str]) -> None:
    # Given no gateway, when the shell is opened, then it says so and ends with the exit code of it.
    terminal = Terminal("sql", **environment | {"TALLYGATE_URL": "http://127.0.0.1:1"})
    terminal.until("tallygate serve")
    assert terminal.exit_code() == 69
