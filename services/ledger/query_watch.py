"""Stops queries that take too long or too much memory.

DuckDB's memory limit is one for all of the instance: a query that eats it up makes the writes of
the projection fail, and a checkpoint that fails so invalidates the instance (measured on 1.5.5).
So queries are stopped where they hold QUERY_MEMORY_SHARE of it. With a limit of 512 MB no write
failed in 25 s of memory bombs one after another; at 128 MB a bomb can be faster than this watch.
Nor does the limit count what a function builds inside one call or an aggregate keeps per group
(measured: 1.3 GB under a limit of 256 MB), so the memory of the process is watched as well. What
is taken in one allocation is too fast for a watcher: for that the reader limits its own process
(`limit_process_memory`), and DuckDB answers such an allocation with an out-of-memory error.
"""

import contextlib
import ctypes
import os
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import duckdb

__all__ = [
    "HELD_BYTES_MAX",
    "PROCESS_DATA_BYTES_MAX",
    "PROCESS_RESIDENT_BYTES_MAX",
    "QUERY_GROWTH_BYTES_MAX",
    "QUERY_MEMORY_SHARE",
    "QueryLoad",
    "QueryWatch",
    "Run",
    "limit_process_memory",
]

PROCESS_RESIDENT_BYTES_MAX = 512 * 1024 * 1024
"""Beyond DuckDB's limit, the process may hold so much memory; more: the queries are stopped."""
PROCESS_DATA_BYTES_MAX = 1536 * 1024 * 1024
"""Beyond DuckDB's limit, the process may map so much memory; more: the allocation fails. It
maps 0.2 GB when it starts, with 0.12 GB resident, and 1.2 GB with 0.75 GB resident while it takes
in a backlog of 50,000 requests and makes its digest (measured)."""
HELD_BYTES_MAX = 256 * 1024 * 1024
"""What queries leave in a process is not for the next ones to answer for: those begin to count
there, but so much beyond PROCESS_RESIDENT_BYTES_MAX all are stopped again."""
QUERY_GROWTH_BYTES_MAX = 128 * 1024 * 1024
"""So much may be added by queries that begin where the process holds more than it may."""
QUERY_MEMORY_SHARE = 0.5
"""This much of DuckDB's limit queries may hold together; more: they are stopped. The rest is for
the projection's own writes and checkpoints."""
_LOOK_INTERVAL_S = 0.01
_MEMORY_QUERY = "SELECT sum(memory_usage_bytes) FROM duckdb_memory() WHERE tag <> 'BASE_TABLE'"
_STATM = Path("/proc/self/statm")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def limit_process_memory(memory_bytes_max: int) -> None:
    """Let allocations of this process fail beyond `memory_bytes_max` + PROCESS_DATA_BYTES_MAX.

    For the reader's process, early in its life; a lower limit that is set already stays.
    """
    wanted = memory_bytes_max + PROCESS_DATA_BYTES_MAX
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft > wanted:
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))


class Run:
    """One running query: its cursor, its deadline, and why it was stopped, if it was."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, timeout_s: float) -> None:
        self.cursor = cursor
        self.deadline = time.monotonic() + timeout_s
        self.stopped: Literal["timeout", "memory", "closed", "cancelled"] | None = None

    def cancel(self) -> None:
        """Stop it, since nobody waits for its answer any more."""
        self.stopped = "cancelled"
        self.cursor.interrupt()


class QueryLoad:
    """Measures what the queries of an instance hold; for one thread, with a cursor of its own."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, memory_bytes_max: int) -> None:
        self._cursor = cursor
        self._query_bytes_max = int(memory_bytes_max * QUERY_MEMORY_SHARE)
        self._resident_bytes_max = memory_bytes_max + PROCESS_RESIDENT_BYTES_MAX
        self._resident_bytes_now_max = self._resident_bytes_max

    def begin(self) -> None:
        """Look at what the process holds before queries run: they are not to blame for that.

        Without this, what a stopped query has left would stop each small one after it.
        """
        held = _resident_bytes()
        wanted = min(held + QUERY_GROWTH_BYTES_MAX, self._resident_bytes_max + HELD_BYTES_MAX)
        self._resident_bytes_now_max = max(self._resident_bytes_max, wanted)

    def end(self) -> None:
        """Give back what queries have left, where that is more than the process may hold."""
        if _resident_bytes() > self._resident_bytes_max:
            _give_back()

    def is_too_much(self) -> bool:
        """Tell whether the queries hold more memory than they may."""
        return (
            _resident_bytes() > self._resident_bytes_now_max
            or self._duckdb_bytes() > self._query_bytes_max
        )

    def close(self) -> None:
        """Give the cursor back."""
        self._cursor.close()

    def _duckdb_bytes(self) -> int:
        """Return what DuckDB holds, but for blocks of the file, which it can drop at any time."""
        try:
            row = self._cursor.execute(_MEMORY_QUERY).fetchone()
        except duckdb.Error:
            # Not even this small query finds memory.
            return self._query_bytes_max + 1
        return int(row[0]) if row and row[0] is not None else 0


class QueryWatch:
    """One thread that looks at all running queries; it sleeps while there are none."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, memory_bytes_max: int) -> None:
        self._load = QueryLoad(cursor, memory_bytes_max)
        self._runs: set[Run] = set()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._look, name="query-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop all queries and the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        self._load.close()

    @contextlib.contextmanager
    def watching(self, run: Run) -> Iterator[None]:
        """Watch `run` while the body runs; after it, the run is never interrupted."""
        with self._changed:
            self._runs.add(run)
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._runs.discard(run)
                self._changed.notify_all()

    def _look(self) -> None:
        with self._changed:
            while self._runs or not self._closed:
                if not self._runs:
                    # With the lock held: what takes time here lets no query begin unwatched.
                    self._load.end()
                    self._changed.wait()
                    self._load.begin()
                    continue
                self._stop_some()
                self._changed.wait(_LOOK_INTERVAL_S)

    def _stop_some(self) -> None:
        """Interrupt what must end, again and again: an interrupt between two steps is lost."""
        now = time.monotonic()
        too_much = self._load.is_too_much()
        for run in self._runs:
            if run.stopped is None:
                if self._closed:
                    run.stopped = "closed"
                elif now >= run.deadline:
                    run.stopped = "timeout"
                elif too_much:
                    run.stopped = "memory"
            if run.stopped is not None:
                run.cursor.interrupt()


def _give_back() -> None:
    """Give memory that the C library keeps for later back to the system, where it can do that."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _resident_bytes() -> int:
    try:
        return int(_STATM.read_text("ascii").split()[1]) * _PAGE_BYTES
    except OSError:
        # Without /proc the process limit and DuckDB's own limit must do.
        return 0
