"""`tallygate keys` and `tallygate sql` as typed, against a real admin process."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.support.admin import MASTER_KEY, RunningAdmin
from tests.support.nats import NatsServer
from tests.support.query_reader import request_row, running_query_reader

EVIL = "=cmd|'/c calc'!A1\x1b[2J"


@pytest.fixture(scope="module", autouse=True)
def _reader(nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    rows = [
        request_row(request_id="tg_1", key_alias="dev", cost_usd="0.249754000000"),
        request_row(request_id="tg_2", key_alias=None, cost_usd=None, user_agent=EVIL),
    ]
    with running_query_reader(tmp_path_factory.mktemp("reader"), nats.url, rows):
        yield


class Shell:
    """Runs `tallygate …` in a folder of its own, with the gateway's address and master key."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.environment = {
            "PATH": os.environ["PATH"],
            "TALLYGATE_URL": url,
            "LITELLM_MASTER_KEY": MASTER_KEY,
        }

    def run(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "services.cli", *arguments],
            cwd=self.folder,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def answer(self, *arguments: str) -> Any:
        """Run a command that must succeed and print JSON."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout, parse_float=Decimal)


@pytest.fixture
def shell(admin: RunningAdmin, tmp_path: Path) -> Shell:
    return Shell(tmp_path, admin.url)


def test_a_key_lives_its_life_on_the_command_line(shell: Shell) -> None:
    # Given no key, when one is made, then the key alone is on standard output.
    made = shell.run(
        "keys", "create", "--alias", "cli", "--max-budget", "0.1", "--budget-duration", "daily",
        "--model", "a", "--model", "b", "--tag", "t", "--metadata", '{"n": 1}', "--user-id", "u",
        "--rpm-limit", "60", "--model-rpm-limit", "claude=*=5",
        "--budget-limit", "0.05/1h", "--model-budget", "opus-*=1.5/monthly", "--soft-budget", "2",
        "--temp-budget-increase", "1", "--temp-budget-expiry", "2999-01-01", "--strict-budget",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    assert key.startswith("sk-")
    assert "\n" not in key
    # When it is listed and shown, then its settings are there, and its secret is not.
    listed = shell.run("keys", "list")
    assert "cli" in listed.stdout
    assert "$0.10" in listed.stdout
    assert key not in listed.stdout
    info = shell.answer("keys", "info", "cli")["info"]
    assert (info["max_budget"], info["models"]) == (Decimal("0.1"), ["a", "b"])
    assert (info["metadata"], info["tags"], info["user_id"]) == ({"n": 1}, ["t"], "u")
    assert info["model_max_budget"] == {
        "opus-*": {"budget_limit": Decimal("1.5"), "time_period": "monthly"}
    }
    assert (info["strict_budget"], info["soft_budget"]) == (True, 2)
    assert (info["rpm_limit"], info["model_rpm_limit"]) == (60, {"claude=*": 5})
    # When it is changed by alias, key or id, then it is changed.
    assert shell.answer("keys", "block", "cli")["blocked"] is True
    assert shell.answer("keys", "unblock", key)["blocked"] is False
    updated = shell.answer(
        "keys",
        "update",
        info["key_id"],
        "--max-budget",
        "2.50",
        "--unset",
        "model",
        "--unset",
        "soft-budget",
        "--no-strict-budget",
    )
    assert (updated["max_budget"], updated["models"]) == (Decimal("2.5"), [])
    shown = shell.run("keys", "info", "cli").stdout
    assert "$0.05 per 1h; opus-*: $1.5 per monthly; $1 more until 2999-01-01T00:00:00Z" in shown
    assert "begins anew" in shown
    assert "60 requests a minute; claude=*: 5 requests a minute" in shown
    # When its secret is replaced, then the new one is printed alone, and it is the same key.
    replaced = shell.run("keys", "regenerate", "cli", "--grace-period", "24h")
    assert replaced.stdout.strip() not in ("", key)
    assert "works until" in replaced.stderr
    for secret in (key, replaced.stdout.strip()):
        assert shell.answer("keys", "info", secret)["info"]["key_id"] == info["key_id"]
    # When its spend is set, then it is said from what to what.
    assert "counts as $0.00 from now on" in shell.run("keys", "reset-spend", "cli").stderr
    assert shell.run("keys", "reset-spend", "cli", "--to", "x").returncode == 2
    # When it is deleted, then it is gone from the list, and its alias is not known any more.
    assert "deleted 1" in shell.run("keys", "delete", "cli").stderr
    assert "cli" not in shell.run("keys", "list").stdout
    gone = shell.run("keys", "block", "cli")
    assert gone.returncode == 1
    assert "no key has the alias" in gone.stderr


def test_sql_as_table_json_and_csv(shell: Shell) -> None:
    # Given two requests, when they are asked for, then each format holds the exact cost.
    query = "SELECT request_id, key_alias, cost_usd FROM requests ORDER BY 1"
    table = shell.run("sql", query)
    assert table.returncode == 0, table.stderr
    assert "0.249754000000" in table.stdout
    answer = shell.answer("sql", query)
    assert answer["rows"] == [["tg_1", "dev", "0.249754000000"], ["tg_2", None, None]]
    rows = list(csv.reader(io.StringIO(shell.run("sql", query, "--format", "csv").stdout)))
    assert rows == [
        ["request_id", "key_alias", "cost_usd"],
        ["tg_1", "dev", "0.249754000000"],
        ["tg_2", "", ""],
    ]
    arrow = subprocess.run(
        [
            sys.executable,
            "-m",
            "services.cli",
            "sql",
            query,
            "--format",
            "arrow",
            "--rows-max",
            "1",
        ],
        cwd=shell.folder,
        env=shell.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert b"the answer was cut" in arrow.stderr
    assert pa.ipc.open_stream(arrow.stdout).read_all()["cost_usd"].to_pylist() == [
        Decimal("0.249754")
    ]


def test_a_key_may_be_let_name_end_users_and_be_kept_from_it(shell: Shell) -> None:
    # Given a new key, when it is made one of a gateway and changed back, then it says so each time.
    made = shell.answer("keys", "create", "--names-end-users")
    assert made["names_end_users"] is True
    changed = shell.answer("keys", "update", made["key"], "--no-names-end-users")
    assert changed["names_end_users"] is False


def test_a_long_arrow_answer_is_whole_or_says_that_it_was_cut(shell: Shell) -> None:
    # Given an answer of many parts, when it is written, then it is all of it; when it is cut, then
    # a note says so, which only the answer's end knows.
    query = "SELECT range AS n, repeat('x', 100) AS text FROM range(20000)"
    for rows_max, rows, is_cut in ((None, 20000, False), (15000, 15000, True)):
        options = [] if rows_max is None else ["--rows-max", str(rows_max)]
        done = subprocess.run(
            [sys.executable, "-m", "services.cli", "sql", query, "--format", "arrow", *options],
            cwd=shell.folder,
            env=shell.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=True,
        )
        assert pa.ipc.open_stream(done.stdout).read_all()["n"].to_pylist() == list(range(rows))
        assert (b"the answer was cut" in done.stderr) == is_cut


def test_an_analyst_asks_with_a_key_of_their_own(shell: Shell) -> None:
    # Given an analyst's key in a file or in the environment, when the ledger is asked with it,
    # then it sees its team's rows alone, of which there are none here; no master key is needed.
    made = shell.run("keys", "create", "--team-id", "blue", "--analyst", "team")
    assert made.returncode == 0, made.stderr
    (shell.folder / "analyst").write_text(made.stdout)
    query = ("sql", "SELECT count(*) AS n FROM requests", "--format", "csv")
    no_master = {"LITELLM_MASTER_KEY": ""}
    for arguments, environment in (
        ((), {"TALLYGATE_KEY": made.stdout.strip()}),
        (("--key-file", "analyst"), {}),
    ):
        done = shell.run(*query, *arguments, **no_master, **environment)
        assert (done.returncode, done.stdout.split()) == (0, ["n", "0"]), done.stderr
    assert shell.run(*query).stdout.split() == ["n", "2"]


def test_hostile_cells_neither_move_the_cursor_nor_become_formulas(shell: Shell) -> None:
    # Given a user agent that is a formula and clears the screen, when it is printed,
    query = "SELECT user_agent, -1.5::DECIMAL(3,1) AS n FROM requests WHERE user_agent IS NOT NULL"
    # Then the terminal sees text, a spreadsheet sees text, and --raw is the exact value.
    assert "\x1b" not in shell.run("sql", query).stdout
    for arguments, expected in (((), f"'{EVIL}"), (("--raw",), EVIL)):
        output = shell.run("sql", query, "--format", "csv", *arguments).stdout
        assert list(csv.reader(io.StringIO(output)))[1] == [expected, "-1.5"]


def test_cut_answer_is_said_on_standard_error(shell: Shell) -> None:
    # Given more rows than wanted, when they are printed, then a note says that there are more.
    done = shell.run("sql", "SELECT request_id FROM requests", "--rows-max", "1")
    assert "cut after 1 rows" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "words"),
    [
        (("sql", "DROP TABLE requests"), {}, 1, "DROP"),
        (("keys", "info", "sk-no-such-key"), {}, 1, "not found"),
        (("keys", "create", "--budget-duration", "2mo"), {}, 1, "1mo"),
        (("keys", "create", "--max-budget", "much"), {}, 2, "100.00"),
        (("keys", "create", "--max-budget", "-1"), {}, 2, "negative"),
        (("keys", "create", "--metadata", "[1]"), {}, 2, "JSON object"),
        (("keys", "create", "--model-rpm-limit", "claude"), {}, 2, "MODEL=N"),
        (("keys", "create", "--budget-limit", "10"), {}, 2, "USD/DURATION"),
        (("keys", "create", "--model-budget", "5/1d"), {}, 2, "MODEL=USD"),
        (("keys", "update", "sk-some-key"), {}, 2, "nothing to change"),
        (("keys", "nonsense"), {}, 2, "nonsense"),
        (("sql",), {}, 2, "QUERY is missing"),
        (("keys", "list"), {"LITELLM_MASTER_KEY": "sk-wrong-master-key"}, 77, "neither the master"),
        (("keys", "list"), {"LITELLM_MASTER_KEY": ""}, 77, "--key-file"),
        (("keys", "list", "--master-key-file", "none"), {}, 77, "cannot be read"),
        (("keys", "list"), {"TALLYGATE_URL": "http://127.0.0.1:1"}, 69, "tallygate serve"),
        (("keys", "list"), {"TALLYGATE_URL": "127.0.0.1:1"}, 1, "no URL"),
    ],
)
def test_failures_have_exit_codes_and_words(
    shell: Shell, arguments: tuple[str, ...], environment: dict[str, str], code: int, words: str
) -> None:
    # Given a command that cannot be done, when it is run, then its exit code says which kind.
    done = shell.run(*arguments, **environment)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_master_key_comes_from_file_environment_or_data_folder(shell: Shell) -> None:
    # Given the master key in one of its places, when keys are listed, then it is found.
    secrets = shell.folder / "data" / "secrets"
    secrets.mkdir(parents=True)
    (secrets / "master_key").write_text(f"{MASTER_KEY}\n")
    (shell.folder / "other").write_text(MASTER_KEY)
    none = {"LITELLM_MASTER_KEY": ""}
    assert shell.run("keys", "list", **none).returncode == 0
    wrong = {"LITELLM_MASTER_KEY": "sk-wrong", "TALLYGATE_MASTER_KEY": MASTER_KEY}
    assert shell.run("keys", "list", **wrong).returncode == 0
    given = ("keys", "list", "--master-key-file", "other")
    assert shell.run(*given, LITELLM_MASTER_KEY="sk-wrong").returncode == 0


def test_every_command_explains_itself(shell: Shell) -> None:
    # Given each command, when --help is asked, then it says what it does, without a gateway.
    commands = ["create", "list", "info", "block", "unblock", "update", "regenerate", "delete"]
    for arguments in [["sql"], ["keys"], *(["keys", name] for name in commands)]:
        done = shell.run(*arguments, "--help", TALLYGATE_URL="http://127.0.0.1:1")
        assert done.returncode == 0
        assert "Usage" in done.stdout
