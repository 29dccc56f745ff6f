"""How often wrong credentials may be tried: a pure rule with bounded memory.

What an attacker does is try different secrets; what a misconfigured script does is repeat one. So
an address is refused for the rest of the window after FAILURES_MAX *different* wrong credentials;
one that is repeated is refused by itself, and locks nobody else out.
"""

from collections import OrderedDict

import msgspec

__all__ = ["ADDRESSES_MAX", "FAILURES_MAX", "WINDOW_S", "FailureLimit"]

FAILURES_MAX = 10
"""So many wrong credentials are answered 401 in a window; further ones are answered 429."""
WINDOW_S = 60.0
ADDRESSES_MAX = 1000
"""So many addresses are remembered; the one that failed longest ago is forgotten for a new one."""


class _Window(msgspec.Struct):
    """The wrong credentials of one address since `began_s`, by hash, and how often each came."""

    began_s: float
    tries: dict[str, int]


class FailureLimit:
    """Counts wrong credentials by client address. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def wait_s(self, address: str, credential_hash: str, now_s: float) -> float:
        """Return for how long this credential is not looked at from this address (0: now)."""
        window = self._windows.get(address)
        if window is None or now_s >= window.began_s + WINDOW_S:
            return 0.0
        is_repeated = window.tries.get(credential_hash, 0) >= FAILURES_MAX
        if is_repeated or len(window.tries) >= FAILURES_MAX:
            return window.began_s + WINDOW_S - now_s
        return 0.0

    def failed(self, address: str, credential_hash: str, now_s: float) -> None:
        """Count one wrong credential."""
        window = self._windows.get(address)
        if window is None or now_s >= window.began_s + WINDOW_S:
            window = _Window(began_s=now_s, tries={})
            self._windows[address] = window
        self._windows.move_to_end(address)
        window.tries[credential_hash] = window.tries.get(credential_hash, 0) + 1
        while len(self._windows) > ADDRESSES_MAX:
            self._windows.popitem(last=False)
