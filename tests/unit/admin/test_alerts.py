"""Alerts: who is told of what, in which words, and how a receiver knows whom it is from."""

import base64
import hashlib
import hmac
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.alerts import ALERT_TYPES, AlertDestination
from schemas.registry import KeyRecord
from schemas.webhooks import signature
from services.admin.alert_rules import Alert, alert_of, is_for
from services.admin.alert_text import LINE_MAX, alert_lines, alert_title

KEYS = {"key_1": KeyRecord(key_id="key_1", key_hash="0" * 64, key_name="sk-...x", team_id="blue")}


def payload(kind: str, data: dict[str, Any]) -> bytes:
    event = {"type": f"{kind}.v1", "specversion": "1.0", "source": "/s", "id": "1", "data": data}
    return msgspec.json.encode({**event, "time": "2026-11-25T15:00:00Z"})


def alert(kind: str, **data: Any) -> Alert:
    found = alert_of(payload(kind, data), KEYS)
    assert found is not None
    return found


def to(*events: str, **fields: Any) -> AlertDestination:
    return AlertDestination(name="ops", kind="webhook", events=events, **fields)


def test_a_budget_of_a_key_is_told_in_words_and_to_whom_it_concerns() -> None:
    # Given a budget that is used up, then the title, the figures and the end of the window, to
    # those who asked for its type or family, and for the key, or the team that the key is of.
    told = alert(
        "budget.exceeded",
        scope="key",
        scope_id="key_1",
        name="laptop",
        spend_usd="10.020000000001",
        max_budget_usd="10",
        budget_duration="30d",
        resets_at_us=1795564800000000,
    )
    assert told.title == "Budget of key laptop is used up"
    assert told.lines == ("Spent $10.02 of $10.00", "Window: 30d", "Resets Nov 25 00:00 UTC")
    for destination, is_told in (
        (to("budget.exceeded"), True),
        (to("budget.*"), True),
        (to("*"), True),
        (to("budget.warned", "key.*"), False),
        (to("*", teams=("blue",)), True),
        (to("*", keys=("key_1",)), True),
        (to("*", teams=("red",), users=("alice",)), False),
    ):
        assert is_for(told, destination) is is_told, destination.events


def test_a_warning_says_which_threshold_was_reached() -> None:
    # Given warnings of a soft budget and of nearly all, of one model and of all keys, then each
    # says so.
    usual = {"spend_usd": "16.02", "max_budget_usd": "20", "soft_budget_usd": "15"}
    team = {"scope": "team", "scope_id": "b", "name": "blue", "model": "claude-opus-*"}
    soft = alert("budget.warned", threshold="soft_budget", **team, **usual)
    assert soft.title == "The soft budget of team blue for claude-opus-* is reached"
    assert soft.lines == ("Spent $16.02 of $20.00", "Soft budget: $15.00")
    everyone = {"scope": "global", "scope_id": "all", "name": "all keys"}
    near = alert("budget.warned", threshold="80_percent", **everyone, **usual)
    assert near.title == "Budget of all keys together is nearly used up"
    assert not is_for(near, to("*", teams=("b",)))
    assert is_for(soft, to("*", teams=("b",)))
    place = {"scope": "member", "scope_id": "b%2F1/ann", "name": "ann in b/1"}
    of_member = alert("budget.warned", threshold="80_percent", **place, **usual)
    assert of_member.title == "Budget of member ann in b/1 is nearly used up"
    for destination in (to("*", teams=("b/1",)), to("*", users=("ann",))):
        assert is_for(of_member, destination)
    assert not is_for(of_member, to("*", teams=("b",), users=("bob",)))


def test_no_alert_holds_the_hash_of_a_key() -> None:
    # Given an event of a key, then what is sent is the event without the hash.
    told = alert("key.blocked", key_id="key_1", key_hash="f" * 64, key_name="sk-...x", team_id="b")
    assert told.title == "Key sk-...x was blocked"
    assert "f" * 64 not in str(told.event) + str(told.lines)
    assert told.event["data"]["key_name"] == "sk-...x"


def test_nobody_is_told_that_they_could_not_be_told() -> None:
    # Given an alert that was given up for one destination, then the others are told, in what it
    # was about, and that one is not.
    told = alert(
        "alert.undelivered",
        destination="ops",
        reason="answered with status 410",
        attempts=1,
        alert={"type": "key.blocked.v1"},
    )
    assert told.title == "An alert (key.blocked) could not be delivered to ops"
    assert not is_for(told, to("*"))
    assert is_for(told, AlertDestination(name="other", kind="slack", events=("alert.*",)))


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b'{"type":"key.blocked.v1"}', payload("marks.told", {}), b'{"holder":"x"}']
)
def test_what_is_no_alert_is_passed_over(raw: bytes) -> None:
    # Given other messages of the streams, and damaged ones, then there is no alert.
    assert alert_of(raw, KEYS) is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)
NAMES = st.sampled_from(
    (
        *("alert", "attempts", "budget_duration", "changed", "destination", "events", "key_alias"),
        *("key_id", "max_budget_usd", "messages", "model", "name", "problem", "reason"),
        *("requests", "resets_at_us", "scope", "scope_id", "spend_usd", "waited_s"),
    )
)


@given(st.sampled_from(ALERT_TYPES), st.dictionaries(NAMES, VALUES, max_size=6))
def test_whatever_an_event_holds_is_told_in_short_lines_without_breaks(
    kind: str, data: dict[str, Any]
) -> None:
    # Given any values in an event, then its text never fails, and nothing in it can begin a line
    # or a header of its own.
    for line in (alert_title(kind, data), *alert_lines(kind, data)):
        assert 0 < len(line) <= LINE_MAX
        assert line.isprintable()


def test_a_receiver_can_check_the_signature_by_the_public_convention() -> None:
    # Given a secret in base64 and one in plain text, then id, time and body are signed with it.
    key = b"0123456789abcdef01234567"
    expected = base64.b64encode(hmac.digest(key, b"id1.1700000000.{}", hashlib.sha256)).decode()
    told = "whsec_" + base64.b64encode(key).decode()
    assert signature(told, "id1", 1_700_000_000, b"{}") == f"v1,{expected}"
    assert signature(key.decode(), "id1", 1_700_000_000, b"{}") == f"v1,{expected}"
    assert signature(told, "id2", 1_700_000_000, b"{}") != f"v1,{expected}"
    # The example of the convention's own description.
    assert (
        signature(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1614265330,
            b'{"test": 2432232314}',
        )
        == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )
