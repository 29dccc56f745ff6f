"""Where metrics are asked for: each process answers `GET /metrics` on a socket of its own.

The socket is a file in the data folder, `run/metrics/<part>.sock`, which only the folder's owner
can open. On a port they are served by the one process that is told an address (`--metrics`): for
all processes of its data folder, so that several workers of the proxy, which share a port, are
told apart. Nothing of this is on the port that clients use.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from schemas.errors import ConfigError
from services.runtime.listen import listen
from services.runtime.metrics import CONTENT_TYPE, Metrics, merged, rendered, sample

__all__ = ["ANSWER_BYTES_MAX", "SCRAPE_TIMEOUT_S", "MetricsServer", "gather", "remove_sockets"]

log = logging.getLogger(__name__)

HEAD_BYTES_MAX = 8 * 1024
HEAD_TIMEOUT_S = 5.0
"""A connection must have asked within this, in so many bytes."""
CONNECTIONS_MAX = 16
"""A further connection is closed at once."""
SCRAPE_TIMEOUT_S = 2.5
"""A process that does not answer within this is told as `tallygate_up 0`."""
ANSWER_BYTES_MAX = 4 * 1024 * 1024
_SOCKET_PATH_BYTES_MAX = 107


class MetricsServer:
    """Serves a process's metrics on its socket in `folder`, and all of the folder's at `address`.

    `address` is (host, port); one that is taken is a warning, since metrics must not keep the
    gateway from starting.
    """

    def __init__(
        self, metrics: Metrics, part: str, folder: Path, address: tuple[str, int] | None = None
    ) -> None:
        self._metrics = metrics
        self._part = part
        self._folder = folder
        self._path = folder / f"{part}.sock"
        self._address = address
        self._connections = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while the body runs; the socket's file is gone afterwards."""
        servers = []
        try:
            servers += await self._open()
            yield
        finally:
            for server in servers:
                server.close()
            self._path.unlink(missing_ok=True)

    async def _open(self) -> list[asyncio.Server]:
        servers = []
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            self._path.unlink(missing_ok=True)
            bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            with _short(self._path) as path:
                bound.bind(path)
            servers.append(await asyncio.start_unix_server(self._serve_own, sock=bound))
        except OSError as error:
            log.warning("the metrics of this process cannot be served: %s", error)
        if self._address is not None:
            try:
                listener = listen(*self._address)
                servers.append(await asyncio.start_server(self._serve_all, sock=listener))
            except (ConfigError, OSError) as error:
                log.warning("metrics are not served on a port (--metrics): %s", error)
        return servers

    async def _serve_own(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._serve(reader, writer, is_all=False)

    async def _serve_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._serve(reader, writer, is_all=True)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_all: bool
    ) -> None:
        self._connections += 1
        try:
            if self._connections > CONNECTIONS_MAX:
                return
            async with asyncio.timeout(HEAD_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
            if len(head) <= HEAD_BYTES_MAX:
                writer.write(await self._answer(head, is_all=is_all))
                async with asyncio.timeout(HEAD_TIMEOUT_S):
                    await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self._connections -= 1
            writer.close()

    async def _answer(self, head: bytes, *, is_all: bool) -> bytes:
        words = head.split(b"\r\n", 1)[0].split(b" ")
        method, target = words[0], words[1].split(b"?")[0] if len(words) > 1 else b""
        if target != b"/metrics":
            return _http("404 Not Found", "text/plain", "metrics are at /metrics\n")
        if method not in {b"GET", b"HEAD"}:
            return _http("405 Method Not Allowed", "text/plain", "ask with GET\n")
        if is_all:
            own = await self._metrics.text(self._part)
            others = await gather(self._folder, skip=self._part)
            text = merged([own, *others.values()])
        else:
            text = await self._metrics.text(self._part)
        answer = _http("200 OK", CONTENT_TYPE, text)
        return answer if method == b"GET" else answer.split(b"\r\n\r\n", 1)[0] + b"\r\n\r\n"


def remove_sockets(folder: Path) -> None:
    """Remove what killed processes left in `folder`, where none of them can run any more.

    Or else a worker that is no longer wanted would be told as down for ever.
    """
    for path in folder.glob("*.sock"):
        path.unlink(missing_ok=True)


async def gather(folder: Path, *, skip: str | None = None) -> dict[str, str]:
    """Return the metrics of each process that has a socket in `folder`, by part.

    One that does not answer is told as `tallygate_up` 0.
    """
    try:
        parts = sorted(
            path.stem
            for path in folder.iterdir()  # noqa: ASYNC240 - some names, in memory
            if path.suffix == ".sock" and path.stem != skip
        )
    except OSError:
        return {}
    texts = await asyncio.gather(*(_ask(folder / f"{part}.sock", part) for part in parts))
    return dict(zip(parts, texts, strict=True))


async def _ask(path: Path, part: str) -> str:
    try:
        async with asyncio.timeout(SCRAPE_TIMEOUT_S):
            with _short(path) as short:
                reader, writer = await asyncio.open_unix_connection(short)
            try:
                writer.write(b"GET /metrics HTTP/1.1\r\nhost: tallygate\r\n\r\n")
                answer = b""
                while (more := await reader.read(65536)) and len(answer) < ANSWER_BYTES_MAX:
                    answer += more
            finally:
                writer.close()
    except (OSError, TimeoutError):
        answer = b""
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head[:20]:
        return rendered(part, [sample("tallygate_up", 0)])
    return body.decode("utf-8", "replace")


def _http(status: str, kind: str, text: str) -> bytes:
    body = text.encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}"
    return f"{head}\r\nconnection: close\r\n\r\n".encode() + body


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """Give a name of a socket that the system takes: a path may be longer than 107 bytes.

    Linux names the file by its open folder then.
    """
    if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES_MAX:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
