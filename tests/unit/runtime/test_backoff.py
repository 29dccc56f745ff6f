"""When a dead child is started again, and when it is given up."""

import signal

from hypothesis import given
from hypothesis import strategies as st

from services.runtime.backoff import (
    DEATHS_MAX,
    DELAY_FIRST_S,
    DELAY_MAX_S,
    STABLE_S,
    RestartPolicy,
    describe_exit,
)


def test_the_wait_doubles_up_to_its_limit() -> None:
    # Given a child that is killed from outside again and again, then it waits longer each time.
    policy = RestartPolicy()
    delays = [
        policy.after_death(lived_s=1, was_ready=True, exit_code=-signal.SIGKILL).delay_s
        for _ in range(9)
    ]
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


def test_a_stable_life_makes_earlier_deaths_forgotten() -> None:
    # Given a child that died often, when it has lived for long, then it is a new one.
    policy = RestartPolicy()
    for _ in range(DEATHS_MAX - 1):
        policy.after_death(lived_s=0.1, was_ready=False, exit_code=1)
    verdict = policy.after_death(lived_s=STABLE_S, was_ready=True, exit_code=1)
    assert verdict.delay_s == DELAY_FIRST_S


def test_a_child_that_keeps_dying_is_given_up() -> None:
    # Given a child that dies before it is ready, then it is given up after so many deaths.
    policy = RestartPolicy()
    verdicts = [
        policy.after_death(lived_s=0.1, was_ready=False, exit_code=1) for _ in range(DEATHS_MAX)
    ]
    assert [verdict.delay_s is None for verdict in verdicts] == [False] * (DEATHS_MAX - 1) + [True]
    assert verdicts[-1].reason == "it died 8 times in a row, the last time: exit code 1"


def test_a_faulty_configuration_is_not_tried_twice() -> None:
    # Given a child that ends with EX_CONFIG, then it is given up at once.
    verdict = RestartPolicy().after_death(lived_s=0.1, was_ready=False, exit_code=78)
    assert verdict.delay_s is None
    assert "configuration" in verdict.reason


@given(
    st.lists(
        st.tuples(st.floats(0, 1000), st.sampled_from([-signal.SIGKILL, -signal.SIGTERM])),
        max_size=50,
    )
)
def test_a_healthy_child_that_is_killed_is_never_given_up(deaths: list[tuple[float, int]]) -> None:
    # Given any lives of a child that was ready each time, when it is killed from outside, then it
    # is started again within the limit.
    policy = RestartPolicy()
    for lived_s, exit_code in deaths:
        verdict = policy.after_death(lived_s=lived_s, was_ready=True, exit_code=exit_code)
        assert verdict.delay_s is not None
        assert DELAY_FIRST_S <= verdict.delay_s <= DELAY_MAX_S


def test_an_end_is_told_in_words() -> None:
    assert describe_exit(3) == "exit code 3"
    assert describe_exit(-9) == "killed by SIGKILL"
    assert describe_exit(-250) == "killed by signal 250"
