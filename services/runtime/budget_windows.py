"""Since when a budget counts, and until when: a window, or what is left of it since a reset. Pure.

An admin may set the spend of a key to another figure: from then on the key's budgets count anew.
The requests before stay in the books; they count in no budget of that key any more.
"""

from decimal import Decimal
from typing import NamedTuple

import msgspec

from services.runtime.durations import budget_window

__all__ = ["NO_RESET", "Counted", "Reset", "counted_window"]


class Reset(msgspec.Struct, frozen=True):
    """That spend was set to `to_usd` at a moment. Requests that started before count no more."""

    at_us: int = 0
    to_usd: Decimal = Decimal(0)


NO_RESET = Reset()


class Counted(NamedTuple):
    """What a budget counts: requests that start from `start_us` on, and `before_usd` for others.

    `resets_at_us` is when the next window begins; None: this one has no end.
    """

    start_us: int
    resets_at_us: int | None
    before_usd: Decimal


def counted_window(
    budget_duration: str | None, now_us: int, timezone: str, reset: Reset = NO_RESET
) -> Counted:
    """Return what a budget counts at a moment; a window that begins after a reset is whole."""
    start_us: int = 0
    resets_at_us: int | None = None
    if budget_duration is not None:
        start_us, resets_at_us = budget_window(budget_duration, now_us, timezone)
    if reset.at_us > start_us:
        return Counted(reset.at_us, resets_at_us, reset.to_usd)
    return Counted(start_us, resets_at_us, Decimal(0))
