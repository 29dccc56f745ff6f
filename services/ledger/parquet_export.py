"""Keeping the Parquet files current: when they are written, by the reader, beside its queries."""

import asyncio
import logging
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import duckdb
import pyarrow as pa

from schemas.config import Settings
from services.ledger.parquet_days import ParquetDays, Stopped
from services.ledger.worker import Worker
from services.runtime.metrics import Sample, sample

__all__ = ["PAUSE_SHARE_MIN", "THOROUGH_INTERVAL_S", "ParquetExport"]

log = logging.getLogger(__name__)

PAUSE_SHARE_MIN = 9.0
"""After a round there is a pause of at least so many times its duration: writing takes at most a
tenth of the time, however large the day has become."""
PAUSE_MAX_S = 3600.0
THOROUGH_INTERVAL_S = 3600.0
"""So often, and at the start, every column of every row is compared, not counts and sums alone."""
_NICER_BY = 5
_NICENESS_MAX = 19


class ParquetExport:
    """Writes the days that have changed every `parquet_interval_s`; 0: it writes nothing.

    It works in a thread of its own, which the kernel lets run after the others.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        worker: Worker,
        folder: Path,
        settings: Settings,
    ) -> None:
        self._days = ParquetDays(connection.cursor(), folder)
        self._worker = worker
        self._settings = settings
        self._changed = asyncio.Event()
        self._exported_to = -1
        self._failures = 0
        self._thread = ThreadPoolExecutor(
            1, thread_name_prefix="parquet", initializer=_be_nice_to_queries
        )

    def take(self, settings: Settings) -> None:
        """Go by other settings from now on."""
        self._settings = settings
        self._changed.set()

    async def run(self) -> None:
        """Write what has changed, again and again; a failure is told, and tried again."""
        await self._worker.caught_up()
        thorough_at_s = _now_s()
        while True:
            self._changed.clear()
            interval_s = self._settings.parquet_interval_s
            began_s = _now_s()
            is_thorough = began_s >= thorough_at_s
            sequence = self._worker.sequence
            is_due = interval_s > 0 and (is_thorough or sequence != self._exported_to)
            if is_due and await self._round(thorough=is_thorough):
                self._exported_to = sequence
                if is_thorough:
                    thorough_at_s = began_s + THOROUGH_INTERVAL_S
            pause_s = min(PAUSE_SHARE_MIN * (_now_s() - began_s), PAUSE_MAX_S)
            pause_s = max(interval_s, pause_s)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), pause_s if interval_s else None)

    async def _round(self, *, thorough: bool) -> bool:
        """Write what has changed; tell whether all of it was."""
        loop = asyncio.get_running_loop()
        try:
            written = await loop.run_in_executor(
                self._thread, lambda: self._days.write_due(thorough=thorough)
            )
        except Stopped:
            return False
        except (OSError, duckdb.Error, pa.ArrowException, MemoryError) as error:
            self._failures += 1
            log.error(
                "the Parquet files are not current: %s; trying again",
                str(error).split("\n", 1)[0][:300],
            )
            return False
        if written:
            log.debug("Parquet files are written", extra={"days": written})
        return True

    async def metrics(self) -> list[Sample]:
        """Return how current the files are."""
        is_on = self._settings.parquet_interval_s > 0
        return [
            sample("tallygate_parquet_sequence", max(0, self._exported_to) if is_on else 0),
            sample("tallygate_parquet_failures_total", self._failures),
        ]

    async def close(self) -> None:
        """Break off what is being written, and wait until it has ended."""
        self._days.stop()
        await asyncio.to_thread(self._thread.shutdown)
        self._days.close()


def _now_s() -> float:
    return time.monotonic()


def _be_nice_to_queries() -> None:
    """Let this thread run when no other one wants to. Only Linux has a priority for each."""
    if sys.platform == "linux":
        with suppress(OSError):
            # The whole process may be nice already.
            thread = threading.get_native_id()
            niceness = os.getpriority(os.PRIO_PROCESS, thread) + _NICER_BY
            os.setpriority(os.PRIO_PROCESS, thread, min(niceness, _NICENESS_MAX))
