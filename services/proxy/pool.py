"""Keep-alive connections to all deployments: the Transport of services.proxy.upstream in use."""

import asyncio
import ssl

import msgspec

from schemas.config import Settings
from services.proxy.connection import Connection
from services.proxy.connector import Connector, ConnectSettings
from services.proxy.upstream import Origin, PoolFull, UpstreamRequest, UpstreamResponse

__all__ = ["IDLE_CONNECTIONS_MAX", "PoolSettings", "UpstreamPool"]

IDLE_CONNECTIONS_MAX = 100
"""Idle connections kept for one deployment's host."""


class PoolSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of the pool, and how its connections are made.

    An idle connection older than `keepalive_s` is not used again: the other side may be closing
    it.
    """

    connections_max: int
    keepalive_s: float
    connect: ConnectSettings

    @classmethod
    def from_settings(cls, settings: Settings) -> "PoolSettings":
        """Take them from the section `tallygate` of the configuration."""
        return cls(
            connections_max=settings.upstream_connections_max,
            keepalive_s=settings.upstream_keepalive_s,
            connect=ConnectSettings(
                timeout_s=settings.connect_timeout_s,
                ca_file=settings.upstream_ca_file,
                proxy_url=settings.upstream_proxy,
            ),
        )


class UpstreamPool:
    """The connections of one worker. Implements Transport and Keeper.

    At most `connections_max` requests are under way and so many connections open; a request beyond
    that waits for `connect_timeout_s` and is then refused. An idle connection never stands in the
    way of a request: it is used for it, or closed for it. `tls` is made when it is needed, where
    it is not given.
    """

    def __init__(self, settings: PoolSettings, *, tls: ssl.SSLContext | None = None) -> None:
        self._settings = settings
        self._connector = Connector(settings.connect, tls)
        self._slots = asyncio.Semaphore(settings.connections_max)
        # So many slots are given up as they become free: the limit was lowered.
        self._slots_excess = 0
        # The origins of all deployments; None until they are told.
        self._origins: frozenset[Origin] | None = None
        # The idle ones of each origin, the longest idle first.
        self._idle: dict[Origin, list[Connection]] = {}
        self._all: set[Connection] = set()

    def configure(self, settings: PoolSettings, origins: frozenset[Origin]) -> None:
        """Take new settings and the origins of all deployments; what is under way goes on.

        Idle connections to other origins are closed at once, those in use when their answers are
        over; so are all that were made with another CA or proxy. A lower `connections_max` is
        reached as answers end.
        """
        before, self._settings = self._settings, settings
        for _ in range(settings.connections_max - before.connections_max):
            self._free_slot()
        self._slots_excess += max(0, before.connections_max - settings.connections_max)
        self._origins = origins
        gone = self._idle.keys() - origins
        if settings.connect != before.connect:
            self._connector = Connector(settings.connect)
            gone = set(self._idle)
        for origin in gone:
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
        await self._take_any_slot()
        while self._slots_excess:
            # The limit was lowered: what was free beyond it is given up by whoever takes it.
            self._slots_excess -= 1
            await self._take_any_slot()

    async def _take_any_slot(self) -> None:
        if not self._slots.locked():
            await self._slots.acquire()
            return
        try:
            async with asyncio.timeout(self._settings.connect.timeout_s):
                await self._slots.acquire()
        except TimeoutError:
            raise PoolFull(
                "All connections to the API are in use (upstream_connections_max)",
                {"retry-after": "1"},
            ) from None

    def _take_idle(self, origin: Origin) -> Connection | None:
        idle = self._idle.get(origin)
        now_s = asyncio.get_running_loop().time()
        while idle:
            connection = idle.pop()
            is_fresh = now_s - connection.idle_since_s < self._settings.keepalive_s
            if is_fresh and connection.is_fit():
                return connection
            self._drop(connection)
        return None

    async def _open(self, origin: Origin) -> Connection:
        while len(self._all) >= self._settings.connections_max and self._drop_longest_idle():
            pass
        connector = self._connector
        connection = await connector.open(origin, lambda: Connection(self, origin))
        connection.made_by = connector
        if not connection.is_lost:
            self._all.add(connection)
        return connection

    def release(self, connection: Connection, *, is_clean: bool) -> None:
        """Take back a connection whose answer is over; one that is not clean is cut."""
        if not connection.is_used:
            return
        connection.is_used = False
        self._free_slot()
        is_wanted = self._origins is None or connection.origin in self._origins
        if not is_clean or not is_wanted or connection.made_by is not self._connector:
            self._drop(connection)
            return
        self._rest(connection)

    def _rest(self, connection: Connection) -> None:
        """Keep a connection for a later request."""
        idle = self._idle.setdefault(connection.origin, [])
        now_s = asyncio.get_running_loop().time()
        while idle and now_s - idle[0].idle_since_s >= self._settings.keepalive_s:
            self._drop(idle.pop(0))
        if len(idle) >= IDLE_CONNECTIONS_MAX:
            self._drop(connection)
            return
        connection.rest()
        connection.was_idle = True
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
