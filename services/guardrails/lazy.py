"""A first pass that is compiled when it is first needed: to check settings, none is."""

import threading
from collections.abc import Callable

from services.guardrails.gate import Gate
from services.guardrails.texts import Hit, Texts

__all__ = ["LazyGate"]


class LazyGate:
    """Behaves as the gate that `make` returns. Safe for several threads, as that is."""

    def __init__(self, make: Callable[[], Gate]) -> None:
        self._make = make
        self._gate: Gate | None = None
        self._lock = threading.Lock()

    def open_for(self, texts: Texts) -> dict[int, list[Hit]]:
        """Return the patterns that may be in each text; see Gate."""
        gate = self._gate
        if gate is None:
            with self._lock:
                gate = self._gate = self._gate or self._make()
        return gate.open_for(texts)
