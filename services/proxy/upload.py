"""A file on its way through the gateway: passed on as it comes, never held whole."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from schemas.errors import BodyTooLarge
from services.proxy.admission import BODY_TIMEOUTS_MAX, BodyTooSlow
from services.proxy.answers import Receive
from services.proxy.headers import RawHeaders, header_values

__all__ = ["UPLOAD_BYTES_PER_S_MIN", "ClientUpload"]

UPLOAD_BYTES_PER_S_MIN = 8 * 1024
"""A body that comes slower than this on the whole is given up, after a time that any body has."""


class ClientUpload:
    """The body of a client's request, for services.proxy.upstream.Upload.

    `receive` is what is left for whoever waits for the client to go away: while the body still
    comes it waits with it. Raises BodyTooLarge where the length that the request names is more than
    `bytes_max`.
    """

    def __init__(
        self, headers: RawHeaders, receive: Receive, *, bytes_max: int, silence_s_max: float
    ) -> None:
        self._receive = receive
        self._bytes_max = bytes_max
        self._silence_s_max = silence_s_max
        self._over = asyncio.Event()
        self._is_gone = False
        lengths = header_values(headers, b"content-length")
        self.length = int(lengths[0]) if lengths and lengths[0].isdigit() else None
        if self.length is not None and self.length > bytes_max:
            raise self._too_large()

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"The file is larger than {self._bytes_max} bytes (upload_bytes_max)")

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body. Raises BodyTooLarge, BodyTooSlow.

        Where the client goes away it waits to be cancelled by whoever hears that from `receive`.
        """
        size = 0
        loop = asyncio.get_running_loop()
        latest_s = loop.time() + BODY_TIMEOUTS_MAX * self._silence_s_max
        try:
            while True:
                left_s = latest_s + size / UPLOAD_BYTES_PER_S_MIN - loop.time()
                message = await self._next(min(self._silence_s_max, max(0.0, left_s)))
                if message["type"] == "http.disconnect":
                    self._is_gone = True
                    self._over.set()
                    await asyncio.Event().wait()
                piece = message.get("body", b"")
                size += len(piece)
                if size > self._bytes_max:
                    raise self._too_large()
                yield piece
                if not message.get("more_body", False):
                    return
        finally:
            self._over.set()

    async def _next(self, timeout_s: float) -> dict[str, Any]:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._receive()
        except TimeoutError:
            raise BodyTooSlow(
                f"The request body stood still for {self._silence_s_max:g} s, or was too slow",
                {"connection": "close"},
            ) from None

    async def receive(self) -> dict[str, Any]:
        """Return the next message once the body is over: the client's leaving, in the end."""
        await self._over.wait()
        return {"type": "http.disconnect"} if self._is_gone else await self._receive()
