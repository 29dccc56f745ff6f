"""Claude Code at a terminal: a person's session is the same with the gateway and without."""

import json
import re
import time
from decimal import Decimal
from typing import Any

import httpx
import msgspec
import pytest

from schemas.budgets import BudgetState
from tests.support.claude_compared import SESSION_ID, Client, Comparison, Mode
from tests.support.claude_screen import ClaudeScreen, claude_screen
from tests.support.mock import MockAnthropic, Record, Scenario, ToolCall
from tests.support.provocations import spend_all
from tests.support.proxy import ProxyProcess, publish_budget, publish_key, tell_marks
from tests.support.tap import Tap

pytestmark = pytest.mark.claude

UP, DOWN, ESCAPE, ENTER = "\x1b[A", "\x1b[B", "\x1b", "\r"
OAUTH = "sk-ant-oat01-of-a-subscriber"
COMPANY_KEY = "sk-ant-api03-of-the-company"
PROMPT = "please write a greeting for everybody who comes into this room today"
LET_GO_S_MAX = 2.0
"""On a busy machine; most of it is the client's own time."""
READY = r"❯ *\n"
"""The client waits for a line."""
CONTEXT_COUNTS_MIN = 20
"""/context counts each part of the context by itself: 26 requests at once, measured."""

# The model's own name: with an alias the tokens that the API counts are those of another body.
SUBSCRIPTION = Mode(
    name="subscription",
    environment={
        "CLAUDE_CODE_OAUTH_TOKEN": OAUTH,
        "ANTHROPIC_CUSTOM_HEADERS": "x-litellm-api-key: Bearer KEY",
    },
    arrives={"authorization": f"Bearer {OAUTH}"},
    model="claude-opus-5-5",
    quiet=False,
)

# Directly with a key of the same form: with one that begins with sk-ant- the client takes a smaller
# model for titles.
KEY_AS_API_KEY = Mode(
    name="API key",
    direct_key="sk-0123456789abcdefghijklmnopqrstuvwxyz",
    environment={"ANTHROPIC_API_KEY": "KEY", "CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY": "1"},
    arrives={"x-api-key": COMPANY_KEY},
    quiet=False,
)
KEY_AS_TOKEN = Mode(name="token", environment={"ANTHROPIC_AUTH_TOKEN": "KEY"}, arrives={})
AS_GATEWAY = Mode(
    name="gateway",
    environment={"ANTHROPIC_AUTH_TOKEN": "KEY", "CLAUDE_CODE_USE_GATEWAY": "1"},
    arrives={},
)
DISCOVERING = Mode(
    name="discovery",
    environment={
        "ANTHROPIC_AUTH_TOKEN": "KEY",
        "CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY": "1",
    },
    arrives={},
)


def has_left(mock: MockAnthropic) -> bool:
    """Tell whether the API was let go before its answer ended."""
    return any(each.client_closed_at for each in mock.messages())


def answered(tap: Tap, text: bytes) -> bool:
    """Tell whether a request whose body holds a text has had its whole answer."""
    return any(text in each.body and each.is_whole for each in tap.exchanges)


def status_of(proxy: ProxyProcess, key: str) -> int:
    headers = {"x-litellm-api-key": key, "authorization": f"Bearer {OAUTH}"}
    body = {"model": "claude-opus-5-5", "max_tokens": 1, "messages": []}
    return httpx.post(
        f"{proxy.url}/v1/messages", headers=headers, json=body, trust_env=False
    ).status_code


def wait_status(proxy: ProxyProcess, key: str, *, served: bool) -> None:
    """Wait until a key is served, or refused."""
    deadline = time.monotonic() + 30
    while (status_of(proxy, key) == 200) is not served:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def lines_with(screen: str, *patterns: str) -> list[str]:
    """Return the lines that match, so that clocks and the words of the waiting are left out."""
    return [line for line in screen.splitlines() if any(re.search(p, line) for p in patterns)]


