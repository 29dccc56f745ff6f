"""Management paths: passed to the admin service as they are, so that one port serves all.

This is not the hot path: it uses httpx.
"""

import asyncio
import logging
from collections.abc import Callable

import httpx

from schemas.client_address import CLIENT_HEADER, PROOF_HEADER, address_headers
from schemas.errors import ApiError, BadRequest, BodyTooLarge, Unavailable
from services.proxy.admission import BodyTooSlow, ClientGone
from services.proxy.answers import Receive, Scope, Send, send_error
from services.proxy.draft import new_request_id, now_us

__all__ = ["Management"]

log = logging.getLogger(__name__)

BODY_BYTES_MAX = 4 * 1024 * 1024
CONNECTIONS_MAX = 64
CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 60.0
BODY_TIMEOUT_S = 60.0
"""A request's body must be there within this."""
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"content-length",
    }
)


class Management:
    """Passes requests to the admin service, body and answer whole and bounded."""

    def __init__(self, admin_url: str | None, master_key_hash: Callable[[], str]) -> None:
        """`master_key_hash()` is that of the master key in force, which proves who passes on."""
        self._master_key_hash = master_key_hash
        self._client = (
            httpx.AsyncClient(
                base_url=admin_url,
                timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
                limits=httpx.Limits(max_connections=CONNECTIONS_MAX),
                follow_redirects=False,
                trust_env=False,
            )
            if admin_url is not None
            else None
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        try:
            response = await self._ask(scope, receive)
        except ApiError as error:
            await send_error(send, error, new_request_id(now_us()))
            return
        except ClientGone:
            return
        headers = [
            (name.lower(), value)
            for name, value in response.headers.raw
            # httpx has unpacked the body.
            if name.lower() not in _HOP_BY_HOP and name.lower() != b"content-encoding"
        ]
        content = await response.aread()
        headers.append((b"content-length", b"%d" % len(content)))
        await send(
            {"type": "http.response.start", "status": response.status_code, "headers": headers}
        )
        # An answer to HEAD has a length and no body.
        body = b"" if scope["method"] == "HEAD" else content
        await send({"type": "http.response.body", "body": body})

    async def _ask(self, scope: Scope, receive: Receive) -> httpx.Response:
        path: bytes = scope["raw_path"].split(b"?", 1)[0]
        if self._client is None:
            raise Unavailable(
                "This proxy knows no admin service: "
                "set tallygate: admin_url (or TALLYGATE_ADMIN_URL)"
            )
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await _whole_body(receive)
        except TimeoutError:
            raise BodyTooSlow(
                f"The request body did not arrive within {BODY_TIMEOUT_S:g} s",
                {"connection": "close"},
            ) from None
        query: bytes = scope["query_string"]
        target = path + b"?" + query if query else path
        # The parser leaves white space around a value, which httpx would refuse to send.
        headers = [
            (name, value.strip(b" \t"))
            for name, value in scope["headers"]
            if name not in _HOP_BY_HOP and name not in (CLIENT_HEADER, PROOF_HEADER)
        ]
        client = scope.get("client")
        if client:
            headers += address_headers(client[0], self._master_key_hash())
        request = self._client.build_request(
            scope["method"],
            self._client.base_url.copy_with(raw_path=target),
            headers=headers,
            content=body or None,
        )
        try:
            return await self._client.send(request)
        except httpx.LocalProtocolError:
            raise BadRequest("A header of the request holds characters that HTTP forbids") from None
        except httpx.HTTPError as error:
            log.warning("the admin service does not answer: %s", type(error).__name__)
            raise Unavailable(
                "The admin service does not answer at the moment. Try again shortly",
                {"retry-after": "1"},
            ) from None

    async def aclose(self) -> None:
        """Close the connections to the admin service."""
        if self._client is not None:
            await self._client.aclose()


async def _whole_body(receive: Receive) -> bytes:
    chunks = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            # A part of a command is no command: nothing is passed on.
            raise ClientGone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > BODY_BYTES_MAX:
            raise BodyTooLarge(f"The request body is larger than {BODY_BYTES_MAX} bytes")
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)
