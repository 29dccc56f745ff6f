"""What is news about a budget, given what was told of it last. Pure.

The last statement about a budget holds all that was told of its window, so a restart says nothing
twice and leaves nothing out.
"""

import msgspec

from schemas.budgets import (
    BudgetCleared,
    BudgetExceeded,
    BudgetState,
    BudgetWarned,
    Threshold,
)
from schemas.money import picos_from_usd
from services.ledger.budgets import Standing

__all__ = ["WARNED_PERCENT", "Kind", "Said", "news"]

WARNED_PERCENT = 80
"""A warning is due when so much of a budget is spent."""

Kind = type[BudgetExceeded] | type[BudgetCleared] | type[BudgetWarned]


class Said(msgspec.Struct, frozen=True):
    """The last word on one budget, and its sequence in the stream."""

    sequence: int
    is_exceeded: bool
    state: BudgetState


def news(before: Said | None, standing: Standing | None) -> tuple[Kind, BudgetState] | None:
    """Return the next statement that is due, None: all is told. There may be one more after it.

    `standing` None: there is no such budget any more.
    """
    if standing is None:
        if before is None or not (before.is_exceeded or before.state.warned):
            return None
        return BudgetCleared, msgspec.structs.replace(before.state, warned=(), threshold=None)
    told = before.state.warned if before is not None and _is_same_window(before, standing) else ()
    reached = _reached(standing)
    if standing.is_exceeded:
        if before is not None and before.is_exceeded and not _is_other_budget(before, standing):
            return None
        warned = tuple(dict.fromkeys((*told, *reached)))
        return BudgetExceeded, msgspec.structs.replace(standing.state, warned=warned)
    kept = tuple(each for each in told if each in reached)
    if before is not None and (before.is_exceeded or kept != before.state.warned):
        return BudgetCleared, msgspec.structs.replace(standing.state, warned=kept)
    for each in reached:
        if each not in told:
            warned = (*told, each)
            state = msgspec.structs.replace(standing.state, warned=warned, threshold=each)
            return BudgetWarned, state
    return None


def _reached(standing: Standing) -> tuple[Threshold, ...]:
    """Return the thresholds that the spend has reached."""
    state = standing.state
    spend_picos = picos_from_usd(state.spend_usd)
    reached: list[Threshold] = []
    if state.soft_budget_usd is not None and spend_picos >= picos_from_usd(state.soft_budget_usd):
        reached.append("soft_budget")
    if state.max_budget_usd is not None:
        max_picos = picos_from_usd(state.max_budget_usd)
        if 100 * spend_picos >= WARNED_PERCENT * max_picos:
            reached.append("80_percent")
    return tuple(reached)


def _is_same_window(before: Said, standing: Standing) -> bool:
    old, new = before.state, standing.state
    return (old.window_start_us, old.resets_at_us) == (new.window_start_us, new.resets_at_us)


def _is_other_budget(before: Said, standing: Standing) -> bool:
    """Tell whether a budget is exceeded in another way than was told: the refusal must say so."""
    old, new = before.state, standing.state
    return (old.resets_at_us, old.max_budget_usd) != (new.resets_at_us, new.max_budget_usd)
