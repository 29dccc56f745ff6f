"""The tutorial's walkthrough against the services of compose.yaml, the mock as the upstream."""

import threading
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.support.compose import ComposeProject, compose_command, running_compose, wait_until

MODEL = "anthropic-claude"
UPSTREAM_MODEL = "claude-sonnet-4-20250514"
OAUTH_TOKEN = "sk-ant-oat01-walkthrough"
# 1213 input, 357 output, 45677 cache read, 1511 and 307 cache write tokens, which the mock reports,
# at 3, 15, 0.30, 3.75 and 6 dollars a million.
COST_USD = Decimal("0.030205350000")
SEEN_TIMEOUT_S = 20.0
SERVICES = ("nats", "proxy", "ledger-writer", "ledger-reader", "admin")

_COMMAND = compose_command()

pytestmark = [
    pytest.mark.containers,
    pytest.mark.timeout(400),
    pytest.mark.skipif(
        _COMMAND is None,
        reason="no container engine was given (.ci/engine.sh start gets one): the walkthrough runs "
        "on the embedded nats-server alone, in tests/e2e",
    ),
]


@pytest.fixture(scope="module")
def project() -> Iterator[ComposeProject]:
    assert _COMMAND is not None
    with running_compose(_COMMAND) as running:
        yield running


def _create_key(project: ComposeProject, alias: str, max_budget: float) -> str:
    answer = project.client.post(
        "/key/generate",
        headers={"Authorization": f"Bearer {project.master_key}"},
        json={"key_alias": alias, "max_budget": max_budget, "budget_duration": "monthly"},
    )
    assert answer.status_code == httpx.codes.OK, answer.text
    key: str = answer.json()["key"]
    return key


def _send(project: ComposeProject, key: str) -> httpx.Response:
    return project.client.post(
        "/v1/messages",
        headers={
            "x-litellm-api-key": f"Bearer {key}",
            "Authorization": f"Bearer {OAUTH_TOKEN}",
            "anthropic-version": "2023-06-01",
        },
        json={
            "model": MODEL,
            "max_tokens": 100,
            "messages": [{"role": "user", "content": "Good morning"}],
        },
    )


def _send_when_known(project: ComposeProject, key: str) -> httpx.Response:
    """Send a message with a new key, which the proxy learns of by an event: not at once."""
    answers: list[httpx.Response] = []

    def known() -> bool:
        answers.append(_send(project, key))
        return answers[-1].status_code != httpx.codes.UNAUTHORIZED

    wait_until(known, "the proxy knows the new key", SEEN_TIMEOUT_S)
    return answers[-1]


def _answered_id(project: ComposeProject, key: str) -> str | None:
    """Send one message; return the gateway's id of it once the whole answer is there."""
    try:
        answer = _send(project, key)
    except httpx.TransportError:
        return None
    return answer.headers["x-tallygate-request-id"] if answer.is_success else None


def _request_ids(project: ComposeProject, alias: str) -> Counter[str]:
    """Return how often each request of a key is in the ledger, however it ended."""
    return Counter(row["request_id"] for row in _rows(project, alias, "%"))


def _rows(project: ComposeProject, alias: str, status: str = "success") -> list[dict[str, Any]]:
    """Return the requests of a key as the ledger has them at this moment."""
    answer = project.client.post(
        "/ledger/sql",
        headers={"Authorization": f"Bearer {project.master_key}"},
        json={
            "query": "SELECT * FROM requests "
            f"WHERE key_alias = '{alias}' AND status LIKE '{status}'"
        },
    )
    # The ledger's reader may be starting again.
    if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
        return []
    assert answer.status_code == httpx.codes.OK, answer.text
    names = [column["name"] for column in answer.json()["columns"]]
    return [dict(zip(names, row, strict=True)) for row in answer.json()["rows"]]


def _wait_for_rows(project: ComposeProject, alias: str, count: int) -> list[dict[str, Any]]:
    try:
        wait_until(
            lambda: len(_rows(project, alias)) >= count,
            f"{count} rows of {alias} are in the ledger",
            SEEN_TIMEOUT_S,
        )
    except AssertionError as error:
        raise AssertionError(f"{error}\n{project.logs()}") from None
    return _rows(project, alias)


