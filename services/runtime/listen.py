"""The listening sockets, which the supervisor binds once and its children inherit.

A connection that arrives while a worker is being restarted waits in the socket's queue.
"""

import errno
import socket

from schemas.errors import ConfigError

__all__ = ["BACKLOG", "address_of", "listen"]

BACKLOG = 2048
"""So many connections may wait to be accepted."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on `host` and `port` (0: any free port).

    Raises ConfigError, which says what to do, where that is not possible.
    """
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_ADDRCONFIG
        )
        family, _, _, _, address = found[0]
    except (OSError, UnicodeError):
        raise ConfigError(f"the host {host!r} is not known: give another one with --host") from None
    try:
        bound = socket.create_server(address, family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigError(_explain(host, port, error)) from None
    bound.setblocking(False)
    return bound


def address_of(listening: socket.socket) -> tuple[str, int]:
    """Return the host and the port that a socket listens on."""
    host, port = listening.getsockname()[:2]
    return str(host), int(port)


def _explain(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} of {host} is taken by another program: end that one (on Linux "
            f"`ss -ltnp 'sport = :{port}'` names it), or give another port with --port"
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        return f"port {port} may not be used by this user: give one from 1024 on with --port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine: give another one with --host"
    return f"nothing can listen on {host}, port {port}: {error.strerror}"
