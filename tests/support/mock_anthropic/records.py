"""What the mock was asked and what it answered: the ground truth that a ledger is compared with."""

import time
from collections import deque
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from tests.support.mock_anthropic.cache import PromptCache
from tests.support.mock_anthropic.scenario import Scenario, ScenarioPlan
from tests.support.mock_anthropic.stores import Stores

__all__ = ["BODY_BYTES_KEPT_MAX", "RECORDS_KEPT_MAX", "Book", "Record", "Stats"]

RECORDS_KEPT_MAX = 20_000
"""The newest requests that `GET /__mock__/requests` shows; the log file has all of them."""

BODY_BYTES_KEPT_MAX = 64 * 1024 * 1024
"""The bytes of request bodies that are kept in all; beyond, the oldest bodies are forgotten."""


class Record(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One request and its answer. Times are seconds since the epoch.

    `number` counts the requests of this process and `connection` its connections, both from 1.
    `usage` is what the client was told so far, in Anthropic's names, the later figures laid over
    the earlier ones; `usage_final` says that nothing was still to come. "Told" and `response_bytes`
    mean handed to the operating system in order: what a client that leaves early really read, only
    the client knows. `complete` says that the whole answer was written, as planned and without a
    fault. `client_closed_at` is when the client left before that.
    """

    number: int
    connection: int
    method: str
    target: str
    headers: list[tuple[str, str]]
    started_at: float
    body: bytes = b""
    body_bytes: int = 0
    body_sha256: str = ""
    tag: str = ""
    scenario: str = ""
    model: str = ""
    stream: bool = False
    status: int = 0
    request_id: str = ""
    message_id: str = ""
    usage: dict[str, Any] | None = None
    usage_final: bool = False
    complete: bool = False
    response_bytes: int = 0
    ended_at: float | None = None
    client_closed_at: float | None = None


class Stats(msgspec.Struct, kw_only=True):
    """Counters of the process: connections and requests in all, and those that are open now."""

    connections_total: int = 0
    connections_open: int = 0
    requests_total: int = 0
    requests_open: int = 0


class Book:
    """All the state of the mock: its records, its counters and the scenarios that were set."""

    def __init__(self, log_path: Path | None = None) -> None:
        """Open the log for appending, if one is wanted."""
        self.stats = Stats()
        self.cache = PromptCache()
        self.default = Scenario()
        self.queue: deque[Scenario] = deque()
        self.stores: Stores
        self._records: deque[Record] = deque(maxlen=RECORDS_KEPT_MAX)
        self._with_body: deque[Record] = deque()
        self._body_bytes_kept = 0
        self._log: BinaryIO | None = log_path.open("ab", buffering=0) if log_path else None

    def add(self, record: Record) -> None:
        """Keep a request that has arrived in full."""
        self.stats.requests_open += 1
        self._records.append(record)
        self._with_body.append(record)
        self._body_bytes_kept += len(record.body)
        while (
            self._body_bytes_kept > BODY_BYTES_KEPT_MAX or len(self._with_body) > RECORDS_KEPT_MAX
        ):
            oldest = self._with_body.popleft()
            self._body_bytes_kept -= len(oldest.body)
            oldest.body = b""

    def end(self, record: Record) -> None:
        """Close a record and write its line to the log: once, however the answer ended."""
        if record.ended_at is not None:
            return
        record.ended_at = time.time()
        self.stats.requests_open -= 1
        if self._log is not None:
            line = msgspec.structs.replace(record, headers=[], body=b"")
            self._log.write(msgspec.json.encode(line) + b"\n")

    def next_scenario(self) -> Scenario:
        """Return what a request that names no scenario is answered with."""
        return self.queue.popleft() if self.queue else self.default

    def set_plan(self, plan: ScenarioPlan) -> None:
        """Take over the default and the queue, each where it is given."""
        if plan.default is not None:
            self.default = plan.default
        if plan.queue is not None:
            self.queue = deque(plan.queue)

    def forget_plan(self) -> None:
        """Go back to the default of the program and an empty queue."""
        self.default = Scenario()
        self.queue.clear()
        self.cache.forget()

    def records(self) -> list[Record]:
        """Return the records that are kept, the oldest first."""
        return list(self._records)

    def forget_records(self) -> None:
        """Drop the records that are kept (those that are still open reach the log all the same)."""
        self._records.clear()
        self._with_body.clear()
        self._body_bytes_kept = 0

    def close(self) -> None:
        """Write what is still open to the log, and close it."""
        for record in self._records:
            self.end(record)
        if self._log is not None:
            self._log.close()
            self._log = None
