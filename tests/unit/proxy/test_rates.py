"""The limiter against a model that remembers everything, and which limits hold for a request."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.config import Deployment, RouterSettings
from schemas.errors import RateLimited
from schemas.registry import KeyRecord, TeamRecord, UserRecord
from schemas.usage import Usage
from services.proxy.rate_permit import Permit, tokens_of
from services.proxy.rate_tally import TICKS_PER_S, WINDOW_S, Tally, TallyName
from services.proxy.rates import Rates
from services.proxy.routing import Router
from services.runtime.registry import RegistrySnapshot

TICK_S = 1 / TICKS_PER_S
NAME: TallyName = ("key", "key_1", "requests", "")
STEPS = st.lists(
    st.tuples(st.floats(0, 70, allow_nan=False) | st.floats(0, 0.2), st.integers(1, 9)),
    max_size=60,
)


@given(steps=STEPS, maximum=st.integers(1, 12))
def test_no_minute_holds_more_than_the_limit_and_nothing_below_it_is_refused(
    steps: list[tuple[float, int]], maximum: int
) -> None:
    # Given requests at any times, when each is counted that may begin,
    tally, now_s = Tally(NAME, []), 1000.0
    begun: list[float] = []
    for pause_s, _ in steps:
        now_s += pause_s
        # then the minute before it never held as many as the limit,
        if tally.level(now_s) < maximum:
            assert sum(now_s - WINDOW_S < at_s for at_s in begun) < maximum
            tally.add(now_s, 1, 1)
            begun.append(now_s)
            continue
        # and one is refused only where a minute and a tick hold them;
        counted = [at_s for at_s in begun if now_s - WINDOW_S - TICK_S - 1e-6 < at_s]
        assert len(counted) == maximum
        # and it may begin after the time that is told, and not a moment before.
        wait_s = tally.wait_s(now_s, maximum, 1, is_cut_off=False)
        assert wait_s is not None
        assert 0 < wait_s <= WINDOW_S + TICK_S + 1e-6
        assert now_s + wait_s >= counted[0] + WINDOW_S
        assert deepcopy(tally).level(now_s + wait_s + 1e-6) < maximum


@given(steps=STEPS)
def test_tally_counts_what_came_in_the_last_minute_and_what_is_held(
    steps: list[tuple[float, int]],
) -> None:
    # Given amounts at any times and others that are held, when it is asked, then the sum is that
    # of the last minute to a tick, and of what is held; no more is remembered than ticks.
    tally, now_s = Tally(NAME, []), 5.0
    came: list[tuple[float, int]] = []
    for place, (pause_s, amount) in enumerate(steps):
        now_s += pause_s
        tally.add(now_s, amount, amount)
        came.append((now_s, amount))
        if place % 2:
            tally.hold(amount)
        level = tally.level(now_s) - tally.held
        sure = sum(amount for at_s, amount in came if now_s - at_s < WINDOW_S)
        most = sum(amount for at_s, amount in came if now_s - at_s < WINDOW_S + TICK_S + 1e-6)
        assert sure <= level <= most
    assert tally.held == sum(amount for place, (_, amount) in enumerate(steps) if place % 2)
    assert tally.wait_s(now_s, 1, 1, is_cut_off=False) is None or tally.held == 0


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Gateway:
    """A registry with one key, a router with two models, and the limits of one worker."""

    def __init__(self, **key_fields: Any) -> None:
        self.clock = Clock()
        self.registry = RegistrySnapshot()
        self.key = KeyRecord(
            key_id="key_1",
            key_hash="h",
            key_name="sk-...abcd",
            key_alias="alice",
            team_id="blue",
            user_id="u1",
            **key_fields,
        )
        self.registry.put(self.key)
        self.rates = Rates(self.registry, self.clock)
        deployments = [
            Deployment(deployment_id=name, model_name=name, model=name)
            for name in ("claude-opus", "claude-haiku")
        ]
        settings = RouterSettings(model_group_alias={"best": "claude-opus"})
        self.router = Router(deployments, settings=settings)

    def ask(self, model: str = "claude-opus", *, request_bytes: int = 400) -> Permit | None:
        return self.rates.admit(self.key, model, self.router, request_bytes)

    def refused(self, model: str = "claude-opus") -> RateLimited:
        with pytest.raises(RateLimited) as caught:
            self.ask(model)
        return caught.value


def headers(permit: Permit | None) -> dict[str, str]:
    assert permit is not None
    return {name.decode(): value.decode() for name, value in permit.headers()}


def test_key_without_limits_gets_no_permit() -> None:
    assert Gateway().ask() is None


def test_requests_a_minute_are_refused_with_the_time_at_which_one_may_begin() -> None:
    # Given a key with two requests a minute, when a third comes ten seconds later,
    gateway = Gateway(rpm_limit=2)
    assert headers(gateway.ask()) == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "1",
        "x-ratelimit-api_key-limit-requests": "2",
        "x-ratelimit-api_key-remaining-requests": "1",
        "x-litellm-key-rpm-limit": "2",
    }
    gateway.ask()
    gateway.clock.now_s += 10.0
    # then it is refused in LiteLLM's and Anthropic's words, rounded up to whole seconds;
    refusal = gateway.refused()
    assert (refusal.http_status, refusal.error_type) == (429, "rate_limit_error")
    assert refusal.message == ("Rate limit of key alice: 2 requests a minute. Try again in 51 s")
    assert refusal.headers == {
        "retry-after": "51",
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-api_key-limit-requests": "2",
        "x-ratelimit-api_key-remaining-requests": "0",
        "x-litellm-key-rpm-limit": "2",
    }
    # and when that time is over both may begin again: the refused one was not counted.
    gateway.clock.now_s += 51.0
    assert gateway.ask() is not None
    assert gateway.ask() is not None


def test_retry_after_is_never_more_than_the_minute_that_claude_code_waits() -> None:
    gateway = Gateway(rpm_limit=1)
    gateway.ask()
    assert gateway.refused().headers["retry-after"] == "60"


def test_requests_under_way_are_limited_until_each_is_over_once() -> None:
    # Given a key with one request at a time, when a second comes, then it is refused, and when the
    # first is over, however often that is said, exactly one more may begin.
    gateway = Gateway(max_parallel_requests=1)
    first = gateway.ask()
    assert first is not None
    refusal = gateway.refused()
    assert refusal.message == "Rate limit of key alice: 1 requests at a time. Try again in 1 s"
    assert refusal.headers == {"retry-after": "1"}
    first.ended()
    first.ended()
    second = gateway.ask()
    assert second is not None
    gateway.refused()
    # And an attempt after a failed one holds the place again.
    second.ended()
    second.again()
    gateway.refused()


def test_tokens_are_held_by_size_and_counted_by_what_the_answer_tells() -> None:
    # Given 1,000 tokens a minute, when a request of 4,000 bytes is under way,
    gateway = Gateway(tpm_limit=1000)
    first = gateway.ask(request_bytes=3996)
    assert headers(first)["x-ratelimit-remaining-tokens"] == "1"
    # then one more may begin, for something is left, and a third may not, for an unknown time;
    second = gateway.ask(request_bytes=4_000_000)
    assert gateway.refused().headers["retry-after"] == "1"
    # and when they end, what they used counts for a minute, caches too, whatever was held.
    assert first is not None
    assert second is not None
    second.ended(None)
    usage = Usage(input_tokens=1, output_tokens=2, cache_read_tokens=300, cache_write_1h_tokens=697)
    first.ended(usage)
    assert tokens_of(usage) == 1000
    assert gateway.refused().message == (
        "Rate limit of key alice: 1000 tokens a minute. Try again in 60 s"
    )
    gateway.clock.now_s += 60.1
    assert gateway.ask() is not None


def test_tokens_from_caches_do_not_count_where_the_setting_says_so() -> None:
    # Given the setting `uncached`, when a request of 40,000 bytes reads most of it from the cache,
    # then a tenth as much is held, and what is not from the cache counts.
    gateway = Gateway(tpm_limit=10_000)
    gateway.rates = Rates(gateway.registry, gateway.clock, lambda: "uncached")
    permit = gateway.ask(request_bytes=40_000)
    assert headers(permit)["x-ratelimit-remaining-tokens"] == "9000"
    assert permit is not None
    permit.ended(Usage(input_tokens=3, output_tokens=30, cache_read_tokens=9_000))
    assert headers(gateway.ask(request_bytes=40))["x-ratelimit-remaining-tokens"] == "9966"


def test_each_limit_of_key_team_and_user_holds_and_the_longest_wait_is_told() -> None:
    # Given a key whose team and user have limits of their own,
    gateway = Gateway(rpm_limit=9)
    gateway.registry.put_owner(TeamRecord(team_id="blue", team_alias="Blue", rpm_limit=2))
    gateway.registry.put_owner(UserRecord(user_id="u1", max_parallel_requests=1))
    # when the user's is reached, then it is named, and nothing was counted for the others;
    first = gateway.ask()
    assert gateway.refused().message.startswith("Rate limit of user u1: 1 requests at a time")
    assert first is not None
    first.ended()
    # and where two are reached, the one that will have room last.
    assert headers(gateway.ask())["x-ratelimit-limit-requests"] == "2"
    assert gateway.refused().message.startswith("Rate limit of team Blue: 2 requests a minute")


def test_limit_of_a_model_holds_for_that_model_by_its_name_alias_or_pattern() -> None:
    # Given limits by model, when models are asked for, then each counts where it belongs.
    gateway = Gateway(model_rpm_limit={"claude-opus": 1, "claude-*": 2}, model_tpm_limit={"x": 1})
    gateway.ask("claude-opus")
    assert gateway.refused("best").message.startswith(
        "Rate limit of key alice for the model claude-opus: 1 requests a minute"
    )
    gateway.ask("claude-haiku")
    gateway.ask("claude-other")
    assert "for the model claude-*" in gateway.refused("claude-haiku").message
    assert gateway.ask("another") is None


def test_changed_limit_holds_at_once_for_what_was_counted_before() -> None:
    # Given a key that was used twice, when its limit becomes two, then it is refused, and when it
    # is taken away, served.
    gateway = Gateway(rpm_limit=5)
    gateway.ask()
    gateway.ask()
    before = gateway.key
    gateway.key = KeyRecord(key_id="key_1", key_hash="h", key_name="n", rpm_limit=2)
    gateway.refused()
    gateway.key = before
    assert gateway.ask() is not None
    gateway.key = KeyRecord(key_id="key_1", key_hash="h", key_name="n")
    assert gateway.ask() is None


def test_what_is_remembered_of_limits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given more pairs of keys and models than are remembered, when one more comes, then what
    # counts is known on, and what counts nothing is forgotten.
    monkeypatch.setattr("services.proxy.rates.PLANS_MAX", 3)
    gateway = Gateway(rpm_limit=3, model_tpm_limit={"*": 5000})
    for number in range(3):
        gateway.ask(f"m{number}")
    gateway.clock.now_s += 30.0
    gateway.refused("m9")
    assert (len(gateway.rates._plans), len(gateway.rates._tallies)) == (1, 2)
