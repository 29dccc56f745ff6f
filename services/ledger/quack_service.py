"""The role quack of the ledger: when it serves, and what it says where it cannot."""

import asyncio
import logging
import os
from collections.abc import Coroutine
from typing import Any

import duckdb

from schemas.errors import ConfigError
from services.ledger.quack import QuackServer, is_free
from services.ledger.quack_extension import QuackMissing, load_quack
from services.ledger.store import Store
from services.ledger.worker import Worker
from services.runtime.metrics import Sample, sample
from services.runtime.service import ServiceContext, notify_ready

__all__ = ["QUACK_STACKS_BYTES", "QuackService", "until_possible"]

QUACK_STACKS_BYTES = 2 * 1024**3
"""The stacks of the server's many threads count as memory that is mapped, though not as held.
Where there is not enough, the server's thread ends without a word (measured on 1.5.5)."""
PORT_RETRY_S = 5.0
"""A port that is taken is looked at so often."""

_log = logging.getLogger(__name__)


async def until_possible(context: ServiceContext) -> bool:
    """Wait until Quack can be served here; False: the process was told to stop before.

    Neither a taken port nor a missing extension is a fault of the gateway: a warning says so. The
    process is ready from the beginning, so that nothing else waits for it. Raises ConfigError
    where the configuration says no.
    """
    settings = context.config.settings
    if settings.quack_port == 0:
        raise ConfigError("quack_port is 0, which turns Quack off: give a port, or end this role")
    notify_ready(context.part)
    try:
        await asyncio.to_thread(_try_extension)
    except QuackMissing as error:
        _log.warning("Quack is not served: %s", error)
        await context.stop.wait()
        return False
    told = False
    while not is_free(settings.quack_host, settings.quack_port):
        if not told:
            told = True
            _log.warning(
                "Quack is not served yet: port %d of %s is taken by another program; "
                "set quack_port to another one, or to 0 for none",
                settings.quack_port,
                settings.quack_host,
            )
        if await _stopped_within(context, PORT_RETRY_S):
            return False
    return not context.stop.is_set()


async def _stopped_within(context: ServiceContext, timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            await context.stop.wait()
    except TimeoutError:
        return False
    return True


def _try_extension() -> None:
    with duckdb.connect(":memory:") as connection:
        load_quack(connection)


class QuackService:
    """Serves one copy of the books as soon as it is current."""

    def __init__(self, context: ServiceContext, store: Store) -> None:
        settings = context.config.settings
        self._host, self._port = settings.quack_host, settings.quack_port
        self._token_file = context.folder.quack_token_file
        load_quack(store.connection)
        self._server = QuackServer(
            store.connection,
            token=context.folder.quack_token(),
            memory_bytes_max=settings.query_memory_bytes_max,
        )

    def parts(self, worker: Worker) -> list[Coroutine[Any, Any, None]]:
        """Return what runs beside the copying of the books."""
        return [self._run(worker)]

    async def _run(self, worker: Worker) -> None:
        await worker.caught_up()
        told = False
        while not self._serves():
            if not told:
                told = True
                _log.warning("Quack is not served yet: set quack_host and quack_port to others")
            await asyncio.sleep(PORT_RETRY_S)
        _log.info("Quack: %s:%d, token in %s", self._host, self._port, self._token_file)
        await asyncio.Event().wait()

    def _serves(self) -> bool:
        try:
            self._server.serve(self._host, self._port)
        except duckdb.Error as error:
            _log.info("Quack: %s", str(error).splitlines()[0])
            return False
        return True

    async def metrics(self) -> list[Sample]:
        """Return how many queries run."""
        return [sample("tallygate_queries_running", self._server.running)]

    async def close(self) -> None:
        """Stop serving. A query that runs cannot be interrupted: it ends with the process, now."""
        if self._server.is_busy:
            _log.info("stopped; a query over Quack that still ran was ended")
            logging.shutdown()
            os._exit(0)
        self._server.close()
