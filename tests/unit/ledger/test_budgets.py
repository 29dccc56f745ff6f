"""The budgets: a function of keys, requests and time, whatever the order."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from schemas.budgets import BudgetCleared, BudgetId, BudgetWarned
from schemas.events import us_from_time
from schemas.money import PICOS_PER_USD
from schemas.registry import (
    BudgetWindow,
    KeyRecord,
    ModelBudget,
    TeamMember,
    TeamRecord,
    UserRecord,
)
from services.ledger.budget_news import Said, news
from services.ledger.budgets import Budgets, Standing
from services.ledger.spends import Spend, SpendQuestion
from services.runtime.budget_limits import limits_of
from services.runtime.durations import budget_window

DAY_US = 86_400_000_000
NOW_US = us_from_time(datetime(2026, 11, 24, 12, tzinfo=UTC))
KEY = BudgetId("key", "key_a")


def key(**fields: Any) -> KeyRecord:
    return KeyRecord(
        key_id=KEY.scope_id,
        key_hash="a" * 64,
        key_name="sk-...abcd",
        **{"key_alias": "dev", **fields},
    )


def spend(usd: str, at_us: int = NOW_US) -> Spend:
    return Spend(KEY.scope_id, at_us, int(Decimal(usd) * PICOS_PER_USD))


class Books:
    """Stands for the books: the spends that were committed."""

    def __init__(self) -> None:
        self.spends: list[Spend] = []
        self.asked = 0

    def since(self, questions: Sequence[SpendQuestion], _: bool) -> list[int]:  # noqa: FBT001
        self.asked += 1
        return [self._spent(question) for question in questions]

    def _spent(self, question: SpendQuestion) -> int:
        return sum(
            each.cost_picos
            for each in self.spends
            if question.whose in each.owners()
            and each.started_at_us >= question.since_us
            and question.model in {None, each.model_name}
        )


def budgets_with(record: KeyRecord, *committed: Spend) -> tuple[Budgets, Books]:
    books = Books()
    books.spends.extend(committed)
    budgets = Budgets("UTC", books.since)
    budgets.put(record)
    return budgets, books


def commit(budgets: Budgets, books: Books, *spends: Spend) -> None:
    books.spends.extend(spends)
    budgets.add(spends)


def changes(budgets: Budgets, now_us: int = NOW_US) -> dict[BudgetId, Standing | None]:
    return budgets.changes((), now_us)


def standing_of(budgets: Budgets, budget_id: BudgetId, now_us: int = NOW_US) -> Standing:
    standing = budgets.standings([budget_id], now_us)[budget_id]
    assert standing is not None
    return standing


def test_a_budget_is_exceeded_when_spend_reaches_it_to_the_last_pico() -> None:
    # Given a budget of one dollar, when spend is one pico-dollar short, and when it is reached,
    # then it is not exceeded, and then it is.
    budgets, books = budgets_with(key(max_budget_usd=Decimal(1)))
    commit(budgets, books, spend("0.999999999999"))
    before = standing_of(budgets, KEY, NOW_US)
    assert not before.is_exceeded
    changes(budgets)
    assert changes(budgets) == {}
    commit(budgets, books, spend("0.000000000001"))
    assert set(changes(budgets)) == {KEY}
    after = standing_of(budgets, KEY, NOW_US)
    assert after.is_exceeded
    assert after.state.spend_usd == Decimal(1)
    assert after.state.resets_at_us is None


def test_spend_of_an_earlier_window_does_not_count_and_a_new_window_begins_at_zero() -> None:
    # Given a daily budget, when requests of yesterday are known, and when the day ends, then only
    # the running window counts.
    budgets, books = budgets_with(
        key(max_budget_usd=Decimal(1), budget_duration="1d"), spend("5", NOW_US - DAY_US)
    )
    commit(budgets, books, spend("1"))
    today = standing_of(budgets, KEY, NOW_US)
    assert today.is_exceeded
    assert today.state.spend_usd == Decimal(1)
    assert today.state.resets_at_us == us_from_time(datetime(2026, 11, 25, tzinfo=UTC))
    # A request that began yesterday and ended today belongs to yesterday.
    commit(budgets, books, spend("3", NOW_US - DAY_US))
    again = standing_of(budgets, KEY, NOW_US)
    assert again.state.spend_usd == Decimal(1)
    tomorrow = standing_of(budgets, KEY, NOW_US + DAY_US)
    assert not tomorrow.is_exceeded
    assert tomorrow.state.spend_usd == 0


def test_a_raised_budget_is_no_longer_exceeded_and_a_removed_one_is_none() -> None:
    # Given an exceeded budget, when it is raised, then removed, then the key is deleted.
    budgets, books = budgets_with(key(max_budget_usd=Decimal(1)))
    commit(budgets, books, spend("2"))
    budgets.put(key(max_budget_usd=Decimal(3)))
    raised = standing_of(budgets, KEY, NOW_US)
    assert not raised.is_exceeded
    assert raised.state.spend_usd == Decimal(2)
    budgets.put(key())
    assert changes(budgets) == {KEY: None}
    budgets.put(key(max_budget_usd=Decimal(1), deleted=True))
    assert budgets.standings([KEY], NOW_US) == {KEY: None}


def test_a_key_without_a_budget_is_not_counted() -> None:
    # Given no budget, when spends come, then nothing changes and the books are not asked.
    budgets, books = budgets_with(key())
    commit(budgets, books, spend("100"))
    assert changes(budgets) == {}
    assert books.asked == 0


def test_the_books_are_asked_once_for_a_window() -> None:
    # Given many spends, when the standing is asked each time, then the books were asked once.
    budgets, books = budgets_with(key(max_budget_usd=Decimal(10)))
    for _ in range(50):
        commit(budgets, books, spend("0.01"))
        changes(budgets)
    assert books.asked == 1


@given(st.lists(st.integers(1, 10**13), max_size=30), st.integers(0, 2**32), st.integers(0, 30))
def test_spend_does_not_depend_on_order_or_on_when_counting_began(
    costs: list[int], seed: int, begin: int
) -> None:
    # Given spends in any order, some committed before the counter began, then the sum is exact.
    spends = [Spend(KEY.scope_id, NOW_US, cost) for cost in costs]
    random.Random(seed).shuffle(spends)
    budgets, books = budgets_with(key(max_budget_usd=Decimal(1)), *spends[:begin])
    standing_of(budgets, KEY)
    for each in spends[begin:]:
        commit(budgets, books, each)
    standing = standing_of(budgets, KEY, NOW_US)
    assert int(standing.state.spend_usd * PICOS_PER_USD) == sum(costs)


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(1, 9)), max_size=20),
    st.lists(st.tuples(st.integers(0, 20), st.integers(-3, 3), st.integers(0, 9)), max_size=3),
    st.sampled_from([None, "1d", "30d"]),
)
def test_books_built_anew_count_as_those_that_saw_every_reset(
    costs: list[tuple[int, int]], resets: list[tuple[int, int, int]], duration: str | None
) -> None:
    # Given requests of several days and resets between them, when one counter saw all of it as it
    # came, and another begins with the last record and all rows, then both say the same: what
    # started since the last reset, and the figure it set where that is in the same window.
    record = key(
        max_budget_usd=Decimal(10),
        budget_duration=duration,
        budget_limits=(BudgetWindow(max_budget_usd=Decimal(5), budget_duration="7d"),),
        model_max_budget={"m": ModelBudget(max_budget_usd=Decimal(5))},
    )
    seen, books = budgets_with(record)
    changes(seen)
    for place, (days, usd) in enumerate(costs, 1):
        for at, reset_days, to_usd in resets:
            if at == place:
                record = msgspec.structs.replace(
                    record,
                    spend_reset_at_us=NOW_US + reset_days * DAY_US,
                    spend_reset_to_usd=Decimal(to_usd),
                )
                seen.put(record)
        each = Spend(KEY.scope_id, NOW_US + days * DAY_US, usd * PICOS_PER_USD, model_name="m")
        commit(seen, books, each)
        changes(seen)
    fresh, _ = budgets_with(record, *books.spends)
    ids = [limit.budget_id for limit in limits_of(record)]
    for at_us in (NOW_US, NOW_US + 2 * DAY_US, NOW_US + 40 * DAY_US):
        standings = seen.standings(ids, at_us)
        assert standings == fresh.standings(ids, at_us)
        start_us = 0 if duration is None else budget_window(duration, at_us, "UTC")[0]
        reset_us, to_usd = record.spend_reset_at_us or 0, record.spend_reset_to_usd or 0
        standing = standings[KEY]
        assert standing is not None
        assert standing.state.spend_usd == (to_usd if reset_us > start_us else 0) + sum(
            usd for days, usd in costs if NOW_US + days * DAY_US >= max(start_us, reset_us)
        )


def test_reset_clears_what_was_exceeded_and_warns_anew() -> None:
    # Given a key whose budget and further window are exceeded, when its spend is set to half of
    # the budget, then both are cleared; and what is spent from then on is warned of once more.
    record = key(
        max_budget_usd=Decimal(10),
        budget_limits=(BudgetWindow(max_budget_usd=Decimal(5), budget_duration="7d"),),
    )
    budgets, books = budgets_with(record, spend("11"))
    before = changes(budgets)
    assert [each.is_exceeded for each in before.values() if each is not None] == [True, True]
    told = {}
    for number, (budget_id, standing) in enumerate(before.items()):
        said = news(None, standing)
        assert said is not None
        told[budget_id] = Said(number, is_exceeded=True, state=said[1])
    budgets.put(
        msgspec.structs.replace(record, spend_reset_at_us=NOW_US + 1, spend_reset_to_usd=Decimal(5))
    )
    after = changes(budgets)
    for budget_id, standing in after.items():
        assert standing is not None
        said = news(told[budget_id], standing)
        assert said is not None
        assert (said[0], said[1].warned) == (BudgetCleared, ())
        assert standing.state.spend_usd == (5 if budget_id == KEY else 0)
        assert standing.state.window_start_us == NOW_US + 1
        told[budget_id] = Said(9, is_exceeded=False, state=said[1])
    commit(budgets, books, spend("1", NOW_US), spend("3", NOW_US + 2))
    standing = changes(budgets)[KEY]
    assert standing is not None
    assert standing.state.spend_usd == 8
    said = news(told[KEY], standing)
    assert said is not None
    assert (said[0], said[1].threshold) == (BudgetWarned, "80_percent")


def test_another_time_zone_counts_the_window_anew_from_its_own_midnight() -> None:
    # Given a daily budget that was spent yesterday evening in UTC, which is today in Tokyo, when
    # the zone changes, then the spend counts; and the same zone again changes nothing.
    late_us = NOW_US - 14 * 3_600_000_000
    budgets, books = budgets_with(
        key(max_budget_usd=Decimal(1), budget_duration="1d"), spend("1", late_us)
    )
    in_utc = changes(budgets)[KEY]
    asked = books.asked

    budgets.set_timezone("Asia/Tokyo")
    in_tokyo = changes(budgets)[KEY]

    assert in_utc is not None
    assert in_tokyo is not None
    assert not in_utc.is_exceeded
    assert in_tokyo.is_exceeded
    assert in_tokyo.state.window_start_us == NOW_US - 21 * 3_600_000_000
    budgets.set_timezone("Asia/Tokyo")
    assert changes(budgets) == {}
    standing_of(budgets, KEY)
    assert books.asked == asked + 1


def test_one_spend_counts_for_its_key_its_user_and_its_team_each_in_its_own_window() -> None:
    # Given budgets of a key, its user and its team with windows of their own, when two keys of the
    # team spend, then each budget has its own part of it, and each is exceeded by itself.
    budgets, books = budgets_with(key(max_budget_usd=Decimal(5)))
    budgets.put(UserRecord(user_id="u", max_budget_usd=Decimal(3)))
    budgets.put(
        TeamRecord(team_id="t", team_alias="Blue", max_budget_usd=Decimal(4), budget_duration="1d")
    )
    user, team = BudgetId("user", "u"), BudgetId("team", "t")
    changes(budgets)
    one = Spend(KEY.scope_id, NOW_US, 3 * PICOS_PER_USD, "u", "t")
    old = Spend(KEY.scope_id, NOW_US - DAY_US, PICOS_PER_USD, None, "t")
    other = Spend("key_b", NOW_US, PICOS_PER_USD, "nobody", "t")

    commit(budgets, books, one, old)
    spent = changes(budgets)
    assert set(spent) == {KEY, user, team}
    found = {
        each.scope: (standing.state.spend_usd, standing.is_exceeded)
        for each, standing in spent.items()
        if standing is not None
    }
    assert found == {"key": (4, False), "user": (3, True), "team": (3, False)}
    commit(budgets, books, other)
    assert set(changes(budgets)) == {team}
    standing = standing_of(budgets, team, NOW_US)
    assert standing.is_exceeded
    assert (standing.state.scope, standing.state.scope_id) == ("team", "t")
    assert (standing.state.name, standing.state.spend_usd) == ("Blue", 4)


def test_members_of_a_team_have_budgets_of_what_they_spend_in_it() -> None:
    # Given a team with a budget for each member, and one that has another, when members spend in
    # the team and elsewhere, then each budget has what its member spent in the team;
    budgets, books = budgets_with(key())
    ann = TeamMember(user_id="ann", max_budget_usd=Decimal(5), budget_duration="1d")
    bob = TeamMember(user_id="bob")
    team = TeamRecord(
        team_id="t/x",
        team_alias="Blue",
        members_with_roles=(ann, bob),
        team_member_budget_usd=Decimal(2),
        strict_budget=True,
    )
    budgets.put(team)
    ann_id, bob_id = BudgetId("member", "t%2Fx/ann"), BudgetId("member", "t%2Fx/bob")
    assert set(changes(budgets)) == {ann_id, bob_id}
    inside = Spend("k1", NOW_US, 3 * PICOS_PER_USD, "ann", "t/x")
    before = Spend("k1", NOW_US - DAY_US, PICOS_PER_USD, "ann", "t/x")
    elsewhere = Spend("k2", NOW_US, PICOS_PER_USD, "ann", "t")
    others = Spend("k3", NOW_US, 2 * PICOS_PER_USD, "bob", "t/x")
    stranger = Spend("k4", NOW_US, PICOS_PER_USD, "eve", "t/x")
    commit(budgets, books, inside, before, elsewhere, others, stranger)
    found = {each: standing_of(budgets, each) for each in (ann_id, bob_id)}
    assert [each.state.spend_usd for each in found.values()] == [3, 2]
    assert [each.is_exceeded for each in found.values()] == [False, True]
    assert found[bob_id].state.name == "bob in Blue"
    assert found[bob_id].state.strict
    changes(budgets)
    # when one is let go and the team says nothing of the others, then there is no such budget.
    alone = msgspec.structs.replace(team, members_with_roles=(bob,))
    budgets.put(alone)
    assert changes(budgets) == {ann_id: None}
    budgets.put(msgspec.structs.replace(alone, team_member_budget_usd=None))
    assert changes(budgets) == {bob_id: None}
    budgets.put(team)
    assert [standing_of(budgets, each).state.spend_usd for each in (ann_id, bob_id)] == [3, 2]
    budgets.put(msgspec.structs.replace(team, deleted=True))
    assert changes(budgets) == {ann_id: None, bob_id: None}
