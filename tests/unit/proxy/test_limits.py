"""Refusals in the words and headers under which Claude Code shows them once."""

from decimal import Decimal

import msgspec
import pytest

from schemas.budgets import BudgetState
from schemas.errors import Forbidden
from schemas.registry import KeyRecord, TeamRecord, UserRecord
from services.proxy.limits import (
    RETRY_AFTER_S,
    budget_refusal,
    check_key,
    check_model,
    check_owner,
    is_exceeded,
)

NOW_US = 1_795_500_000_000_000  # 2026-11-24 06:00:00 UTC
RESETS_US = 1_795_564_800_000_000  # 2026-11-25 00:00:00 UTC


def state(**fields: object) -> BudgetState:
    given = {
        "scope": "key",
        "scope_id": "key_1",
        "name": "alice",
        "spend_usd": Decimal("10.02"),
        "max_budget_usd": Decimal(10),
        "budget_duration": "1d",
        "resets_at_us": RESETS_US,
        **fields,
    }
    return BudgetState(**given)  # type: ignore[arg-type]


def record(**fields: object) -> KeyRecord:
    return KeyRecord(key_id="k", key_hash="h", key_name="sk-...abcd", **fields)  # type: ignore[arg-type]


def test_budget_refusal_has_the_form_that_is_shown_verbatim_after_one_request() -> None:
    refusal = budget_refusal(state(), NOW_US, "ask the administrator")

    assert (refusal.http_status, refusal.error_type) == (429, "billing_error")
    assert refusal.headers == {
        "x-should-retry": "false",
        "retry-after": "64800",
        "anthropic-ratelimit-unified-status": "rejected",
        "anthropic-ratelimit-unified-reset": "1795564800",
        "anthropic-ratelimit-unified-overage-reset": "1795564800",
        "anthropic-ratelimit-unified-overage-utilization": "1",
        "anthropic-ratelimit-unified-overage-surpassed-threshold": "1",
        "anthropic-ratelimit-unified-overage-period": "daily",
        "anthropic-ratelimit-unified-overage-disabled-reason": "org_spend_cap_reached",
    }
    assert refusal.message == (
        "Budget of key alice used up ($10.02 of $10.00) · resets Nov 25 00:00 UTC "
        "· ask the administrator"
    )
    assert refusal.body("tg_1").startswith(
        b'{"type":"error","error":{"type":"billing_error","message":"Budget of key alice'
    )


@pytest.mark.parametrize("resets", [RESETS_US, None])
@pytest.mark.parametrize("duration", ["1d", "30d", "7d", "90s", None])
def test_budget_refusal_never_has_the_headers_that_hide_its_message(
    resets: int | None, duration: str | None
) -> None:
    names = budget_refusal(
        state(resets_at_us=resets, budget_duration=duration), NOW_US, "x"
    ).headers

    assert "anthropic-ratelimit-unified-representative-claim" not in names
    assert "anthropic-ratelimit-unified-overage-status" not in names
    assert "anthropic-ratelimit-unified-overage-disabled-reason" in names
    assert int(names["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"scope": "global", "name": "all keys"}, "Budget of everybody used up ("),
        (
            {"scope": "team", "name": "blue", "limit": "model-opus-*", "model": "opus-*"},
            "Budget of team blue for opus-* used up (",
        ),
        ({"limit": "window-1d"}, "Budget of key alice per 1d used up ("),
    ],
)
def test_budget_refusal_says_which_of_the_budgets_it_is(
    fields: dict[str, object], words: str
) -> None:
    # Given a budget of all, of a model, of a further window, then its refusal names it.
    assert budget_refusal(state(**fields), NOW_US, "").message.startswith(words)


def test_budget_without_a_window_is_not_waited_for() -> None:
    refusal = budget_refusal(state(resets_at_us=None, budget_duration=None), NOW_US, "")

    assert refusal.headers["retry-after"] == str(RETRY_AFTER_S)
    assert not [name for name in refusal.headers if name.endswith("reset")]
    assert refusal.message == "Budget of key alice used up ($10.02 of $10.00)"


def test_reset_of_another_day_is_named_by_its_date() -> None:
    refusal = budget_refusal(state(), NOW_US - 2 * 86_400 * 1_000_000, "")

    assert refusal.message.endswith("resets Nov 25")


@pytest.mark.parametrize(
    ("now_us", "resets_at_us", "expected"),
    [
        (RESETS_US - 1, RESETS_US, True),
        (RESETS_US, RESETS_US, False),
        (RESETS_US + 1, None, True),
    ],
)
def test_budget_lets_in_again_by_the_clock(
    now_us: int, resets_at_us: int | None, *, expected: bool
) -> None:
    assert is_exceeded(state(resets_at_us=resets_at_us), now_us) is expected
    assert is_exceeded(None, now_us) is False


def test_blocked_and_expired_keys_are_refused_by_name() -> None:
    with pytest.raises(Forbidden, match="alice is blocked"):
        check_key(record(key_alias="alice", blocked=True), NOW_US)
    with pytest.raises(Forbidden, match=r"sk-\.\.\.abcd expired on 2026-11-24 06:00 UTC"):
        check_key(record(expires_at_us=NOW_US), NOW_US)
    check_key(record(expires_at_us=NOW_US + 1), NOW_US)
    check_key(record(), NOW_US)


def test_refused_model_is_told_with_the_allowed_ones() -> None:
    with pytest.raises(Forbidden, match=r"may not use the model 'b'. It may use: a, c-\*"):
        check_model(record(models=("a", "c-*")), "b")
    check_model(record(models=("a", "c-*")), "c-1")


@pytest.mark.parametrize(
    ("owner", "words"),
    [
        (
            TeamRecord(team_id="t", team_alias="Blue", blocked=True),
            "team Blue, to which .* blocked",
        ),
        (TeamRecord(team_id="t", deleted=True), "belongs to the team t, which was deleted"),
        (UserRecord(user_id="bob", blocked=True), "user bob, to which .* is blocked"),
    ],
)
def test_keys_of_a_blocked_or_deleted_owner_are_refused_by_its_name(
    owner: TeamRecord | UserRecord, words: str
) -> None:
    # Given a key whose team or user is blocked or gone, when it is used, then the refusal says so.
    key = record(team_id="t", user_id="bob", key_alias="alice")
    with pytest.raises(Forbidden, match=words):
        check_owner(key, owner)
    check_owner(key, msgspec.structs.replace(owner, blocked=False, deleted=False))
