"""`tallygate teams`, `users`, `models`, `spend` and `logs`, against a real admin process."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import pytest

from services.client.cli import main
from tests.support.admin import MASTER_KEY, RunningAdmin
from tests.support.nats import NatsServer
from tests.support.query_reader import request_row, running_query_reader

PERIOD = ("--from", "2026-11-01", "--to", "2026-11-30")
OPUS, SONNET = "claude-opus-4-5", "claude-sonnet-4-20250514"


@pytest.fixture(scope="module")
def key(admin: RunningAdmin) -> dict[str, Any]:
    return admin.generate(key_alias="ana", user_id="u1", team_id="green", tags=["web"])


@pytest.fixture(scope="module", autouse=True)
def _reader(
    admin: RunningAdmin,
    nats: NatsServer,
    key: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[None]:
    """Three requests of the key, one of them unpriced, and one of a key without a team."""
    ana = {
        "key_id": key["key_id"],
        "key_alias": "ana",
        "user_id": "u1",
        "team_id": "green",
        "session_id": "=1+1",
    }
    bob = {"key_id": "key_bob", "key_alias": "bob\x1b[2J", "user_id": "u2", "team_id": None}
    rows = [
        request_row(request_id="r1", cost_usd="0.125", model=OPUS, end_user_id="e-1", **ana),
        request_row(request_id="r2", cost_usd="2", started_at="2026-11-21 08:00:00", **ana),
        request_row(request_id="r3", cost_usd=None, unpriced=True, **ana),
        request_row(request_id="r4", cost_usd="10", status="refused", http_status=429, **bob),
    ]
    known = {
        "key_id": key["key_id"],
        "key_alias": "ana",
        "key_name": "sk-...1",
        "user_id": "u1",
        "team_id": "green",
        "models": [],
        "tags": ["web"],
        "created_at": "2026-11-01",
        "updated_at": "2026-11-01",
    }
    folder = tmp_path_factory.mktemp("reader")
    with running_query_reader(folder, nats.url, rows, {"keys": [known]}):
        yield


class Done(NamedTuple):
    """What a command ended in."""

    code: int
    out: str
    err: str

    def row(self, name: str) -> list[str]:
        """Return the cells of the table's row that has a word."""
        (line,) = [line for line in self.out.splitlines() if name in line.split()]
        return line.split()


Run = Callable[..., Done]


class AtTerminal(io.StringIO):
    """What somebody types."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def run(
    admin: RunningAdmin, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run a command as `tallygate` does, in this process; it asks the real gateway."""
    monkeypatch.setenv("TALLYGATE_URL", admin.url)
    monkeypatch.setenv("TALLYGATE_MASTER_KEY", MASTER_KEY)

    def run_command(*arguments: str) -> Done:
        code = main(list(arguments))
        return Done(code, *capsys.readouterr())

    return run_command


@pytest.fixture
def answer(run: Run) -> Callable[..., Any]:
    """Run a command that must succeed and print JSON."""

    def decoded(*arguments: str) -> Any:
        done = run(*arguments, "--json")
        assert done.code == 0, done.err
        return json.loads(done.out, parse_float=Decimal)

    return decoded


