"""`tallygate budgets`, against a real admin process and the ledger's reader."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from services.client.cli import main
from tests.support.admin import MASTER_KEY, RunningAdmin, running_admin
from tests.support.nats import NatsServer
from tests.support.query_reader import request_row, running_query_reader

OPUS = "claude-opus-4-5"


@pytest.fixture(scope="module")
def admin(nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAdmin]:
    """An admin service whose configuration has a budget of all keys together."""
    folder: Path = tmp_path_factory.mktemp("admin")
    with running_admin(folder, nats.url, config="  max_budget: 40\n") as running:
        yield running


@pytest.fixture(scope="module")
def key(admin: RunningAdmin) -> dict[str, Any]:
    return admin.generate(key_alias="ana", user_id="u1", team_id="green")


@pytest.fixture(scope="module", autouse=True)
def _reader(
    nats: NatsServer, key: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Two requests of the key, for two models, and one of nobody's."""
    ana = {"key_id": key["key_id"], "key_alias": "ana", "user_id": "u1", "team_id": "green"}
    rows = [
        request_row(request_id="r1", cost_usd="0.125000000001", model_name=OPUS, **ana),
        request_row(request_id="r2", cost_usd="8", model_name="claude-haiku-4-5", **ana),
        request_row(request_id="r3", cost_usd="24"),
    ]
    known = {
        "key_id": key["key_id"],
        "key_alias": "ana",
        "key_name": "sk-...1",
        "user_id": "u1",
        "team_id": "green",
        "models": [],
        "tags": [],
        "created_at": "2026-11-01",
        "updated_at": "2026-11-01",
    }
    with running_query_reader(tmp_path_factory.mktemp("reader"), nats.url, rows, {"keys": [known]}):
        yield


class Done(NamedTuple):
    """What a command ended in."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(
    admin: RunningAdmin, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run a command as `tallygate` does, in this process, with the master key or another one."""
    monkeypatch.setenv("TALLYGATE_URL", admin.url)

    def run_command(*arguments: str, key: str = MASTER_KEY) -> Done:
        monkeypatch.setenv("TALLYGATE_MASTER_KEY", key)
        code = main(list(arguments))
        return Done(code, *capsys.readouterr())

    return run_command


def test_a_budget_lives_its_life(run: Run, admin: RunningAdmin, key: dict[str, Any]) -> None:
    # Given no budget of a key, when some are set, then each is shown with what is left of it.
    shown = run(
        "budgets", "set", "key", "ana", "--max-budget", "10", "--soft-budget", "9",
        "--budget-limit", "100/monthly", "--model-budget", "claude-opus-*=0.125000000001",
        "--temp-budget-increase", "2", "--temp-budget-expiry", "2999-01-01",
    )  # fmt: skip
    assert shown.code == 0, shown.err
    answered = run("budgets", "info", "key", "ana", "--json").out
    lines = json.loads(answered, parse_float=Decimal, parse_int=Decimal)
    by_name = {line["model"] or line["window"]: line for line in lines}
    main_budget, opus = by_name[None], by_name["claude-opus-*"]
    assert (main_budget["limit_usd"], main_budget["state"]) == (12, "within")
    assert main_budget["spent_usd"] == Decimal("8.125000000001")
    assert main_budget["left_usd"] == Decimal("3.874999999999")
    assert (opus["spent_usd"], opus["left_usd"], opus["state"]) == (
        Decimal("0.125000000001"), 0, "exceeded",
    )  # fmt: skip
    assert by_name["monthly"]["resets_at"] is not None
    assert (opus["resets_at"], main_budget["scope_id"]) == (None, key["key_id"])
    for words in ("for claude-opus-* in all", "per monthly", "$12.00 (told of at $9.00)", "68 %"):
        assert words in shown.out, shown.out
    # When the key itself asks, then it is shown its own, and a list of others' is refused.
    own = run("budgets", "info", key=str(key["key"]))
    assert own.out == run("budgets", "info", "key", "ana").out
    assert run("budgets", "list", "--scope", "team", key=str(key["key"])).code == 77
    # When budgets are taken away, then these are gone, and the others stay.
    kept = run("budgets", "unset", "key", "ana", "model-budget", "soft-budget", "budget-limit")
    assert kept.code == 0, kept.err
    assert "claude-opus" not in kept.out
    assert "$12.00" in kept.out
    assert "no budget is set" in run("budgets", "unset", "key", "ana", "--all").err
    assert admin.http.get("/key/info", params={"key": key["key"]}).json()["info"][
        "temp_budget_increase"
    ] is None  # fmt: skip


