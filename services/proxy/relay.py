"""Transports that stand between an exchange and the pool, for answers that need more than passing.

They change what an exchange sees of an answer: a header is added, a batch's `results_url` leads
through the gateway, results come no faster than they can be booked.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable

from schemas.errors import UpstreamUnreachable
from services.proxy.headers import RawHeaders, header_values
from services.proxy.upstream import Transport, UpstreamBroke, UpstreamRequest, UpstreamResponse

__all__ = ["PACED_BYTES_MAX", "REWRITTEN_BYTES_MAX", "Relay", "with_own_results_url"]

REWRITTEN_BYTES_MAX = 16 * 1024 * 1024
"""An answer about batches that is longer is refused: a page of 1,000 batches has under 1 MiB."""
PACED_BYTES_MAX = 32 * 1024
"""An answer that is paced is handed on in pieces of at most so much: others are served between."""

_RESULTS_URL = re.compile(
    rb'("results_url"[ \t\n\r]*:[ \t\n\r]*")https?://[^"\\]*?(/v1/messages/batches/[^"\\/]+/results")'
)


def with_own_results_url(body: bytes) -> bytes:
    """Return an answer about batches in which each `results_url` is a path of this gateway.

    Programs follow it (Anthropic's SDKs do, relative ones too): as it came it would lead past the
    gateway, with the gateway's key. A quote within a JSON string is escaped, so no other text can
    look like this key.
    """
    return _RESULTS_URL.sub(rb"\1\2", body)


class Relay:
    """A transport for one request. Implements Transport.

    `added` headers are laid on the answer. With `rewrite` an answer of status 200 is read whole and
    passed through it. `pace` is awaited after each piece of the answer.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        added: RawHeaders,
        rewrite: Callable[[bytes], bytes] | None = None,
        pace: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._transport = transport
        self._added = added
        self._rewrite = rewrite
        self._pace = pace

    async def handle_async_request(self, request: UpstreamRequest) -> UpstreamResponse:
        """Send a request; see Transport."""
        response = await self._transport.handle_async_request(request)
        if self._rewrite is not None and response.status == 200:  # noqa: PLR2004
            if set(header_values(response.headers, b"content-encoding")) - {b"identity"}:
                await response.aclose()
                raise UpstreamUnreachable(
                    "The deployment packed an answer that was asked for as it is",
                    kind="upstream_garbage",
                    was_sent=True,
                )
            return await self._rewritten(response, self._rewrite)
        return _Paced(response, [*response.headers, *self._added], self._pace)

    async def _rewritten(
        self, response: UpstreamResponse, rewrite: Callable[[bytes], bytes]
    ) -> UpstreamResponse:
        # A connection that is given back forgets its answer.
        status = response.status
        headers = [each for each in response.headers if each[0] not in _FRAMING]
        parts: list[bytes] = []
        size = 0
        try:
            async for chunk, _ in response.chunks():
                size += len(chunk)
                if size > REWRITTEN_BYTES_MAX:
                    raise UpstreamUnreachable(
                        f"The deployment's answer is longer than {REWRITTEN_BYTES_MAX} bytes",
                        kind="upstream_garbage",
                        was_sent=True,
                    )
                parts.append(chunk)
        except UpstreamBroke as broke:
            raise UpstreamUnreachable(
                f"The answer broke off: {broke.reason}", kind=broke.kind, was_sent=True
            ) from None
        finally:
            await response.aclose()
        body = rewrite(b"".join(parts))
        headers.append((b"content-length", b"%d" % len(body)))
        return _Whole(status, [*headers, *self._added], body)

    async def aclose(self) -> None:
        """Do nothing: the connections are another's."""


_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


class _Paced:
    """An answer that is read no faster than `pace` allows."""

    def __init__(
        self,
        response: UpstreamResponse,
        headers: RawHeaders,
        pace: Callable[[], Awaitable[None]] | None,
    ) -> None:
        self._response = response
        self._pace = pace
        self.status = response.status
        self.headers = headers

    async def chunks(self) -> AsyncIterator[tuple[bytes, bool]]:
        """Yield what comes; see UpstreamResponse."""
        async for chunk, is_last in self._response.chunks():
            if self._pace is None:
                yield chunk, is_last
                continue
            for start in range(0, max(1, len(chunk)), PACED_BYTES_MAX):
                piece = chunk[start : start + PACED_BYTES_MAX]
                yield piece, is_last and start + len(piece) == len(chunk)
                await self._pace()

    async def aclose(self) -> None:
        """Give the connection back."""
        await self._response.aclose()


class _Whole:
    """An answer that is there already."""

    def __init__(self, status: int, headers: RawHeaders, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self._body = body

    async def chunks(self) -> AsyncIterator[tuple[bytes, bool]]:
        """Yield all of it."""
        yield self._body, True

    async def aclose(self) -> None:
        """Do nothing: the connection was given back."""
