"""What was used of one rate limit: a sliding minute, exact to a tick. Pure but for the clock given.

A tick is a twentieth of a second. What was used in a tick counts until a minute after the tick's
end. So no minute, wherever it begins, holds more than the limit, and what is refused would have
been too much for 60.05 seconds. A tally holds no more than some 1,200 entries, whatever the limit.
"""

from collections import deque
from typing import TypeAlias

from schemas.rates import RateWhat

__all__ = ["TICKS_PER_S", "WINDOW_S", "Tally", "TallyName"]

WINDOW_S = 60
TICKS_PER_S = 20
_LIFE_TICKS = WINDOW_S * TICKS_PER_S + 1

TallyName: TypeAlias = tuple[str, str, RateWhat, str]
"""Scope, its id, what is counted, and the model ("": all of them)."""


class Tally:
    """Requests or tokens of the last minute (`add`), and what is held while it lasts (`hold`).

    Both are this worker's own doing; `heard` adds what another worker did. `started` counts all
    that ever began here, `confirmed` how much of that all others have heard of. `counted` is all
    that was ever added here. Times are seconds of a clock that never goes back; `own`, what of the
    minute is this worker's, is to be read after `level`, which drops what is too old.

    A tally that changes puts itself into the list `changed`, once until it is taken out.
    """

    __slots__ = (
        "_changed",
        "_entries",
        "_total",
        "confirmed",
        "counted",
        "held",
        "is_changed",
        "name",
        "others_hold",
        "own",
        "started",
    )

    def __init__(self, name: TallyName, changed: list["Tally"]) -> None:
        self.name = name
        self._changed = changed
        self._entries: deque[list[int]] = deque()
        self._total = 0
        self.own = 0
        self.held = 0
        self.others_hold = 0
        self.started = 0
        self.confirmed = 0
        self.counted = 0
        self.is_changed = False

    def level(self, now_s: float) -> int:
        """Return how much counts at this moment."""
        entries = self._entries
        if entries:
            oldest = int(now_s * TICKS_PER_S) - _LIFE_TICKS
            while entries and entries[0][0] <= oldest:
                _, amount, own = entries.popleft()
                self._total -= amount
                self.own -= own
        return self._total + self.held + self.others_hold

    def has_room(self, now_s: float, maximum: int, workers: int, *, is_cut_off: bool) -> bool:
        """Tell whether something may begin here, where so many workers share the limit.

        What the others have not heard of is at most this worker's share of what is left besides:
        then all of them together begin no more than is left, or one each. One that is cut off has
        its share of the whole.
        """
        level = self.level(now_s)
        if workers == 1:
            return level < maximum
        own = self.own + self.held
        if is_cut_off:
            return own < max(1, maximum // workers)
        if level >= maximum:
            return False
        unheard = min(self.started - self.confirmed, own)
        return unheard < max(1, (maximum - level + unheard) // workers)

    def change(self) -> None:
        """Note that the others are to be told."""
        if not self.is_changed:
            self.is_changed = True
            self._changed.append(self)

    def add(self, now_s: float, amount: int, started: int) -> None:
        """Count an amount that was used at this moment, `started` of which begins only now."""
        self.counted += amount
        self.started += started
        self._enter(now_s, amount, amount)
        self.change()

    def heard(self, now_s: float, amount: int) -> None:
        """Count an amount that another worker told of at this moment."""
        if amount:
            self._enter(now_s, amount, 0)

    def _enter(self, now_s: float, amount: int, own: int) -> None:
        tick = int(now_s * TICKS_PER_S)
        self._total += amount
        self.own += own
        entries = self._entries
        if entries and entries[-1][0] >= tick:
            entries[-1][1] += amount
            entries[-1][2] += own
        else:
            entries.append([tick, amount, own])

    def hold(self, amount: int) -> None:
        """Count an amount until it is released."""
        self.held += amount
        self.started += amount
        self.change()

    def release(self, amount: int) -> None:
        """End what `hold` began."""
        self.held -= amount
        assert self.held >= 0, "nothing is released twice"
        self.change()

    def wait_s(self, now_s: float, maximum: int, workers: int, *, is_cut_off: bool) -> float | None:
        """Return after what time there is room again; None: that is not known.

        What is held has no known end, and nor has the silence of others.
        """
        held = self.held if is_cut_off else self.held + self.others_hold
        level = self.level(now_s)
        if is_cut_off and workers > 1:
            level, maximum = self.own + self.held, max(1, maximum // workers)
        if level < maximum or held >= maximum:
            return None
        for tick, amount, own in self._entries:
            level -= own if is_cut_off else amount
            if level < maximum:
                return max(0.0, (tick + _LIFE_TICKS) / TICKS_PER_S - now_s)
        return None
