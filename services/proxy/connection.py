"""One HTTP/1.1 connection to a deployment: writes a request, reads its answer as it comes."""

import asyncio
import collections
import socket
from collections.abc import AsyncIterator
from typing import Protocol, cast

import httptools

from schemas.errors import UpstreamError, UpstreamTimeout, UpstreamUnreachable
from services.proxy.headers import RawHeaders
from services.proxy.upstream import FaultKind, Origin, Upload, UpstreamBroke, UpstreamRequest
from services.runtime.tasks import end_tasks

__all__ = [
    "BUFFER_BYTES_HIGH",
    "HEADERS_MAX",
    "HEADER_BYTES_MAX",
    "READ_BYTES",
    "Connection",
    "Keeper",
]

HEADERS_MAX = 200
HEADER_BYTES_MAX = 64 * 1024
"""An answer with more headers, or longer ones, is refused as garbage."""
BUFFER_BYTES_HIGH = 64 * 1024
"""So much of an answer may wait for a slow client before the deployment is made to wait."""
READ_BYTES = 64 * 1024
"""So much is read at a time: it may come on top of a full buffer."""

_STATUS_MIN, _STATUS_MAX = 200, 599


# One for all connections: what is read into it is parsed, and copied thereby, at once. By itself
# the event loop reads 256 KiB at a time, which a slow client makes us hold three times.
_read_buffer = memoryview(bytearray(READ_BYTES))


class Keeper(Protocol):
    """Whoever keeps connections: hears of each one's end."""

    def release(self, connection: "Connection", *, is_clean: bool) -> None:
        """An answer is over; a clean connection may take the next request."""

    def forget(self, connection: "Connection") -> None:
        """A connection is lost."""


