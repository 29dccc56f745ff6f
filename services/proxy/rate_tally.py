"""What was used of one rate limit: a sliding minute, exact to a tick. Pure but for the clock given.

A tick is a twentieth of a second. What was used in a tick counts until a minute after the tick's
end. So no minute, wherever it begins, holds more than the limit, and what is refused would have
been too much for 60.05 seconds. A tally holds no more than some 1,200 entries, whatever the limit.
"""

from collections import deque

__all__ = ["TICKS_PER_S", "WINDOW_S", "Tally"]

WINDOW_S = 60
TICKS_PER_S = 20
_LIFE_TICKS = WINDOW_S * TICKS_PER_S + 1


class Tally:
    """Requests or tokens of the last minute (`add`), and what is held while it lasts (`hold`).

    Times are seconds of a clock that never goes back. `total` and `held` are to be read after
    `level`, which drops what is too old.
    """

    __slots__ = ("_entries", "held", "total")

    def __init__(self) -> None:
        self._entries: deque[list[int]] = deque()
        self.total = 0
        self.held = 0

    def level(self, now_s: float) -> int:
        """Return how much counts at this moment."""
        entries = self._entries
        if entries:
            oldest = int(now_s * TICKS_PER_S) - _LIFE_TICKS
            while entries and entries[0][0] <= oldest:
                self.total -= entries.popleft()[1]
        return self.total + self.held

    def add(self, now_s: float, amount: int) -> None:
        """Count an amount that was used at this moment."""
        tick = int(now_s * TICKS_PER_S)
        self.total += amount
        entries = self._entries
        if entries and entries[-1][0] >= tick:
            entries[-1][1] += amount
        else:
            entries.append([tick, amount])

    def hold(self, amount: int) -> None:
        """Count an amount until it is released."""
        self.held += amount

    def release(self, amount: int) -> None:
        """End what `hold` began."""
        self.held -= amount
        assert self.held >= 0, "nothing is released twice"

    def wait_s(self, now_s: float, maximum: int) -> float | None:
        """Return after what time less than `maximum` counts; None: that is not known.

        What is held has no known end.
        """
        left = self.level(now_s)
        if left < maximum:
            return 0.0
        if self.held >= maximum:
            return None
        for tick, amount in self._entries:
            left -= amount
            if left < maximum:
                return max(0.0, (tick + _LIFE_TICKS) / TICKS_PER_S - now_s)
        return None
