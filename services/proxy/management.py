"""Management paths: passed to the admin service as they are, so that one port serves all.

This is not the hot path: it uses httpx.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import httpx

from schemas.client_address import CLIENT_HEADER, PROOF_HEADER, address_headers
from schemas.errors import ApiError, BadRequest, BodyTooLarge, Unavailable
from services.proxy.admission import BodyTooSlow, ClientGone
from services.proxy.answers import Receive, Scope, Send, send_error
from services.proxy.draft import new_request_id, now_us
from services.runtime.tasks import end_tasks

__all__ = ["Management"]

_T = TypeVar("_T")
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
    """Passes requests on: the body whole and bounded, an answer of unknown length as it comes."""

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
        try:
            if "content-length" in response.headers or scope["method"] == "HEAD":
                await _pass_whole(response, scope, send)
            else:
                await _while_there(receive, _pass_on(response, send))
        except ClientGone:
            return
        finally:
            # Before its end this tells the admin service that nobody reads on.
            await response.aclose()

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
        if not any(name == b"accept-encoding" for name, _ in scope["headers"]):
            # httpx would ask for packed answers, which go to the client as they come.
            request.headers["accept-encoding"] = "identity"
        try:
            return await _while_there(receive, self._client.send(request, stream=True))
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


async def _pass_whole(response: httpx.Response, scope: Scope, send: Send) -> None:
    """Send an answer whose length is known, and which is short."""
    content = b"".join([chunk async for chunk in response.aiter_raw()])
    headers = [*_headers_of(response), (b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    # An answer to HEAD has a length and no body.
    body = b"" if scope["method"] == "HEAD" else content
    await send({"type": "http.response.body", "body": body})


async def _pass_on(response: httpx.Response, send: Send) -> None:
    """Send an answer as it comes. Where it breaks off, so does this: by what it raises."""
    headers = _headers_of(response)
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    async for chunk in response.aiter_raw():
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _headers_of(response: httpx.Response) -> list[tuple[bytes, bytes]]:
    return [
        (name.lower(), value)
        for name, value in response.headers.raw
        if name.lower() not in _HOP_BY_HOP
    ]


async def _while_there(receive: Receive, work: Coroutine[Any, Any, _T]) -> _T:
    """Return the result of some work. Raises ClientGone, and cancels it, once the client leaves."""
    task = asyncio.create_task(work)
    leaving = asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        await end_tasks(task, leaving)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


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
