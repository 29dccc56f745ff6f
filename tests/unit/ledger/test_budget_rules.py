"""Budgets against an independent count: any settings, spends, prices, windows and restarts."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.budgets import (
    BudgetCleared,
    BudgetExceeded,
    BudgetId,
    BudgetState,
    BudgetWarned,
)
from schemas.events import us_from_time
from schemas.money import PICOS_PER_USD
from schemas.registry import BudgetWindow, KeyRecord, ModelBudget, TeamMember, TeamRecord
from services.ledger.budget_news import Kind, Said, news
from services.ledger.budgets import Budgets, Standing
from services.ledger.spends import Spend, SpendQuestion
from services.runtime.durations import budget_window

HOUR_US = 3_600_000_000
START_US = us_from_time(datetime(2026, 11, 29, 12, tzinfo=UTC))
MODELS = ("opus-4", "opus-5", "haiku")


class World:
    """The ledger's budgets, what is true of them, and what was said."""

    def __init__(self) -> None:
        self.now_us = START_US
        self.spends: list[Spend] = []
        self.records: dict[str, KeyRecord | TeamRecord] = {}
        self.said: dict[BudgetId, Said] = {}
        self.statements: list[tuple[Kind, BudgetState]] = []
        self.marks: dict[BudgetId, BudgetState] = {}
        self.with_subscriptions = True
        self.restart()

    def restart(self) -> None:
        self.budgets = Budgets("UTC", self._since)
        self.budgets.count_subscriptions(with_subscriptions=self.with_subscriptions)
        for record in self.records.values():
            self.budgets.put(record)

    def _since(self, questions: Sequence[SpendQuestion], with_subscriptions: bool) -> list[int]:  # noqa: FBT001
        assert with_subscriptions == self.with_subscriptions
        return [
            self.spent(each.whose.scope, each.whose.scope_id, each.since_us, each.model)
            for each in questions
        ]

    def spent(self, scope: str, scope_id: str, since_us: int, model: str | None) -> int:
        own: Callable[[Spend], bool] = {
            "key": lambda each: each.key_id == scope_id,
            "team": lambda each: each.team_id == scope_id,
            "member": lambda each: scope_id == f"t/{each.user_id}",
        }[scope]
        return sum(
            each.cost_picos
            for each in self.spends
            if own(each)
            and each.started_at_us >= since_us
            and (self.with_subscriptions or not each.is_subscription)
            and (
                model is None
                or (
                    (each.model_name or "").startswith(model[:-1])
                    if model.endswith("*")
                    else each.model_name == model
                )
            )
        )

    def truth(self) -> dict[BudgetId, tuple[int, Decimal | None, int | None]]:
        """Return spend, maximum and end of the window of each budget, counted from nothing."""
        found: dict[BudgetId, tuple[int, Decimal | None, int | None]] = {}
        for record in self.records.values():
            scope, scope_id = (
                ("key", record.key_id)
                if isinstance(record, KeyRecord)
                else ("team", record.team_id)
            )

            def put(
                limit: str,
                maximum: Decimal | None,
                duration: str | None,
                model: str | None = None,
                *,
                scope: Any = scope,
                scope_id: str = scope_id,
            ) -> None:
                since_us, end_us = (
                    budget_window(duration, self.now_us, "UTC") if duration else (0, None)
                )
                spend = self.spent(scope, scope_id, since_us, model)
                found[BudgetId(scope, scope_id, limit)] = (spend, maximum, end_us)

            maximum, until_us = record.max_budget_usd, record.temp_budget_expires_at_us
            if maximum is not None and until_us is not None and self.now_us < until_us:
                assert record.temp_budget_increase_usd is not None
                maximum += record.temp_budget_increase_usd
            if maximum is not None or record.soft_budget_usd is not None:
                put("max_budget", maximum, record.budget_duration)
            for window in record.budget_limits:
                name = f"window-{window.budget_duration}"
                put(name, window.max_budget_usd, window.budget_duration)
            for model, budget in record.model_max_budget.items():
                put(f"model-{model}", budget.max_budget_usd, budget.budget_duration, model)
            for member in record.members_with_roles if isinstance(record, TeamRecord) else ():
                each = record.team_member_budget_usd
                own = each if member.max_budget_usd is None else member.max_budget_usd
                lasts = member.budget_duration or record.team_member_budget_duration
                if own is not None:
                    put("max_budget", own, lasts, scope="member", scope_id=f"t/{member.user_id}")
        return found

    def look(self, due: Sequence[BudgetId] = ()) -> int:
        """Take changes in as the publisher does; return how much was said."""
        count = len(self.statements)
        for budget_id, standing in self.budgets.changes(due, self.now_us).items():
            if standing is None:
                self.marks.pop(budget_id, None)
            else:
                self.marks[budget_id] = standing.state
            while (due_now := news(self.said.get(budget_id), standing)) is not None:
                kind, state = due_now
                self.statements.append(due_now)
                self.said[budget_id] = Said(1, kind is BudgetExceeded, state)
        return len(self.statements) - count

    def check(self) -> None:
        truth = self.truth()
        known = {
            each: (int(state.spend_usd * PICOS_PER_USD), state.max_budget_usd, state.resets_at_us)
            for each, state in self.marks.items()
        }
        assert known == truth
        for budget_id, (spend, maximum, _) in truth.items():
            is_exceeded = maximum is not None and spend >= maximum * PICOS_PER_USD
            said = self.said.get(budget_id)
            assert (said is not None and said.is_exceeded) == is_exceeded
        for budget_id, said in self.said.items():
            assert budget_id in truth or not (said.is_exceeded or said.state.warned)


