"""The worker: follows the stream from the books' own checkpoint, commits, and never skips."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import duckdb

from schemas.config import GatewayConfig, SeatPrice
from schemas.errors import ConfigError
from schemas.registry import KeyRecord, TeamRecord, UserRecord
from schemas.streams import REGISTRY, USAGE
from services.ledger.books import Books
from services.ledger.history import check_history, follow_history
from services.runtime.bus import Bus, BusError, StreamBatch, StreamState
from services.runtime.metrics import Histogram
from services.runtime.registry import RegistrySnapshot
from services.runtime.waiting import WaitTeller

__all__ = ["Worker", "check_stream", "wait_for_stream"]

log = logging.getLogger(__name__)

COMMIT_INTERVAL_S = 0.05
"""Between the beginnings of two commits there is at least so much time: one costs some milliseconds
of CPU however little is in it. Usage after a pause is committed at once, and a backlog without a
pause (docs/adr/0007)."""
RETRY_WAIT_S = 0.2
RETRY_WAIT_MAX_S = 5.0
DRAIN_TIMEOUT_S = 20.0
KEYS_PER_COMMIT_MAX = 5000

T = TypeVar("T")


class Worker:
    """Takes one stream into the books.

    All work on the books is done in one thread of its own, in order; the event loop stays free.
    `on_change` is called when budgets may have changed. `archives` is the folder of the archive,
    where that is which has left the stream.
    """

    def __init__(
        self, bus: Bus, books: Books, on_change: Callable[[], None], archives: Path
    ) -> None:
        self._archives = archives
        self._bus = bus
        self._books = books
        self._on_change = on_change
        self.registry = RegistrySnapshot()
        self.on_registry: Callable[[], None] = lambda: None
        """Called after each batch of the registry that was taken in."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="books")
        self.sequence = 0
        self.commits = Histogram(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
        self.commit_failures = 0
        self._is_caught_up = asyncio.Event()
        self._has_keys = asyncio.Event()
        self._advanced = asyncio.Event()

    @property
    def books(self) -> Books:
        """The books, for use within `in_books` alone."""
        return self._books

    async def in_books(self, work: Callable[[], T]) -> T:
        """Run something in the books' thread and return its result."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def take_budgets(self, config: GatewayConfig) -> None:
        """Let budgets be as a configuration says from now on."""
        await self.in_books(lambda: self._books.take_budgets(config))
        self._on_change()

    async def set_seats(self, seats: Sequence[SeatPrice]) -> None:
        """Let the books say that subscriptions cost so much."""
        await self.in_books(lambda: self._books.put_seats(seats))

    async def follow_usage(self) -> None:
        """Take in usage for ever. Raises ConfigError where the stream does not fit the books."""
        state = await wait_for_stream(self._bus, USAGE.name)
        checkpoint = await self.in_books(lambda: self._books.checkpoint(USAGE.name))
        if checkpoint is not None:
            check_stream(state, checkpoint.stream_created, checkpoint.sequence)
            self.sequence = checkpoint.sequence
        await asyncio.to_thread(check_history, self._archives, state, self.sequence)
        loop = asyncio.get_running_loop()
        async for batch in follow_history(self._bus, self._archives, state, self.sequence + 1):
            began_at_s = loop.time()
            if batch.messages:
                await self._take(batch, state.created)
            if batch.pending == 0:
                self._is_caught_up.set()
                await asyncio.sleep(began_at_s + COMMIT_INTERVAL_S - loop.time())

    async def _take(self, batch: StreamBatch, stream_created: str) -> None:
        expected = self.sequence + 1
        for message in batch.messages:
            assert message.sequence == expected, "the history has a gap"
            expected += 1
        await self.in_books(lambda: self._books.project(batch.messages))
        wait_s = RETRY_WAIT_S
        while True:
            try:
                began_at_s = time.monotonic()
                await self.in_books(lambda: self._books.commit(USAGE.name, stream_created))
                self.commits.observe(time.monotonic() - began_at_s)
                break
            except duckdb.FatalException:
                # The database has closed itself: only a new process can open it again.
                raise
            except (duckdb.Error, OSError) as error:
                self.commit_failures += 1
                log.error("the books cannot be written, trying again: %s", error)
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, RETRY_WAIT_MAX_S)
        self.sequence = expected - 1
        self._advanced.set()
        self._on_change()

    async def follow_keys(self) -> None:
        """Keep keys, teams, users and the budgets as the registry says, for ever."""
        await wait_for_stream(self._bus, REGISTRY.name)
        snapshot = self.registry
        async for batch in self._bus.follow(REGISTRY.name, last_per_subject=True):
            changed: dict[str, KeyRecord] = {}
            owners: dict[str, TeamRecord | UserRecord] = {}
            for message in batch.messages:
                record = snapshot.apply(message)
                if isinstance(record, KeyRecord):
                    changed[record.key_id] = record
                elif isinstance(record, TeamRecord | UserRecord):
                    owners[message.subject] = record
            records = list(changed.values())
            for start in range(0, len(records), KEYS_PER_COMMIT_MAX):
                some = records[start : start + KEYS_PER_COMMIT_MAX]
                await self.in_books(lambda some=some: self._books.put_keys(some))  # type: ignore[misc]
            if owners:
                found = list(owners.values())
                await self.in_books(lambda found=found: self._books.put_owners(found))  # type: ignore[misc]
            if changed or owners:
                self._on_change()
            if batch.pending == 0:
                snapshot.loaded = True
                self._has_keys.set()
            self.on_registry()

    async def caught_up(self) -> None:
        """Wait until all usage and all keys that the streams held have been taken in."""
        await self._is_caught_up.wait()
        # A budget whose key is not known yet would look like one that was taken away.
        await self._has_keys.wait()

    async def reached(self, sequence: int) -> None:
        """Wait until a message of the stream has been taken in."""
        while self.sequence < sequence:
            self._advanced.clear()
            await self._advanced.wait()

    async def drain(self) -> None:
        """Take in what the stream holds now, as far as NATS is there, within a time limit."""
        if not self._bus.is_connected:
            return
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                await self.reached((await self._bus.stream_state(USAGE.name)).last_sequence)
        except (TimeoutError, BusError):
            log.warning("stopped before the end of the stream; the next start goes on from there")

    def close(self) -> None:
        """Let the books' thread finish what it does and end."""
        self._thread.shutdown(wait=True)


async def wait_for_stream(bus: Bus, stream: str) -> StreamState:
    """Return a stream's state, waiting until NATS and the stream are there."""
    teller = WaitTeller()
    while True:
        await bus.wait_connected()
        try:
            return await bus.stream_state(stream)
        except BusError as error:
            if teller.is_due():
                log.warning("waiting for the writer, which makes the streams: %s", error)
            await asyncio.sleep(RETRY_WAIT_S)


def check_stream(state: StreamState, created: str, sequence: int) -> None:
    """Raise ConfigError where the stream is not the one that the books were kept from."""
    if state.created != created or state.last_sequence < sequence:
        raise ConfigError(
            f"the stream USAGE is not the one that the ledger was kept from (the ledger stands at "
            f"message {sequence} of the stream made at {created}; this one was made at "
            f"{state.created} and ends at {state.last_sequence}). Is this the right NATS? "
            "To begin new books, move the ledger's files away"
        )
