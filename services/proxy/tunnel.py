"""A way out through an HTTP proxy: `tallygate: upstream_proxy`, by the method CONNECT.

The proxy sees the names of the deployments and, of those that are reached over TLS, nothing else.
Only the setting is heeded, never HTTPS_PROXY or the like of the environment.
"""

import asyncio
import re
import socket
from base64 import b64encode
from urllib.parse import unquote, urlsplit

import msgspec

from services.proxy.upstream import Origin

__all__ = ["TUNNEL_HEAD_BYTES_MAX", "ProxyAddress", "TunnelRefused", "open_tunnel"]

TUNNEL_HEAD_BYTES_MAX = 16 * 1024
"""A proxy whose answer has a longer head is refused as garbage."""

_READ_BYTES = 4096
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [^\r\n]*)?\r\n")
_CREDENTIALS_WANTED = 407
_DEFAULT_PORT = 80


class TunnelRefused(Exception):
    """The proxy made no tunnel; the message says why, without the credentials for it."""


class ProxyAddress(msgspec.Struct, frozen=True):
    """Where the proxy is, and what it is told of who asks. `authorization` is a secret."""

    host: str
    port: int
    authorization: bytes | None

    @classmethod
    def from_url(cls, url: str) -> "ProxyAddress":
        """Read `http://[user:password@]host[:port]`, which was checked with the configuration."""
        parts = urlsplit(url)
        authorization = None
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            authorization = b"Basic " + b64encode(pair.encode())
        return cls(parts.hostname or "", parts.port or _DEFAULT_PORT, authorization)

    def __repr__(self) -> str:
        return f"ProxyAddress({self.host!r}, {self.port})"


async def open_tunnel(connection: socket.socket, proxy: ProxyAddress, origin: Origin) -> None:
    """Make a connection to the proxy one to the origin. Raises TunnelRefused or OSError."""
    loop = asyncio.get_running_loop()
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    target = f"{host}:{origin.port}".encode()
    lines = [b"CONNECT %b HTTP/1.1" % target, b"Host: %b" % target]
    if proxy.authorization is not None:
        lines.append(b"Proxy-Authorization: %b" % proxy.authorization)
    await loop.sock_sendall(connection, b"\r\n".join(lines) + b"\r\n\r\n")
    head = b""
    while b"\r\n\r\n" not in head:
        if len(head) > TUNNEL_HEAD_BYTES_MAX:
            raise TunnelRefused("its answer is too long")
        part = await loop.sock_recv(connection, _READ_BYTES)
        if not part:
            raise TunnelRefused("it closed the connection without an answer")
        head += part
    _check(head)


def _check(head: bytes) -> None:
    status = _STATUS.match(head)
    if status is None:
        raise TunnelRefused("it did not answer in HTTP")
    code = int(status[1])
    if code == _CREDENTIALS_WANTED:
        raise TunnelRefused(
            "it wants a user name and password, or others (407): see `tallygate: upstream_proxy`"
        )
    if not 200 <= code < 300:  # noqa: PLR2004 - RFC 9110 section 9.3.6: any 2xx is a tunnel
        raise TunnelRefused(f"it answered {code}")
    if not head.endswith(b"\r\n\r\n"):
        # The deployment speaks only when it is asked: these bytes are the proxy's own.
        raise TunnelRefused("it sent more than its answer")