def trust_the_folder(screen: ClaudeScreen) -> str:
    """Answer the first question of a new folder; return how it was put."""
    question = screen.wait_for("Yes, I trust this folder")
    screen.press(DOWN)
    screen.wait_for("❯ Yes, I trust")
    screen.press(ENTER)
    return question


def kind_of(record: Record) -> str:
    body = json.loads(record.body)
    if record.target.startswith("/v1/messages/count_tokens"):
        return "count"
    if body["max_tokens"] == 1:
        return "quota probe"
    if "format" in body.get("output_config", {}):
        return "title"
    return "compaction" if "<summary>" in json.dumps(body["messages"][-1]) else "turn"


def test_a_session_at_the_terminal_is_the_same(comparison: Comparison) -> None:
    # given a folder that the client does not know, and a subscription
    tap = comparison.tap

    def session(client: Client) -> list[object]:
        arguments = ["--session-id", SESSION_ID]
        with claude_screen(arguments, client.environment, client.project) as screen:
            # when a person trusts the folder
            trust = trust_the_folder(screen)
            screen.wait_until(lambda: answered(tap, b'"quota"'), "the quota is probed")
            # and asks something, and looks at the context and the status
            screen.wait_for(READY)
            screen.say(PROMPT)
            turn = screen.wait_for("● Hi from the mock of the API")
            screen.wait_until(lambda: answered(tap, b'"json_schema"'), "the title is made")
            screen.say("/context")
            context = screen.wait_for(r"Free space(?s:.*)❯ *\n")
            screen.say("/status")
            status = screen.wait_for("Anthropic base URL")
            screen.press(ESCAPE)
            screen.wait_for("dialog dismissed")
            # and sums the conversation up, and leaves
            screen.say("/compact")
            compacted = screen.wait_for(r"Compacted \(")
            return [
                trust,
                lines_with(turn, "● Hi", "Claude Code v", "Claude API"),
                lines_with(context, r"tokens \("),
                lines_with(status, "^  [A-Z][^:]+: +(?!uds:)"),
                lines_with(compacted, "Conversation compacted", "Compacted"),
                screen.exit(),
            ]

    compared = comparison.run(session, SUBSCRIPTION, ordered=False)
    # then everything that the client does by itself was the same, and on the screen too
    kinds = [kind_of(record) for record in compared.arrived]
    assert kinds.count("quota probe") == kinds.count("title") == 1
    assert kinds.count("count") >= CONTEXT_COUNTS_MIN
    assert kinds.count("turn") >= 1
    assert kinds.count("compaction") >= 1
    assert compared.shown[-1] == 0
    assert len(compared.shown[2]) >= 5
    assert any("CLAUDE_CODE_OAUTH_TOKEN" in line for line in compared.shown[3])
    # and the answers of the quota probe and of counting are no paid turns in the books
    endpoints = [record.endpoint for record in comparison.booked(len(kinds))]
    assert endpoints.count("count_tokens") == kinds.count("count")


def test_a_session_with_the_virtual_key_as_api_key_is_the_same(comparison: Comparison) -> None:
    # given a key in the environment, and answers that want a command run and a file read
    def session(client: Client) -> list[object]:
        (client.project / "hello.txt").write_text("hello file contents 42\n")
        arguments = ["--session-id", SESSION_ID, "--permission-mode", "default"]
        with claude_screen(arguments, client.environment, client.project) as screen:
            # when a person lets the key be used, and the command be run
            trust_the_folder(screen)
            screen.wait_for("Do you want to use this API key")
            screen.press(UP)
            screen.wait_for("❯ Yes")
            screen.press(ENTER)
            screen.wait_for(READY)
            screen.say("please make a file and then read the file hello.txt")
            permission = screen.wait_for("Do you want to proceed")
            screen.press(ENTER)
            finished = screen.wait_for("● Hi from the mock of the API")
            return [
                lines_with(permission, "made.txt", "Yes", "No"),
                lines_with(finished, "● ", "tally-42", "Claude Code v", "API Usage"),
                screen.exit(),
            ]

    made = {"command": "touch made.txt; echo tally-$((40+2))", "description": "make a file"}
    hello = comparison.home / "project" / "hello.txt"
    calls = (
        ToolCall(name="Bash", input=made),
        ToolCall(name="Read", input={"file_path": str(hello)}),
    )
    compared = comparison.run(
        session, KEY_AS_API_KEY, answers=Scenario(reply="tools", tools=calls), ordered=False
    )
    # then the turn and the title were the same, and the title was made by the model of the turn
    kinds = [kind_of(record) for record in compared.arrived]
    assert kinds.count("turn") == 3
    models = {kind_of(record): record.model for record in compared.arrived}
    assert models["title"] == models["turn"]
    # and so was the screen
    assert any("touch made.txt" in line for line in compared.shown[0])
    assert any("tally-42" in line for line in compared.shown[1])
    assert (comparison.home / "project" / "made.txt").exists()
    assert compared.shown[-1] == 0


