"""The budgets: what keys, users, teams and all together spent, and if it is all they may. Pure.

A request counts in the window in which it started. Spend is whole pico-dollars, so the order in
which requests are added does not matter. The state of a budget is a function of the settings,
the requests and the time; what was published is compared with it, so a crash between the two
loses nothing and repeats nothing.
"""

import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import msgspec

from schemas.budgets import BudgetId, BudgetState
from schemas.events import RequestFacts
from schemas.money import picos_from_usd, usd_from_picos
from schemas.registry import KeyRecord, TeamRecord, UserRecord
from services.ledger.reserved import Reserved
from services.ledger.spends import Spend, SpendQuestion
from services.runtime.budget_limits import Limit, Whose, limits_of, member_limits, whose
from services.runtime.budget_windows import Reset

__all__ = ["Budgets", "Standing"]


class Standing(msgspec.Struct, frozen=True):
    """Where one budget stands: exceeded or not, and the figures to publish."""

    is_exceeded: bool
    state: BudgetState


class _Counter(msgspec.Struct):
    """The spend of one budget since the beginning of its window, and what is reserved beyond."""

    start_us: int
    resets_at_us: int | None
    spend_picos: int = 0
    reserved_picos: int = 0

    def holds(self, now_us: int) -> bool:
        """Tell whether the window is that of a moment."""
        return self.resets_at_us is None or self.start_us <= now_us < self.resets_at_us


_Due: TypeAlias = tuple[Limit, BudgetId, _Counter | None]


