"""The real client whose subscription is used up in mid-session, and whose key pays for the rest."""

import time
from pathlib import Path

import pytest

from schemas.events import UsageRecorded
from tests.support.claude_code import run_claude
from tests.support.claude_compared import Comparison
from tests.support.mock import Scenario, headers_of

pytestmark = pytest.mark.claude

TOKEN = "sk-ant-oat01-of-a-subscriber"
COMPANY_KEY = "sk-ant-api03-of-the-company"


def test_a_session_goes_on_when_its_subscription_is_used_up(
    comparison: Comparison, tmp_path: Path
) -> None:
    # given a session on a subscription, with a key that pays, after its first turn
    mock, proxy = comparison.mock, comparison.proxy
    mock.reset()
    key, record = proxy.issue_record(on_quota_exhausted="pay")
    mock.set_default(Scenario(text="First answer."))
    first = run_claude(proxy.url, key, "say hi", home=tmp_path, oauth_token=TOKEN)
    assert (first.exit_code, first.result) == (0, "First answer.")
    # when its quota is used up and the conversation goes on
    reset_s = int(time.time()) + 3600
    prefix = "anthropic-ratelimit-unified-"
    told = {"status": "rejected", "reset": str(reset_s), "representative-claim": "five_hour"}
    headers = {prefix + name: value for name, value in told.items()}
    mock.queue(Scenario(reply="error", status=429, headers=headers))
    mock.set_default(Scenario(text="Another answer."))
    turn = run_claude(
        proxy.url, key, "go on", home=tmp_path, oauth_token=TOKEN, extra_args=["--continue"]
    )
    # then the next turn is answered as if nothing had been, in the same session
    assert (turn.exit_code, turn.is_error, turn.result) == (0, False, "Another answer.")
    assert turn.session_id == first.session_id
    # and the subscription was asked twice, then the company's key, each with its own
    records = mock.messages()
    assert [headers_of(each, "authorization") for each in records] == [
        [f"Bearer {TOKEN}"],
        [f"Bearer {TOKEN}"],
        [],
    ]
    assert headers_of(records[2], "x-api-key") == [COMPANY_KEY]
    (betas,) = headers_of(records[2], "anthropic-beta")
    assert "oauth" not in betas
    assert "claude-code-20250219" in betas
    # and the record of each says who paid
    deadline = time.monotonic() + 30
    while True:
        found = [event.data for event in proxy.events() if isinstance(event, UsageRecorded)]
        mine = [each for each in found if each.key_id == record.key_id]
        if len(mine) == len(records) or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    mine.sort(key=lambda each: each.started_at_us)
    assert [(each.billing, each.route_reason) for each in mine] == [
        ("subscription", None),
        ("subscription", None),
        ("api", "quota_exhausted"),
    ]