def test_a_team_lives_its_life(run: Run, answer: Callable[..., Any]) -> None:
    # Given no team, when one is made, then its id alone is on standard output.
    made = run(
        "teams", "create", "--id", "green", "--alias", "Gardeners", "--max-budget", "100",
        "--budget-duration", "monthly", "--rpm-limit", "60", "--on-quota-exhausted", "refuse",
        "--metadata", '{"cost_centre": "4711"}',
    )  # fmt: skip
    assert (made.code, made.out) == (0, "green\n"), made.err
    # Then it is listed with its budget, and shown with its settings, its spend and its key.
    assert run("teams", "list").row("green")[:3] == ["green", "Gardeners", "active"]
    shown = run("teams", "info", "green").out
    for words in ("60 requests a minute", "refuse", "4711", "$2.125", "ana", "begins anew"):
        assert words in shown
    # When it is changed, then what is named changes, --unset takes away, and the rest stays.
    arguments = ("--max-budget", "5.5", "--unset", "rpm-limit", "--unset", "metadata")
    changed = answer("teams", "update", "green", *arguments)["data"]
    assert (changed["max_budget"], changed["rpm_limit"]) == (Decimal("5.5"), None)
    assert (changed["team_alias"], changed["metadata"]) == ("Gardeners", {})
    assert "changed Gardeners (green)" in run("teams", "update", "green", "--tpm-limit", "9").err
    # When it gets members, then they are shown, those who manage it first; and they come and go.
    assert "2 in all" in run("teams", "member-add", "green", "m1", "m2").err
    promoted = run("teams", "member-update", "green", "m2", "--role", "admin")
    assert "m2 has the role admin in green now, and no budget of its own" in promoted.err
    each = ("--member-budget", "$20", "--member-budget-duration", "monthly")
    assert run("teams", "update", "green", *each).code == 0
    budget = run("teams", "member-update", "green", "m1", "--max-budget", "7.5")
    assert "m1 has the role user in green now, and $7.50 of its own" in budget.err
    shown = run("teams", "info", "green")
    assert shown.row("m2")[-2:] == ["$20.00", "monthly"]
    assert shown.row("m1")[-2:] == ["$7.50", "monthly"]
    assert run("teams", "member-update", "green", "m1", "--unset-budget").code == 0
    assert run("teams", "info", "green").row("m1")[-2:] == ["$20.00", "monthly"]
    assert run("teams", "member-update", "green", "m1").code == 2
    mail = ("m3@example.com", "--by-email", "--role", "user")
    added = answer("teams", "member-add", "green", *mail)["updated_team_memberships"]
    shown = run("teams", "info", "green").out
    assert shown.index("m2") < shown.index("m1")
    assert len(added) == 1
    assert "deleted 0 key(s)" in run("teams", "member-delete", "green", "m1").err
    assert {each["role"] for each in answer("teams", "list")[0]["members_with_roles"]} == {
        "admin", "user",
    }  # fmt: skip
    assert run("users", "delete", "m1", "m2", added[0]["user_id"]).code == 0
    # When its models are named, then its keys may use these alone, until that is unset.
    assert run("teams", "update", "green", "--model", "a", "--model", "b").code == 0
    assert "a, b" in run("teams", "info", "green").out
    assert answer("teams", "update", "green", "--unset", "model")["data"]["models"] == []
    # When it is blocked and unblocked, then it says so each time.
    assert "which is blocked now" in run("teams", "block", "green").err
    assert answer("teams", "list")[0]["blocked"] is True
    assert answer("teams", "unblock", "green")["blocked"] is False
    # When a team is deleted, then it is gone with its keys.
    assert answer("teams", "create", "--id", "gone")["team_id"] == "gone"
    assert run("keys", "create", "--team-id", "gone").code == 0
    assert "deleted 1 team(s) and 1 key(s)" in run("teams", "delete", "gone").err
    assert "gone" not in run("teams", "list").out


def test_a_user_lives_a_life(run: Run, answer: Callable[..., Any]) -> None:
    # Given no user, when one is made, then the id is printed; with a first key the key is, alone.
    made = run("users", "create", "--id", "u1", "--email", "ana@example.com", "--alias", "Ana")
    assert (made.code, made.out) == (0, "u1\n"), made.err
    with_key = run("users", "create", "--id", "u9", "--with-key", "--key-alias", "first")
    assert with_key.out.startswith("sk-")
    assert with_key.out.strip() not in run("users", "info", "u9").out
    # Then users are listed, by their mail address too, page by page.
    assert run("users", "list", "--email", "ANA@").out.count("@example.com") == 1
    assert "page 1 of 2, 2 users in all" in run("users", "list", "--size", "1").err
    shown = run("users", "info", "u1").out
    for words in ("Ana", "ana@example.com", "$2.125", "green"):
        assert words in shown
    # When a user gets a role, then it is shown; one that is none is refused by name.
    assert run("users", "update", "u1", "--role", "internal_user").code == 0
    assert "internal_user" in run("users", "list").row("u1")
    assert run("users", "update", "u1", "--role", "boss").code == 2
    # When a user is changed, blocked, unblocked and deleted, then each is done.
    changed = answer("users", "update", "u9", "--email", "x@y.z", "--max-budget", "1")["data"]
    assert (changed["user_email"], changed["max_budget"]) == ("x@y.z", 1)
    assert answer("users", "update", "u9", "--unset", "email")["data"]["user_email"] is None
    assert "which is blocked now" in run("users", "block", "u9").err
    assert answer("users", "unblock", "u9")["data"]["blocked"] is False
    assert "deleted 1 user(s) and 1 key(s)" in run("users", "delete", "u9").err
    assert answer("users", "list")["total"] == 1


