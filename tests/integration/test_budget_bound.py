"""Budgets of a whole gateway with two proxies: what answers tell, and how far they are passed."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.support.gateway import Gateway, wait_until
from tests.support.mock import MockAnthropic, Scenario
from tests.support.mock_anthropic.scenario import UsageFigures

PARALLEL = 64
OUTPUT = 4096
COST_USD = Decimal("0.06144")
"""What so much output of Sonnet costs. As much is reckoned with for the first request of a key."""
TIMEOUT_S = 40.0


def answering(output_tokens: int, delay_ms: float = 0) -> Scenario:
    """Return an answer that costs its output alone."""
    usage = UsageFigures(
        input_tokens=0,
        output_tokens=output_tokens,
        cache_read_input_tokens=0,
        ephemeral_5m_input_tokens=0,
        ephemeral_1h_input_tokens=0,
    )
    return Scenario(usage=usage, delay_ms=delay_ms, events=1)


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Gateway, MockAnthropic]]:
    folder = tmp_path_factory.mktemp("budgets")
    with (
        MockAnthropic.started(folder) as mock,
        Gateway.started(folder, mock, workers=2) as gateway,
    ):
        yield gateway, mock


def spend_on_key(gateway: Gateway, mock: MockAnthropic, key: str, output_tokens: int) -> None:
    """Spend some of a key's budget, and wait until every worker's marks count it."""
    mock.set_default(answering(output_tokens))
    wait_until(lambda: gateway.ask(key, max_tokens=1).is_success, TIMEOUT_S, "the key is known")
    mock.set_default(answering(0))


def told_everywhere(gateway: Gateway, key: str, spend: Decimal) -> bool:
    """Tell whether each of several connections, over both workers, is told of a spend."""
    seen = set()
    for _ in range(8):
        with httpx.Client(base_url=gateway.url, timeout=30, trust_env=False) as client:
            answer = ask(client, key)
        seen.add(answer.headers.get("x-litellm-key-spend"))
    return seen == {f"{spend.normalize():f}"}


def ask(client: httpx.Client, key: str) -> httpx.Response:
    headers = {"x-litellm-api-key": key, "authorization": "Bearer sk-ant-oat01-of-the-tests"}
    body = {"model": "anthropic-claude", "max_tokens": OUTPUT, "messages": []}
    return client.post("/v1/messages", headers=headers, json=body)


def ask_at_once(gate: Gateway, mock: MockAnthropic, key: str) -> list[httpx.Response]:
    """Ask for many answers at once, each over a connection of its own, so by any worker."""
    mock.set_default(answering(OUTPUT, delay_ms=500))

    def one(_: int) -> httpx.Response:
        with httpx.Client(base_url=gate.url, timeout=60, trust_env=False) as client:
            return ask(client, key)

    with ThreadPoolExecutor(PARALLEL) as pool:
        return list(pool.map(one, range(PARALLEL)))


def admitted(answers: list[httpx.Response]) -> int:
    return sum(each.is_success for each in answers)


def is_spent(answer: httpx.Response, name: str) -> bool:
    """Tell whether a request was refused since the budget of a key is spent."""
    if answer.status_code != 429 or answer.json()["error"]["type"] != "billing_error":
        return False
    message: str = answer.json()["error"]["message"]
    return message.startswith(f"Budget of key {name} used up")


def test_answers_tell_where_a_budget_stands_and_many_at_once_do_not_spend_it_twice(
    gateway: tuple[Gateway, MockAnthropic],
) -> None:
    gate, mock = gateway
    # given a budget of a dollar, of which 85 cents are spent
    key = gate.new_key(max_budget=1.0, budget_duration="30d", key_alias="tight")
    spend_on_key(gate, mock, key, 56_667)
    spent = Decimal("0.850005")
    wait_until(lambda: told_everywhere(gate, key, spent), TIMEOUT_S, "both workers know")
    # then an answer says so: in Claude Code's own headers, and the amounts
    answer = gate.ask(key)
    unified = "anthropic-ratelimit-unified-"
    assert answer.headers[unified + "status"] == "allowed_warning"
    assert answer.headers[unified + "representative-claim"] == "overage"
    assert answer.headers[unified + "overage-utilization"] == "0.85"
    assert int(answer.headers[unified + "overage-reset"]) > time.time()
    assert answer.headers["x-tallygate-budget-remaining-usd"] == "0.149995"
    assert answer.headers["x-litellm-key-max-budget"] == "1"
    # and a key without a budget is told nothing
    free = gate.new_key()
    wait_until(lambda: gate.ask(free).is_success, TIMEOUT_S, "the key is known")
    assert not [name for name in gate.ask(free).headers if "budget" in name or "litellm" in name]
    # when 64 dear requests come at once
    answers = ask_at_once(gate, mock, key)
    # then those that were let in pass the budget by no more than is promised: a request for each
    # worker, and what the other one's mark had left
    assert 3 <= admitted(answers) <= 6
    assert spent + admitted(answers) * COST_USD <= 1 + 2 * COST_USD + (1 - spent)
    # and every other one was refused, in the end as spent, in the form that is shown
    assert sum(each.status_code == 429 for each in answers) == PARALLEL - admitted(answers)
    wait_until(lambda: is_spent(gate.ask(key), "tight"), TIMEOUT_S, "it is spent")


def test_a_member_of_a_team_is_refused_when_the_members_budget_is_spent(
    gateway: tuple[Gateway, MockAnthropic],
) -> None:
    # given a team with a budget for each member, and two members with keys in it and elsewhere
    gate, mock = gateway
    members = [{"user_id": "ann"}, {"user_id": "bob"}]
    team = {"team_id": "crew/1", "members_with_roles": members, "team_member_budget": 0.5}
    gate.admin("POST", "/team/new", json=team)
    ann = {"user_id": "ann", "team_id": "crew/1"}
    first, second, elsewhere = gate.new_key(**ann), gate.new_key(**ann), gate.new_key(user_id="ann")
    other = gate.new_key(user_id="bob", team_id="crew/1")
    # when one spends it with one key
    spend_on_key(gate, mock, first, 40_001)
    # then the member's other key of the team is refused, and says whose budget it is
    said = "Budget of member ann in crew/1 used up ($0.60"
    wait_until(lambda: said in gate.ask(second).text, TIMEOUT_S, "it is spent")
    assert gate.ask(second).status_code == 429
    # and the key elsewhere, and those of other members, are not
    for key in (elsewhere, other):
        wait_until(lambda key=key: gate.ask(key).is_success, TIMEOUT_S, "the key is known")  # type: ignore[misc]

    def places() -> dict[str, Any]:
        info = gate.admin("GET", "/team/info", params={"team_id": "crew/1"})
        return {each["user_id"]: each for each in info["team_memberships"]}

    wait_until(lambda: places()["ann"]["spend"] == 0.600015, TIMEOUT_S, "the reader shows it")
    assert places()["ann"]["litellm_budget_table"]["max_budget"] == 0.5
    assert places()["bob"]["spend"] == 0
    # when the member's own budget is raised, then the key works again
    more = {"team_id": "crew/1", "user_id": "ann", "max_budget_in_team": 5}
    assert gate.admin("POST", "/team/member_update", json=more)["max_budget_in_team"] == 5
    wait_until(lambda: gate.ask(second).is_success, TIMEOUT_S, "there is room again")
    own = gate.admin("GET", "/user/info", params={"user_id": "ann"})["team_memberships"]
    assert [each["litellm_budget_table"]["max_budget"] for each in own] == [5]


def test_a_strict_budget_is_passed_by_one_request_a_worker(
    gateway: tuple[Gateway, MockAnthropic],
) -> None:
    gate, mock = gateway
    # given a strict budget of a dollar, of which 85 cents are spent
    key = gate.new_key(max_budget=1.0, key_alias="strict", strict_budget=True)
    spend_on_key(gate, mock, key, 56_667)
    spent = Decimal("0.850005")
    wait_until(lambda: told_everywhere(gate, key, spent), TIMEOUT_S, "both workers know")
    # when 64 dear requests come at once
    answers = ask_at_once(gate, mock, key)
    # then they pass it by no more than a request for each worker
    assert admitted(answers) >= 1
    assert spent + admitted(answers) * COST_USD <= 1 + 2 * COST_USD
    assert sum(each.status_code == 429 for each in answers) == PARALLEL - admitted(answers)
    # and all of it can be spent
    wait_until(lambda: is_spent(ask(gate.client, key), "strict"), TIMEOUT_S, "it is spent")


def test_a_key_whose_spend_is_reset_is_let_in_again_and_its_history_stays(
    gateway: tuple[Gateway, MockAnthropic],
) -> None:
    gate, mock = gateway
    # given a key whose budget, and whose window of a day, are spent
    limits = [{"budget_duration": "1d", "max_budget": 0.5}]
    fields = {"max_budget": 0.8, "budget_limits": limits, "key_alias": "again"}
    key = gate.new_key(**fields, team_id="resetters")
    spend_on_key(gate, mock, key, 56_667)
    wait_until(lambda: gate.ask(key).status_code == 429, TIMEOUT_S, "it is spent")

    def info() -> dict[str, Any]:
        shown: dict[str, Any] = gate.admin("GET", "/key/info", params={"key": key})["info"]
        return shown

    wait_until(lambda: info()["spend"] == 0.850005, TIMEOUT_S, "the reader shows it")
    # when its spend is set, which may not be more than it was, nor more than the budget
    path = f"/key/{info()['key_id']}/reset_spend"
    for wrong in (0.86, 0.81, -1):
        with pytest.raises(AssertionError, match=r"400.*reset_to must"):
            gate.admin("POST", path, json={"reset_to": wrong})
    answer = gate.admin("POST", path, json={"reset_to": 0.5})
    assert (answer["spend"], answer["previous_spend"]) == (0.5, 0.850005)
    assert (answer["max_budget"], answer["budget_reset_at"]) == (0.8, None)
    # then both budgets are cleared, each worker counts from the figure that was set, and the next
    # dear request is the last one
    wait_until(lambda: told_everywhere(gate, key, Decimal("0.5")), TIMEOUT_S, "it is cleared")
    shown = info()
    assert (shown["spend"], shown["total_spend"]) == (0.5, 0.850005)
    assert shown["budget_limits_usage"]["1d"]["current_spend"] == 0
    mock.set_default(answering(20_001))
    assert gate.ask(key).is_success
    mock.set_default(answering(0))
    wait_until(lambda: is_spent(gate.ask(key), "again"), TIMEOUT_S, "it is spent again")
    wait_until(lambda: info()["spend"] == 0.800015, TIMEOUT_S, "the reader shows that, too")
    assert info()["total_spend"] == 1.15002
    team = gate.sql("SELECT sum(cost_usd) FROM requests WHERE team_id = 'resetters'")
    assert Decimal(team[0][0]) == Decimal("1.15002")
    # and when the ledger is killed, then its next life says the same
    gate.admin("POST", "/key/reset_spend", json={"key": key, "reset_to": 0.3})
    gate.kill("--role writer")
    wait_until(lambda: told_everywhere(gate, key, Decimal("0.3")), TIMEOUT_S, "it is cleared")
    rows = gate.sql(
        "SELECT budget, spend_reset_at IS NOT NULL, spend_reset_to_usd FROM budgets "
        "WHERE name = 'again' ORDER BY budget"
    )
    assert [(row[0], row[1], Decimal(row[2])) for row in rows] == [
        ("max_budget", True, Decimal("0.3")),
        ("window-1d", True, Decimal(0)),
    ]
