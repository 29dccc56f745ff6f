"""When a child that died is started again, and when it is given up. Pure: time comes in."""

import signal

import msgspec

__all__ = [
    "DEATHS_MAX",
    "DELAY_FIRST_S",
    "DELAY_MAX_S",
    "STABLE_S",
    "RestartPolicy",
    "Verdict",
    "describe_exit",
]

DELAY_FIRST_S = 0.1
DELAY_MAX_S = 5.0
"""The wait before a new start doubles from the first value up to this one."""
STABLE_S = 30.0
"""A child that lived so long is a healthy one: its earlier deaths are forgotten."""
DEATHS_MAX = 8
"""So many deaths in a row, none of them after a stable life, and the child is given up."""

_EXIT_CONFIG = 78
_KILLED_FROM_OUTSIDE = frozenset({-signal.SIGKILL, -signal.SIGTERM})


class Verdict(msgspec.Struct, frozen=True):
    """What to do after a death: start again after `delay_s`, or give up (`delay_s` is None)."""

    delay_s: float | None
    reason: str


class RestartPolicy:
    """Remembers one child's deaths.

    A child that was ready and was then killed from outside (by an operator, or by the kernel for
    want of memory) did nothing wrong: it is started again, more slowly each time, but for ever.
    """

    def __init__(self) -> None:
        self._delay_s = DELAY_FIRST_S
        self._deaths = 0

    def after_death(self, *, lived_s: float, was_ready: bool, exit_code: int) -> Verdict:
        """Take a death in: `exit_code` is negative for a signal, as in subprocess."""
        reason = describe_exit(exit_code)
        if exit_code == _EXIT_CONFIG:
            return Verdict(None, f"{reason}: it cannot work with this configuration")
        if lived_s >= STABLE_S:
            self._delay_s = DELAY_FIRST_S
            self._deaths = 0
        if not (was_ready and exit_code in _KILLED_FROM_OUTSIDE):
            self._deaths += 1
        if self._deaths >= DEATHS_MAX:
            return Verdict(None, f"it died {self._deaths} times in a row, the last time: {reason}")
        delay_s = self._delay_s
        self._delay_s = min(DELAY_MAX_S, delay_s * 2)
        return Verdict(delay_s, reason)


def describe_exit(exit_code: int) -> str:
    """Return how a process ended, in words."""
    if exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        return f"killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"killed by signal {-exit_code}"
