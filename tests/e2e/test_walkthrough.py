"""The walkthrough of the README with the real Claude Code: the whole loop, as a user types it."""

import json
import os
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from schemas.usage import Usage
from services.ledger.app import READER_NICENESS
from tests.support.claude_code import CLAUDE_CODE_VERSION, run_claude
from tests.support.gateway import MASTER_KEY, TALLYGATE, Gateway, wait_until
from tests.support.mock import MockAnthropic, headers_of, record_usage, tool_round_trip
from tests.support.mock_anthropic.scenario import Scenario, ToolCall, UsageFigures

OAUTH_TOKEN = "sk-ant-oat01-the-developers-own-token"

# US dollars per million tokens of claude-sonnet-4-20250514, as this test knows them.
PRICES = {
    "input_tokens": Decimal(3),
    "output_tokens": Decimal(15),
    "cache_read_tokens": Decimal("0.30"),
    "cache_write_5m_tokens": Decimal("3.75"),
    "cache_write_1h_tokens": Decimal(6),
}


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, _mock_anthropic_process: MockAnthropic
) -> Iterator[Gateway]:
    with Gateway.started(tmp_path_factory.mktemp("gateway"), _mock_anthropic_process) as running:
        yield running


def expected_cost_usd(usage: Usage) -> Decimal:
    tokens = sum((getattr(usage, name) * price for name, price in PRICES.items()), Decimal(0))
    return tokens / 10**6 + Decimal("0.01") * usage.web_search_requests


def rows_of(gateway: Gateway, session_id: str, count: int) -> list[dict[str, Any]]:
    """Return the ledger's rows of a Claude Code session, once there are `count`."""
    columns = (
        "request_id, key_alias, model_name, model, input_tokens, output_tokens, "
        "cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, cost_usd, billing, "
        "status, http_status, estimated"
    )
    query = f"SELECT {columns} FROM requests WHERE session_id = '{session_id}' ORDER BY started_at"

    def enough() -> list[list[Any]] | None:
        rows = gateway.sql(query)
        return rows if len(rows) >= count else None

    rows = wait_until(enough, 5, f"{count} rows of the session")
    assert len(rows) == count
    return [dict(zip(columns.split(", "), row, strict=True)) for row in rows]


@pytest.mark.claude
def test_claude_code_with_a_subscription_is_booked_to_the_last_decimal(
    gateway: Gateway, mock_anthropic: MockAnthropic, tmp_path: Path
) -> None:
    # Given a virtual key and a developer's own OAuth token, when Claude Code asks one question,
    # then the API saw the token and never the key, and the row has the exact tokens and cost.
    key = gateway.new_key(key_alias="claude-code-test", models=["anthropic-claude"])
    mock_anthropic.set_default(Scenario(usage=UsageFigures(vary=True)))

    answer = run_claude(gateway.url, key, "say hi", home=tmp_path, oauth_token=OAUTH_TOKEN)

    assert not answer.is_error, answer.output
    requests = mock_anthropic.messages()
    assert len(requests) == 1
    assert headers_of(requests[0], "authorization") == [f"Bearer {OAUTH_TOKEN}"]
    assert headers_of(requests[0], "x-litellm-api-key") == []
    assert key not in json.dumps(requests[0].headers)
    assert requests[0].model == "claude-sonnet-4-20250514"
    usage = record_usage(requests[0])
    assert usage is not None
    row = rows_of(gateway, answer.session_id, 1)[0]
    assert row["key_alias"] == "claude-code-test"
    assert row["model_name"] == "anthropic-claude"
    assert row["model"] == "claude-sonnet-4-20250514"
    assert {name: row[name] for name in PRICES} == {name: getattr(usage, name) for name in PRICES}
    assert Decimal(row["cost_usd"]) == expected_cost_usd(usage)
    assert (row["billing"], row["status"], row["estimated"]) == ("subscription", "success", False)


