"""The ledger's composition root: the writer keeps the books, the reader answers about them."""

import asyncio
import logging
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Literal

from schemas.config import GatewayConfig
from schemas.errors import ConfigError, TallygateError
from schemas.streams import QUERY_CONTROL_SUBJECT, QUERY_SUBJECT, USAGE
from services.ledger.archiver import Archiver
from services.ledger.audit import follow_audit
from services.ledger.books import Books
from services.ledger.budget_events import follow_budget_events
from services.ledger.history import is_whole
from services.ledger.metrics import FactMetrics, following_metrics, writer_metrics
from services.ledger.parquet_export import ParquetExport
from services.ledger.price_publisher import PricePublisher
from services.ledger.prompt_retention import PromptRetention
from services.ledger.proof_service import ProofService
from services.ledger.publisher import BudgetPublisher
from services.ledger.quack_service import QUACK_STACKS_BYTES, QuackService, until_possible
from services.ledger.query import QueryService
from services.ledger.query_watch import limit_process_memory
from services.ledger.reader_status import ReaderStatus
from services.ledger.rebuild import Retry, files_of, retry_due, set_aside
from services.ledger.reprice_service import RepriceService
from services.ledger.snapshot_service import SnapshotService
from services.ledger.store import BooksOutdated, BooksUnreadable, Store
from services.ledger.worker import Worker, wait_for_stream
from services.runtime.bus import Bus, BusUnavailable
from services.runtime.config_follower import ConfigFollower
from services.runtime.metrics import Sample
from services.runtime.price_book import PriceBook
from services.runtime.service import ServiceContext, notify_ready
from services.runtime.tasks import end_tasks
from services.runtime.waiting import WaitTeller

__all__ = ["Role", "run"]

log = logging.getLogger(__name__)

Role = Literal["writer", "reader", "quack"]
STREAMS_RETRY_S = 0.2
QUERIES_AT_ONCE_MAX = 8
READER_NICENESS = 10
"""The processes that answer queries give way to the others: with all cores taken, each of them gets
a tenth of what the writer or a proxy gets (docs/performance.md has what that spares the writer)."""
CONTROLS_AT_ONCE_MAX = 16
"""So many further parts and cancellations are answered at a time."""
ANSWERS_LOOK_INTERVAL_S = 5.0
"""Answers that nobody asks on for are looked for so often."""


async def run(context: ServiceContext, role: Role) -> None:
    """Run until `context.stop` is set, then take in what the stream still holds.

    Raises ConfigError where the books and the stream do not fit each other.
    """
    # To NATS, both copies are readers: they may do the same.
    user = "ledger-writer" if role == "writer" else "ledger-reader"
    bus = await Bus.connect(context.nats_url, user, wait=False)
    try:
        context.metrics.put("nats", bus.metrics)
        if role == "writer":
            await _run_writer(context, bus)
        else:
            os.nice(READER_NICENESS)
            await _run_reader(context, bus, role)
    finally:
        await bus.close()


async def _run_writer(context: ServiceContext, bus: Bus) -> None:
    book = PriceBook.load()
    store = await _open_books(context, bus, book)
    if store is None:
        return
    books = Books(store, book, timezone=context.config.timezone, with_budgets=True)
    publisher: BudgetPublisher | None = None

    def on_change() -> None:
        if publisher is not None:
            publisher.look()

    archives = context.folder.archive
    books.put_seats(context.config.seats)
    books.take_budgets(context.config)
    worker = Worker(bus, books, on_change, archives)
    archiver = Archiver(bus, worker, archives, context.config.settings)
    retention = PromptRetention(bus, context.config.settings)
    publisher = BudgetPublisher(bus, books, worker)
    prices = PricePublisher(bus, books, worker, book, context.config.prices)
    follower = _config_follower(context, worker, prices, archiver, retention=retention)
    proofs = ProofService(store.connection, book, "writer", bus, archives)
    snapshots = SnapshotService(bus, worker, store.path, context.folder.snapshots)
    context.metrics.put("books", following_metrics(bus, worker, books))
    context.metrics.put("writer", writer_metrics(publisher, archiver))
    try:
        if not await _until_stop(context, _ensure_streams(bus)):
            return
        await _serve(
            context,
            worker,
            [
                worker.follow_usage(),
                worker.follow_keys(),
                publisher.follow_published(),
                follow_budget_events(bus, worker),
                follow_audit(bus, worker),
                publisher.publish_for_ever(),
                publisher.marks.serve(),
                prices.publish_for_ever(),
                follower.run(bus),
                proofs.serve(),
                snapshots.serve(),
                archiver.run(),
                retention.keep(),
            ],
            prices.settled,
        )
    finally:
        await snapshots.close()
        await proofs.close()
        worker.close()
        store.close()


