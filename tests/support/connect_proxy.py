"""A small HTTP proxy that makes tunnels (CONNECT), or refuses to in several ways."""

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["TUNNEL", "ConnectProxy", "connect_proxy"]

TUNNEL = b"HTTP/1.1 200 Connection established\r\n\r\n"
_TIMEOUT_S = 20.0


class ConnectProxy:
    """Answers each CONNECT with `answer`, and makes the tunnel where that is TUNNEL.

    None for `answer` is silence. `heads` are what it was asked.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.answer: bytes | None = TUNNEL
        self.heads: list[bytes] = []
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

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
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(_TIMEOUT_S)
        self._open.add(connection)
        with connection, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                part = connection.recv(65_536)
                if not part:
                    return
                head += part
            self.heads.append(head)
            if self.answer is None:
                connection.recv(1)
                return
            if self.answer != TUNNEL:
                connection.sendall(self.answer)
                return
            host, _, port = head.split(b" ")[1].decode().rpartition(":")
            with socket.create_connection((host.strip("[]"), int(port)), _TIMEOUT_S) as target:
                connection.sendall(TUNNEL)
                _pass_on(connection, target)
        self._open.discard(connection)


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    while True:
        readable, _, _ = select.select([one, other], [], [], _TIMEOUT_S)
        if not readable:
            return
        for source in readable:
            part = source.recv(65_536)
            if not part:
                return
            (other if source is one else one).sendall(part)


@contextmanager
def connect_proxy() -> Iterator[ConnectProxy]:
    """Run one for the length of a with statement."""
    proxy = ConnectProxy()
    try:
        yield proxy
    finally:
        proxy.stop()
