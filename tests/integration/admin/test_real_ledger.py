"""The admin service, the ledger's writer and its reader as processes: from events to answers."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import msgspec

from schemas.events import UsageRecord, UsageRecorded, us_from_time
from schemas.rpc import QUERY_TIMEOUT_S
from schemas.streams import usage_subject
from schemas.usage import Usage
from services.client.cli import main
from services.runtime.bus import Bus
from tests.support.admin import MASTER_KEY, RunningAdmin, running_admin
from tests.support.nats import running_nats

PAGE = (Path(__file__).parents[3] / "docs" / "analytics.md").read_text()
QUESTION = (
    PAGE.partition("### Do the prices in force")[2].partition("```sql")[2].partition("```")[0]
)
DEADLINE_S = 60.0
POLL_S = 0.05
TUTORIAL_USAGE = Usage(
    input_tokens=2, output_tokens=333, cache_read_tokens=25_142, cache_write_1h_tokens=39_535
)


@contextmanager
def running_ledger(
    role: str, folder: Path, config: Path, nats_url: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the ledger's writer or reader for the length of a with statement."""
    arguments = ["ledger", "--role", role, "--config", str(config), "--data", str(folder / "data")]
    with (folder / f"{role}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={
                "PATH": os.environ["PATH"],
                "TALLYGATE_NATS_URL": nats_url,
                "LITELLM_MASTER_KEY": MASTER_KEY,
            },
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


async def record_usage(nats_url: str, key: dict[str, Any]) -> None:
    """Publish the end of one request, as a proxy would."""
    now_us = us_from_time(datetime.now(UTC))
    event = UsageRecorded(
        source="/proxy/test",
        id="1",
        time=datetime.now(UTC),
        data=UsageRecord(
            request_id="tg_0123456789abcdef0123456789abcdef",
            started_at_us=now_us,
            ended_at_us=now_us + 1_000_000,
            key_id=key["key_id"],
            key_alias=key["key_alias"],
            model_name="anthropic-claude",
            model="claude-sonnet-4-20250514",
            billing="subscription",
            usage=TUTORIAL_USAGE,
        ),
    )
    bus = await Bus.connect(nats_url, "proxy")
    await bus.publish(usage_subject(), msgspec.json.encode([event]))
    await bus.close()


def wait_for_prices(admin: RunningAdmin) -> None:
    """Wait until the price book is in the stream: what is published now comes after it."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        response = admin.http.get("/prices")
        if response.status_code == 200 and response.json()["changes"]:
            return
        time.sleep(POLL_S)
    message = f"no prices within {DEADLINE_S} s: {response.text}"
    raise AssertionError(message)


def wait_for_spend(admin: RunningAdmin, key: str) -> str:
    """Return /key/info as soon as it shows spend."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        response = admin.http.get("/key/info", params={"key": key})
        if response.json()["info"]["total_spend"]:
            return response.text
        time.sleep(POLL_S)
    message = f"no spend within {DEADLINE_S} s: {response.text}"
    raise AssertionError(message)


