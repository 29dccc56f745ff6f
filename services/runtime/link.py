"""One connection to NATS, which reconnects for ever, and tells who depends on it."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

import nats.errors
from nats.aio.client import Client
from nats.js import JetStreamContext

from schemas.errors import TallygateError
from services.runtime.tasks import end_tasks
from services.runtime.waiting import TOLD_AFTER_S, TOLD_EVERY_S

__all__ = [
    "FLUSH_TIMEOUT_S",
    "REQUEST_TIMEOUT_S",
    "BusError",
    "BusUnavailable",
    "Link",
    "WrongLastSequence",
    "reason",
]

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 2
RECONNECT_WAIT_S = 0.2
PING_INTERVAL_S = 10
REQUEST_TIMEOUT_S = 5.0
"""How long JetStream may take to answer, an acknowledgement included."""
FLUSH_TIMEOUT_S = 2
PENDING_BYTES_MAX = 32 * 1024 * 1024
"""So much may wait to be written to the socket; beyond it a publish is refused."""


class BusError(TallygateError):
    """NATS refused something; the message says what."""


class BusUnavailable(BusError):
    """NATS cannot be reached, or did not answer in time."""


class WrongLastSequence(BusError):
    """Somebody else published on the subject since it was read."""


def reason(error: BaseException) -> str:
    """Return an error's text without credentials that a NATS URL may hold."""
    text = str(error) or type(error).__name__
    return text.split("@")[-1] if "@" in text else text


def _address(url: str) -> str:
    """Return the host and port of a URL, without the credentials that it may hold."""
    return url.split("://", 1)[-1].rsplit("@", 1)[-1]


class Link:
    """The connection, and who must hear when it is a new one.

    `generation` counts the times that it was made: what the server kept for the connection before
    (an ephemeral consumer) may be gone after each.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.client = Client()
        self.js: JetStreamContext = self.client.jetstream(timeout=REQUEST_TIMEOUT_S)
        self.generation = 0
        self.listeners: set[Callable[[], None]] = set()
        self._connected = asyncio.Event()
        self._connecting: asyncio.Task[None] | None = None
        self._telling: asyncio.Task[None] | None = None
        self._trouble = "no answer"
        self._last_error: str | None = None
        self._is_closing = False
        self._away_since_s: float | None = time.monotonic()

    async def open(self, url: str) -> None:
        """Connect once. Raises BusUnavailable after CONNECT_TIMEOUT_S."""
        try:
            # The client itself, told to reconnect for ever, would try for ever here, too.
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._open(url)
        except (OSError, nats.errors.Error, TimeoutError) as error:
            await self.close()
            raise BusUnavailable(f"NATS cannot be reached: {reason(error)}") from None

    def open_in_background(self, url: str) -> None:
        """Go on trying to connect until it works."""
        self._connecting = asyncio.create_task(self._open_until_connected(url))
        self._telling = asyncio.create_task(self._tell_while_waiting(_address(url)))

    async def _open(self, url: str) -> None:
        await self.client.connect(
            servers=[url],
            name=f"tallygate {self.name}",
            connect_timeout=CONNECT_TIMEOUT_S,
            reconnect_time_wait=RECONNECT_WAIT_S,  # type: ignore[arg-type]
            max_reconnect_attempts=-1,
            ping_interval=PING_INTERVAL_S,
            inbox_prefix=f"_INBOX.{self.name}",
            pending_size=PENDING_BYTES_MAX,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_connected,
        )
        await self._on_connected()

    async def _open_until_connected(self, url: str) -> None:
        while True:
            try:
                await self._open(url)
            except (OSError, nats.errors.Error, TimeoutError) as error:
                self._trouble = reason(error)
                # A client that failed its first connection is closed for good.
                with contextlib.suppress(Exception):
                    await self.client.close()
                await asyncio.sleep(RECONNECT_WAIT_S)
                self.client = Client()
                self.js = self.client.jetstream(timeout=REQUEST_TIMEOUT_S)
            else:
                return

    async def _tell_while_waiting(self, address: str) -> None:
        """Log now and then that the first connection is still waited for."""
        wait_s = TOLD_AFTER_S
        while not self.is_connected:
            with contextlib.suppress(BusUnavailable):
                await self.wait_connected(wait_s)
                return
            log.warning(
                "NATS at %s cannot be reached (%s): is the address right? Trying on",
                address,
                self._trouble,
            )
            wait_s = TOLD_EVERY_S

    async def _on_error(self, error: Exception) -> None:
        self._trouble = self._last_error = reason(error)
        log.debug("NATS connection error", extra={"reason": self._trouble})

    async def _on_disconnected(self) -> None:
        if self._connected.is_set() and not self._is_closing:
            log.warning("the connection to NATS is lost, reconnecting")
        self._connected.clear()
        if self._away_since_s is None:
            self._away_since_s = time.monotonic()

    async def _on_connected(self) -> None:
        self.generation += 1
        self._away_since_s = None
        self._connected.set()
        for listener in self.listeners:
            listener()
        log.info("connected to NATS")

    @property
    def is_connected(self) -> bool:
        """Whether the connection is up at this moment."""
        return self._connected.is_set()

    @property
    def trouble(self) -> str | None:
        """What went wrong last on the connection, if anything did."""
        return self._last_error

    @property
    def away_s(self) -> float:
        """For how long the connection has not been up; 0 while it is."""
        since_s = self._away_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    async def wait_connected(self, timeout_s: float | None = None) -> None:
        """Wait until the connection is up. Raises BusUnavailable after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._connected.wait()
        except TimeoutError:
            raise BusUnavailable(f"NATS cannot be reached within {timeout_s} s") from None

    async def close(self) -> None:
        """Flush what was sent and close the connection."""
        self._is_closing = True
        if self._connecting is not None:
            await end_tasks(self._connecting)
        if self._telling is not None:
            await end_tasks(self._telling)
        if self.client.is_connected:
            with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
                await self.client.flush(timeout=FLUSH_TIMEOUT_S)
        # A client in the middle of its first connection fails its own assertions when it is closed;
        # whatever ends the process must not be hidden behind that.
        with contextlib.suppress(Exception):
            await self.client.close()
