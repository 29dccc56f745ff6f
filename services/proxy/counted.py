"""Which of this worker's events a mark counts: their numbers, and where they are in USAGE. Pure."""

from collections import deque

__all__ = ["KNOWN_MAX", "Counted"]

KNOWN_MAX = 10_000
"""So many messages are told apart that no mark counts yet; of more, every other one."""


class Counted:
    """Knows by a mark's `usage_sequence` up to which number this worker's events are in it.

    Events are published in the order of their numbers, so one number stands for all before it.
    """

    def __init__(self) -> None:
        self._ahead: deque[tuple[int, int]] = deque()
        self._number = 0

    def published(self, number: int, sequence: int) -> None:
        """Note that the events up to a number are in the stream up to a sequence."""
        self._ahead.append((number, sequence))
        if len(self._ahead) > KNOWN_MAX:
            # The later one of two stands for both: it is counted later, which errs to caution.
            last = self._ahead[-1]
            self._ahead = deque([*list(self._ahead)[1::2], last])

    def number(self, usage_sequence: int) -> int:
        """Return the number of the last event that a mark up to a sequence counts."""
        ahead = self._ahead
        while ahead and ahead[0][1] <= usage_sequence:
            self._number = ahead.popleft()[0]
        return self._number