def _config_follower(
    context: ServiceContext,
    worker: Worker,
    prices: PricePublisher | None = None,
    archiver: Archiver | None = None,
    export: ParquetExport | None = None,
    retention: PromptRetention | None = None,
) -> ConfigFollower:
    """Return what takes a new configuration file: the books need its seats and budgets.

    The prices in it are for the writer alone, which makes events of them, and so is what it says of
    archiving; the Parquet files are the reader's.
    """

    async def take(config: GatewayConfig) -> None:
        await worker.take_budgets(config)
        await worker.set_seats(config.seats)
        if prices is not None:
            prices.take(config.prices)
        if archiver is not None:
            archiver.take(config.settings)
        if retention is not None:
            retention.take(config.settings)
        if export is not None:
            export.take(config.settings)

    follower = ConfigFollower(context, worker.registry, take)
    worker.on_registry = follower.progressed
    return follower


async def _open_books(context: ServiceContext, bus: Bus, book: PriceBook) -> Store | None:
    """Return the writer's books, new ones where the old must be built anew; None: told to stop."""
    path = context.folder.ledger_database
    retry: Retry | None = None
    try:
        store = Store(path)
    except BooksOutdated as error:
        created, reason = error.stream_created, str(error)
    else:
        retry = retry_due(store, book)
        if retry is None:
            return store
        created, reason = _stream_created(store), retry.reason
    if not await _until_stop(context, _ensure_streams(bus)):
        return None
    state = await bus.stream_state(USAGE.name)
    if not await is_whole(bus, context.folder.archive, state, created):
        if retry is not None:
            log.warning("%s, but stream and archive no longer hold all that the books hold", reason)
            return store
        raise ConfigError(
            f"{reason} and must be built anew, but the stream USAGE is another one, or it and "
            "the archive have lost the beginning: restore them from a backup, or run the older "
            "version"
        )
    if retry is not None:
        store.close()
    aside = set_aside(path)
    log.warning(
        "the books are built anew from the stream (%s); the old file is kept as %s and may be "
        "deleted when `tallygate verify` has proved the new one",
        reason,
        aside,
    )
    store = Store(path)
    if retry is not None:
        retry.note(store)
    return store


def _stream_created(store: Store) -> str | None:
    checkpoint = store.checkpoint(USAGE.name)
    return checkpoint.stream_created if checkpoint is not None else None


async def _run_reader(context: ServiceContext, bus: Bus, role: Role) -> None:
    path = context.folder.reader_database
    if role == "quack":
        path = context.folder.quack_database
        if not await until_possible(context):
            return
    retry: Retry | None = None
    while True:
        try:
            await _read_once(context, bus, path, retry, role)
        except _Rebuild as error:
            log.warning("the reader's file is thrown away and built anew: %s", error)
            retry = error.retry
            _remove(path)
        else:
            return


class _Rebuild(Exception):
    """The reader's file is of no use; the message says why. `retry`: for these dead letters."""

    def __init__(self, message: str, retry: Retry | None = None) -> None:
        super().__init__(message)
        self.retry = retry


class _InstanceLost(TallygateError):
    """DuckDB has shut the reader's database down: only a new process opens it again."""


async def _read_once(
    context: ServiceContext, bus: Bus, path: Path, retry: Retry | None, role: Role
) -> None:
    more = QUACK_STACKS_BYTES if role == "quack" else 0
    limit_process_memory(context.config.settings.query_memory_bytes_max + more)
    try:
        store = Store(path)
    except BooksUnreadable as error:
        raise _Rebuild(str(error)) from None
    book = PriceBook.load()
    if retry is not None:
        retry.note(store)
    elif (due := retry_due(store, book)) is not None:
        state = await wait_for_stream(bus, USAGE.name)
        if await is_whole(bus, context.folder.archive, state, _stream_created(store)):
            store.close()
            raise _Rebuild(due.reason, due)
        log.warning("%s, but stream and archive no longer hold all that the file holds", due.reason)
    books = Books(store, book, timezone=context.config.timezone, with_budgets=False)
    books.put_seats(context.config.seats)
    books.take_budgets(context.config)
    worker = Worker(bus, books, lambda: None, context.folder.archive)
    is_new = books.checkpoint(USAGE.name) is None
    answers = (
        QuackService(context, store)
        if role == "quack"
        else _Answers(context, bus, store, book, is_new=is_new)
    )

    context.metrics.put("books", following_metrics(bus, worker, books))
    context.metrics.put("answers", answers.metrics)
    facts = FactMetrics(store.connection)
    if role == "reader":
        context.metrics.put("facts", facts.collect)
    export: ParquetExport | None = None
    if role == "reader":
        export = ParquetExport(
            store.connection, worker, context.folder.parquet, context.config.settings
        )
        context.metrics.put("parquet", export.metrics)

    async def follow() -> None:
        try:
            await worker.follow_usage()
        except ConfigError as error:
            if is_new:
                raise
            # A projection that does not fit the stream is only a copy: it is made again.
            raise _Rebuild(str(error)) from None

    try:
        follower = _config_follower(context, worker, export=export)
        parts = [
            follow(),
            worker.follow_keys(),
            follow_budget_events(bus, worker),
            follow_audit(bus, worker),
            follower.run(bus),
            *answers.parts(worker),
            *([export.run()] if export is not None else []),
        ]
        await _serve(context, worker, parts)
    finally:
        if export is not None:
            await export.close()
        await answers.close()
        facts.close()
        worker.close()
        store.close()


