"""An upstream of bare sockets that answers each request with the bytes that a test tells it.

Where the mock of the Anthropic API is always right in its HTTP, this one need not be.
"""

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

__all__ = ["Close", "ScriptedServer", "Step", "scripted_server"]

Close = Literal["fin", "reset", "keep", "hold"]
"""How a connection ends: FIN, RST, left open for the next request, or left open in silence."""
Step = bytes | float
"""What is done in turn: send these bytes, or wait so many seconds."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_TIMEOUT_S = 20.0


class ScriptedServer:
    """Answers every request by `steps` and `close`, which may be changed at any time.

    A request with the header `x-script` is answered by the script of that name in `book` instead,
    as soon as its head is there where that script is one of `unread`. With `tls` it speaks TLS by
    these settings.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.steps: Sequence[Step] = ()
        self.greeting = b""
        self.close: Close = "fin"
        self.book: dict[str, tuple[Sequence[Step], Close]] = {}
        self.unread: set[str] = set()
        self.requests: list[bytes] = []
        self.accepted = 0
        self.closed_at: list[float] = []
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    def script(self, *steps: Step, close: Close = "fin", greeting: bytes = b"") -> None:
        """Set what is answered from now on; `greeting` is sent before anything was asked."""
        self.steps, self.close, self.greeting = steps, close, greeting
        self.requests.clear()
        self.closed_at.clear()

    def stop(self) -> None:
        """Close everything."""
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(_TIMEOUT_S)
        if self._tls is not None:
            try:
                connection = self._tls.wrap_socket(connection, server_side=True)
            except OSError:
                connection.close()
                return
        self._open.add(connection)
        with connection, contextlib.suppress(OSError):
            connection.sendall(self.greeting)
            while self._answer(connection):
                pass
        self._open.discard(connection)

    def _answer(self, connection: socket.socket) -> bool:
        """Answer one request; False where the connection is done with."""
        received = _read_head(connection)
        if not received:
            return False
        name = _header(received, b"x-script").decode()
        # The test may set the next script as soon as it has its answer.
        steps, close = self.book.get(name, (self.steps, self.close))
        if name not in self.unread:
            received = _read_body(connection, received)
            if not received:
                return False
        self.requests.append(received)
        for step in steps:
            if isinstance(step, bytes):
                connection.sendall(step)
            else:
                time.sleep(step)
        if close == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        if close == "hold":
            with contextlib.suppress(OSError):
                connection.recv(1)
            self.closed_at.append(time.monotonic())
        return close == "keep"


def _read_head(connection: socket.socket) -> bytes:
    """Return what came with the head of a request, b"" at the end of the connection."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(65_536)
        if not part:
            return b""
        received += part
    return received


def _header(request: bytes, name: bytes) -> bytes:
    head = request.partition(b"\r\n\r\n")[0]
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip()
    return b""


def _read_body(connection: socket.socket, received: bytes) -> bytes:
    """Return the whole of a request with a Content-Length, b"" at the end of the connection."""
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(_header(received, b"content-length") or 0)
    parts = [body]
    left = length - len(body)
    while left > 0:
        part = connection.recv(65_536)
        if not part:
            return b""
        parts.append(part)
        left -= len(part)
    return head + b"\r\n\r\n" + b"".join(parts)


@contextmanager
def scripted_server(tls: ssl.SSLContext | None = None) -> Iterator[ScriptedServer]:
    """Run one for the length of a with statement."""
    server = ScriptedServer(tls)
    try:
        yield server
    finally:
        server.stop()
