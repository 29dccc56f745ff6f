"""Serving an ASGI application with uvicorn until the process is told to stop."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

__all__ = ["CLIENT", "HEAD_BYTES_MAX", "HEAD_TIMEOUT_S", "Client", "serve_http"]

CLIENT = "tallygate.client"
"""The key of the Client in a request's scope."""
STARTED_POLL_S = 0.005
KEEP_ALIVE_S = 75
"""An idle client connection is closed after this; Claude Code's own pool closes sooner."""
HEAD_TIMEOUT_S = 30.0
"""A connection that has not sent the whole head of a request within this is closed."""
HEAD_BYTES_MAX = 1024 * 1024
"""A connection that sends more than this without the head of a request being whole is closed."""
CUT_TIMEOUT_S = 5.0
"""Requests that are cut in the end get so long to write down what they used."""


class Client:
    """The other end of a connection, as the application may see it.

    It saves a task for each request that does nothing but wait for `http.disconnect`, and a time
    limit on a body that is there already. `is_whole`: the request's body has been received.
    """

    __slots__ = ("_listeners", "is_lost", "is_whole")

    def __init__(self) -> None:
        self.is_lost = False
        self.is_whole = False
        self._listeners: set[Callable[[], None]] = set()

    def listen(self, on_lost: Callable[[], None]) -> None:
        """Call `on_lost` once the connection is lost; at once, where it is."""
        if self.is_lost:
            on_lost()
        else:
            self._listeners.add(on_lost)

    def forget(self, on_lost: Callable[[], None]) -> None:
        """Call `on_lost` no more."""
        self._listeners.discard(on_lost)

    def lost(self) -> None:
        """Tell all who listen."""
        self.is_lost = True
        for on_lost in tuple(self._listeners):
            on_lost()


class _HeadHolder:
    """Stands in for a transport until an answer's head is written.

    The head waits for the first bytes of the body, or for the end of the loop's turn: where both
    are there they go out in one system call.
    """

    def __init__(self, cycle: RequestResponseCycle, loop: asyncio.AbstractEventLoop) -> None:
        self._cycle = cycle
        self._transport = cycle.transport
        self._loop = loop
        self._head = b""

    def write(self, data: bytes) -> None:
        """Hold the first bytes that are written; let the second ones take them along."""
        if not self._head:
            self._head = data
            self._loop.call_soon(self._let_go)
            return
        head, self._head = self._head, b""
        self._cycle.transport = self._transport
        self._transport.writelines((head, data))

    def _let_go(self) -> None:
        head, self._head = self._head, b""
        self._cycle.transport = self._transport
        if head:
            self._transport.write(head)

    def close(self) -> None:
        """Close the connection, after what is held."""
        self._let_go()
        self._transport.close()

    def is_closing(self) -> bool:
        """Tell whether the connection is being closed."""
        return self._transport.is_closing()


class _Protocol(HttpToolsProtocol):
    """uvicorn's, with limits of time and size on the head of a request, which it has none of."""

    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _is_in_head = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        self._client = Client()
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting, and tell the application."""
        self._head_is_there()
        super().connection_lost(exc)
        self._client.lost()

    def data_received(self, data: bytes) -> None:
        """Count the bytes of a head that is not whole yet."""
        if self._head_timer is not None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self.transport.abort()
                return
        super().data_received(data)
        # Most heads come whole, and need no timer.
        if self._is_in_head and self._head_timer is None:
            self._await_head()

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._is_in_head = True
        self._client.is_whole = False
        self.scope[CLIENT] = self._client  # type: ignore[literal-required]

    def on_headers_complete(self) -> None:
        """Serve the request."""
        self._is_in_head = False
        self._head_is_there()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that the request is whole."""
        super().on_message_complete()
        self._client.is_whole = True

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Let the answer's head go out with its body."""
        cycle.transport = _HeadHolder(cycle, self.loop)  # type: ignore[assignment]
        super()._start_asgi_task(cycle, app)

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._head_too_late)

    def _head_is_there(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_too_late(self) -> None:
        self._head_timer = None
        # Behind a request that is still being answered the next one may wait.
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """Leave out what uvicorn says of answers that were cut by intent: their owners say why.

    So does uvicorn itself, in one line, of requests that outlast the time to drain; the trace of
    each is no news.
    """
    fault = record.exc_info[1] if record.exc_info else None
    return (
        not isinstance(fault, asyncio.CancelledError)
        and "without completing response" not in record.getMessage()
    )


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process has its own (services.runtime.service)."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_http(
    app: Any,
    *,
    listener: socket.socket,
    stop: asyncio.Event,
    drain_timeout_s: float,
    on_started: Callable[[], None] | None = None,
) -> None:
    """Serve until `stop` is set; then take no more connections and let running requests end.

    Requests that still run after `drain_timeout_s` are cut. `on_started()` is called once the
    server accepts connections.
    """
    server = _Server(
        uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, int(drain_timeout_s)),
        )
    )
    logging.getLogger("uvicorn.error").addFilter(_is_worth_a_line)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn tells it so
        await asyncio.sleep(STARTED_POLL_S)
    if on_started is not None and not serving.done():
        on_started()
    stopping = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    server.should_exit = True
    await serving
    # uvicorn has told the requests that still ran to end, and does not wait for them.
    cut = set(server.server_state.tasks)
    if cut:
        await asyncio.wait(cut, timeout=CUT_TIMEOUT_S)
