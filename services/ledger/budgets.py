"""The budgets: what each key has spent in its window, and whether that is all it may. Pure.

A request counts in the window in which it started. Spend is whole pico-dollars, so the order in
which requests are added does not matter. The state of a budget is a function of the keys' settings,
the requests and the time; what was published is compared with it, so a crash between the two
loses nothing and repeats nothing.
"""

from collections.abc import Callable, Iterable

import msgspec

from schemas.events import BudgetState
from schemas.money import picos_from_usd, usd_from_picos
from schemas.registry import KeyRecord
from services.ledger.projection import Spend
from services.runtime.durations import budget_window

__all__ = ["Budgets", "Standing"]


class Standing(msgspec.Struct, frozen=True):
    """Where one budget stands: exceeded or not, and the figures to publish."""

    is_exceeded: bool
    state: BudgetState


class _Counter(msgspec.Struct):
    """The spend of one key since the beginning of its window."""

    start_us: int
    resets_at_us: int | None
    spend_picos: int


class Budgets:
    """Counts the spend of every key that has a budget.

    `spend_since(key_id, start_us)` asks the books for the spend in pico-dollars; it is asked once
    for each key and window, later spends are added.
    """

    def __init__(self, timezone: str, spend_since: Callable[[str, int], int]) -> None:
        self._timezone = timezone
        self._spend_since = spend_since
        self._keys: dict[str, KeyRecord] = {}
        self._counters: dict[str, _Counter] = {}

    def set_timezone(self, timezone: str) -> set[str]:
        """Let windows begin at another zone's midnights; return the keys that count anew."""
        if timezone == self._timezone:
            return set()
        self._timezone = timezone
        self._counters.clear()
        return set(self._keys)

    def put_key(self, record: KeyRecord) -> None:
        """Take in the state of a key; its window is counted anew."""
        self._counters.pop(record.key_id, None)
        if record.deleted or record.max_budget_usd is None:
            self._keys.pop(record.key_id, None)
        else:
            self._keys[record.key_id] = record

    def has_budget(self, key_id: str) -> bool:
        """Tell whether a key has a budget."""
        return key_id in self._keys

    def add(self, spends: Iterable[Spend]) -> set[str]:
        """Add committed spends; return the keys whose budgets they change."""
        changed = set()
        for spend in spends:
            if spend.key_id not in self._keys:
                continue
            changed.add(spend.key_id)
            counter = self._counters.get(spend.key_id)
            # Without a counter the books are asked, and they have this spend already.
            if counter is not None and spend.started_at_us >= counter.start_us:
                counter.spend_picos += spend.cost_picos
        return changed

    def standing(self, key_id: str, now_us: int) -> Standing | None:
        """Return where a key's budget stands now; None where it has none."""
        record = self._keys.get(key_id)
        if record is None or record.max_budget_usd is None:
            return None
        counter = self._current(record, now_us)
        return Standing(
            is_exceeded=counter.spend_picos >= picos_from_usd(record.max_budget_usd),
            state=BudgetState(
                scope="key",
                scope_id=key_id,
                name=record.key_alias or record.key_name,
                spend_usd=usd_from_picos(counter.spend_picos),
                max_budget_usd=record.max_budget_usd,
                budget_duration=record.budget_duration,
                window_start_us=counter.start_us if record.budget_duration else None,
                resets_at_us=counter.resets_at_us,
            ),
        )

    def _current(self, record: KeyRecord, now_us: int) -> _Counter:
        counter = self._counters.get(record.key_id)
        if counter is not None and (
            counter.resets_at_us is None or counter.start_us <= now_us < counter.resets_at_us
        ):
            return counter
        start_us, resets_at_us = 0, None
        if record.budget_duration is not None:
            start_us, resets_at_us = budget_window(record.budget_duration, now_us, self._timezone)
        counter = _Counter(start_us, resets_at_us, self._spend_since(record.key_id, start_us))
        self._counters[record.key_id] = counter
        return counter