def test_usage_event_becomes_exact_spend_in_every_answer(tmp_path: Path) -> None:
    # Given admin, writer and reader, and a key, when one request's usage is recorded,
    with ExitStack() as parts:
        nats = parts.enter_context(running_nats(tmp_path))
        admin = parts.enter_context(running_admin(tmp_path / "admin", nats.url, wait=False))
        config = admin.folder / "config.yaml"
        parts.enter_context(running_ledger("writer", tmp_path, config, nats.url))
        reader = parts.enter_context(running_ledger("reader", tmp_path, config, nats.url))
        admin.wait_ready()
        key = admin.generate(
            key_alias="tutorial",
            budget_duration="monthly",
            max_budget=1,
            budget_limits=[{"budget_duration": "365d", "max_budget": 9}],
            model_max_budget={
                "anthropic-*": {"budget_limit": 0.5, "time_period": "monthly"},
                "other": {"budget_limit": 3},
            },
        )
        wait_for_prices(admin)
        asyncio.run(record_usage(nats.url, key))
        # Then the tutorial's cost is in the key, its log row, the sum and SQL, to the last digit.
        info = wait_for_spend(admin, str(key["key"]))
        assert '"spend":0.2497536,' in info
        assert '"total_spend":0.2497536,' in info
        # In every budget that it counts for, in no other one, and in SQL.
        shown = msgspec.json.decode(info)["info"]
        used = shown["budget_limits_usage"] | shown["model_max_budget_usage"]
        assert {name: each["current_spend"] for name, each in used.items()} == {
            "365d": 0.2497536,
            "anthropic-*": 0.2497536,
            "other": 0,
        }
        query = "SELECT budget, max_budget_usd, model FROM budgets ORDER BY 1"
        answer = admin.http.post("/ledger/sql", json={"query": query}).json()
        assert [(row[0], Decimal(row[1]), row[2]) for row in answer["rows"]] == [
            ("max_budget", 1, None),
            ("model-anthropic-*", Decimal("0.5"), "anthropic-*"),
            ("model-other", 3, "other"),
            ("window-365d", 9, None),
        ]
        row = admin.http.get("/spend/logs", params={"api_key": str(key["token"])}).json()[0]
        assert (row["total_tokens"], row["prompt_tokens"]) == (65_012, 64_679)
        assert (row["spend"], row["metadata"]["billing"]) == (0.2497536, "subscription")
        assert admin.http.get("/global/spend").json()["spend"] == 0.2497536
        query = "SELECT key_alias, cost_usd FROM requests"
        answer = admin.http.post("/ledger/sql", json={"query": query}).json()
        assert answer["rows"] == [["tutorial", "0.249753600000"]]
        assert answer["stream_sequence"] == 2  # the price book comes first
        # And a long answer comes through in its parts.
        long = {"query": "SELECT range, repeat('x', 100) FROM range(20000)", "format": "csv"}
        assert admin.http.post("/ledger/sql", json=long).text.count("\r\n") == 20_001
        set_and_read_prices(admin)
        assert_every_change_is_in_the_audit(admin, key)
        # And SQL computes the booked cost from the table of prices, but for the new discount.
        (row,) = admin.http.post("/ledger/sql", json={"query": QUESTION}).json()["rows"]
        booked, computed = (Decimal(row[2]), Decimal(row[3]))
        assert (booked, computed) == (Decimal("0.2497536"), booked / 2)
        assert_reader_lost_is_503_until_it_is_whole(admin, reader, tmp_path / "data")
        parts.enter_context(running_ledger("reader", tmp_path, config, nats.url))
        assert whole_answer_after_503s(admin, query) == [["tutorial", "0.249753600000"]]


