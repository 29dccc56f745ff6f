"""The dashboard as a client of the management API, inside the process.

What a page changes goes through the API's own route with the viewer's own rights: one set of rules,
one set of messages. The caller travels in the request's state, where no client can put anything.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec
from litestar import Request
from litestar.types import Message

from services.admin.errors import JSON
from services.admin.state import PROVED_CALLER
from services.admin.ui.access import address_of_client, viewer_of

__all__ = ["Answer", "ApiRefusal", "call_api"]

_OK = 300
_encoder = msgspec.json.Encoder(decimal_format="number")


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a route of the API answered: its status, its headers and its body as JSON."""

    status: int
    headers: dict[str, str]
    body: Any


class ApiRefusal(Exception):
    """The API refused: `message` says why, `field` which field is wrong (None: no single one)."""

    def __init__(self, status: int, message: str, field: str | None) -> None:
        super().__init__(message)
        self.status, self.message, self.field = status, message, field


async def call_api(
    request: Request[Any, Any, Any],
    method: str,
    path: str,
    *,
    body: Mapping[str, Any] | None = None,
    query: Mapping[str, Any] | None = None,
    if_match: str = "",
) -> Answer:
    """Ask a route of the API as the viewer of this request. Raises ApiRefusal.

    With `if_match`, an ETag, a change is refused where there was another since.
    """
    payload = b"" if body is None else _encoder.encode(body)
    given = {"host": "tallygate", "content-length": str(len(payload))}
    if if_match:
        given["if-match"] = if_match
    if body is not None:
        given["content-type"] = JSON
    state: dict[str, Any] = {
        "request_id": request.scope.get("state", {}).get("request_id", ""),
        PROVED_CALLER: viewer_of(request).caller,
    }
    scope: Any = {
        **{name: request.scope[name] for name in ("type", "asgi", "http_version", "scheme")},
        "server": request.scope.get("server"),
        "client": (address_of_client(request.app.state.admin, request), 0),
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": urlencode(
            {name: value for name, value in (query or {}).items() if value not in (None, "")}
        ).encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
        "state": state,
        "extensions": {},
    }
    return await _exchange(request, scope, payload)


async def _exchange(request: Request[Any, Any, Any], scope: Any, payload: bytes) -> Answer:
    started: dict[str, Any] = {}
    chunks: list[bytes] = []
    messages = [{"type": "http.request", "body": payload, "more_body": False}]

    async def receive() -> Any:
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            started.update(message)
        else:
            chunks.append(message.get("body", b""))  # type: ignore[arg-type]

    await request.app(scope, receive, send)
    content = b"".join(chunks)
    headers = {name.decode(): value.decode("latin-1") for name, value in started["headers"]}
    is_json = headers.get("content-type", "").startswith(JSON)
    answer = Answer(
        status=started["status"],
        headers=headers,
        body=msgspec.json.decode(content) if is_json and content else None,
    )
    if answer.status < _OK:
        return answer
    error = (answer.body or {}).get("error", {})
    raise ApiRefusal(answer.status, error.get("message", "the API refused"), error.get("param"))
