"""Serving an ASGI application with uvicorn until the process is told to stop."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

__all__ = ["serve_http"]

STARTED_POLL_S = 0.005
KEEP_ALIVE_S = 75
"""An idle client connection is closed after this; Claude Code's own pool closes sooner."""


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
            http="httptools",
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
