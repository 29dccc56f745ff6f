"""Opens connections to deployments, step by step, and says which step failed.

The steps: the name (upstream_dns), the connection (upstream_connect, upstream_connect_timeout),
the tunnel through a proxy (upstream_proxy), TLS (upstream_tls). A time-out is named after the step
that it met; all of them together have `connect_timeout_s`.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Literal

import msgspec

from schemas.errors import UpstreamTimeout, UpstreamUnreachable
from services.proxy.connection import Connection
from services.proxy.dial import dial, resolve
from services.proxy.tls import tls_context
from services.proxy.tunnel import ProxyAddress, TunnelRefused, open_tunnel
from services.proxy.upstream import FaultKind, Origin

__all__ = ["ConnectSettings", "Connector"]


class ConnectSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How connections are made; a connection that was made under others is not used again."""

    timeout_s: float
    ca_file: str | None = None
    proxy_url: str | None = None

    def __repr__(self) -> str:
        # The URL of the proxy may hold a password.
        return f"ConnectSettings(timeout_s={self.timeout_s!r}, ca_file={self.ca_file!r})"


class _Progress:
    """Which step is under way, for the error that it may end in."""

    def __init__(self, origin: Origin, proxy: ProxyAddress | None) -> None:
        self.origin = origin
        self.proxy = proxy
        self.step: Literal["name", "connect", "tunnel", "tls"] = "name"

    @property
    def whom(self) -> str:
        """Whose name is looked up and whose port is asked."""
        return f"the proxy {self.proxy.host}" if self.proxy else self.origin.authority

    @property
    def kind(self) -> FaultKind:
        """What the ledger calls a failure of this step."""
        if self.step == "tls":
            return "upstream_tls"
        if self.proxy is not None:
            return "upstream_proxy"
        return "upstream_dns" if self.step == "name" else "upstream_connect"


class Connector:
    """Makes new connections. The settings of TLS are read when they are first needed."""

    def __init__(self, settings: ConnectSettings, tls: ssl.SSLContext | None = None) -> None:
        self.settings = settings
        self._proxy = ProxyAddress.from_url(settings.proxy_url) if settings.proxy_url else None
        self._tls = tls

    async def open(self, origin: Origin, make: Callable[[], Connection]) -> Connection:
        """Return a new connection to an origin. Raises UpstreamUnreachable or UpstreamTimeout."""
        progress = _Progress(origin, self._proxy)
        try:
            async with asyncio.timeout(self.settings.timeout_s):
                return await self._open(origin, make, progress)
        except TimeoutError:
            raise _too_late(progress, self.settings.timeout_s) from None
        except TunnelRefused as refused:
            message = f"No way to {origin.authority} through {progress.whom}: {refused}"
            raise UpstreamUnreachable(message, kind=progress.kind) from None
        except OSError as error:
            raise _unreachable(error, progress) from None

    async def _open(
        self, origin: Origin, make: Callable[[], Connection], progress: _Progress
    ) -> Connection:
        peer = self._proxy or origin
        addresses = await resolve(peer.host, peer.port)
        progress.step = "connect"
        raw = await dial(addresses)
        try:
            if self._proxy is not None:
                progress.step = "tunnel"
                await open_tunnel(raw, self._proxy, origin)
            tls = None
            if origin.scheme == "https":
                progress.step = "tls"
                tls = await self._tls_settings()
            _, connection = await asyncio.get_running_loop().create_connection(
                make, sock=raw, ssl=tls, server_hostname=origin.host if tls else None
            )
        except BaseException:
            raw.close()
            raise
        connection.raw_socket = raw
        return connection

    async def _tls_settings(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = await asyncio.to_thread(tls_context, self.settings.ca_file)
        return self._tls


def _too_late(progress: _Progress, timeout_s: float) -> UpstreamTimeout:
    host, kind = progress.origin.authority, progress.kind
    if progress.step == "name":
        what = f"Looking up {progress.whom} took"
    elif progress.step == "connect":
        what = f"Connecting to {progress.whom} took"
        if kind == "upstream_connect":
            kind = "upstream_connect_timeout"
    elif progress.step == "tunnel":
        what = f"The way to {host} through {progress.whom} took"
    else:
        what = f"Agreeing on TLS with {host} took"
    return UpstreamTimeout(f"{what} longer than {timeout_s:g} s", kind=kind)


def _unreachable(error: OSError, progress: _Progress) -> UpstreamUnreachable:
    host = progress.origin.authority
    if progress.step == "name":
        message = f"The name of {progress.whom} has no address: {error.strerror or error}"
    elif isinstance(error, ssl.SSLCertVerificationError):
        message = f"The certificate of {host} cannot be trusted: {error.verify_message}"
    elif progress.step == "tls":
        reason = getattr(error, "reason", None) or error.strerror or "it closed the connection"
        message = f"No TLS connection to {host}: {reason}"
    elif progress.step == "tunnel":
        message = f"No way to {host} through {progress.whom}: {error.strerror or error}"
    else:
        message = f"No connection to {progress.whom}: {error.strerror or error}"
    return UpstreamUnreachable(message, kind=progress.kind)