def test_budgets_of_all_scopes_are_listed(run: Run) -> None:
    # Given budgets of a team, a user, and all together
    assert run("teams", "create", "--id", "green", "--alias", "Gardeners").code == 0
    assert run("users", "create", "--id", "u1", "--email", "ana@example.com").code == 0
    assert run("budgets", "set", "team", "green", "--max-budget", "8", "--strict-budget").code == 0
    assert run("budgets", "set", "user", "u1", "--max-budget", "16.250000000002").code == 0
    # When they are listed, then each has its spend, and its state.
    listed = run("budgets", "list")
    rows = {line.split()[0]: line for line in listed.out.splitlines() if line.split()}
    assert "exceeded, strict" in rows["team"]
    assert ("Gardeners" in rows["team"], "102 %" in rows["team"]) == (True, True)
    assert ("within" in rows["user"], "50 %" in rows["user"]) == (True, True)
    assert ("warned" in rows["global"], "80 %" in rows["global"], "$40.00" in rows["global"]) == (
        True, True, True,
    )  # fmt: skip
    # Then those of one scope, or of one state, can be asked for alone.
    exceeded = json.loads(run("budgets", "list", "--state", "exceeded", "--json").out)
    assert [(line["scope"], line["scope_id"]) for line in exceeded] == [("team", "green")]
    rows = list(csv.DictReader(io.StringIO(run("budgets", "list", "--csv").out)))
    assert [row["spent_usd"] for row in rows if row["scope"] == "team"] == ["8.125000000001"]
    alone = json.loads(run("budgets", "list", "--scope", "user", "--scope", "global", "--json").out)
    assert [line["scope"] for line in alone] == ["user", "global"]
    assert run("budgets", "info", "global").out.count("everybody") == 1


def test_a_members_budget_is_that_of_a_user_in_a_team(run: Run) -> None:
    # Given a team with two members, one of whom has a budget of her own there
    assert run("teams", "create", "--id", "blue", "--member-budget", "5").code == 0
    assert run("teams", "member-add", "blue", "u7").code == 0
    added = run("teams", "member-add", "blue", "u8", "--max-budget", "7", "--role", "admin")
    assert added.code == 0, added.err
    # When budgets of members are listed, then each has one, what was spent of it, and its name.
    listed = json.loads(run("budgets", "list", "--scope", "member", "--json").out)
    found = {each["scope_id"]: (each["limit_usd"], each["spent_usd"]) for each in listed}
    assert found == {"blue/u7": (5, 0), "blue/u8": (7, 0)}
    # When one is set, then it is that member's own, and her role stays; else that of all holds.
    changed = run("budgets", "set", "member", "blue/u8", "--max-budget", "9")
    assert ("$9.00" in changed.out, "u8 in blue" in changed.out) == (True, True), changed.err
    assert "admin" in run("teams", "info", "blue").out
    assert "$5.00" in run("budgets", "unset", "member", "blue/u8", "--all").out
    # And a team's admin may say so with the members, too.
    assert run("teams", "member-update", "blue", "u7", "--max-budget", "6").code == 0
    assert "$6.00" in run("teams", "info", "blue").out
    assert run("teams", "member-update", "blue", "u7", "--unset-budget").code == 0
    assert run("teams", "update", "blue", "--unset", "member-budget").code == 0
    assert "no budget is set" in run("budgets", "info", "member", "blue/u7").err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("set", "key", "ana"), 2, "nothing to set"),
        (("set", "global", "x", "--max-budget", "1"), 2, "is not one of"),
        (("set", "key", "ana", "--max-budget", "much"), 2, "amount"),
        (("set", "key", "nobody", "--max-budget", "1"), 1, "nobody"),
        (("set", "team", "nobody", "--max-budget", "1"), 1, "nobody"),
        (("unset", "key", "ana"), 2, "what to take away"),
        (("unset", "key", "ana", "max-budget", "--all"), 2, "what to take away"),
        (("info", "team"), 2, "which team"),
        (("info",), 1, "name a key"),
        (("info", "member", "green"), 2, "TEAM/USER"),
        (("info", "member", "green/nobody"), 1, "no member"),
        (("set", "member", "green/u1", "--soft-budget", "1"), 2, "no soft_budget"),
    ],
)
def test_what_cannot_be_done_is_said(
    run: Run, arguments: tuple[str, ...], code: int, words: str
) -> None:
    # Given a command that cannot be meant, when it runs, then its exit code and its words say why.
    done = run("budgets", *arguments)
    assert (done.code, words in done.err) == (code, True), done.err
