"""What strict budgets count of requests under way: the same however the ledger came to know it."""

from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from schemas.budgets import BudgetId
from schemas.events import RequestFacts, us_from_time
from services.ledger.budgets import Budgets
from services.runtime.budget_limits import Limit, Whose
from services.runtime.durations import budget_window

NOW_US = us_from_time(datetime(2026, 11, 24, 12, tzinfo=UTC))
START_US, _ = budget_window("1d", NOW_US, "UTC")
KEY, TEAM = Whose("key", "k"), Whose("team", "t")
LIMITS = (
    (KEY, Limit(budget_id=BudgetId(*KEY), name="k", max_budget_usd=Decimal(9), strict=True)),
    (
        TEAM,
        Limit(
            budget_id=BudgetId(*TEAM),
            name="t",
            max_budget_usd=Decimal(9),
            budget_duration="1d",
            model="a*",
            strict=True,
        ),
    ),
    (
        Whose("user", "u"),
        Limit(budget_id=BudgetId("user", "u"), name="u", max_budget_usd=Decimal(9)),
    ),
)
IDS = [limit.budget_id for _, limit in LIMITS]


def facts(number: int, *, age_us: int, model: str, reserved: int | None) -> RequestFacts:
    return RequestFacts(
        request_id=f"r{number}",
        started_at_us=START_US + 5 - age_us,
        key_id="k",
        user_id="u",
        team_id="t",
        model_name=model,
        reserved_usd=None if reserved is None else Decimal(reserved),
    )


def budgets() -> Budgets:
    made = Budgets("UTC", lambda questions, _: [0] * len(questions))
    for owner, limit in LIMITS:
        made.put_limits(owner, (limit,))
    return made


def reserved(made: Budgets) -> list[Decimal]:
    standings = made.standings(IDS, NOW_US)
    return [each.state.reserved_usd for each in standings.values() if each is not None]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 9),
            st.sampled_from(["abc", "b"]),
            st.none() | st.integers(1, 5),
            st.booleans(),
        ),
        max_size=20,
    ),
    st.integers(0, 20),
)
def test_what_is_reserved_is_that_of_the_open_requests_of_a_window(
    requests: list[tuple[int, str, int | None, bool]], counted_at: int
) -> None:
    # given requests of before and after the beginning of a window, of which some are over
    every = [
        facts(n, age_us=age, model=model, reserved=picos)
        for n, (age, model, picos, _) in enumerate(requests)
    ]
    over = [f"r{n}" for n, request in enumerate(requests) if request[3]]
    made = budgets()
    # when the ledger takes them in, and counts at some point between
    for n, each in enumerate(every):
        if n == counted_at:
            reserved(made)
        made.reserve([each], [])
    reserved(made)
    made.reserve([], over)
    # then a strict budget counts the open ones, in its window and for its model; no other does
    still = [each for each in every if each.request_id not in over and each.reserved_usd]
    expected = [
        sum(each.reserved_usd or 0 for each in still),
        sum(
            each.reserved_usd or 0
            for each in still
            if each.started_at_us >= START_US and each.model_name == "abc"
        ),
        Decimal(0),
    ]
    assert reserved(made) == expected
    # and so does a ledger that starts with what was open
    begun = budgets()
    begun.reserve(still, [])
    assert reserved(begun) == expected
    # and their change is told
    if still:
        assert made.changes((), NOW_US).keys() >= {IDS[0]}