def test_spend_by_everything_adds_up(run: Run, answer: Callable[..., Any]) -> None:
    # Given four requests, one unpriced, when spend is shown in all, then it is their exact sum.
    assert "$12.125" in run("spend").out
    assert answer("spend")["spend"] == Decimal("12.125")
    # When it is shown by each thing, then every part is there, and the sum says what lacks.
    for by, name, amount in (
        ("day", "2026-11-21", "$2.00"),
        ("model", OPUS, "$0.125"),
        ("key", "ana", "$2.125"),
        ("user", "u1", "$2.125"),
        ("team", "green", "$2.125"),
        ("tag", "web", "$2.125"),
        ("end-user", "e-1", "$0.125"),
    ):
        done = run("spend", "--by", by, *PERIOD)
        assert amount in done.row(name), (by, done.out, done.err)
        assert "2026-11-01 to 2026-11-30" in done.err
        assert ("$12.125 in all" in done.err) == (by not in ("tag", "end-user")), (by, done.err)
        assert ("1 request(s) without" in done.err) == (by not in ("tag", "end-user")), by
        assert "\x1b" not in done.out
        assert answer("spend", "--by", by, *PERIOD)
        # Then CSV has the same, exactly.
        rows = list(csv.DictReader(io.StringIO(run("spend", "--by", by, *PERIOD, "--csv").out)))
        found = [Decimal(row["spend"]) for row in rows if name in row.values()]
        assert found == [Decimal(amount.strip("$"))], by
    assert list(csv.reader(io.StringIO(run("spend", "--csv").out)))[1] == ["12.125", "", ""]
    assert run("spend", "--csv", "--json").code == 2
    # When no dates are given, then it is this month up to now.
    days = [datetime.now(UTC).date()]
    told = run("spend", "--by", "day").err
    days.append(datetime.now(UTC).date())
    assert any(f"{day:%Y-%m}-01 to {day}" in told for day in days)
    # When a period is given alone, then it is by day; a day before all has nothing.
    assert run("spend", *PERIOD).row("2026-11-20")[-1] == "$10.125"
    assert "$0.00 in all" in run("spend", "--from", "2026-10-01", "--to", "2026-10-01").err


def test_logs_are_filtered_and_sorted(run: Run, answer: Callable[..., Any]) -> None:
    # Given four requests, when they are listed by key, status or cost, then those alone are shown.
    listed = run("logs", "--key", "ana", "--sort", "cost")
    assert [listed.out.index(name) for name in ("r2", "r1", "r3")] == sorted(
        listed.out.index(name) for name in ("r2", "r1", "r3")
    )
    assert listed.row("r2")[-1] == "$2.00"
    assert "r4" not in listed.out
    refused = run("logs", "--status", "refused")
    assert (refused.row("r4")[-1], "\x1b" in refused.out) == ("$10.00", False)
    found = answer("logs", "--min-spend", "1", "--max-spend", "3", "--team-id", "green")
    assert [each["request_id"] for each in found["data"]] == ["r2"]
    assert "1 of 4 requests" in run("logs", "--limit", "1").err
    # When they are asked for as CSV, then all that match are there, whole, and formulas are texts.
    rows = list(csv.DictReader(io.StringIO(run("logs", "--csv", "--key", "ana").out)))
    assert {row["request_id"]: row["cost_usd"] for row in rows} == {
        "r1": "0.125000000000", "r2": "2.000000000000", "r3": "",
    }  # fmt: skip
    assert {row["session_id"] for row in rows} == {"'=1+1"}
    raw = run("logs", "--csv", "--raw", "--user-id", "u1").out
    assert raw.count("=1+1") == 3
    assert "'=1+1" not in raw
    refused = run("logs", "--csv", "--min-spend", "1")
    assert (refused.code, "--min-spend" in refused.err) == (2, True)


