"""Answers that the proxy gives by itself, in the raw form of ASGI."""

from collections.abc import Awaitable, Callable
from typing import Any

from schemas.errors import ApiError
from services.proxy.headers import RawHeaders

__all__ = ["Receive", "Scope", "Send", "send_bytes", "send_error"]

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def send_bytes(
    send: Send,
    status: int,
    body: bytes,
    *,
    content_type: bytes = b"application/json",
    headers: RawHeaders | None = None,
) -> None:
    """Send a whole answer."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", content_type),
                (b"content-length", b"%d" % len(body)),
                *(headers or ()),
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def send_error(send: Send, error: ApiError, request_id: str) -> None:
    """Send an error in Anthropic's shape, under the gateway's own request id."""
    headers = [(name.encode(), value.encode("latin-1")) for name, value in error.headers.items()]
    headers.append((b"request-id", request_id.encode()))
    headers.append((b"x-tallygate-request-id", request_id.encode()))
    await send_bytes(send, error.http_status, error.body(request_id), headers=headers)
