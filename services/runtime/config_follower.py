"""Taking the configuration file anew when an event says so, in every process.

The event names the file by its SHA-256. A process reads its own file; where that is the one that
is meant, it is checked and put in force, else the process keeps what it has, says which digest it
expected, and looks again for a while: a file is often copied to several machines, one by one.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable

import msgspec

from schemas.config import GatewayConfig
from schemas.errors import ConfigError
from schemas.registry import ConfigChange
from schemas.rpc import ConfigState
from schemas.streams import CONFIG_STATE_SUBJECT
from services.runtime.bus import Bus
from services.runtime.config_changes import changed_keys
from services.runtime.registry import RegistrySnapshot
from services.runtime.service import ServiceContext, notify_log_level

__all__ = ["FILE_WAIT_S", "ConfigFollower"]

log = logging.getLogger(__name__)

FILE_WAIT_S = 300.0
"""For so long after a reload a process waits for its own file to become the one that is meant."""
FILE_POLL_S = 2.0
_PROBLEM_LENGTH_MAX = 4096


class ConfigFollower:
    """Follows the orders of one registry snapshot for one process, and tells how it stands.

    `take(config)` puts a checked configuration in force. `progressed` must be called after each
    batch that the snapshot has taken in.
    """

    def __init__(
        self,
        context: ServiceContext,
        snapshot: RegistrySnapshot,
        take: Callable[[GatewayConfig], Awaitable[None]],
        *,
        unusable_models: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        self._file = context.file
        self._part = context.part
        self._snapshot = snapshot
        self._take = take
        self._unusable_models = unusable_models
        self._process = secrets.token_hex(8)
        self._news = asyncio.Event()
        self._handled = -1
        self._problem: str | None = None

    def progressed(self) -> None:
        """The snapshot has taken something in: look whether it was an order."""
        if self._snapshot.loaded and self._snapshot.config_sequence != self._handled:
            self._news.set()

    def state(self) -> ConfigState:
        """Return how this process stands."""
        return ConfigState(
            part=self._part,
            process=self._process,
            path=str(self._file.path),
            sha256=self._file.sha256,
            handled_sequence=self._handled,
            problem=self._problem,
            restart_needed=self._file.restart_needed,
            unusable_models=self._unusable_models(),
        )

    async def run(self, bus: Bus) -> None:
        """Answer who asks for the state, and follow orders, for ever."""
        await bus.wait_connected()
        stop = await bus.serve(CONFIG_STATE_SUBJECT, self._answer)
        try:
            is_first = True
            while True:
                await self._news.wait()
                self._news.clear()
                change, sequence = self._snapshot.config_change, self._snapshot.config_sequence
                if change is None:
                    self._handled, self._problem = sequence, None
                elif sequence != self._handled:
                    # What was ordered before this process began is not waited for: its start has
                    # decided, unless it began in the middle of a reload.
                    await self._follow(change, sequence, wait_s=0 if is_first else FILE_WAIT_S)
                is_first = False
        finally:
            await stop()

    async def _answer(self, _: bytes) -> bytes:
        return msgspec.json.encode(self.state())

    async def _follow(self, change: ConfigChange, sequence: int, *, wait_s: float) -> None:
        """Take the file that an order means, once it is there; give up for a newer order."""
        latest_s = asyncio.get_running_loop().time() + wait_s
        told: str | None = None
        while True:
            problem, is_final = await self._try(change, is_start=wait_s == 0)
            self._handled, self._problem = sequence, problem
            if problem is None:
                return
            if problem != told:
                report = log.warning if wait_s == 0 else log.error
                report("the configuration that was ordered is not taken: %s", problem)
                told = problem
            if is_final or self._news.is_set() or asyncio.get_running_loop().time() > latest_s:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FILE_POLL_S):
                    await self._news.wait()

    async def _try(self, change: ConfigChange, *, is_start: bool) -> tuple[str | None, bool]:
        """Take the file if it is the one that is meant; return what is wrong, and for good."""
        if change.sha256 == self._file.sha256:
            return None, True
        try:
            reading = await asyncio.to_thread(self._file.read_ordered, change.sha256)
            if reading.sha256 != change.sha256 and is_start:
                return (
                    f"this process began with another file, of the SHA-256 {self._file.sha256}, "
                    f"than the last that was ordered, {change.sha256}; `tallygate reload` orders "
                    "what is in the file now"
                ), True
            if reading.sha256 != change.sha256:
                return (
                    f"the file {self._file.path} has the SHA-256 {reading.sha256} here, and "
                    f"{change.sha256} was ordered; the one in force stays {self._file.sha256}"
                ), False
            config = await asyncio.to_thread(self._file.check, reading)
        except ConfigError as error:
            return str(error)[:_PROBLEM_LENGTH_MAX], False
        changed = changed_keys(self._file.config, config)
        try:
            await asyncio.to_thread(self._file.accept, reading, config)
        except OSError as error:
            return f"the accepted configuration cannot be kept: {error}", False
        logging.getLogger().setLevel(config.settings.log_level.upper())
        notify_log_level(config.settings.log_level)
        await self._take(config)
        for notice in config.notices:
            log.info("%s", notice)
        log.info(
            "the configuration is taken",
            extra={"sha256": change.sha256, "changed": ", ".join(changed) or "nothing"},
        )
        return None, True
