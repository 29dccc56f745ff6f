"""The metrics of the ledger's roles: how far the books are, and what in them asks for attention."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import duckdb

from schemas.streams import USAGE
from services.ledger.archiver import Archiver
from services.ledger.books import Books
from services.ledger.publisher import BudgetPublisher
from services.ledger.quota_metrics import QUOTAS_LATELY, quota_samples
from services.ledger.unpriced import UNPRICED_BY_MODEL
from services.ledger.worker import Worker
from services.runtime.bus import Bus
from services.runtime.metrics import Sample, sample

__all__ = ["FACTS_AGE_MAX_S", "FactMetrics", "following_metrics", "writer_metrics"]

FACTS_AGE_MAX_S = 2.0
"""What is counted in the tables is at most so old; more scrapes get the same figures."""
_COUNTED = (
    ("tallygate_ledger_dead_letters", "SELECT count(*) FROM dead_letters"),
    (
        "tallygate_ledger_missing_events",
        "SELECT coalesce(sum(last_missing - first_missing + 1), 0)::BIGINT FROM gaps",
    ),
)


def following_metrics(
    bus: Bus, worker: Worker, books: Books
) -> Callable[[], Awaitable[list[Sample]]]:
    """Return what reads how far the books have followed the stream."""
    seen: list[tuple[float, int]] = []
    """When which end of the stream was seen, as long as the books have not reached it."""

    async def collect() -> list[Sample]:
        found = [
            sample("tallygate_ledger_sequence", worker.sequence),
            sample("tallygate_ledger_commit_failures_total", worker.commit_failures),
            *worker.commits.samples("tallygate_ledger_commit_seconds"),
        ]
        checkpoint = await worker.in_books(lambda: books.checkpoint(USAGE.name))
        if checkpoint is not None:
            counts = checkpoint.counts
            found += [
                sample("tallygate_ledger_events_total", counts.events),
                sample("tallygate_ledger_repeats_total", counts.repeats),
                sample("tallygate_ledger_lost_requests", counts.lost - counts.corrected),
            ]
        return found

    async def collect_lag() -> list[Sample]:
        last = (await bus.stream_state(USAGE.name)).last_sequence
        now_s = time.monotonic()
        seen[:] = [(at_s, end) for at_s, end in seen if end > worker.sequence]
        if last > worker.sequence and (not seen or last > seen[-1][1]):
            seen.append((now_s, last))
        return [
            sample("tallygate_ledger_lag_messages", max(0, last - worker.sequence)),
            sample("tallygate_ledger_lag_seconds", now_s - seen[0][0] if seen else 0),
        ]

    async def all_of_it() -> list[Sample]:
        found = await collect()
        if bus.is_connected:
            found += await collect_lag()
        return found

    return all_of_it


class FactMetrics:
    """Counts in the tables, for the reader: with a cursor of its own, in a thread."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._cursor = connection.cursor()
        self._known: list[Sample] = []
        self._known_at_s: float | None = None
        self._one_at_a_time = asyncio.Lock()

    async def collect(self) -> list[Sample]:
        """Return them, as of FACTS_AGE_MAX_S ago at most."""
        async with self._one_at_a_time:
            now_s = time.monotonic()
            if self._known_at_s is None or now_s - self._known_at_s > FACTS_AGE_MAX_S:
                self._known = await asyncio.to_thread(self._count)
                self._known_at_s = now_s
            return list(self._known)

    def close(self) -> None:
        """Give the cursor back: an open one would keep the file open."""
        self._cursor.close()

    def _count(self) -> list[Sample]:
        found = [sample(name, self._rows(query)[0][0]) for name, query in _COUNTED]
        for model, count in self._rows(UNPRICED_BY_MODEL):
            found.append(sample("tallygate_ledger_unpriced_requests", count, model))
        now = datetime.now(UTC).replace(tzinfo=None)
        return found + quota_samples(self._rows(QUOTAS_LATELY), now)

    def _rows(self, query: str) -> list[tuple]:  # type: ignore[type-arg]
        return self._cursor.execute(query).fetchall()


def writer_metrics(
    publisher: BudgetPublisher, archiver: Archiver
) -> Callable[[], Awaitable[list[Sample]]]:
    """Return what reads the metrics of what the writer alone does."""

    async def collect() -> list[Sample]:
        return [
            sample("tallygate_budget_events_total", publisher.said),
            sample("tallygate_archive_sequence", archiver.archived_to),
        ]

    return collect
