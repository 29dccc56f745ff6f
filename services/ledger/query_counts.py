"""What the reader counts of its queries, from several threads."""

import contextlib
import threading
from collections.abc import Iterator

from services.runtime.metrics import Histogram, Sample, sample

__all__ = ["QueryCounts"]


class QueryCounts:
    """Queries by how they ended, how long they took, and how many run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._outcomes: dict[str, int] = {}
        self._seconds = Histogram(0.01, 0.05, 0.2, 1, 2.5, 5, 10)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Count a query as under way while the body runs."""
        with self._lock:
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1

    def ended(self, outcome: str, duration_s: float) -> None:
        """Count an answer."""
        with self._lock:
            self._outcomes[outcome] = self._outcomes.get(outcome, 0) + 1
            self._seconds.observe(duration_s)

    def samples(self) -> list[Sample]:
        """Return all of it."""
        with self._lock:
            return [
                *(
                    sample("tallygate_queries_total", count, outcome)
                    for outcome, count in self._outcomes.items()
                ),
                sample("tallygate_queries_running", self._running),
                *self._seconds.samples("tallygate_query_seconds"),
            ]