class Budgets:
    """Counts the spend of every budget, and knows which of them changed.

    `spends_since(questions, with_subscriptions)` asks the books for spends in pico-dollars; they
    are asked once for each budget and window, later spends are added.
    """

    def __init__(
        self, timezone: str, spends_since: Callable[[Sequence[SpendQuestion], bool], Sequence[int]]
    ) -> None:
        self._timezone = timezone
        self._with_subscriptions = True
        self._spends_since = spends_since
        self._limits: dict[BudgetId, Limit] = {}
        self._of_owner: dict[Whose, tuple[Limit, ...]] = {}
        self._members: dict[str, frozenset[Whose]] = {}
        """The members that have budgets, by their team's id."""
        self._counters: dict[BudgetId, _Counter] = {}
        self._changed: set[BudgetId] = set()
        self._reserved = Reserved()
        self._ends: list[tuple[int, BudgetId]] = []
        """A heap of moments at which a budget changes by itself; some of them are past use."""

    def set_timezone(self, timezone: str) -> None:
        """Let windows begin at another zone's midnights; all budgets count anew then."""
        if timezone != self._timezone:
            self._timezone = timezone
            self.count_anew()

    def count_subscriptions(self, *, with_subscriptions: bool) -> None:
        """Say whether requests that a subscription paid count; all count anew at a change."""
        if with_subscriptions != self._with_subscriptions:
            self._with_subscriptions = with_subscriptions
            self.count_anew()

    def count_anew(self) -> None:
        """Ask the books again for what was spent."""
        self._counters.clear()
        self._ends.clear()
        for limit in self._limits.values():
            self._note_expiry(limit)
        self._changed |= self._limits.keys()

    def put(self, record: KeyRecord | TeamRecord | UserRecord) -> None:
        """Take in the state of a key, user or team, and of the team's members."""
        self.put_limits(whose(record), limits_of(record))
        if not isinstance(record, TeamRecord):
            return
        limits = {Whose(*each.budget_id[:2]): (each,) for each in member_limits(record)}
        for gone in self._members.pop(record.team_id, frozenset()) - limits.keys():
            self.put_limits(gone, ())
        for member, own in limits.items():
            self.put_limits(member, own)
        if limits:
            self._members[record.team_id] = frozenset(limits)

    def put_limits(self, owner: Whose, limits: tuple[Limit, ...]) -> None:
        """Set the budgets of an owner. What one has counted goes on where that is the same."""
        before = {limit.budget_id: limit for limit in self._of_owner.pop(owner, ())}
        after = {limit.budget_id: limit for limit in limits}
        for budget_id in before.keys() | after.keys():
            old, new = before.get(budget_id), after.get(budget_id)
            if old == new:
                continue
            self._changed.add(budget_id)
            if new is None:
                del self._limits[budget_id]
            if old is None or new is None or _counted(old) != _counted(new):
                self._counters.pop(budget_id, None)
            if new is not None:
                self._note_expiry(new)
        self._limits |= after
        if limits:
            self._of_owner[owner] = limits

    def _note_expiry(self, limit: Limit) -> None:
        """Look at a budget again when its temporary increase is over."""
        if limit.increase_until_us is not None:
            heapq.heappush(self._ends, (limit.increase_until_us, limit.budget_id))

    def add(self, spends: Iterable[Spend]) -> None:
        """Add committed spends."""
        if not self._limits:
            return
        # Many requests are of few owners: what is looked up for one of theirs holds for all.
        known: dict[tuple[str | None, ...], list[_Due]] = {}
        for spend in spends:
            if not self._counts(spend):
                continue
            names = (spend.key_id, spend.user_id, spend.team_id)
            due = known.get(names)
            if due is None:
                due = known[names] = self._due(spend)
            for limit, budget_id, counter in due:
                if limit.counts(spend.model_name, spend.alias_of):
                    self._changed.add(budget_id)
                    # Without a counter the books are asked, and they have this spend already.
                    if counter is not None and spend.started_at_us >= counter.start_us:
                        counter.spend_picos += spend.cost_picos

    def _due(self, spend: Spend) -> "list[_Due]":
        """Return the budgets that a spend may add to, and their counters, if there are any."""
        return [
            (limit, limit.budget_id, self._counters.get(limit.budget_id))
            for owner in spend.owners()
            for limit in self._of_owner.get(owner, ())
        ]

    def reserve(self, opened: Iterable[RequestFacts], closed: Iterable[str]) -> None:
        """Add what requests that began reserve, and take off that of those whose end is known."""
        for spend in self._reserved.opened(opened):
            self._reserve(spend, spend.cost_picos)
        for spend in self._reserved.closed(closed):
            self._reserve(spend, -spend.cost_picos)

    def _counts(self, spend: Spend) -> bool:
        return self._with_subscriptions or not spend.is_subscription

    def _reserve(self, spend: Spend, picos: int) -> None:
        for owner in spend.owners() if self._counts(spend) else ():
            for limit in self._of_owner.get(owner, ()):
                if limit.strict and limit.counts(spend.model_name, spend.alias_of):
                    counter = self._counter_of(limit, spend)
                    if counter is not None:
                        counter.reserved_picos += picos

    def _counter_of(self, limit: Limit, spend: Spend) -> _Counter | None:
        """Return the counter that a request counts in, if there is one; its budget changes."""
        self._changed.add(limit.budget_id)
        counter = self._counters.get(limit.budget_id)
        return counter if counter is None or spend.started_at_us >= counter.start_us else None

    def changes(self, due: Iterable[BudgetId], now_us: int) -> dict[BudgetId, Standing | None]:
        """Return where the budgets stand that changed since this was asked last, and those `due`.

        The end of a window is a change. None: there is no such budget (any more).
        """
        while self._ends and self._ends[0][0] <= now_us:
            self._changed.add(heapq.heappop(self._ends)[1])
        found = self.standings(self._changed | set(due), now_us)
        # Only now: where the books could not be asked, the changes are still to be told.
        self._changed.clear()
        return found

    @property
    def next_end_us(self) -> int | None:
        """When a budget next changes by itself, as far as that is known."""
        return self._ends[0][0] if self._ends else None

    def standings(
        self, budget_ids: Iterable[BudgetId], now_us: int
    ) -> dict[BudgetId, Standing | None]:
        """Return where budgets stand; None where there is none."""
        wanted = {budget_id: self._limits.get(budget_id) for budget_id in budget_ids}
        self._count([limit for limit in wanted.values() if limit is not None], now_us)
        return {
            budget_id: None if limit is None else self._standing(limit, now_us)
            for budget_id, limit in wanted.items()
        }

    def _count(self, limits: Iterable[Limit], now_us: int) -> None:
        """See that each has the counter of its window."""
        missing: list[tuple[Limit, _Counter]] = []
        for limit in limits:
            counter = self._counters.get(limit.budget_id)
            if counter is None or not counter.holds(now_us):
                counted = limit.window(now_us, self._timezone)
                missing.append((limit, _Counter(counted.start_us, counted.resets_at_us)))
        if not missing:
            return
        spends = self._spends_since(
            [
                SpendQuestion(Whose(*limit.budget_id[:2]), counter.start_us, limit.model)
                for limit, counter in missing
            ],
            self._with_subscriptions,
        )
        for (limit, counter), spend_picos in zip(missing, spends, strict=True):
            counter.spend_picos = spend_picos + self._before(limit, now_us)
            counter.reserved_picos = self._reserved_of(limit, counter.start_us)
            self._counters[limit.budget_id] = counter
            if counter.resets_at_us is not None:
                heapq.heappush(self._ends, (counter.resets_at_us, limit.budget_id))

    def _reserved_of(self, limit: Limit, since_us: int) -> int:
        """Return what the open requests of a window reserve of a strict budget."""
        if not limit.strict:
            return 0
        owner = Whose(*limit.budget_id[:2])
        return sum(
            spend.cost_picos
            for spend in self._reserved
            if spend.started_at_us >= since_us
            and self._counts(spend)
            and limit.counts(spend.model_name, spend.alias_of)
            and owner in spend.owners()
        )

    def _before(self, limit: Limit, now_us: int) -> int:
        """Return what counts for the requests before a reset, in pico-dollars."""
        return picos_from_usd(limit.window(now_us, self._timezone).before_usd)

    def _standing(self, limit: Limit, now_us: int) -> Standing:
        counter = self._counters[limit.budget_id]
        maximum = limit.max_at(now_us)
        return Standing(
            is_exceeded=maximum is not None and counter.spend_picos >= picos_from_usd(maximum),
            state=BudgetState(
                scope=limit.budget_id.scope,
                scope_id=limit.budget_id.scope_id,
                limit=limit.budget_id.limit,
                name=limit.name,
                spend_usd=usd_from_picos(counter.spend_picos),
                max_budget_usd=maximum,
                soft_budget_usd=limit.soft_budget_usd,
                budget_duration=limit.budget_duration,
                window_start_us=counter.start_us or None,
                resets_at_us=counter.resets_at_us,
                model=limit.model,
                strict=limit.strict,
                reserved_usd=usd_from_picos(counter.reserved_picos),
            ),
        )


def _counted(limit: Limit) -> tuple[str | None, str | None, bool, Reset]:
    """Return what decides which requests count, and from when on."""
    return limit.budget_duration, limit.model, limit.strict, limit.reset