@pytest.mark.claude
def test_a_tool_round_trip_is_three_requests_each_booked_once(
    gateway: Gateway, mock_anthropic: MockAnthropic, tmp_path: Path
) -> None:
    # Given answers that make Claude Code run a command and read a file, when it works through
    # them, then each request of the session has its own exact row.
    key = gateway.new_key(key_alias="tools")
    file = tmp_path / "project" / "hello.txt"
    file.parent.mkdir()
    file.write_text("hello file contents 42\n")
    mock_anthropic.set_default(tool_round_trip(file))

    answer = run_claude(
        gateway.url,
        key,
        "run echo, then read hello.txt",
        home=tmp_path,
        extra_args=["--allowedTools", "Bash,Read"],
    )

    assert not answer.is_error, answer.output
    requests = mock_anthropic.messages()
    assert len(requests) == 3
    rows = rows_of(gateway, answer.session_id, 3)
    for row, request in zip(rows, requests, strict=True):
        usage = record_usage(request)
        assert usage is not None
        assert Decimal(row["cost_usd"]) == expected_cost_usd(usage)
        assert row["status"] == "success"


@pytest.mark.claude
def test_a_spent_budget_is_shown_by_claude_code_after_exactly_one_request(
    gateway: Gateway, mock_anthropic: MockAnthropic, tmp_path: Path
) -> None:
    # Given a key whose budget one answer exceeds, when Claude Code asks again, then it shows the
    # gateway's own words at once, and the API saw no second request.
    key = gateway.new_key(key_alias="small", max_budget=0.01, budget_duration="30d")
    first = run_claude(gateway.url, key, "say hi", home=tmp_path / "first")
    assert not first.is_error
    assert len(mock_anthropic.messages()) == 1
    wait_until(lambda: gateway.ask(key).status_code == 429, 1.0, "the budget refuses")

    second = run_claude(gateway.url, key, "say hi again", home=tmp_path / "second")

    assert second.is_error
    assert second.api_error_status == 429
    assert second.result.startswith("Budget of key small used up ($"), second.result
    assert "of $0.01" in second.result
    assert "resets" in second.result
    rows = rows_of(gateway, second.session_id, 1)
    assert (rows[0]["status"], rows[0]["http_status"]) == ("refused", 429)
    assert Decimal(rows[0]["cost_usd"]) == 0
    asked = gateway.sql(f"SELECT count(*) FROM requests WHERE session_id = '{second.session_id}'")
    assert int(asked[0][0]) <= 2
    allowed = "SELECT count(*) FROM requests WHERE key_alias = 'small' AND status = 'success'"
    # The reader may be some moments behind what was served before the budget's word came.
    wait_until(
        lambda: len(mock_anthropic.messages()) == int(gateway.sql(allowed)[0][0]),
        30.0,
        "each request that passed has its row",
    )


@pytest.mark.claude
def test_a_blocked_key_and_a_wrong_model_are_explained_in_claude_code(
    gateway: Gateway, mock_anthropic: MockAnthropic, tmp_path: Path
) -> None:
    # Given a key for one model alone, when another is asked for, and when the key is blocked,
    # then Claude Code shows why, and the API sees nothing.
    key = gateway.new_key(key_alias="narrow", models=["anthropic-claude"])
    model = run_claude(gateway.url, key, "hi", home=tmp_path / "1", model="claude-opus-5")
    assert "may not use the model" in model.result, model.result
    gateway.admin("POST", "/key/block", json={"key": key})
    blocked = run_claude(gateway.url, key, "hi", home=tmp_path / "2")
    assert "The virtual key narrow is blocked" in blocked.result, blocked.result
    assert mock_anthropic.messages() == []


