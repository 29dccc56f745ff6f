"""The seam in both directions: httpx in the place of our pool, and our pool under httpx."""

from collections.abc import AsyncIterator
from typing import Any

import httpx

from schemas.errors import UpstreamTimeout, UpstreamUnreachable
from services.proxy.headers import RawHeaders
from services.proxy.pool import UpstreamPool
from services.proxy.upstream import Origin, UpstreamBroke, UpstreamRequest, UpstreamResponse

__all__ = ["HttpxTransport", "PoolTransport"]


class _HttpxResponse:
    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status = response.status_code
        self.headers: RawHeaders = [(name.lower(), text) for name, text in response.headers.raw]

    async def chunks(self) -> AsyncIterator[tuple[bytes, bool]]:
        stream = self._response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        try:
            async for chunk in stream:
                yield chunk, False
        except httpx.ReadTimeout:
            raise UpstreamBroke("it sent nothing for too long", kind="upstream_silent") from None
        except httpx.HTTPError as error:
            raise UpstreamBroke(type(error).__name__) from None
        yield b"", True

    async def aclose(self) -> None:
        await self._response.aclose()


class HttpxTransport:
    """A Transport on httpx's own, in the place of UpstreamPool."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self._httpx = httpx.AsyncHTTPTransport()

    def configure(self, *_: Any) -> None:
        """Take nothing: httpx's own limits hold."""

    def lacking(self, _: float) -> list[Origin]:
        """Have nothing opened ahead."""
        return []

    async def handle_async_request(self, request: UpstreamRequest) -> UpstreamResponse:
        """Send a request with httpx and return its answer."""
        origin = request.origin
        url = f"{origin.scheme}://{origin.authority}{origin.prefix}{request.target.decode()}"
        sent = httpx.Request(
            request.method.decode(),
            url,
            headers=[(b"host", origin.authority.encode()), *request.headers],
            content=request.body,
            extensions={"timeout": {"read": request.head_timeout_s, "connect": 5, "write": 5}},
        )
        try:
            return _HttpxResponse(await self._httpx.handle_async_request(sent))
        except httpx.TimeoutException:
            raise UpstreamTimeout("too late", kind="upstream_timeout", was_sent=True) from None
        except httpx.ConnectError:
            raise UpstreamUnreachable("not there", kind="upstream_connect") from None
        except httpx.HTTPError:
            raise UpstreamUnreachable("no", kind="upstream_no_answer", was_sent=True) from None

    async def aclose(self) -> None:
        """Close all connections."""
        await self._httpx.aclose()


class _PoolStream(httpx.AsyncByteStream):
    def __init__(self, response: UpstreamResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk, _ in self._response.chunks():
                yield chunk
        except UpstreamBroke as broke:
            raise httpx.RemoteProtocolError(broke.reason) from None

    async def aclose(self) -> None:
        await self._response.aclose()


class PoolTransport(httpx.AsyncBaseTransport):
    """A UpstreamPool as a transport of httpx."""

    def __init__(self, pool: UpstreamPool) -> None:
        self._pool = pool

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        port = url.port or (443 if url.scheme == "https" else 80)
        left_out = {b"host", b"content-length", b"transfer-encoding"}
        headers = [(n.lower(), v) for n, v in request.headers.raw if n.lower() not in left_out]
        times = request.extensions["timeout"]
        try:
            response = await self._pool.handle_async_request(
                UpstreamRequest(
                    method=request.method.encode(),
                    origin=Origin(url.scheme, url.host, port, ""),
                    target=url.raw_path,
                    headers=headers,
                    body=await request.aread(),
                    head_timeout_s=times["read"],
                    idle_timeout_s=times["read"],
                )
            )
        except UpstreamTimeout as error:
            raise httpx.ReadTimeout(error.message) from None
        except UpstreamUnreachable as error:
            raise httpx.ConnectError(error.message) from None
        stream = _PoolStream(response)
        return httpx.Response(response.status, headers=response.headers, stream=stream)

    async def aclose(self) -> None:
        await self._pool.aclose()
