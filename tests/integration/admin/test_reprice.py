"""`tallygate reprice` at a running gateway: shown first, then applied, and proved."""

import json
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.gateway import MASTER_KEY, TALLYGATE, Gateway, wait_until
from tests.support.mock import MockAnthropic

TODAY = datetime.now(UTC).date()
DAYS = ["--from", str(TODAY - timedelta(days=1)), "--to", str(TODAY + timedelta(days=2))]
PAID = "SELECT count(*) FROM requests WHERE cost_usd > 0"
PRICES = """\
prices:
  - model: claude-sonnet-4-*
    multiplier: 0.5
    source: the contract of last month
"""


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, _mock_anthropic_process: MockAnthropic
) -> Iterator[Gateway]:
    with Gateway.started(tmp_path_factory.mktemp("gateway"), _mock_anthropic_process) as running:
        yield running


def tallygate(gateway: Gateway, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [TALLYGATE, *arguments, "--url", gateway.url],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"LITELLM_MASTER_KEY": MASTER_KEY},
        timeout=100,
    )


def asked(gateway: Gateway, **body: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {MASTER_KEY}"}
    return gateway.client.post("/reprice", json=body, headers=headers)


def spend(gateway: Gateway) -> Decimal:
    return Decimal(gateway.sql("SELECT coalesce(sum(cost_usd), 0) FROM requests")[0][0])


@pytest.mark.timeout(200)
def test_costs_are_shown_then_changed_and_the_books_are_proved(
    gateway: Gateway, tmp_path: Path
) -> None:
    # Given requests by which the key's budget is spent, when they are to be repriced at half
    # the price, then first it is shown and nothing is changed; with --apply they cost half, the
    # table says who and why, the key is let in again, and books, copy and rollups are proved.
    key = gateway.new_key(key_alias="alice")
    answers: list[int] = []

    def ask() -> int:
        answers.append(gateway.ask(key).status_code)
        return answers[-1]

    wait_until(lambda: ask() == 200, 30, "the proxy knows the key")
    wait_until(lambda: spend(gateway), 30, "it is booked")
    # Twelve places are as many as a budget may have.
    budget = (spend(gateway) * 3 / 4).quantize(Decimal("1e-12"))
    gateway.admin("POST", "/key/update", json={"key": key, "max_budget": str(budget)})
    wait_until(lambda: ask() == 429, 30, "the budget is spent")
    paid = answers.count(200)
    wait_until(lambda: gateway.sql(PAID) == [[paid]], 30, "all is booked")
    before = spend(gateway)
    gateway.admin(
        "POST",
        "/key/update",
        json={"key": key, "max_budget": str((before * 3 / 4).quantize(Decimal("1e-12")))},
    )
    requests = gateway.sql(PAID)[0][0]
    file = tmp_path / "prices.yaml"
    file.write_text(PRICES)
    shown = tallygate(gateway, "reprice", *DAYS, "--prices", str(file), "--json")
    assert shown.returncode == 0, shown.stderr
    answer = json.loads(shown.stdout, parse_float=Decimal)
    assert not answer["applied"]
    assert answer["total"]["cost_before_usd"] == before
    assert answer["total"]["cost_after_usd"] == before / 2
    (line,) = answer["lines"]
    assert line["difference_usd"] == -before / 2
    assert spend(gateway) == before
    assert tallygate(gateway, "reprice", *DAYS).stderr.endswith("would have other costs\n")

    why = ["--reason", "the contract came late", "--apply"]
    done = tallygate(gateway, "reprice", *DAYS, "--prices", str(file), *why)
    assert done.returncode == 0, done.stderr
    assert f"{requests} of {requests} requests" in done.stderr
    assert f"{-before / 2:+f}" in done.stdout
    assert spend(gateway) == before / 2
    rows = gateway.sql(
        "SELECT repriced_by, reason, requests, cost_before_usd, cost_after_usd FROM repricings"
    )
    who = ["master_key", "the contract came late", requests]
    assert rows == [[*who, f"{before:.12f}", f"{before / 2:.12f}"]]
    wait_until(lambda: gateway.ask(key).is_success, 30, "the budget is not spent any more")
    # What was told of the budget can be asked for: it was spent, and then it was not any more.
    events = "SELECT event FROM budget_events WHERE name = 'alice' ORDER BY stream_sequence"
    wait_until(lambda: gateway.sql(events)[-1:] == [["cleared"]], 30, "it is told")
    assert ["exceeded"] in gateway.sql(events)
    proved = subprocess.run(
        [TALLYGATE, "verify", "--data", str(gateway.data)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert proved.returncode == 0, proved.stdout + proved.stderr


def test_what_cannot_be_repriced_is_said(gateway: Gateway) -> None:
    # Given bodies with a wrong day, days in the wrong order, wrong prices, no reason, then each is
    # refused by the name of what is wrong, and nothing is changed; a virtual key may not.
    for body, name in (
        ({"from": "2026-13-01"}, "from"),
        ({"from": "2026-11-02", "to": "2026-11-02"}, "to"),
        ({"from": "2026-11-01", "prices": [{"model": "a", "multiplier": "-1"}]}, "multiplier"),
        ({"from": "2026-11-01", "apply": True}, "reason"),
        ({"from": "2026-11-01", "form": 1}, "form"),
        ({}, "from"),
    ):
        answer = asked(gateway, **body)
        assert answer.status_code == 400, answer.text
        assert name in answer.json()["error"]["message"]
    key = gateway.new_key()
    refused = gateway.client.post(
        "/reprice", json={"from": "2026-11-01"}, headers={"authorization": f"Bearer {key}"}
    )
    assert refused.status_code in {401, 403}
