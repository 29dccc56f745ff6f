"""The README's walkthrough, by the dashboard: make a key, use it, look at what it cost.

Each step is one that a person does, in the words that the pages have.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.support.browser import Browser, Session, screens_folder
from tests.support.claude_code import claude_environment, make_home, print_claude
from tests.support.gateway import MASTER_KEY, Gateway, wait_until
from tests.support.mock import MockAnthropic, Scenario, UsageFigures

OAUTH_TOKEN = "sk-ant-oat01-the-developers-own-token"
TUTORIAL_USAGE = UsageFigures(
    input_tokens=2,
    cache_read_input_tokens=25_142,
    ephemeral_5m_input_tokens=0,
    ephemeral_1h_input_tokens=39_535,
    output_tokens=333,
)
"""64,679 prompt + 333 completion tokens, which cost $0.249754 with claude-sonnet-4-20250514."""

pytestmark = [pytest.mark.browser, pytest.mark.claude]


@pytest.fixture
def gateway(
    tmp_path: Path, mock_anthropic: MockAnthropic, browser: Browser
) -> Iterator[tuple[Gateway, Session]]:
    """A new gateway with the tutorial's configuration, and a window on it."""
    mock_anthropic.set_default(Scenario(usage=TUTORIAL_USAGE))
    with Gateway.started(tmp_path, mock_anthropic) as running, browser.session(running.url) as own:
        yield running, own


def test_a_key_is_made_used_by_claude_code_and_its_request_is_found_with_its_exact_cost(
    gateway: tuple[Gateway, Session], tmp_path: Path
) -> None:
    # Given a new gateway, when its administrator logs in, then there is no request yet, and the
    # empty page says what to do.
    running, session = gateway
    page = session.page
    session.log_in(MASTER_KEY)
    page.get_by_role("link", name="Logs").click()
    expect(page.get_by_text("No requests yet")).to_be_visible()
    page.get_by_role("main").get_by_role("link", name="virtual key").click()

    # When a key is made with a name and a model, then it is shown once, with a button to copy it.
    page.get_by_role("button", name="Create key").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name", exact=True).fill("claude-code-test")
    dialog.get_by_label("Only these").check()
    dialog.get_by_label("anthropic-claude", exact=True).check()
    dialog.get_by_role("button", name="Create key").click()
    dialog.get_by_role("button", name="Copy the key").click()
    secret = page.evaluate("navigator.clipboard.readText()")
    assert re.fullmatch(r"sk-[\w-]{43}", secret)
    assert dialog.get_by_label("The key", exact=True).inner_text() == secret
    assert session.axe() == []
    session.shoot(screens_folder() / "walkthrough-key.png")

    # And there are the lines for Claude Code, which the developer pastes into a shell.
    dialog.get_by_role("button", name="Copy lines for a subscription").click()
    lines = page.evaluate("navigator.clipboard.readText()")
    dialog.get_by_role("button", name="Done").click()
    shell = claude_environment(
        "http://127.0.0.1:9", virtual_key=None, oauth_token=OAUTH_TOKEN, model=None, home=tmp_path
    )
    pasted = subprocess.run(
        ["sh", "-c", f"{lines}\nexec env -0"], env=shell, capture_output=True, text=True, check=True
    ).stdout
    environment = dict(line.split("=", 1) for line in pasted.split("\0") if line)
    assert environment["ANTHROPIC_BASE_URL"] == running.url
    answer = print_claude(["say hi"], environment, make_home(tmp_path / "developer"))
    assert answer.returncode == 0, answer.stderr

    # Then the request is in Logs, and another one comes in there by itself while it is open.
    wait_until(lambda: running.sql("SELECT 1 FROM requests"), 30, "the request is booked")
    page.get_by_role("link", name="Logs").click()
    rows = page.get_by_role("row").filter(has_text="claude-code-test").filter(has_text="65,012")
    expect(rows.first).to_be_visible()
    session.settle()
    before = rows.count()
    assert running.ask(secret).status_code == 200
    expect(rows).to_have_count(before + 1, timeout=30_000)

    # And it leads to its details: who, which model, how many tokens, what they cost to the last
    # digit, and that it was successful.
    rows.last.get_by_role("link").click()
    session.settle()
    main = page.get_by_role("main")
    expect(page.get_by_role("heading", level=1)).to_contain_text("claude-code-test")
    for shown in (
        "anthropic/claude-sonnet-4-20250514",
        "65,012 (64,679 prompt + 333 completion)",
        "$0.249754",
        "Success",
        "The components add up to the cost, to the last digit.",
    ):
        expect(main).to_contain_text(shown)
    assert session.faults == []
    session.shoot(screens_folder() / "walkthrough-request.png")