def test_a_person_who_interrupts_reaches_the_api_and_is_booked(comparison: Comparison) -> None:
    # given an answer that would take a minute
    slow = Scenario(events=1_200, pace_ms=50)
    comparison.mock.reset()
    comparison.mock.set_default(slow)
    comparison.tap.point_at(comparison.proxy.url)
    before = len(comparison.booked())
    client = comparison.client(KEY_AS_TOKEN, comparison.key)
    with claude_screen([], client.environment, client.project) as screen:
        trust_the_folder(screen)
        screen.wait_for(READY)
        screen.say("count to a thousand")
        screen.wait_until(lambda: "● Hi" in screen.text, "the answer has begun")
        # when the person interrupts it
        screen.press(ESCAPE)
        interrupted_at = time.time()
        screen.wait_until(lambda: has_left(comparison.mock), "the API is let go")
        assert "Interrupted" in screen.wait_for("Interrupted")
        assert screen.exit() == 0
    # then the API was let go at once, and what it had told until then is booked
    (record,) = comparison.mock.messages()
    assert record.client_closed_at is not None
    assert record.client_closed_at - interrupted_at < LET_GO_S_MAX
    (booked,) = comparison.booked(before + 1)[before:]
    assert booked.status == "client_closed"
    assert booked.usage is not None
    assert booked.usage.input_tokens == record.usage["input_tokens"]  # type: ignore[index]


def window(scope: str, scope_id: str, spend: str, **fields: Any) -> BudgetState:
    """Return a budget of ten dollars, of which some are spent, in a window of a week."""
    resets_us = (int(time.time()) + 7 * 86_400) * 1_000_000
    given = {"name": scope_id, "budget_duration": "30d", "resets_at_us": resets_us, **fields}
    return BudgetState(
        scope=scope,  # type: ignore[arg-type]
        scope_id=scope_id,
        spend_usd=Decimal(spend),
        max_budget_usd=Decimal(10),
        **given,
    )


