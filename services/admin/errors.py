"""The one error shape of the management API, whatever went wrong and wherever.

`{"type":"error","error":{"type","message","param","code"},"request_id"}`: readers of Anthropic's
shape find `error.type` and `error.message`, scripts for LiteLLM find `error.code` and
`error.param` too.
"""

import logging
import secrets
import time
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.routes import HTTPRoute

from schemas.errors import ApiError
from services.admin.litellm_routes import refusal_of_path

__all__ = ["JSON", "AdminErrorBody", "answer_error", "new_request_id", "render_error"]

log = logging.getLogger(__name__)

JSON = "application/json"
_SERVER_ERROR = 500

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    412: "precondition_error",
    413: "request_too_large",
    415: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}


class AdminErrorDetail(msgspec.Struct, frozen=True, kw_only=True):
    """`param` is the field that is wrong, `code` the status as text (LiteLLM's habit)."""

    type: str
    message: str
    param: str | None
    code: str


class AdminErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """The error shape of every management route."""

    type: str
    error: AdminErrorDetail
    request_id: str


def new_request_id() -> str:
    """Return an id for one management request: `tg_` and 32 hex digits, ordered by time."""
    return f"tg_{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def render_error(
    status: int, error_type: str, message: str, param: str | None, request_id: str
) -> bytes:
    """Return an error's JSON bytes."""
    detail = AdminErrorDetail(type=error_type, message=message, param=param, code=str(status))
    return msgspec.json.encode(AdminErrorBody(type="error", error=detail, request_id=request_id))


def answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Return the answer for an exception: ours, Litestar's, or a fault that nobody foresaw."""
    request_id = request.scope.get("state", {}).get("request_id") or new_request_id()
    param: str | None = None
    headers: dict[str, str] = {}
    if isinstance(error, ApiError):
        status, error_type, message = error.http_status, error.error_type, error.message
        param, headers = error.param, error.headers
    elif isinstance(error, HTTPException) and error.status_code < _SERVER_ERROR:
        status = error.status_code
        error_type = _TYPES.get(status, "invalid_request_error")
        message = _litestar_message(request, error)
        headers = dict(error.headers or {}) | _allow(request, status)
    else:
        # The route's own path: what stands in the request's may be a key.
        route = request.scope.get("path_template", "")
        log.error(
            "a management request ended by a fault",
            exc_info=error,
            extra={"request_id": request_id, "route": route},
        )
        status, error_type = _SERVER_ERROR, "api_error"
        message = f"tallygate met a fault of its own; its log says more under {request_id}"
    return Response(
        content=render_error(status, error_type, message, param, request_id),
        status_code=status,
        media_type=JSON,
        headers=headers,
    )


def _allow(request: Request[Any, Any, Any], status: int) -> dict[str, str]:
    """Return the header that a 405 must carry: the methods that the route has (RFC 9110)."""
    if status != 405:  # noqa: PLR2004
        return {}
    path = "/" + request.scope["path"].strip("/")
    for route in request.app.routes:
        if route.path == path and isinstance(route, HTTPRoute):
            return {"allow": ", ".join(sorted(route.methods))}
    return {}


def _litestar_message(request: Request[Any, Any, Any], error: HTTPException) -> str:
    """Return what a framework's error means, in words that help."""
    method = request.scope["method"]
    if error.status_code == 404:  # noqa: PLR2004
        known = refusal_of_path("/" + request.scope["path"].strip("/"))
        return known or f"there is no such route for {method}; GET /docs lists them all"
    if error.status_code == 405:  # noqa: PLR2004
        return f"{method} is not a method of this route; GET /docs says which is"
    if error.status_code == 413:  # noqa: PLR2004
        return "the body is larger than the management API takes"
    return error.detail
