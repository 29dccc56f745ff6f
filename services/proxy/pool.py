"""Keep-alive connections to all deployments: the Transport of services.proxy.upstream in use."""

import asyncio
import ssl

import msgspec

from schemas.config import Settings
from services.proxy.connection import Connection
from services.proxy.connector import Connector, ConnectSettings
from services.proxy.upstream import Origin, PoolFull, UpstreamRequest, UpstreamResponse

__all__ = ["CLOSED_UNUSED_MAX", "IDLE_CONNECTIONS_MAX", "PoolSettings", "UpstreamPool"]

IDLE_CONNECTIONS_MAX = 100
"""Idle connections kept for one deployment's host."""

CLOSED_UNUSED_MAX = 10
"""A host that closed so many connections that were opened ahead gets no more until it is used."""


class PoolSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of the pool, and how its connections are made.

    An idle connection older than `keepalive_s` is not used again: the other side may be closing
    it. So many as `connections_warm` are to be open to each host (services.proxy.warm does it).
    """

    connections_max: int
    keepalive_s: float
    connect: ConnectSettings
    connections_warm: int = 0

    @classmethod
    def from_settings(cls, settings: Settings) -> "PoolSettings":
        """Take them from the section `tallygate` of the configuration."""
        return cls(
            connections_max=settings.upstream_connections_max,
            keepalive_s=settings.upstream_keepalive_s,
            connections_warm=settings.upstream_connections_warm,
            connect=ConnectSettings(
                timeout_s=settings.connect_timeout_s,
                ca_file=settings.upstream_ca_file,
                proxy_url=settings.upstream_proxy,
            ),
        )


class _Shelf:
    """The idle connections to one origin, the longest idle first, and when it was last used."""

    def __init__(self, now_s: float) -> None:
        self.connections: list[Connection] = []
        self.used_at_s = now_s
        # So many that were opened ahead were closed by the other side before any use.
        self.closed_unused = 0


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
        self._idle: dict[Origin, _Shelf] = {}
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
            for connection in self._idle.pop(origin).connections:
                self._drop(connection)
        now_s = asyncio.get_running_loop().time()
        for origin in origins - self._idle.keys():
            self._idle[origin] = _Shelf(now_s)

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
            connection.is_used = connection.was_asked = True
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
        shelf = self._idle.get(origin)
        if shelf is None:
            return None
        now_s = shelf.used_at_s = asyncio.get_running_loop().time()
        idle = shelf.connections
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
        connection = await self._connect(self._connector, origin)
        if not connection.is_lost:
            self._all.add(connection)
        return connection

    async def _connect(self, connector: Connector, origin: Origin) -> Connection:
        connection = await connector.open(origin, lambda: Connection(self, origin))
        connection.made_by = connector
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
        self._idle[connection.origin].closed_unused = 0

    def _rest(self, connection: Connection) -> None:
        """Keep a connection for a later request."""
        now_s = asyncio.get_running_loop().time()
        shelf = self._idle.get(connection.origin)
        if shelf is None:
            shelf = self._idle[connection.origin] = _Shelf(now_s)
        self._drop_aged(shelf, now_s)
        if len(shelf.connections) >= IDLE_CONNECTIONS_MAX:
            self._drop(connection)
            return
        connection.rest()
        connection.was_idle = True
        connection.idle_since_s = now_s
        shelf.connections.append(connection)

    def _drop_aged(self, shelf: _Shelf, now_s: float) -> None:
        idle = shelf.connections
        while idle and now_s - idle[0].idle_since_s >= self._settings.keepalive_s:
            self._drop(idle.pop(0))

    def lacking(self, used_within_s: float) -> list[Origin]:
        """Return the origins that were lately used and have too few connections open ahead."""
        now_s = asyncio.get_running_loop().time()
        found = []
        for origin, shelf in self._idle.items():
            self._drop_aged(shelf, now_s)
            is_used = now_s - shelf.used_at_s < used_within_s
            if is_used and self._lacks(shelf):
                found.append(origin)
        return found

    def _lacks(self, shelf: _Shelf) -> bool:
        has_room = len(self._all) < self._settings.connections_max
        if shelf.closed_unused >= CLOSED_UNUSED_MAX:
            return False
        return has_room and len(shelf.connections) < self._settings.connections_warm

    async def open_ahead(self, origin: Origin) -> bool:
        """Open one connection for later; tell whether more are lacking. Raises UpstreamError."""
        connector = self._connector
        connection = await self._connect(connector, origin)
        shelf = self._idle.get(origin)
        if shelf is None or connector is not self._connector or not self._lacks(shelf):
            self._drop(connection)
            return False
        self._all.add(connection)
        self._rest(connection)
        # A connection that is closed as soon as it stands would be opened again and again.
        return not connection.is_lost and self._lacks(shelf)

    def forget(self, connection: Connection) -> None:
        """Drop a connection that is lost. Harmless when repeated."""
        self._all.discard(connection)
        shelf = self._idle.get(connection.origin)
        if shelf is not None and connection in shelf.connections:
            shelf.connections.remove(connection)
            if not connection.was_asked:
                shelf.closed_unused += 1

    def _drop(self, connection: Connection) -> None:
        self._all.discard(connection)
        connection.abort()

    def _drop_longest_idle(self) -> bool:
        """Close the connection that has been idle longest, of any origin; False: none is idle."""
        firsts = [shelf.connections for shelf in self._idle.values() if shelf.connections]
        if not firsts:
            return False
        self._drop(min(firsts, key=lambda idle: idle[0].idle_since_s).pop(0))
        return True

    @property
    def connections(self) -> tuple[int, int]:
        """How many connections are open, and how many of these are idle."""
        return len(self._all), sum(len(shelf.connections) for shelf in self._idle.values())

    async def aclose(self) -> None:
        """Close all connections."""
        for connection in list(self._all):
            self._drop(connection)
        self._idle.clear()
