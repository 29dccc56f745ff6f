"""The budgets: what keys, users and teams spent in their windows, and if it is all they may. Pure.

A request counts in the window in which it started. Spend is whole pico-dollars, so the order in
which requests are added does not matter. The state of a budget is a function of the settings,
the requests and the time; what was published is compared with it, so a crash between the two
loses nothing and repeats nothing.
"""

from collections.abc import Callable, Iterable
from decimal import Decimal

import msgspec

from schemas.events import BudgetState
from schemas.money import picos_from_usd, usd_from_picos
from schemas.registry import KeyRecord, TeamRecord, UserRecord
from services.ledger.spends import Spend, Whose
from services.runtime.durations import budget_window

__all__ = ["Budgets", "Standing", "whose"]


class Standing(msgspec.Struct, frozen=True):
    """Where one budget stands: exceeded or not, and the figures to publish."""

    is_exceeded: bool
    state: BudgetState


class _Counter(msgspec.Struct):
    """The spend of one budget since the beginning of its window."""

    start_us: int
    resets_at_us: int | None
    spend_picos: int


class _Budget(msgspec.Struct, frozen=True):
    """What is set: the limit, its window, and the name that refusals tell."""

    name: str
    max_budget_usd: Decimal
    budget_duration: str | None


class Budgets:
    """Counts the spend of every key, user and team that has a budget.

    `spend_since(whose, start_us)` asks the books for the spend in pico-dollars; it is asked once
    for each budget and window, later spends are added.
    """

    def __init__(self, timezone: str, spend_since: Callable[[Whose, int], int]) -> None:
        self._timezone = timezone
        self._spend_since = spend_since
        self._budgets: dict[Whose, _Budget] = {}
        self._counters: dict[Whose, _Counter] = {}

    def set_timezone(self, timezone: str) -> set[Whose]:
        """Let windows begin at another zone's midnights; return the budgets that count anew."""
        if timezone == self._timezone:
            return set()
        self._timezone = timezone
        return self.count_anew()

    def count_anew(self) -> set[Whose]:
        """Ask the books again for what was spent; return all budgets."""
        self._counters.clear()
        return set(self._budgets)

    def put(self, record: KeyRecord | TeamRecord | UserRecord) -> None:
        """Take in the state of a key, user or team; its window is counted anew."""
        owner = whose(record)
        self._counters.pop(owner, None)
        if record.deleted or record.max_budget_usd is None:
            self._budgets.pop(owner, None)
        else:
            self._budgets[owner] = _Budget(
                _name(record), record.max_budget_usd, record.budget_duration
            )

    def add(self, spends: Iterable[Spend]) -> set[Whose]:
        """Add committed spends; return the budgets that they change."""
        changed = set()
        for spend in spends:
            for owner in spend.owners():
                if owner not in self._budgets:
                    continue
                changed.add(owner)
                counter = self._counters.get(owner)
                # Without a counter the books are asked, and they have this spend already.
                if counter is not None and spend.started_at_us >= counter.start_us:
                    counter.spend_picos += spend.cost_picos
        return changed

    def standing(self, owner: Whose, now_us: int) -> Standing | None:
        """Return where a budget stands now; None where there is none."""
        budget = self._budgets.get(owner)
        if budget is None:
            return None
        counter = self._current(owner, budget, now_us)
        return Standing(
            is_exceeded=counter.spend_picos >= picos_from_usd(budget.max_budget_usd),
            state=BudgetState(
                scope=owner.scope,
                scope_id=owner.scope_id,
                name=budget.name,
                spend_usd=usd_from_picos(counter.spend_picos),
                max_budget_usd=budget.max_budget_usd,
                budget_duration=budget.budget_duration,
                window_start_us=counter.start_us if budget.budget_duration else None,
                resets_at_us=counter.resets_at_us,
            ),
        )

    def _current(self, owner: Whose, budget: _Budget, now_us: int) -> _Counter:
        counter = self._counters.get(owner)
        if counter is not None and (
            counter.resets_at_us is None or counter.start_us <= now_us < counter.resets_at_us
        ):
            return counter
        start_us, resets_at_us = 0, None
        if budget.budget_duration is not None:
            start_us, resets_at_us = budget_window(budget.budget_duration, now_us, self._timezone)
        counter = _Counter(start_us, resets_at_us, self._spend_since(owner, start_us))
        self._counters[owner] = counter
        return counter


def whose(record: KeyRecord | TeamRecord | UserRecord) -> Whose:
    """Return whose budget a record may set."""
    if isinstance(record, KeyRecord):
        return Whose("key", record.key_id)
    if isinstance(record, TeamRecord):
        return Whose("team", record.team_id)
    return Whose("user", record.user_id)


def _name(record: KeyRecord | TeamRecord | UserRecord) -> str:
    if isinstance(record, KeyRecord):
        return record.key_alias or record.key_name
    if isinstance(record, TeamRecord):
        return record.team_alias or record.team_id
    return record.user_alias or record.user_id