def test_a_subscriber_sees_budgets_of_all_kinds_and_a_block_in_mid_session(
    comparison: Comparison,
) -> None:
    # given a subscriber whose team has spent 80 % of its budget, and whose own windows are calm
    proxy = comparison.proxy
    key, record = proxy.issue_record(key_alias="mid", team_id="blue", user_id="bob")
    comparison.mock.reset()
    calm = {"anthropic-ratelimit-unified-status": "allowed"}
    comparison.mock.set_default(Scenario(headers=calm))
    comparison.tap.point_at(proxy.url)
    tell_marks(proxy.nats_url, window("team", "blue", "8"), window("user", "bob", "1"))
    client = comparison.client(msgspec.structs.replace(SUBSCRIPTION, quiet=True), key)
    refusals = [
        (window("team", "blue", "10.02"), "Budget of team blue used up"),
        (window("user", "bob", "10.02"), "Budget of user bob used up"),
        (
            window("key", record.key_id, "10.02", limit="model-claude-*", model="claude-*"),
            "Budget of key .* for claude-.* used up",
        ),
    ]
    with claude_screen([], client.environment, client.project) as screen:
        trust_the_folder(screen)
        screen.wait_for(READY)
        screen.say("hello")
        screen.wait_for("● Hi from the mock of the API")
        # when a budget of the team, the user or a model is spent, then the message stands there
        # verbatim, after one request
        for state, shown in refusals:
            publish_budget(proxy.nats_url, state)
            wait_status(proxy, key, served=False)
            before = len(comparison.tap.exchanges)
            screen.say("go on")
            screen.wait_for(rf"● {shown} \(\$10.02 of \$10.00\) · resets ")
            assert [each.status for each in comparison.tap.exchanges[before:]] == [429]
            publish_budget(proxy.nats_url, state, exceeded=False)
            wait_status(proxy, key, served=True)
        # and when the key is blocked in mid-session, the next turn is refused at once
        publish_key(proxy.nats_url, msgspec.structs.replace(record, blocked=True))
        wait_status(proxy, key, served=False)
        before = len(comparison.tap.exchanges)
        screen.say("and once more")
        screen.wait_for("The virtual key mid is blocked")
        # (with a subscription the client asks once more: its login might be a new one)
        assert {each.status for each in comparison.tap.exchanges[before:]} == {403}
        # and when it is unblocked, the same conversation goes on
        publish_key(proxy.nats_url, record)
        wait_status(proxy, key, served=True)
        comparison.mock.reset()
        screen.say("now")
        screen.wait_until(lambda: bool(comparison.mock.messages()), "the turn is served")
        assert b"once more" in comparison.mock.messages()[-1].body
        # and the footer tells how much of the team's budget is used (its place was another hint's
        # in the first seconds)
        screen.wait_for(r"You've used 80% of your usage credits · resets \w+")
    # given a client without a subscription that takes its API for a gateway
    client, tap = comparison.client(AS_GATEWAY, key), comparison.tap
    with claude_screen([], client.environment, client.project) as screen:
        trust_the_folder(screen)
        screen.wait_for(READY)
        for turn in ("hello", "and again"):
            screen.say(turn)
            screen.wait_until(lambda t=turn: answered(tap, t.encode()), "the turn is answered")
        # then its footer tells the same, and a refusal stands there verbatim
        screen.wait_for(r"You've used 8\d% of your usage credits · resets \w+")
        state, shown = refusals[0]
        publish_budget(proxy.nats_url, state)
        wait_status(proxy, key, served=False)
        screen.say("go on")
        screen.wait_for(rf"● {shown} \(\$10.02 of \$10.00\) · resets ")
        publish_budget(proxy.nats_url, state, exceeded=False)


def test_models_and_a_spent_budget_are_shown_at_the_terminal(comparison: Comparison) -> None:
    # given a client that signs in with its virtual key and asks the gateway for its models
    proxy = comparison.proxy
    key, record = proxy.issue_record(key_alias="terminal")
    comparison.mock.reset()
    comparison.tap.point_at(comparison.proxy.url)
    client = comparison.client(DISCOVERING, key)
    with claude_screen([], client.environment, client.project) as screen:
        trust_the_folder(screen)
        screen.wait_for(READY)
        # when a person looks at the models, then the gateway's own names are there to choose from
        screen.say("/model")
        assert "anthropic-claude" in screen.wait_for("Select model")
        screen.press(ESCAPE)
        screen.wait_for(READY)
        # and when the budget is spent, then the message stands on the screen, and nothing else was
        # asked of the API
        spend_all(comparison.proxy, key, record)
        comparison.mock.reset()
        screen.say(PROMPT)
        shown = " ".join(screen.wait_for("resets").split())
        assert "Request rejected (429) · Budget of key terminal used up ($10.02 of $10.00)" in shown
        assert "retry" not in shown.lower()
        assert screen.exit() == 0
    assert comparison.mock.messages() == []
    assert [each.status for each in comparison.tap.exchanges if each.method == "POST"] == [429]
