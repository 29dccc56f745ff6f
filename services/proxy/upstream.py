"""The HTTP/1.1 client of the hot path: keep-alive connections to deployments.

Its shape follows httpx's transport interface (`handle_async_request` gives a response whose body
is an asynchronous iterator that must be closed), so that another transport can take its place:
`Transport` is the seam. Our own client, because stock httpx costs ten times what all the rest of
the proxy costs (docs/performance.md).

Nothing is ever sent twice: a POST that met a broken connection may have been billed. Redirects are
not followed, no proxy is taken from the environment, the destination comes from the configuration
alone.
"""

import asyncio
import collections
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Protocol, cast
from urllib.parse import urlsplit

import certifi
import httptools
import msgspec

from schemas.errors import ApiError, ConfigError, UpstreamTimeout, UpstreamUnreachable
from services.proxy.headers import RawHeaders

__all__ = [
    "Origin",
    "Transport",
    "UpstreamBroke",
    "UpstreamPool",
    "UpstreamRequest",
    "UpstreamResponse",
]

log = logging.getLogger(__name__)

HEADERS_MAX = 200
HEADER_BYTES_MAX = 64 * 1024
"""An answer with more headers, or longer ones, is refused as garbage."""
BUFFER_BYTES_HIGH = 256 * 1024
"""So much of an answer may wait for a slow client before the deployment is made to wait."""
BUFFER_BYTES_LOW = 64 * 1024
IDLE_CONNECTIONS_MAX = 100
"""Idle connections kept for one deployment's host."""
IDLE_S_MAX = 20.0
"""An idle connection older than this is not used again: the other side may be closing it."""
WRITE_BUFFER_BYTES_HIGH = 1024 * 1024

_NO_BODY_STATUSES = frozenset({204, 304})


class UpstreamBroke(Exception):
    """The answer broke off after its headers. `reason` tells how, without secrets."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Origin(msgspec.Struct, frozen=True):
    """Scheme, host, port and path prefix of a deployment (`api_base`)."""

    scheme: str
    host: str
    port: int
    prefix: str

    @classmethod
    def from_url(cls, url: str) -> "Origin":
        """Read an `api_base`. Raises ConfigError where it is not an http or https URL."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigError(f"api_base {url!r} is not an http(s) URL")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return cls(parts.scheme, parts.hostname, port, parts.path.rstrip("/"))

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        return host if self.port == default else f"{host}:{self.port}"


class UpstreamRequest(msgspec.Struct, frozen=True):
    """One request: target with its query, end-to-end headers (no host, no length), and body."""

    method: bytes
    origin: Origin
    target: bytes
    headers: RawHeaders
    body: bytes
    head_timeout_s: float
    idle_timeout_s: float


class UpstreamResponse(Protocol):
    """An answer: status and headers are there, the body arrives. Must be closed."""

    status: int
    headers: RawHeaders

    def chunks(self) -> AsyncIterator[tuple[bytes, bool]]:
        """Yield (bytes, is this the end), as they come. Raises UpstreamBroke."""

    async def aclose(self) -> None:
        """Give the connection back, or cut it where the answer is not over."""


class Transport(Protocol):
    """The seam: what the proxy needs of an HTTP client."""

    async def handle_async_request(self, request: UpstreamRequest) -> UpstreamResponse:
        """Send a request and return the answer once its headers are there.

        Raises UpstreamUnreachable or UpstreamTimeout, saying which step failed.
        """

    async def aclose(self) -> None:
        """Close all connections."""


