"""The errors that tallygate itself answers, and their wire form.

TallygateError
├── ConfigError            the configuration is wrong: names what, where and what to do
└── ApiError               an answer in Anthropic's error shape
    ├── BadRequest         400 invalid_request_error
    ├── Unauthenticated    401 authentication_error
    ├── Forbidden          403 permission_error
    ├── NotFound           404 not_found_error
    ├── Conflict           409 conflict_error
    ├── BodyTooLarge       413 request_too_large
    ├── BudgetSpent        429 billing_error
    ├── RateLimited        429 rate_limit_error
    ├── HeadersTooLarge    431 invalid_request_error
    ├── InternalError      500 api_error
    ├── Unavailable        503 overloaded_error
    └── UpstreamError      a deployment gave no answer
        ├── UpstreamUnreachable 502 api_error
        └── UpstreamTimeout     504 timeout_error

The statuses are those with which Claude Code shows the message and does not retry in vain
(measured with the real client: docs/claude-code.md).
"""

import msgspec

__all__ = [
    "ApiError",
    "BadRequest",
    "BodyTooLarge",
    "BudgetSpent",
    "ConfigError",
    "Conflict",
    "Forbidden",
    "HeadersTooLarge",
    "InternalError",
    "NotFound",
    "RateLimited",
    "TallygateError",
    "Unauthenticated",
    "Unavailable",
    "UpstreamError",
    "UpstreamTimeout",
    "UpstreamUnreachable",
    "error_body",
]


class TallygateError(Exception):
    """The root of all errors that tallygate raises by intent."""


class ConfigError(TallygateError):
    """The configuration cannot be used; the message says what, where and what to do."""


class ErrorDetail(msgspec.Struct, frozen=True):
    """The inner object of Anthropic's error shape."""

    type: str
    message: str


class ErrorBody(msgspec.Struct, frozen=True):
    """Anthropic's error shape: `{"type":"error","error":{"type","message"},"request_id"}`."""

    type: str
    error: ErrorDetail
    request_id: str | None = None


def error_body(error_type: str, message: str, request_id: str | None) -> bytes:
    """Return an error as JSON bytes in Anthropic's shape."""
    return msgspec.json.encode(
        ErrorBody(type="error", error=ErrorDetail(error_type, message), request_id=request_id)
    )


class ApiError(TallygateError):
    """An answer in Anthropic's error shape, with the response headers that steer the client.

    `param` names the field of the request that is wrong, where one is (the management API says it).
    """

    http_status = 500
    error_type = "api_error"

    def __init__(
        self, message: str, headers: dict[str, str] | None = None, *, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.headers = headers or {}
        self.param = param

    def body(self, request_id: str | None = None) -> bytes:
        """Return the answer's JSON bytes."""
        return error_body(self.error_type, self.message, request_id)


class BadRequest(ApiError):
    """400: the request cannot be understood."""

    http_status = 400
    error_type = "invalid_request_error"


class Unauthenticated(ApiError):
    """401: no credential, or one that is not known. Carries `x-should-retry: false`."""

    http_status = 401
    error_type = "authentication_error"

    def __init__(self, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message, {"x-should-retry": "false", **(headers or {})})


class Forbidden(ApiError):
    """403: the key is known and may not do this."""

    http_status = 403
    error_type = "permission_error"


class NotFound(ApiError):
    """404: no such model, route or record."""

    http_status = 404
    error_type = "not_found_error"


class Conflict(ApiError):
    """409: somebody else changed the record first, or the name is taken."""

    http_status = 409
    error_type = "conflict_error"


class BodyTooLarge(ApiError):
    """413: the body is larger than the limit."""

    http_status = 413
    error_type = "request_too_large"


class BudgetSpent(ApiError):
    """429 billing_error, in the form that makes Claude Code show the message verbatim, once."""

    http_status = 429
    error_type = "billing_error"


class RateLimited(ApiError):
    """429: too many requests."""

    http_status = 429
    error_type = "rate_limit_error"


class HeadersTooLarge(ApiError):
    """431: too many headers, or too long ones (RFC 6585 §5).

    Not 400: Claude Code takes that for a missing feature and asks six times (measured).
    """

    http_status = 431
    error_type = "invalid_request_error"


class InternalError(ApiError):
    """500: a fault of the gateway itself."""


class Unavailable(ApiError):
    """503: the gateway cannot serve this now."""

    http_status = 503
    error_type = "overloaded_error"


class UpstreamError(ApiError):
    """A deployment gave no answer.

    `kind` is what the ledger calls it (`error_type` of the record; services.proxy.upstream has
    the list). `was_sent` tells whether any byte of the request may have reached the deployment:
    then a repetition may be billed a second time.
    """

    http_status = 502

    def __init__(self, message: str, *, kind: str, was_sent: bool = False) -> None:
        super().__init__(message)
        self.kind = kind
        self.was_sent = was_sent


class UpstreamUnreachable(UpstreamError):
    """502: the deployment could not be reached, or broke off before its answer."""


class UpstreamTimeout(UpstreamError):
    """504: the deployment did not answer in time."""

    http_status = 504
    error_type = "timeout_error"