class Connection(asyncio.BufferedProtocol):
    """One connection, one request at a time; it is its own response object.

    `raw_socket` is what lies under the transport, `was_idle` tells that it waited for a request,
    `was_asked` that one was sent on it,
    `made_by` is the keeper's mark of who opened it.
    """

    status: int
    headers: RawHeaders

    def __init__(self, keeper: Keeper, origin: Origin) -> None:
        self._keeper = keeper
        self.origin = origin
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self.is_lost = False
        self.is_used = False
        self.idle_since_s = 0.0
        self.was_idle = False
        self.was_asked = False
        self.made_by: object = None
        self.raw_socket: socket.socket | None = None
        self.rest()

    def rest(self) -> None:
        """Make ready for the next request."""
        self._parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.headers = []
        self._header_bytes = 0
        self._head_bytes = 0
        self._chunks: collections.deque[bytes] = collections.deque()
        self._buffered = 0
        self._is_paused = False
        self._is_complete = False
        self._keep_alive = False
        self._failure: str | None = None
        self._kind: FaultKind = "upstream_no_answer"
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._idle_timeout_s = 0.0
        self._waits_since_s: float | None = None
        self._head_seen = False
        self._received_any = False
        self._is_sent = True
        self._upload_error: Exception | None = None
        self._is_full = False
        self._write_waiter: asyncio.Future[None] | None = None

    # ------------------------------------------------------------------- asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport (uvloop's does not derive from asyncio's, so a cast)."""
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the loop's own wish
        """Return the room for what is read next."""
        return _read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Parse what came; what is no proper answer cuts the connection."""
        data = _read_buffer[:nbytes]
        self._received_any = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail("it answered with a protocol change", "upstream_garbage")
        except httptools.HttpParserError as error:
            # A callback's own complaint is in the cause.
            cause = error.__context__
            reason = str(cause) if isinstance(cause, ValueError) else "it did not answer in HTTP"
            self._fail(reason, "upstream_garbage")
        if not self._head_seen:
            # The parser keeps what is no whole header yet, without a limit of its own.
            self._head_bytes += nbytes
            if self._head_bytes > HEADER_BYTES_MAX:
                self._fail("its headers are too long", "upstream_garbage")
        self._wake()
        is_too_much = self._buffered > BUFFER_BYTES_HIGH and not self._is_paused
        if is_too_much and self._failure is None and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Take a half-closed connection for a closed one."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """End the answer: well, where a close is its proper end, else as broken."""
        self.is_lost = True
        is_open = self._head_seen and not self._is_complete and self._failure is None
        if is_open and exc is None and self._ends_with_close():
            self._is_complete = True
        if not self._is_complete and self._failure is None:
            self._failure = "it reset the connection" if exc else "it closed the connection"
        self._keeper.forget(self)
        self._wake()
        self.resume_writing()

    def pause_writing(self) -> None:
        """Let an upload wait for a deployment that does not read."""
        self._is_full = True

    def resume_writing(self) -> None:
        """Let it go on."""
        self._is_full = False
        if self._write_waiter is not None and not self._write_waiter.done():
            self._write_waiter.set_result(None)

    # --------------------------------------------------------------------- the parser's callbacks

    def on_message_begin(self) -> None:
        """Refuse a second answer."""
        if self._is_complete:
            # The callbacks of this second answer would write over the first one.
            raise ValueError("it sent more than one answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self._header_bytes += len(name) + len(value)
        if len(self.headers) >= HEADERS_MAX or self._header_bytes > HEADER_BYTES_MAX:
            raise ValueError("its headers are too long")
        name = name.lower()
        if name == b"transfer-encoding" and value.lower() != b"chunked":
            raise ValueError("it used a transfer coding that it was not asked for")
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Take the status; wait on where the answer is an interim one."""
        self.status = self._parser.get_status_code()
        if 100 <= self.status < _STATUS_MIN:  # noqa: PLR2004 - interim: the real one follows
            self.headers = []
            return
        if not _STATUS_MIN <= self.status <= _STATUS_MAX:
            raise ValueError(f"it answered with the status {self.status}")
        self._keep_alive = self._parser.should_keep_alive()
        self._head_seen = True

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body until it is asked for."""
        self._chunks.append(body)
        self._buffered += len(body)

    def on_message_complete(self) -> None:
        """Note that the answer is whole."""
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

    def _fail(self, reason: str, kind: FaultKind) -> None:
        if self._failure is None:
            self._failure, self._kind = reason, kind
        if self._transport is not None:
            self._transport.abort()

    def _on_timeout(self) -> None:
        self._timer = None
        self._fail("it sent nothing for too long", "upstream_timeout")
        self._wake()

    def _look_for_silence(self) -> None:
        """Give the deployment up where it has been silent for too long, else look again in time.

        One timer for a whole answer: one for each wait would cost a tenth of what an event costs.
        """
        since_s = self._waits_since_s
        silent_s = 0.0 if since_s is None else self._loop.time() - since_s
        if silent_s >= self._idle_timeout_s:
            self._on_timeout()
            return
        left_s = self._idle_timeout_s - silent_s
        self._timer = self._loop.call_later(left_s, self._look_for_silence)

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
        if self._received_any:
            self._fail("it spoke before it was asked", "upstream_garbage")
            raise self._no_answer(request.head_timeout_s, was_sent=False)
        self._idle_timeout_s = request.idle_timeout_s
        self._arm(request.head_timeout_s)
        # The body is in memory anyway, so the transport may hold what the network does not take
        # yet; an answer that comes before all of it is sent is heard at once.
        # Both in one system call.
        self._transport.writelines((_request_head(request), request.body))
        upload = None
        if request.upload is not None:
            self._disarm()
            upload = asyncio.create_task(self._send_on(request.upload, request.head_timeout_s))
        try:
            while not self._head_seen and self._failure is None:
                await self._wait()
        finally:
            self._disarm()
            if upload is not None:
                # An answer that comes before the whole body was read needs the rest no more.
                await end_tasks(upload)
        if self._upload_error is not None and not self._head_seen:
            raise self._upload_error
        if self._failure is not None and not self._head_seen:
            raise self._no_answer(request.head_timeout_s, was_sent=True)

    async def _send_on(self, upload: Upload, timeout_s: float) -> None:
        """Send a body as it comes, no faster than the deployment takes it, then await its answer.

        Only the deployment is timed here; how long the client may take, the upload itself knows.
        """
        assert self._transport is not None
        self._is_sent = False
        try:
            async for piece in upload.pieces():
                if upload.length is not None:
                    self._transport.write(piece)
                elif piece:
                    self._transport.writelines((b"%x\r\n" % len(piece), piece, b"\r\n"))
                if self._is_full:
                    self._arm(timeout_s)
                    self._write_waiter = self._loop.create_future()
                    await self._write_waiter
                    self._disarm()
        except Exception as error:  # noqa: BLE001 - raised by `send`
            self._upload_error = error
            self._fail("the upload broke off", "upstream_no_answer")
            self._wake()
            return
        if upload.length is None:
            self._transport.write(b"0\r\n\r\n")
        self._is_sent = True
        if not self._head_seen and self._failure is None:
            self._arm(timeout_s)

    def _no_answer(self, timeout_s: float, *, was_sent: bool) -> UpstreamError:
        host, kind = self.origin.authority, self._kind
        if kind == "upstream_timeout":
            message = f"{host} did not answer within {timeout_s:g} s"
            return UpstreamTimeout(message, kind=kind, was_sent=was_sent)
        message = f"No answer from {host}: {self._failure}"
        if kind == "upstream_no_answer" and self.was_idle and not self._received_any:
            # It may have closed the idle connection before it saw the request, or after it had
            # done all of it: nobody here can tell, so nobody here repeats it (docs/faults.md).
            kind = "upstream_stale"
        return UpstreamUnreachable(message, kind=kind, was_sent=was_sent)

    async def chunks(self) -> AsyncIterator[tuple[bytes, bool]]:
        """Yield (bytes, is this the end) as they come. Raises UpstreamBroke."""
        while True:
            if self._chunks:
                chunk = self._chunks.popleft() if len(self._chunks) == 1 else self._take_all()
                self._buffered = 0
                if self._is_paused and not self.is_lost and self._transport is not None:
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
                is_silent = self._kind == "upstream_timeout"
                raise UpstreamBroke(
                    self._failure, kind="upstream_silent" if is_silent else "upstream_broke"
                )
            # Waiting for the deployment, not for a slow client: only this is timed.
            self._waits_since_s = self._loop.time()
            if self._timer is None:
                self._timer = self._loop.call_later(self._idle_timeout_s, self._look_for_silence)
            await self._wait()
            self._waits_since_s = None

    def _take_all(self) -> bytes:
        chunk = b"".join(self._chunks)
        self._chunks.clear()
        return chunk

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def is_fit(self) -> bool:
        """Tell whether an idle connection may take a request: it is open, and nothing came.

        Bytes that came unasked would be taken for the answer. The kernel is asked, too: it may
        know of an end, or hold bytes, that the event loop has not been told of yet. What is left
        of the race with a deployment that closes is the time that its word takes on the way.
        """
        if self.is_lost or self._received_any or self.raw_socket is None:
            return False
        try:
            self.raw_socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    async def aclose(self) -> None:
        """Give the connection back where the answer is over and clean, else cut it."""
        self._disarm()
        self._keeper.release(self, is_clean=self._is_reusable())

    def _is_reusable(self) -> bool:
        is_over = self._is_complete and self._keep_alive and self._failure is None
        if (
            not is_over
            or not self._is_sent
            or self.is_lost
            or self._is_paused
            or self._transport is None
        ):
            return False
        # A deployment that answered early has not read the whole request yet.
        return self._transport.get_write_buffer_size() == 0

    def abort(self) -> None:
        """Cut the connection at once."""
        self._disarm()
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
    if request.upload is not None:
        length = request.upload.length
        chunked = b"transfer-encoding: chunked\r\n"
        parts.append(chunked if length is None else b"content-length: %d\r\n" % length)
    elif request.body or request.method == b"POST":
        parts.append(b"content-length: %d\r\n" % len(request.body))
    parts.append(b"\r\n")
    return b"".join(parts)