class _Connection(asyncio.Protocol):
    """One connection, one request at a time; it is its own response object."""

    def __init__(self, pool: "UpstreamPool", origin: Origin) -> None:
        self._pool = pool
        self._origin = origin
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._can_write = asyncio.Event()
        self._can_write.set()
        self.is_lost = False
        self.idle_since_s = 0.0
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.headers: RawHeaders = []
        self._header_bytes = 0
        self._chunks: collections.deque[bytes] = collections.deque()
        self._buffered = 0
        self._is_paused = False
        self._is_complete = False
        self._keep_alive = False
        self._failure: str | None = None
        self._timed_out = False
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._idle_timeout_s = 0.0
        self._head_seen = False
        self._received_any = False

    # ------------------------------------------------------------------- asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES_HIGH)

    def data_received(self, data: bytes) -> None:
        self._received_any = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail("it answered with a protocol change")
        except httptools.HttpParserError as error:
            # A callback's own complaint is in the cause.
            cause = error.__context__
            self._fail(str(cause) if isinstance(cause, ValueError) else "it did not answer in HTTP")
        self._wake()
        if self._buffered > BUFFER_BYTES_HIGH and not self._is_paused and self._transport:
            self._is_paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self._can_write.set()
        is_open = self._head_seen and not self._is_complete and self._failure is None
        if is_open and exc is None and self._ends_with_close():
            self._is_complete = True
        if not self._is_complete and self._failure is None:
            self._failure = "it reset the connection" if exc else "it closed the connection"
        self._pool.forget(self)
        self._wake()

    def pause_writing(self) -> None:
        self._can_write.clear()

    def resume_writing(self) -> None:
        self._can_write.set()

    # --------------------------------------------------------------------- the parser's callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if len(self.headers) >= HEADERS_MAX or self._header_bytes > HEADER_BYTES_MAX:
            raise ValueError("its headers are too long")
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status < 200:  # noqa: PLR2004 - an interim answer (100, 103): the real one follows
            self.headers = []
            return
        self._keep_alive = self._parser.should_keep_alive()
        self._head_seen = True

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)
        self._buffered += len(body)

    def on_message_complete(self) -> None:
        if self._head_seen:
            self._is_complete = True

    def _ends_with_close(self) -> bool:
        """Tell whether a close is this answer's proper end: it names no length of its body."""
        names = {name for name, _ in self.headers}
        return b"content-length" not in names and b"transfer-encoding" not in names

    # ----------------------------------------------------------------------------- requests

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, reason: str) -> None:
        if self._failure is None:
            self._failure = reason
        if self._transport is not None:
            self._transport.abort()

    def _on_timeout(self) -> None:
        self._timer = None
        self._timed_out = True
        self._fail("it sent nothing for too long")
        self._wake()

    def _arm(self, timeout_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(timeout_s, self._on_timeout)

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def send(self, request: UpstreamRequest) -> None:
        """Send a request and wait for the headers of its answer."""
        assert self._transport is not None
        self._idle_timeout_s = request.idle_timeout_s
        self._arm(request.head_timeout_s)
        self._transport.write(_request_head(request))
        if request.body:
            self._transport.write(request.body)
        if not self._can_write.is_set():
            await self._can_write.wait()
        try:
            while not self._head_seen and self._failure is None:
                await self._wait()
        finally:
            self._disarm()
        if self._failure is not None and not self._head_seen:
            raise self._no_answer(request.head_timeout_s)

    def _no_answer(self, timeout_s: float) -> ApiError:
        host = self._origin.authority
        if self._timed_out:
            return UpstreamTimeout(f"{host} did not answer within {timeout_s:g} s")
        return UpstreamUnreachable(f"No answer from {host}: {self._failure}")

    async def chunks(self) -> AsyncIterator[tuple[bytes, bool]]:
        """Yield (bytes, is this the end) as they come. Raises UpstreamBroke."""
        while True:
            if self._chunks:
                chunk = self._chunks.popleft() if len(self._chunks) == 1 else self._take_all()
                self._buffered = 0
                if self._is_paused and self._transport is not None:
                    self._is_paused = False
                    self._transport.resume_reading()
                is_last = self._is_complete and not self._chunks
                yield chunk, is_last
                if is_last:
                    return
                continue
            if self._is_complete:
                yield b"", True
                return
            if self._failure is not None:
                raise UpstreamBroke(self._failure)
            # Waiting for the deployment, not for a slow client: only this is timed.
            self._arm(self._idle_timeout_s)
            await self._wait()
            self._disarm()

    def _take_all(self) -> bytes:
        chunk = b"".join(self._chunks)
        self._chunks.clear()
        return chunk

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def aclose(self) -> None:
        """Give the connection back where the answer is over and clean, else cut it."""
        self._disarm()
        is_clean = self._is_complete and self._failure is None and self._keep_alive
        if not is_clean or self.is_lost or not self._can_write.is_set():
            self.abort()
            self._pool.forget(self)
            return
        self._begin()
        self._pool.give_back(self)

    def abort(self) -> None:
        """Cut the connection at once."""
        if self._transport is not None:
            self._transport.abort()


def _request_head(request: UpstreamRequest) -> bytes:
    parts = [
        request.method,
        b" ",
        request.origin.prefix.encode(),
        request.target,
        b" HTTP/1.1\r\nhost: ",
        request.origin.authority.encode(),
        b"\r\n",
    ]
    for name, value in request.headers:
        parts += (name, b": ", value, b"\r\n")
    if request.body or request.method == b"POST":
        parts.append(b"content-length: %d\r\n" % len(request.body))
    parts.append(b"\r\n")
    return b"".join(parts)


class UpstreamPool:
    """Keep-alive connections to all deployments of one worker. Implements Transport.

    At most `connections_max` are open; a request beyond that waits for `connect_timeout_s` and is
    then refused.
    """

    def __init__(
        self,
        *,
        connections_max: int,
        connect_timeout_s: float,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._slots = asyncio.Semaphore(connections_max)
        self._idle: dict[Origin, list[_Connection]] = {}
        self._all: set[_Connection] = set()
        self._tls = tls

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.load_verify_locations(certifi.where())
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls

    async def handle_async_request(self, request: UpstreamRequest) -> UpstreamResponse:
        """Send a request over an idle connection or a new one; see Transport."""
        connection = self._take_idle(request.origin)
        if connection is None:
            connection = await self._connect(request.origin)
        try:
            await connection.send(request)
        except BaseException:
            connection.abort()
            self.forget(connection)
            raise
        return connection

    def _take_idle(self, origin: Origin) -> _Connection | None:
        idle = self._idle.get(origin)
        now_s = asyncio.get_running_loop().time()
        while idle:
            connection = idle.pop()
            is_fresh = now_s - connection.idle_since_s < IDLE_S_MAX
            # Bytes that nobody asked for would be taken for the next request's answer.
            if is_fresh and not connection.is_lost and not connection._received_any:
                return connection
            connection.abort()
            self.forget(connection)
        return None

    async def _connect(self, origin: Origin) -> _Connection:
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await self._slots.acquire()
        except TimeoutError:
            raise UpstreamTimeout(
                "All connections to the API are in use (upstream_connections_max)"
            ) from None
        try:
            connection = await self._open(origin)
        except BaseException:
            self._slots.release()
            raise
        self._all.add(connection)
        if connection.is_lost:
            self.forget(connection)
        return connection

    async def _open(self, origin: Origin) -> _Connection:
        host = origin.authority
        tls = self._tls_context() if origin.scheme == "https" else None
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: _Connection(self, origin),
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
        return connection

    def give_back(self, connection: _Connection) -> None:
        """Keep a connection for the next request."""
        idle = self._idle.setdefault(connection._origin, [])
        if len(idle) >= IDLE_CONNECTIONS_MAX:
            connection.abort()
            self.forget(connection)
            return
        connection.idle_since_s = asyncio.get_running_loop().time()
        idle.append(connection)

    def forget(self, connection: _Connection) -> None:
        """Drop a connection that is lost. Harmless when repeated."""
        if connection in self._all:
            self._all.discard(connection)
            self._slots.release()

    async def aclose(self) -> None:
        """Close all connections."""
        for connection in list(self._all):
            connection.abort()
        self._idle.clear()