AMOUNT = st.integers(1, 12).map(Decimal)
DURATION = st.sampled_from(["1h", "1d", "7d", "monthly"])
RECORD = st.fixed_dictionaries(
    {"max_budget_usd": AMOUNT | st.none()},
    optional={
        "soft_budget_usd": AMOUNT,
        "budget_duration": DURATION,
        "budget_limits": DURATION.flatmap(
            lambda each: AMOUNT.map(
                lambda usd: (BudgetWindow(max_budget_usd=usd, budget_duration=each),)
            )
        ),
        "model_max_budget": st.dictionaries(
            st.sampled_from(["opus-4", "opus-*", "haiku"]),
            st.builds(ModelBudget, max_budget_usd=AMOUNT, budget_duration=DURATION | st.none()),
            max_size=2,
        ),
        "increase": st.tuples(AMOUNT, st.integers(1, 60)),
    },
)
MEMBERS = st.fixed_dictionaries(
    {
        "members_with_roles": st.lists(
            st.builds(
                TeamMember,
                user_id=st.sampled_from(["u-k1", "u-k2", "u-k3"]),
                max_budget_usd=AMOUNT | st.none(),
                budget_duration=DURATION | st.none(),
            ),
            unique_by=lambda member: member.user_id,
        ).map(tuple),
        "team_member_budget_usd": AMOUNT | st.none(),
        "team_member_budget_duration": DURATION | st.none(),
    }
)
STEP = st.one_of(
    st.tuples(
        st.just("spend"),
        st.sampled_from(["k1", "k2"]),
        st.integers(0, 4),
        st.sampled_from(MODELS),
        st.integers(0, 30),
        st.booleans(),
    ),
    st.tuples(st.just("set"), st.sampled_from(["k1", "k2"]), RECORD, st.integers(0, 5)),
    st.tuples(
        st.just("set"),
        st.just("t"),
        st.builds(lambda own, members: own | members, RECORD, MEMBERS),
        st.integers(0, 5),
    ),
    st.tuples(st.just("wait"), st.integers(1, 40)),
    st.tuples(st.just("reprice"), st.sampled_from([(1, 2), (2, 1), (0, 1)])),
    st.tuples(st.just("restart")),
    st.tuples(st.just("subscriptions")),
)


