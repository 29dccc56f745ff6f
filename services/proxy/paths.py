"""The paths of the Anthropic API that the gateway serves: pure rules over a request's raw path.

A path goes upstream as exactly the bytes that were checked here. So none is taken that two programs
could read in two ways: no percent-encoding, no `//`, no segment of dots, no `;`, no backslash. What
is not served by name may pass where `tallygate: pass_through_paths` lists it (docs/api.md).
"""

import re
from collections.abc import Sequence

import msgspec

from schemas.errors import ApiError, BadRequest, NotFound
from schemas.events import Endpoint
from services.runtime.model_names import matches

__all__ = [
    "API_PATHS",
    "PASS_THROUGH_METHODS",
    "PATH_BYTES_MAX",
    "PREFIX",
    "ApiPath",
    "Found",
    "MethodNotAllowed",
    "find_path",
    "is_api_path",
    "plain_path",
]

PREFIX = b"/anthropic"
"""LiteLLM's prefix for this API: `/anthropic/v1/…` is `/v1/…`."""
_MODEL_INFO = b"/v1/model/info"
"""LiteLLM's second name of a management path."""
PATH_BYTES_MAX = 1024
PASS_THROUGH_METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")
MODELS = "/v1/models"

_SEGMENT = r"(?!\.+(?:/|$))[A-Za-z0-9_.~:@-]+"
_SAFE = re.compile(f"(?:/{_SEGMENT})+")
_ODD = (
    "The path has an empty segment, one of dots, or a character that no path of this API has. "
    "Write it plainly, without percent-encoding"
)


class MethodNotAllowed(ApiError):
    """405: this path takes other methods; `allow` lists them."""

    http_status = 405
    error_type = "invalid_request_error"

    def __init__(self, methods: Sequence[str]) -> None:
        allowed = ", ".join(methods)
        takes = f"{allowed} alone" if len(methods) == 1 else f"these alone: {allowed}"
        super().__init__(f"This path takes {takes}", {"allow": allowed})


class ApiPath(msgspec.Struct, frozen=True):
    """A path that is served: `{id}` stands for one segment.

    Without an endpoint the gateway answers it from memory; else it is forwarded and recorded.
    """

    template: str
    methods: tuple[str, ...]
    endpoint: Endpoint | None


API_PATHS = (
    ApiPath("/v1/messages", ("POST",), "messages"),
    ApiPath("/v1/messages/count_tokens", ("POST",), "count_tokens"),
    ApiPath("/v1/messages/batches", ("GET", "POST"), "batches"),
    ApiPath("/v1/messages/batches/{id}", ("DELETE", "GET"), "batches"),
    ApiPath("/v1/messages/batches/{id}/cancel", ("POST",), "batches"),
    ApiPath("/v1/messages/batches/{id}/results", ("GET",), "batches"),
    ApiPath("/v1/files", ("GET", "POST"), "files"),
    ApiPath("/v1/files/{id}", ("DELETE", "GET"), "files"),
    ApiPath("/v1/files/{id}/content", ("GET",), "files"),
    ApiPath("/v1/models", ("GET", "HEAD"), None),
    ApiPath("/v1/models/{id}", ("GET", "HEAD"), None),
)

_BY_SHAPE = [
    (re.compile(re.escape(each.template).replace(re.escape("{id}"), f"({_SEGMENT})")), each)
    for each in API_PATHS
]


class Found(msgspec.Struct, frozen=True):
    """Where a request is for: its checked path, without the prefix, and the id in it.

    `template` is None for a path that only passes through.
    """

    path: str
    endpoint: Endpoint | None
    template: str | None
    item_id: str | None = None


def is_api_path(raw_path: bytes) -> bool:
    """Tell whether a path is one of the API, served or not: all others are management."""
    if raw_path.split(b"?", 1)[0] == _MODEL_INFO:
        return False
    return raw_path.startswith((b"/v1/", b"/anthropic/")) or raw_path in {b"/v1", PREFIX}


def plain_path(raw_path: bytes) -> str:
    """Return a path without LiteLLM's prefix, as text."""
    path = raw_path.split(b"?", 1)[0]
    if path.startswith(PREFIX + b"/"):
        path = path[len(PREFIX) :]
    return path.decode("latin-1")


def find_path(method: str, raw_path: bytes, pass_through: Sequence[str]) -> Found:
    """Return where a request is for. Raises NotFound, MethodNotAllowed, BadRequest."""
    path = plain_path(raw_path)
    if path.startswith(MODELS + "/"):
        # Answered from memory: whatever the name is, it goes nowhere.
        return _found(method, API_PATHS[-1], path, path[len(MODELS) + 1 :])
    if len(path) > PATH_BYTES_MAX:
        raise BadRequest(f"The path is longer than {PATH_BYTES_MAX} bytes")
    if _SAFE.fullmatch(path) is None:
        raise NotFound(_ODD)
    known = _known(path)
    if known is not None:
        return _found(method, known[0], path, known[1])
    # A server that ignored case would take such a path for the other one, which is metered.
    is_listed = any(matches(pattern, path) is not None for pattern in pass_through)
    if not is_listed or not path.startswith("/v1/") or _known(path.lower()) is not None:
        raise NotFound(
            f"The path {path[:100]} is not served by this gateway. Your administrator can let it "
            "pass, unmetered, under tallygate: pass_through_paths"
        )
    if method not in PASS_THROUGH_METHODS:
        raise MethodNotAllowed(PASS_THROUGH_METHODS)
    return Found(path, "pass_through", None)


def _known(path: str) -> tuple[ApiPath, str | None] | None:
    for shape, api_path in _BY_SHAPE:
        match = shape.fullmatch(path)
        # A fixed path comes before one whose id it could be: /v1/messages/count_tokens.
        if match is not None:
            return api_path, match[1] if match.lastindex else None
    return None


def _found(method: str, api_path: ApiPath, path: str, item_id: str | None) -> Found:
    if method not in api_path.methods:
        raise MethodNotAllowed(api_path.methods)
    return Found(path, api_path.endpoint, api_path.template, item_id)
