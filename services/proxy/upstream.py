"""The seam to the deployments: what the proxy needs of an HTTP client.

Its shape follows httpx's transport interface (`handle_async_request` gives a response whose body
is an asynchronous iterator that must be closed), so that another transport can take its place.
services.proxy.pool is the one in use: our own, because stock httpx costs ten times what all the
rest of the proxy costs (docs/performance.md).

Nothing is ever sent twice here: a POST that met a broken connection may have been billed
(services.proxy.attempts decides whether another deployment is asked). Redirects are not followed,
no proxy is taken from the environment, the destination comes from the configuration alone.
docs/faults.md lists what a deployment can do and what becomes of it.
"""

from collections.abc import AsyncIterator
from typing import Literal, Protocol, TypeAlias
from urllib.parse import urlsplit

import msgspec

from schemas.errors import ConfigError, Unavailable
from services.proxy.headers import RawHeaders

__all__ = [
    "FaultKind",
    "Origin",
    "PoolFull",
    "Transport",
    "Upload",
    "UpstreamBroke",
    "UpstreamRequest",
    "UpstreamResponse",
]


FaultKind: TypeAlias = Literal[
    "upstream_dns",
    "upstream_connect",
    "upstream_connect_timeout",
    "upstream_tls",
    "upstream_proxy",
    "upstream_pool_full",
    "upstream_timeout",
    "upstream_no_answer",
    "upstream_stale",
    "upstream_garbage",
    "upstream_broke",
    "upstream_silent",
    "redirect",
]
"""What the ledger calls it when a deployment gives no whole answer: docs/usage.md says when."""


class UpstreamBroke(Exception):
    """The answer broke off after its headers. `reason` tells how, without secrets."""

    def __init__(self, reason: str, *, kind: FaultKind = "upstream_broke") -> None:
        super().__init__(reason)
        self.reason = reason
        self.kind = kind


class PoolFull(Unavailable):
    """503: all connections to deployments are in use; nothing was sent."""

    kind: FaultKind = "upstream_pool_full"


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


class Upload(Protocol):
    """A body that is sent on piece by piece as it comes; `length` is None where it names none."""

    length: int | None

    def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes. What it raises ends the request, and is raised from it."""


class UpstreamRequest(msgspec.Struct, frozen=True):
    """One request: target with its query, end-to-end headers (no host, no length), and body.

    With an `upload` the body is empty.
    """

    method: bytes
    origin: Origin
    target: bytes
    headers: RawHeaders
    body: bytes
    head_timeout_s: float
    idle_timeout_s: float
    upload: Upload | None = None


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

        Raises UpstreamUnreachable, UpstreamTimeout or PoolFull, whose `kind` says which step
        failed and, the first two, whose `was_sent` whether a repetition may be billed again.
        """

    async def aclose(self) -> None:
        """Close all connections."""