def take(world: World, step: tuple[Any, ...]) -> None:
    match step:
        case ("spend", key_id, usd, model, hours_ago, is_subscription):
            spend = Spend(
                key_id,
                world.now_us - hours_ago * HOUR_US,
                usd * PICOS_PER_USD,
                user_id=f"u-{key_id}",
                team_id="t",
                model_name=model,
                is_subscription=is_subscription,
            )
            world.spends.append(spend)
            world.budgets.add([spend])
        case ("set", owner, fields, chance):
            fields, deleted = dict(fields), chance == 5
            if "increase" in fields:
                amount, hours = fields.pop("increase")
                fields["temp_budget_increase_usd"] = amount
                fields["temp_budget_expires_at_us"] = world.now_us + hours * HOUR_US
            record: KeyRecord | TeamRecord = (
                TeamRecord(team_id="t", deleted=deleted, **fields)
                if owner == "t"
                else KeyRecord(
                    key_id=owner, key_hash="0" * 64, key_name="n", deleted=deleted, **fields
                )
            )
            world.records.pop(owner, None)
            if not deleted:
                world.records[owner] = record
            world.budgets.put(record)
        case ("wait", hours):
            world.now_us += hours * HOUR_US
        case ("reprice", (numerator, denominator)):
            world.spends = [
                msgspec.structs.replace(each, cost_picos=each.cost_picos * numerator // denominator)
                for each in world.spends
            ]
            world.budgets.count_anew()
        case ("restart",):
            world.look()
            world.restart()
            assert world.look(list(world.said)) == 0, "a restart says something twice"
        case ("subscriptions",):
            world.with_subscriptions = not world.with_subscriptions
            world.budgets.count_subscriptions(with_subscriptions=world.with_subscriptions)


@settings(max_examples=250, deadline=None)
@given(st.lists(st.tuples(STEP, st.booleans()), max_size=20))
def test_standings_and_what_is_said_of_them_are_those_of_an_independent_count(
    steps: list[tuple[tuple[Any, ...], bool]],
) -> None:
    # Given any settings, spends, prices, windows' ends and restarts in any order, when the changes
    # alone are taken in, then all that is known and said is what a count from nothing tells.
    world = World()
    for step, is_looked_at in steps:
        take(world, step)
        if is_looked_at:
            world.look()
            world.check()
    world.look()
    world.check()
    assert world.look() == 0


def standing(spend: str, **fields: Any) -> Standing:
    given_fields = {"max_budget_usd": Decimal(10), "soft_budget_usd": Decimal(5), **fields}
    state = BudgetState(
        scope="key", scope_id="k", name="n", spend_usd=Decimal(spend), **given_fields
    )
    maximum = state.max_budget_usd
    return Standing(is_exceeded=maximum is not None and state.spend_usd >= maximum, state=state)


def test_each_threshold_is_warned_of_once_in_a_window_and_again_after_it_was_cleared() -> None:
    # Given a budget of 10 with a soft one of 5, when it is spent, raised, repriced and begins anew,
    # then each statement comes once, and none that was passed over later.
    said: Said | None = None
    told: list[tuple[str, str | None]] = []
    later = {"window_start_us": 1, "resets_at_us": 2}
    for found in (
        standing("4"),
        standing("5"),
        standing("6"),
        standing("9"),
        standing("10"),
        standing("11"),
        standing("11", max_budget_usd=Decimal(20)),
        standing("16", max_budget_usd=Decimal(20)),
        standing("4", max_budget_usd=Decimal(20)),
        standing("8", **later),
        standing("8", max_budget_usd=None, **later),
        standing("12", **later),
    ):
        while (due := news(said, found)) is not None:
            kind, state = due
            told.append((kind.__struct_config__.tag.split(".")[1], state.threshold))  # type: ignore[union-attr]
            said = Said(1, kind is BudgetExceeded, state)
    assert told == [
        ("warned", "soft_budget"),
        ("warned", "80_percent"),
        ("exceeded", None),
        ("cleared", None),
        ("warned", "80_percent"),
        ("cleared", None),
        ("warned", "soft_budget"),
        ("warned", "80_percent"),
        ("cleared", None),
        ("exceeded", None),
    ]
    assert news(said, None) == (
        BudgetCleared,
        msgspec.structs.replace(said.state, warned=()) if said else None,
    )


@pytest.mark.parametrize(
    ("fields", "kind"), [({}, BudgetWarned), ({"max_budget_usd": Decimal(5)}, BudgetExceeded)]
)
def test_a_budget_that_is_new_and_spent_already_is_told_as_it_stands(
    fields: dict[str, Any], kind: Kind
) -> None:
    # Given nothing said, when a budget is looked at that was reached before, then it is told.
    found = news(None, standing("5", **fields))
    assert found is not None
    assert found[0] is kind
    assert news(None, None) is None