def assert_every_change_is_in_the_audit(admin: RunningAdmin, key: dict[str, Any]) -> None:
    """Change a key: the history says from what to what, by whom, from where and by which route."""
    changed = admin.http.post("/key/update", json={"key": key["key"], "max_budget": 2.5})
    query = {"object_id": key["key_id"]}
    page: dict[str, Any] = {"audit_logs": []}
    deadline = time.monotonic() + DEADLINE_S
    # The rows are asked for before their number: one may have come in between.
    while len(page["audit_logs"]) < 2 and time.monotonic() < deadline:
        page = admin.http.get("/audit", params=query).json()
        time.sleep(POLL_S)
    assert (page["total"], page["total_pages"], len(page["audit_logs"])) == (2, 1, 2)
    updated, created = page["audit_logs"]
    assert (created["action"], created["route"]) == ("created", "POST /key/generate")
    assert created["before_value"] is None
    assert updated["updated_values"] == {"max_budget_usd": "2.5"}
    assert updated["before_value"] == {"max_budget_usd": "1"}
    assert (updated["changed_by"], updated["client_address"]) == ("master_key", "127.0.0.1")
    assert (updated["route"], updated["request_id"]) == (
        "POST /key/update",
        changed.headers["request-id"],
    )
    assert updated["table_name"] == "LiteLLM_VerificationToken"
    # No hash of the key is anywhere in it; filters choose, and CSV has the same rows.
    text = admin.http.get("/audit", params={"format": "csv"}).text
    assert str(key["token"]) not in text
    assert text.count("\r\n") >= 3
    for name, value, total in (
        ("changed_field", "max_budget_usd", 2),
        ("route", "POST /key/update", 1),
        ("changed_by", "nobody", 0),
        ("table_name", "LiteLLM_TeamTable", 0),
        ("start_date", "2099-01-01", 0),
        ("end_date", "2099-01-01 00:00:00", 2),
    ):
        found = admin.http.get("/audit", params={**query, name: value}).json()
        assert found["total"] == total, name
    prices = admin.http.get("/audit", params={"object_type": "prices", "object_id": "api"}).json()
    assert {each["route"] for each in prices["audit_logs"]} == {"POST /price/update"}
    environment = {"PATH": os.environ["PATH"], "LITELLM_MASTER_KEY": MASTER_KEY}
    shown = subprocess.run(
        [sys.executable, "-m", "services.cli", "audit", "--url", admin.url, "--type", "key"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    )
    assert "max_budget_usd: 1 -> 2.5" in shown.stdout


def assert_reader_lost_is_503_until_it_is_whole(
    admin: RunningAdmin, reader: subprocess.Popen[bytes], data: Path
) -> None:
    """Kill the reader under a query and take its file away: the query is told at once."""
    endless = {"query": "SELECT count(*) FROM range(100000000000) AS t(i) WHERE i % 7 = 3"}
    answers: list[httpx.Response] = []
    asking = threading.Thread(
        target=lambda: answers.append(admin.http.post("/ledger/sql", json=endless))
    )
    asking.start()
    time.sleep(0.7)  # either it runs by now, or it finds nobody: both are 503
    reader.kill()
    reader.wait(DEADLINE_S)
    killed_at_s = time.monotonic()
    asking.join(DEADLINE_S)
    waited_s = time.monotonic() - killed_at_s
    assert answers[0].status_code == 503, answers[0].text
    # Without a look at the reader it is 13 s; with one, half a second.
    assert waited_s < QUERY_TIMEOUT_S / 2, waited_s
    files = list((data / "reader").glob("reader.duckdb*"))
    assert files
    for file in files:
        file.unlink()


def whole_answer_after_503s(admin: RunningAdmin, query: str) -> list[list[Any]]:
    """Ask until the reader answers: before its books are whole again, each answer is a 503."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        response = admin.http.post("/ledger/sql", json={"query": query})
        if response.status_code == 200:
            rows: list[list[Any]] = response.json()["rows"]
            return rows
        assert response.status_code == 503, response.text
        time.sleep(POLL_S)
    raise AssertionError(f"no answer within {DEADLINE_S} s: {response.text}")


def set_and_read_prices(admin: RunningAdmin) -> None:
    """Set prices through the API: they are in force, written down, and guarded."""
    entry = {"model": "claude-sonnet-4-0", "multiplier": 0.5, "usd_per_mtok": {"input": 3.00}}
    done = admin.http.post("/price/update", json={"prices": [entry], "sequence": 0})
    assert done.status_code == 200, done.text
    assert done.json()["sequence"] == 3
    found = admin.http.get("/prices", params={"model": "claude-sonnet-4-20250514"}).json()
    assert found["sequence"] == 3
    assert found["api"] == done.json()["prices"]
    assert {(row["multiplier"], row["origin"]) for row in found["prices"]} == {("0.500000", "api")}
    changes = [(each["kind"], each["sequence"], each["changed_by"]) for each in found["changes"]]
    assert changes == [("api", 3, "master_key"), ("book", 1, "version")]
    late = admin.http.post("/price/update", json={"prices": [], "sequence": 0})
    assert (late.status_code, late.json()["error"]["param"]) == (409, "sequence")
    wrong = {"prices": [{"model": "claude-sonet-5", "multipler": 1}]}
    refused = admin.http.post("/price/update", json=wrong)
    assert refused.status_code == 400
    assert "prices[0].multipler is not known: did you mean multiplier?" in refused.text
    set_prices_on_the_command_line(admin, found["api"])


def set_prices_on_the_command_line(admin: RunningAdmin, before: list[dict[str, Any]]) -> None:
    """Set and take away entries one at a time: those of others stay, and every digit does."""

    def run(*arguments: str) -> int:
        with mock.patch.dict(os.environ, {"TALLYGATE_MASTER_KEY": MASTER_KEY}):
            return main(["prices", *arguments, "--url", admin.url])

    def entries() -> list[dict[str, Any]]:
        return [
            {name: value for name, value in entry.items() if value is not None}
            for entry in msgspec.json.decode(admin.http.get("/prices").content)["api"]
        ]

    assert (
        run("set", "claude-haiku-*", "--input", "4.250001", "--from", "2026-12-01", "--source", "x")
        == 0
    )
    assert (
        run("set", "claude-haiku-*", "--output", "20", "--from", "2026-12-01", "--to", "2027-01-01")
        == 0
    )
    assert run("set", "claude-haiku-*", "--multiplier", "0.9", "--to", "2026-12-01") == 0
    (*others, later, now) = entries()
    assert others == before
    assert {name: later[name] for name in ("valid_from", "valid_to", "source")} == {
        "valid_from": "2026-12-01", "valid_to": "2027-01-01", "source": "x",
    }  # fmt: skip
    prices = {name: value for name, value in later["usd_per_mtok"].items() if value is not None}
    assert prices == {"input": "4.250001", "output": "20"}
    assert (now["model"], now["multiplier"], "valid_from" in now) == (
        "claude-haiku-*",
        "0.9",
        False,
    )
    assert run("set", "claude-haiku-*", "--input", "-1") == 1
    assert run("set", "claude-haiku-*") == 2
    assert run("unset", "claude-haiku-*", "--from", "2026-12-02") == 1
    assert run("unset", "claude-haiku-*", "--from", "2026-12-01") == 0
    assert run("unset", "claude-haiku-*") == 0
    assert entries() == before
