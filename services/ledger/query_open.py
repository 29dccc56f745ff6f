"""Queries that can be cancelled, and answers of which parts are still to be asked for."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import duckdb

from schemas.rpc import QueryReply
from services.ledger.query_watch import Run

__all__ = [
    "ANSWERS_OPEN_MAX",
    "ANSWER_LIFE_S",
    "ANSWER_PAUSE_S",
    "ANSWER_REST_WORK_S",
    "OpenAnswer",
    "OpenAnswers",
]

ANSWERS_OPEN_MAX = 4
"""So many answers may wait for their next part to be asked for; a further long one is refused."""
ANSWER_PAUSE_S = 30.0
"""An answer whose next part is not asked for within this is given up."""
ANSWER_REST_WORK_S = 60.0
"""All parts after the first may take so much work: a million rows of CSV take a while."""
ANSWER_LIFE_S = 300.0
"""An answer is given up so long after its first part: it keeps old rows from being cleared away."""


class OpenAnswer:
    """An answer of which parts are still to come, with its cursor and its time."""

    def __init__(
        self,
        run: Run,
        parts: Iterator[QueryReply],
        time_left_s: float,
        team_id: str | None,
    ) -> None:
        self.run = run
        self.parts = parts
        self.team_id = team_id
        self._time_left_s = time_left_s
        self._is_first = True
        self._gives_up_at = time.monotonic() + ANSWER_LIFE_S
        self._asked_at = time.monotonic()

    def begins(self) -> float:
        """Let the clock of the query run, since a part is made now; return what is left of it."""
        self._asked_at = time.monotonic()
        self.run.deadline = self._asked_at + self._time_left_s
        return self._time_left_s

    def pauses(self) -> None:
        """Stop the clock until the next part is asked for."""
        now = time.monotonic()
        if self._is_first:
            self._is_first, self._time_left_s = False, ANSWER_REST_WORK_S
        else:
            self._time_left_s -= now - self._asked_at
        self._asked_at = now

    def is_given_up(self) -> bool:
        """Tell whether nobody has asked for too long, or it all takes too long."""
        now = time.monotonic()
        return now > self._asked_at + ANSWER_PAUSE_S or now > self._gives_up_at

    def close(self) -> None:
        """End its transaction and give the cursor back."""
        try:
            self.run.cursor.execute("ROLLBACK")
        except duckdb.Error:
            # Closing the connection ends it as well.
            pass
        finally:
            self.run.cursor.close()


class OpenAnswers:
    """The queries under way by their ids, and the open answers. For several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[str, Run | None] = {}
        self._open: dict[str, OpenAnswer] = {}
        self._cancelled: set[str] = set()

    @contextlib.contextmanager
    def asked(self, query_id: str) -> Iterator[Callable[[], bool]]:
        """Know a query while the body runs; it gets what tells whether it is still wanted."""
        with self._lock:
            self._runs[query_id] = None
        try:
            yield lambda: query_id not in self._cancelled
        finally:
            with self._lock:
                self._runs.pop(query_id, None)
                self._cancelled.discard(query_id)

    def runs(self, query_id: str, run: Run) -> None:
        """Note what a query that is known runs as."""
        with self._lock:
            self._runs[query_id] = run
            is_cancelled = query_id in self._cancelled
        if is_cancelled:
            run.cancel()

    def keep(self, query_id: str, answer: OpenAnswer) -> bool:
        """Keep an answer open; False: it may not be, and is to be closed."""
        with self._lock:
            if not query_id or query_id in self._cancelled or answer.run.stopped is not None:
                return False
            if len(self._open) >= ANSWERS_OPEN_MAX or query_id in self._open:
                return False
            self._open[query_id] = answer
            return True

    def take(self, query_id: str) -> OpenAnswer | None:
        """Return an open answer, which is then the caller's to keep or close."""
        with self._lock:
            answer = self._open.pop(query_id, None)
            if answer is not None:
                self._runs[query_id] = answer.run
            return answer

    def left(self, query_id: str) -> None:
        """Forget a query whose part was made."""
        with self._lock:
            self._runs.pop(query_id, None)
            self._cancelled.discard(query_id)

    def cancel(self, query_id: str) -> None:
        """Stop a query, wherever it is. One that is not known is over already."""
        with self._lock:
            answer = self._open.pop(query_id, None)
            run = self._runs.get(query_id) if query_id else None
            if query_id and query_id in self._runs:
                self._cancelled.add(query_id)
        if answer is not None:
            answer.close()
        if run is not None:
            # It may be over by now, and its connection closed.
            with contextlib.suppress(duckdb.Error):
                run.cancel()

    def close_given_up(self) -> None:
        """Close the answers that nobody has asked for in time."""
        self._close(lambda answer: answer.is_given_up())

    def close(self) -> None:
        """Close all answers."""
        self._close(lambda _: True)

    def _close(self, is_over: Callable[[OpenAnswer], bool]) -> None:
        with self._lock:
            over = [query_id for query_id, answer in self._open.items() if is_over(answer)]
            answers = [self._open.pop(query_id) for query_id in over]
        for answer in answers:
            answer.close()
