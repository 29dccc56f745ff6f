"""Which deployments cool down, for how long: rules over a clock that the test turns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.config import RouterSettings
from services.proxy.health import (
    ALLOWED_FAILS,
    COOLDOWN_S_MAX,
    WINDOW_S,
    Health,
    Trouble,
    trouble_of,
)

PLAIN = RouterSettings()
STRICT = RouterSettings(allowed_fails=2, cooldown_s=10)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health(clock)


def fail(health: Health, times: int = 1, rules: RouterSettings = STRICT) -> None:
    for _ in range(times):
        health.failed("a", Trouble.UNCLEAR, rules)


def test_one_failure_more_than_allowed_cools_down_for_the_time_configured(
    health: Health, clock: Clock
) -> None:
    # Given two allowed failures, when a third comes, then it cools down for ten seconds.
    fail(health, 2)
    assert health.cooling_s("a") == 0
    fail(health)
    assert health.cooling_s("a") == 10
    clock.now_s += 9.5
    assert health.cooling_s("a") == 0.5
    clock.now_s += 0.5
    assert health.cooling_s("a") == 0
    assert health.cooling_s("b") == 0


def test_failures_of_another_minute_do_not_count(health: Health, clock: Clock) -> None:
    # Given two failures, when a minute is over, then two more do not cool it down.
    fail(health, 2)
    clock.now_s += WINDOW_S
    fail(health, 2)
    assert health.cooling_s("a") == 0


def test_after_a_cool_down_the_next_failure_is_enough_and_the_next_answer_ends_that(
    health: Health, clock: Clock
) -> None:
    # Given a deployment that has cooled down, then one failure cools it down again; after an
    # answer it takes three.
    fail(health, 3)
    clock.now_s += 10
    fail(health)
    assert health.cooling_s("a") == 10
    clock.now_s += 10
    health.succeeded("a")
    fail(health, 2)
    assert health.cooling_s("a") == 0
    fail(health)
    assert health.cooling_s("a") == 10


def test_requests_that_began_before_it_cooled_down_change_nothing(
    health: Health, clock: Clock
) -> None:
    # Given a deployment that cools down, when others of its requests fail or are answered, then
    # neither the time nor the trial afterwards changes.
    fail(health, 3)
    clock.now_s += 4
    fail(health, 50)
    health.succeeded("a")
    assert health.cooling_s("a") == 6
    clock.now_s += 6
    fail(health)
    assert health.cooling_s("a") == 10


def test_without_a_number_in_the_file_a_failure_now_and_then_is_nothing(health: Health) -> None:
    # Given a busy deployment of whose requests one in five fails, then it never cools down.
    for number in range(500):
        if number % 5:
            health.succeeded("a")
        else:
            fail(health, rules=PLAIN)
        assert health.cooling_s("a") == 0


def test_without_a_number_in_the_file_failures_in_a_row_cool_down_however_busy_it_was(
    health: Health,
) -> None:
    # Given a thousand answers in this minute, when it is killed, then four failures are enough.
    for _ in range(1000):
        health.succeeded("a")
    fail(health, ALLOWED_FAILS, PLAIN)
    assert health.cooling_s("a") == 0
    fail(health, rules=PLAIN)
    assert health.cooling_s("a") == PLAIN.cooldown_s


def test_without_a_number_in_the_file_half_of_the_requests_are_enough_too(health: Health) -> None:
    # Given every second request fails, then it cools down with the fourth failure.
    for number in range(7):
        assert health.cooling_s("a") == 0
        if number % 2:
            health.succeeded("a")
        else:
            fail(health, rules=PLAIN)
    assert health.cooling_s("a") > 0


@pytest.mark.parametrize(
    ("retry_after_s", "expected"),
    [(None, 10), (30.0, 30), (0.0, 0), (10.0**8, COOLDOWN_S_MAX)],
)
def test_a_limit_cools_down_at_once_for_the_time_it_names(
    health: Health, retry_after_s: float | None, expected: float
) -> None:
    # Given one 429 for the deployment's key, then its own time counts, within the limit.
    health.failed("a", Trouble.LIMITED, STRICT, retry_after_s=retry_after_s)
    assert health.cooling_s("a") == expected


def test_a_shorter_limit_does_not_end_a_longer_one(health: Health, clock: Clock) -> None:
    # Given a limit of a minute, when one of a second comes, then the minute stands.
    health.failed("a", Trouble.LIMITED, STRICT, retry_after_s=60)
    health.failed("a", Trouble.LIMITED, STRICT, retry_after_s=1)
    assert health.cooling_s("a") == 60
    clock.now_s += 61
    fail(health)
    assert health.cooling_s("a") == 0, "a limit is no trial"


def test_a_limit_of_a_clients_own_and_cool_downs_that_are_off_change_nothing(
    health: Health,
) -> None:
    # Given limits of clients' own, or disable_cooldowns, then nothing ever cools down.
    off = RouterSettings(disable_cooldowns=True, allowed_fails=0)
    for _ in range(100):
        health.failed("a", Trouble.OWN_LIMIT, STRICT, retry_after_s=3600)
        for trouble in Trouble:
            health.failed("a", trouble, off, retry_after_s=3600)
    assert health.cooling_s("a") == 0


def test_requests_are_counted_and_a_reload_forgets_only_what_is_gone(health: Health) -> None:
    # Given three deployments, when one is left, then it alone is known, and one with requests.
    for name in ("a", "b", "b", "c"):
        health.began(name)
    health.ended("a")
    health.ended("c")
    for name in ("a", "c"):
        health.failed(name, Trouble.LIMITED, STRICT, retry_after_s=50)
    health.keep({"a"})
    assert (health.busy("a"), health.busy("b"), health.busy("c")) == (0, 2, 0)
    assert (health.cooling_s("a"), health.cooling_s("c")) == (50, 0)
    health.ended("b")
    health.ended("b")
    with pytest.raises(AssertionError):
        health.ended("b")


@given(st.integers(200, 599))
def test_every_status_means_one_thing(status: int) -> None:
    # Given any status, then what may have been billed and what says nothing is as documented.
    for is_own in (True, False):
        trouble = trouble_of(status, is_clients_credential=is_own)
        if status == 429:
            assert trouble is (Trouble.OWN_LIMIT if is_own else Trouble.LIMITED)
        elif status == 529:
            assert trouble is Trouble.OVERLOADED
        elif status >= 500 or status == 408:
            assert trouble is Trouble.UNCLEAR
            assert not trouble.is_unbilled
        else:
            assert trouble is None


def seconds(longest: int) -> st.SearchStrategy[float]:
    """Quarters of seconds: sums and differences of them are exact."""
    return st.integers(0, longest * 4).map(lambda quarters: quarters / 4)


EVENTS = st.lists(
    st.tuples(st.sampled_from(["ok", *Trouble]), seconds(90), seconds(10_000)), max_size=60
)


@given(EVENTS, st.one_of(st.none(), st.integers(0, 5)), seconds(3600))
def test_whatever_happens_a_cool_down_ends_in_time(
    events: list[tuple[str | Trouble, float, float]], allowed: int | None, cooldown_s: float
) -> None:
    # Given any course of things, then a cool-down never lasts longer than its limit.
    clock = Clock()
    health = Health(clock)
    rules = RouterSettings(allowed_fails=allowed, cooldown_s=cooldown_s)
    for what, wait_s, retry_after_s in events:
        if isinstance(what, Trouble):
            health.failed("a", what, rules, retry_after_s=retry_after_s)
        else:
            health.succeeded("a")
        assert 0 <= health.cooling_s("a") <= max(cooldown_s, COOLDOWN_S_MAX)
        clock.now_s += wait_s
    clock.now_s += max(cooldown_s, COOLDOWN_S_MAX)
    assert health.cooling_s("a") == 0