def test_the_commands_of_the_readme_work_as_typed(gateway: Gateway) -> None:
    # Given the running gateway, when a user types the walkthrough's commands, then each works.
    environment = dict(os.environ) | {
        "LITELLM_MASTER_KEY": MASTER_KEY,
        "TALLYGATE_URL": gateway.url,
    }

    def shell(command: str) -> str:
        done = subprocess.run(
            ["bash", "-ec", command.replace("http://localhost:4000", gateway.url)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    generated = json.loads(
        shell(
            'curl -sS -X POST http://localhost:4000/key/generate -H "Authorization: Bearer '
            '$LITELLM_MASTER_KEY" -H "Content-Type: application/json" -d \'{"key_alias": '
            '"developer-1", "max_budget": 100.00, "budget_duration": "monthly"}\''
        )
    )
    key = generated["key"]
    assert key.startswith("sk-")
    info = json.loads(
        shell(f'curl -sS http://localhost:4000/key/info -H "Authorization: Bearer {key}"')
    )
    assert info["info"]["key_alias"] == "developer-1"
    models = json.loads(
        shell(f'curl -sS http://localhost:4000/v1/models -H "Authorization: Bearer {key}"')
    )
    assert "anthropic-claude" in [model["id"] for model in models["data"]]
    assert gateway.ask(key).status_code == 200
    query = "SELECT cost_usd FROM requests WHERE key_alias = 'developer-1'"
    wait_until(lambda: gateway.sql(query), 5, "the row is there")
    printed = shell(f'{TALLYGATE} sql "{query}" --format csv')
    assert printed.splitlines()[0] == "cost_usd"
    assert Decimal(printed.splitlines()[1]) > 0
    copy = gateway.data.parent / "snapshot-of-the-walkthrough.duckdb"
    assert f"{copy}: " in shell(f"{TALLYGATE} snapshot --force {copy} --data {gateway.data}")
    with duckdb.connect(str(copy), read_only=True) as database:
        assert str(database.execute(query).fetchall()[0][0]) == printed.splitlines()[1]
    created = shell(f"{TALLYGATE} keys create --alias developer-2 --json")
    assert json.loads(created)["key"].startswith("sk-")
    logs = json.loads(
        shell(
            'curl -sS "http://localhost:4000/spend/logs" -H "Authorization: Bearer '
            '$LITELLM_MASTER_KEY"'
        )
    )
    assert logs


def test_queries_give_way_to_what_serves_requests(gateway: Gateway) -> None:
    # Given a gateway, when all of its processes want a core, then those that answer SQL come last.
    def niceness(part: str) -> list[int]:
        return [os.getpriority(os.PRIO_PROCESS, each) for each in gateway.processes(part)]

    assert niceness("--role reader") == [READER_NICENESS]
    assert niceness("--role writer") == [0]
    assert set(niceness(" proxy ")) == {0}


def test_the_database_file_holds_the_rows_after_the_gateway_has_stopped(
    tmp_path: Path, mock_anthropic: MockAnthropic
) -> None:
    # Given a gateway that answered some requests, when it is drained, then DIR/ledger.duckdb has
    # each of them, and no secret is anywhere in the data folder or the log.
    with Gateway.started(tmp_path, mock_anthropic) as gateway:
        key = gateway.new_key(key_alias="kept")
        for _ in range(20):
            assert gateway.ask(key).status_code == 200
        assert gateway.stop() == 0
        database = duckdb.connect(str(gateway.data / "ledger.duckdb"), read_only=True)
        found = database.execute("SELECT count(*), count(DISTINCT request_id) FROM requests")
        assert found.fetchall() == [(20, 20)]
        database.close()
        secrets = (key.encode(), b"sk-ant-oat01-of-the-tests", MASTER_KEY.encode())
        for path in [gateway.log_path, *gateway.data.rglob("*")]:
            if path.is_file():
                content = path.read_bytes()
                assert not any(secret in content for secret in secrets), path
        assert gateway.data.stat().st_mode & 0o777 == 0o700
        for secret_file in (gateway.data / "secrets").iterdir():
            assert secret_file.stat().st_mode & 0o777 == 0o600


@pytest.mark.claude
def test_a_sub_agents_request_is_told_from_the_conversations_own(
    gateway: Gateway, mock_anthropic: MockAnthropic, tmp_path: Path
) -> None:
    # Given an answer that makes Claude Code start a sub-agent, when it has worked, then the three
    # requests of the session are booked as what they are, from one device.
    key = gateway.new_key(key_alias="agents")
    task = {
        "description": "say hi",
        "prompt": "Say hi.",
        "subagent_type": "general-purpose",
        "run_in_background": False,
    }
    call = ToolCall(name="Agent", input=task)
    mock_anthropic.set_default(Scenario(text="Hi."))
    mock_anthropic.queue(Scenario(reply="tools", tools=(call,)))

    answer = run_claude(gateway.url, key, "start an agent", home=tmp_path)

    assert not answer.is_error, answer.output
    query = (
        "SELECT purpose, agent_id IS NOT NULL, client_name, client_version, entrypoint, device_hash"
        f" FROM requests WHERE session_id = '{answer.session_id}' ORDER BY started_at"
    )

    def enough() -> list[list[Any]] | None:
        rows = gateway.sql(query)
        return rows if len(rows) >= len(mock_anthropic.messages()) else None

    rows = wait_until(enough, 30, "all rows of the session")
    assert [row[:2] for row in rows] == [["main", False], ["agent", True], ["main", False]]
    assert {tuple(row[2:5]) for row in rows} == {("claude-cli", CLAUDE_CODE_VERSION, "sdk-cli")}
    assert len({row[5] for row in rows}) == 1
    assert rows[0][5] is not None