def test_a_model_of_the_registry_lives_its_life(
    run: Run, answer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a model of the file, when one is added, then both are listed, and whence they come.
    params = ("--param", f"model=anthropic/{SONNET}", "--param", "api_key=os.environ/TEAM_API_KEY")
    made = run("models", "create", "claude-fast", "--id", "m-1", *params)
    assert (made.code, made.out) == (0, "m-1\n"), made.err
    listed = run("models", "list")
    assert "api" in listed.row("claude-fast")
    assert "file" in listed.row("anthropic-claude")
    # When it is changed, then numbers are numbers, and null takes a value away.
    changed = answer("models", "update", "m-1", "--param", "timeout=120", "--param", "api_key=null")
    assert changed["litellm_params"] == {"model": f"anthropic/{SONNET}", "timeout": 120}
    assert "changed quick (m-1)" in run("models", "update", "m-1", "--name", "quick").err
    # When LiteLLM's facts about it are given, then they are kept, and one that is none is told.
    facts = answer("models", "update", "m-1", "--info", "max_tokens=8192")["model_info"]
    assert facts["max_tokens"] == 8192
    assert "max_tokens" in run("models", "update", "m-1", "--info", "max_token=1").err
    # When somebody at a terminal does not mean to delete it, then it stays.
    monkeypatch.setattr("sys.stdin", AtTerminal("n\n"))
    left = run("models", "delete", "m-1")
    assert (left.code, "Delete the model m-1 for ever?" in left.out + left.err) == (130, True)
    assert "m-1" in run("models", "list").out
    # When it is deleted, then it is gone.
    monkeypatch.setattr("sys.stdin", AtTerminal("y\n"))
    assert "deleted m-1" in run("models", "delete", "m-1").err
    assert "m-1" not in run("models", "list").out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("teams", "info", "none"), 1, "no team 'none'"),
        (("teams", "update", "green"), 2, "nothing to change"),
        (("users", "block", "none"), 1, "no user 'none'"),
        (("users", "create", "--key-alias", "a"), 2, "--with-key"),
        (("users", "update", "u1", "--email", "a", "--unset", "email"), 2, "both given and unset"),
        (("spend", "--by", "cat"), 2, "cat"),
        (("spend", "--from", "yesterday"), 1, "start_date"),
        (("logs", "--key", "nobody"), 1, "no key has the alias"),
        (("models", "create", "x", "--param", "model"), 2, "NAME=VALUE"),
        (("models", "delete", "none"), 1, "no model with this id"),
        (("teams", "list", "--url", "http://127.0.0.1:1"), 69, "tallygate serve"),
        (("spend", "--master-key-file", "none"), 77, "cannot be read"),
    ],
)
def test_failures_have_exit_codes_and_words(
    run: Run, arguments: tuple[str, ...], code: int, words: str
) -> None:
    # Given a command that cannot be done, when it is run, then its exit code says which kind.
    done = run(*arguments)
    assert (done.code, done.out) == (code, ""), done.err
    assert words in done.err


def test_the_program_knows_the_commands(admin: RunningAdmin) -> None:
    # Given the program as it is typed, when teams are listed as JSON, then they are printed.
    done = subprocess.run(
        [sys.executable, "-m", "services.cli", "teams", "list", "--json"],
        env={"TALLYGATE_URL": admin.url, "TALLYGATE_MASTER_KEY": MASTER_KEY},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert isinstance(json.loads(done.stdout), list)
