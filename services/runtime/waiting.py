"""When to say that something is still waited for: not at once, and not too often. Pure."""

import time
from collections.abc import Callable

__all__ = ["TOLD_AFTER_S", "TOLD_EVERY_S", "WaitTeller"]

TOLD_AFTER_S = 3.0
"""What is not there by then may be missing for good, such as a server with a mistyped address."""
TOLD_EVERY_S = 60.0


class WaitTeller:
    """Counts the time of one wait, from when it is made."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._due_at_s = clock_s() + TOLD_AFTER_S

    def is_due(self) -> bool:
        """Tell whether the wait is to be spoken of now; if so, count from now on again."""
        now_s = self._clock_s()
        if now_s < self._due_at_s:
            return False
        self._due_at_s = now_s + TOLD_EVERY_S
        return True
