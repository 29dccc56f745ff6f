"""Keep-alive connections to all deployments: the Transport of services.proxy.upstream in use."""

import asyncio
import socket
import ssl

import certifi

from schemas.errors import Unavailable, UpstreamTimeout, UpstreamUnreachable
from services.proxy.connection import Connection
from services.proxy.upstream import Origin, UpstreamRequest, UpstreamResponse

__all__ = ["IDLE_CONNECTIONS_MAX", "IDLE_S_MAX", "UpstreamPool", "tls_context"]

IDLE_CONNECTIONS_MAX = 100
"""Idle connections kept for one deployment's host."""
IDLE_S_MAX = 20.0
"""An idle connection older than this is not used again: the other side may be closing it."""


def tls_context() -> ssl.SSLContext:
    """Return the settings of TLS: certificates verified, by the system's and certifi's roots."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context


class UpstreamPool:
    """The connections of one worker. Implements Transport and Keeper.

    At most `connections_max` requests are under way and so many connections open; a request beyond
    that waits for `connect_timeout_s` and is then refused. An idle connection never stands in the
    way of a request: it is used for it, or closed for it. `tls` is made when it is needed, where
    it is not given.
    """

    def __init__(
        self, *, connections_max: int, connect_timeout_s: float, tls: ssl.SSLContext | None = None
    ) -> None:
        self._connections_max = connections_max
        self._connect_timeout_s = connect_timeout_s
        self._tls = tls
        self._slots = asyncio.Semaphore(connections_max)
        # So many slots are given up as they become free: the limit was lowered.
        self._slots_excess = 0
        # The origins of all deployments; None until they are told.
        self._origins: frozenset[Origin] | None = None
        # The idle ones of each origin, the longest idle first.
        self._idle: dict[Origin, list[Connection]] = {}
        self._all: set[Connection] = set()

    def configure(
        self, *, connections_max: int, connect_timeout_s: float, origins: frozenset[Origin]
    ) -> None:
        """Take new limits and the origins of all deployments; what is under way goes on.

        Idle connections to other origins are closed at once, those in use when their answers are
        over. A lower `connections_max` is reached as answers end.
        """
        for _ in range(connections_max - self._connections_max):
            self._free_slot()
        self._slots_excess += max(0, self._connections_max - connections_max)
        self._connections_max = connections_max
        self._connect_timeout_s = connect_timeout_s
        self._origins = origins
        for origin in self._idle.keys() - origins:
            for connection in self._idle.pop(origin):
                self._drop(connection)

    def _free_slot(self) -> None:
        if self._slots_excess:
            self._slots_excess -= 1
        else:
            self._slots.release()

    async def handle_async_request(self, request: UpstreamRequest) -> UpstreamResponse:
        """Send a request over an idle connection or a new one; see Transport."""
        await self._take_slot()
        connection: Connection | None = None
        try:
            connection = self._take_idle(request.origin)
            if connection is None:
                connection = await self._open(request.origin)
            connection.is_used = True
            await connection.send(request)
        except BaseException:
            self._free_slot()
            if connection is not None:
                connection.is_used = False
                self._drop(connection)
            raise
        return connection

    async def _take_slot(self) -> None:
        if not self._slots.locked():
            await self._slots.acquire()
            return
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await self._slots.acquire()
        except TimeoutError:
            raise Unavailable(
                "All connections to the API are in use (upstream_connections_max)",
                {"retry-after": "1"},
            ) from None

    def _take_idle(self, origin: Origin) -> Connection | None:
        idle = self._idle.get(origin)
        now_s = asyncio.get_running_loop().time()
        while idle:
            connection = idle.pop()
            is_fresh = now_s - connection.idle_since_s < IDLE_S_MAX
            if is_fresh and not connection.is_lost and not connection.was_spoken_to:
                return connection
            self._drop(connection)
        return None

    async def _open(self, origin: Origin) -> Connection:
        while len(self._all) >= self._connections_max and self._drop_longest_idle():
            pass
        host = origin.authority
        tls = None
        if origin.scheme == "https":
            if self._tls is None:
                self._tls = await asyncio.to_thread(tls_context)
            tls = self._tls
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: Connection(self, origin),
                    origin.host,
                    origin.port,
                    ssl=tls,
                    server_hostname=origin.host if tls else None,
                )
        except TimeoutError:
            raise UpstreamTimeout(
                f"Connecting to {host} took longer than {self._connect_timeout_s:g} s"
            ) from None
        except socket.gaierror as error:
            raise UpstreamUnreachable(f"The name {origin.host} has no address: {error}") from None
        except ssl.SSLCertVerificationError as error:
            raise UpstreamUnreachable(
                f"The certificate of {host} cannot be trusted: {error.verify_message}"
            ) from None
        except ssl.SSLError as error:
            raise UpstreamUnreachable(f"No TLS connection to {host}: {error.reason}") from None
        except OSError as error:
            raise UpstreamUnreachable(
                f"No connection to {host}: {error.strerror or error}"
            ) from None
        if not connection.is_lost:
            self._all.add(connection)
        return connection

    def release(self, connection: Connection, *, is_clean: bool) -> None:
        """Take back a connection whose answer is over; one that is not clean is cut."""
        if not connection.is_used:
            return
        connection.is_used = False
        self._free_slot()
        if self._origins is not None and connection.origin not in self._origins:
            self._drop(connection)
            return
        idle = self._idle.setdefault(connection.origin, [])
        now_s = asyncio.get_running_loop().time()
        while idle and now_s - idle[0].idle_since_s >= IDLE_S_MAX:
            self._drop(idle.pop(0))
        if not is_clean or len(idle) >= IDLE_CONNECTIONS_MAX:
            self._drop(connection)
            return
        connection.rest()
        connection.idle_since_s = now_s
        idle.append(connection)

    def forget(self, connection: Connection) -> None:
        """Drop a connection that is lost. Harmless when repeated."""
        self._all.discard(connection)
        idle = self._idle.get(connection.origin, [])
        if connection in idle:
            idle.remove(connection)

    def _drop(self, connection: Connection) -> None:
        self._all.discard(connection)
        connection.abort()

    def _drop_longest_idle(self) -> bool:
        """Close the connection that has been idle longest, of any origin; False: none is idle."""
        firsts = [idle for idle in self._idle.values() if idle]
        if not firsts:
            return False
        self._drop(min(firsts, key=lambda idle: idle[0].idle_since_s).pop(0))
        return True

    async def aclose(self) -> None:
        """Close all connections."""
        for connection in list(self._all):
            self._drop(connection)
        self._idle.clear()
