"""Which subscriptions have no quota left: what is believed of a 429, and for how long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.registry import KeyRecord, TeamRecord, UserRecord
from services.proxy.headers import RawHeaders
from services.proxy.seats import (
    RECHECK_US,
    SEATS_MAX,
    SpentSeats,
    quota_rule,
    without_oauth_beta,
)

TOKEN = b"Bearer sk-ant-oat01-spent"
OTHER = b"Bearer sk-ant-oat01-other"
NOW_US = 1_000_000_000_000


class Clock:
    def __init__(self) -> None:
        self.us = NOW_US

    def __call__(self) -> int:
        return self.us


def refused(**told: str) -> RawHeaders:
    prefix = "anthropic-ratelimit-unified-"
    named = {name.strip("_").replace("_", "-"): value for name, value in told.items()}
    return [(f"{prefix}{name}".encode(), value.encode()) for name, value in named.items()]


def in_s(seconds: int) -> str:
    return str(NOW_US // 1_000_000 + seconds)


def test_a_seat_without_quota_is_known_until_its_reset_and_no_other_is_touched() -> None:
    # Given a refusal that names its reset, then the seat is spent for every model until then, by
    # the clock; another credential never is.
    clock = Clock()
    seats = SpentSeats(clock)
    assert not seats.is_spent(TOKEN, "opus")
    headers = refused(status="rejected", reset=in_s(300), representative_claim="five_hour")
    assert seats.was_refused(TOKEN, "opus", headers)
    assert seats.is_spent(TOKEN, "opus")
    assert seats.is_spent(TOKEN, "sonnet")
    assert not seats.is_spent(OTHER, "opus")
    clock.us += 300_000_000 - 1
    assert seats.is_spent(TOKEN, "opus")
    clock.us += 1
    assert not seats.is_spent(TOKEN, "opus")


def test_a_window_of_one_model_leaves_the_others_alone() -> None:
    # Given a refusal by a window that is one model's own, then the seat is spent for it alone.
    seats = SpentSeats(Clock())
    headers = refused(status="rejected", reset=in_s(300), representative_claim="seven_day_opus")
    assert seats.was_refused(TOKEN, "opus", headers)
    assert seats.is_spent(TOKEN, "opus")
    assert not seats.is_spent(TOKEN, "sonnet")


def test_a_seat_is_asked_again_long_before_the_end_of_a_week() -> None:
    # Given a refusal for days, or one without a moment, then the seat is asked again by and by.
    for headers in (refused(status="rejected", reset=in_s(600_000)), refused(status="rejected")):
        clock = Clock()
        seats = SpentSeats(clock)
        assert seats.was_refused(TOKEN, "opus", headers)
        clock.us += RECHECK_US - 1
        assert seats.is_spent(TOKEN, "opus")
        clock.us += 1
        assert not seats.is_spent(TOKEN, "opus")


@pytest.mark.parametrize(
    ("headers", "is_quota"),
    [
        ([], False),
        (refused(status="allowed", _5h_status="rejected"), False),
        (refused(status="allowed_warning"), False),
        (refused(overage_status="rejected"), False),
        (refused(_5h_status="allowed", _7d_status="rejected", _7d_reset=in_s(60)), True),
        (refused(status="rejected", overage_status="rejected"), True),
    ],
)
def test_only_a_rejected_status_is_a_quota_that_is_used_up(
    headers: RawHeaders, *, is_quota: bool
) -> None:
    # Given a 429 with some headers, then it is about the quota where they reject, and else not:
    # too many requests at once are no reason to pay.
    seats = SpentSeats(Clock())
    assert seats.was_refused(TOKEN, "opus", headers) is is_quota
    assert seats.is_spent(TOKEN, "opus") is is_quota


@given(st.lists(st.tuples(st.sampled_from(["status", "reset", "5h-status"]), st.binary())))
def test_no_header_raises_and_none_holds_a_seat_for_longer(told: list[tuple[str, bytes]]) -> None:
    # Given any values, then nothing is raised, and nothing is believed beyond the limit of time.
    clock = Clock()
    seats = SpentSeats(clock)
    headers = [(b"anthropic-ratelimit-unified-" + name.encode(), value) for name, value in told]
    seats.was_refused(TOKEN, "opus", headers)
    clock.us += RECHECK_US
    assert not seats.is_spent(TOKEN, "opus")


def test_what_is_remembered_has_a_limit() -> None:
    # Given more spent seats than are remembered, then the first ones are forgotten.
    seats = SpentSeats(Clock())
    for number in range(SEATS_MAX + 1):
        seats.was_refused(b"%d" % number, "opus", refused(status="rejected"))
    assert not seats.is_spent(b"0", "opus")
    assert seats.is_spent(b"1", "opus")
    assert seats.is_spent(b"%d" % SEATS_MAX, "opus")


def test_a_keys_own_word_comes_before_its_teams_and_no_users_counts() -> None:
    # Given a key and a team that say something, or nothing, then the key decides where it speaks.
    team = TeamRecord(team_id="blue", on_quota_exhausted="pay")
    owners = [team, UserRecord(user_id="alice")]
    bare = KeyRecord(key_id="k", key_hash="0" * 64, key_name="sk-...x")
    refusing = KeyRecord(
        key_id="k", key_hash="0" * 64, key_name="sk-...x", on_quota_exhausted="refuse"
    )
    assert quota_rule(bare, owners) == "pay"
    assert quota_rule(refusing, owners) == "refuse"
    assert quota_rule(bare, []) is None
    assert quota_rule(bare, [TeamRecord(team_id="blue")]) is None


def test_the_beta_of_oauth_stays_with_the_subscription() -> None:
    # Given a subscription's headers, then all but that one beta go with an API key.
    other = (b"anthropic-version", b"2023-06-01")
    before = [(b"anthropic-beta", b"claude-code-20250219,oauth-2025-04-20, effort-2025-11-24")]
    after = [(b"anthropic-beta", b"claude-code-20250219,effort-2025-11-24")]
    assert without_oauth_beta([*before, other]) == [*after, other]
    assert without_oauth_beta([(b"anthropic-beta", b"oauth-2025-04-20"), other]) == [other]
    untouched = [(b"anthropic-beta", b"a-1 , b-2")]
    assert without_oauth_beta(untouched) == untouched