class _Answers:
    """What the reader answers on NATS: queries and proofs."""

    def __init__(
        self, context: ServiceContext, bus: Bus, store: Store, book: PriceBook, *, is_new: bool
    ) -> None:
        self._bus = bus
        self._is_new = is_new
        self._queries = QueryService(
            store.connection,
            memory_bytes_max=context.config.settings.query_memory_bytes_max,
            sequence_query="SELECT sequence FROM checkpoints WHERE stream = 'USAGE'",
        )
        self._proofs = ProofService(store.connection, book, "reader", bus)
        self._repricings = RepriceService(store.connection, book, bus)

    def parts(self, worker: Worker) -> list[Coroutine[Any, Any, None]]:
        status = ReaderStatus(self._bus, worker, is_new=self._is_new)
        return [
            status.serve(),
            _serve_queries(self._bus, self._queries, status),
            self._proofs.serve(),
            self._repricings.serve(),
        ]

    async def metrics(self) -> list[Sample]:
        return self._queries.counts.samples()

    async def close(self) -> None:
        await self._proofs.close()
        self._repricings.close()
        self._queries.close()


async def _serve_queries(bus: Bus, queries: QueryService, status: ReaderStatus) -> None:
    """Answer queries until cancelled, or until DuckDB has given its database up."""
    lost = asyncio.Event()

    async def answer(payload: bytes) -> bytes:
        refusal = status.refusal()
        if refusal is not None:
            return refusal
        reply: bytes = await asyncio.to_thread(queries.answer, payload)
        if queries.failed:
            lost.set()
        return reply

    async def control(payload: bytes) -> bytes:
        reply: bytes = await asyncio.to_thread(queries.control, payload)
        if queries.failed:
            lost.set()
        return reply

    async def clean_up() -> None:
        while True:
            await asyncio.sleep(ANSWERS_LOOK_INTERVAL_S)
            await asyncio.to_thread(queries.close_given_up)

    await bus.wait_connected()
    stop = await bus.serve(QUERY_SUBJECT, answer, parallel_max=QUERIES_AT_ONCE_MAX)
    stop_control = await bus.serve(
        QUERY_CONTROL_SUBJECT, control, parallel_max=CONTROLS_AT_ONCE_MAX
    )
    cleaning = asyncio.create_task(clean_up())
    try:
        await lost.wait()
    finally:
        await end_tasks(cleaning)
        await stop_control()
        await stop()
    raise _InstanceLost("DuckDB has shut the reader's database down; the reader starts again")


async def _serve(
    context: ServiceContext,
    worker: Worker,
    parts: list[Coroutine[Any, Any, None]],
    settled: asyncio.Event | None = None,
) -> None:
    """Run the parts until the process is told to stop; a part that ends ends all of it.

    The process is ready when its books are current and `settled` is set.
    """
    tasks = [asyncio.create_task(part) for part in parts]
    ready = asyncio.create_task(_tell_ready(context, worker, settled))
    stopping = asyncio.create_task(context.stop.wait())
    try:
        done, _ = await asyncio.wait({*tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopping}:
            # Raises what ended it.
            task.result()
        await worker.drain()
    finally:
        await end_tasks(*tasks, ready, stopping)


async def _tell_ready(
    context: ServiceContext, worker: Worker, settled: asyncio.Event | None
) -> None:
    await worker.caught_up()
    if settled is not None:
        await settled.wait()
    notify_ready(context.part)


async def _ensure_streams(bus: Bus) -> None:
    await bus.wait_connected()
    teller = WaitTeller()
    while True:
        try:
            await bus.ensure_streams()
        except BusUnavailable as error:
            if teller.is_due():
                log.warning(
                    "the streams cannot be made yet (%s): does NATS run with JetStream, and may "
                    "this user create streams? Trying on",
                    error,
                )
            await asyncio.sleep(STREAMS_RETRY_S)
        else:
            return


async def _until_stop(context: ServiceContext, work: Coroutine[Any, Any, None]) -> bool:
    """Do some work unless the process is told to stop first; tell whether it was done."""
    task = asyncio.create_task(work)
    stopping = asyncio.create_task(context.stop.wait())
    await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        stopping.cancel()
        task.result()
        return True
    await end_tasks(task)
    return False


def _remove(path: Path) -> None:
    for each in files_of(path):
        each.unlink(missing_ok=True)