def test_message_through_the_services_is_priced_in_the_ledger(project: ComposeProject) -> None:
    """Given a key, when a message is sent, then SQL shows its one row at its exact cost."""
    key = _create_key(project, "developer-1", 100.0)
    answer = _send_when_known(project, key)
    assert answer.status_code == httpx.codes.OK, answer.text
    (row,) = _wait_for_rows(project, "developer-1", 1)
    assert row["model_name"] == MODEL
    assert row["model"] == UPSTREAM_MODEL
    assert row["output_tokens"] == 357
    assert row["billing"] == "subscription"
    assert Decimal(str(row["cost_usd"])) == COST_USD


def test_spent_budget_is_refused_by_the_proxy(project: ComposeProject) -> None:
    """Given a budget below the price of one message, then one passes and a later one is refused."""
    key = _create_key(project, "developer-2", 0.01)
    assert _send_when_known(project, key).status_code == httpx.codes.OK
    answers: list[httpx.Response] = []

    def refused() -> bool:
        answers.append(_send(project, key))
        return answers[-1].status_code == httpx.codes.TOO_MANY_REQUESTS

    wait_until(refused, "the budget is refused", SEEN_TIMEOUT_S)
    assert answers[-1].json()["error"]["type"] == "billing_error"
    assert answers[-1].headers["x-should-retry"] == "false"


def test_compose_without_secrets_names_what_is_missing(project: ComposeProject) -> None:
    """Given no secrets, when compose reads its file, then it names a variable and the remedy."""
    with pytest.raises(AssertionError, match=r"_PASSWORD is not set \(run sh containers/secrets"):
        project.compose("config", without_secrets=True)


def test_services_run_without_rights_and_nats_is_not_published(project: ComposeProject) -> None:
    """Given the running services, then none can write its root, gain rights or be reached."""
    for service in SERVICES:
        found = project.inspect(service)
        host = found["HostConfig"]
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert any(option.startswith("no-new-privileges") for option in host["SecurityOpt"])
        published = {port: hosts for port, hosts in host["PortBindings"].items() if hosts}
        if service == "proxy":
            assert [hosts[0]["HostIp"] for hosts in published.values()] == ["127.0.0.1"]
        else:
            assert not published, service
        if service != "nats":
            assert found["Config"]["User"] == "10001:10001", service


def test_killed_services_count_every_answered_request_once(project: ComposeProject) -> None:
    """Given messages under way, when each service is killed, then each answer has its one row."""
    # At some hundred messages a second 100 dollars would be spent before the last kill.
    key = _create_key(project, "developer-3", 1_000_000.0)
    assert _send_when_known(project, key).status_code == httpx.codes.OK
    over = threading.Event()
    answered: list[str] = []

    def keep_sending() -> None:
        while not over.is_set():
            request_id = _answered_id(project, key)
            if request_id is None:
                over.wait(0.05)
            else:
                answered.append(request_id)

    sender = threading.Thread(target=keep_sending)
    sender.start()
    try:
        for service in SERVICES:
            project.kill(service)
            before = len(answered)
            wait_until(
                lambda before=before: len(answered) >= before + 3,  # type: ignore[misc]
                f"answers after the kill of {service}",
                60.0,
            )
    finally:
        over.set()
        sender.join()
    wait_until(
        lambda: set(answered) <= _request_ids(project, "developer-3").keys(),
        "every answered request has a row",
        60.0,
    )
    assert set(_request_ids(project, "developer-3").values()) == {1}


def test_data_outlives_down_and_up(project: ComposeProject) -> None:
    """Given booked messages, when all containers are replaced, then keys and rows are there."""
    key = _create_key(project, "developer-4", 100.0)
    assert _send_when_known(project, key).status_code == httpx.codes.OK
    _wait_for_rows(project, "developer-4", 1)
    project.compose("down", "--timeout", "30")
    project.up()
    assert _send_when_known(project, key).status_code == httpx.codes.OK
    assert len(_wait_for_rows(project, "developer-4", 2)) == 2
