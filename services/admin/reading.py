"""Reading requests: bodies and queries into their types, with errors that name the field."""

import asyncio
import re
from difflib import get_close_matches
from typing import Any, TypeVar

import msgspec
from litestar import Request, Response

from schemas.errors import ApiError, BadRequest
from services.admin.errors import JSON
from services.admin.fields import refuse_unknown_fields

__all__ = ["BODY_BYTES_MAX", "BODY_TIMEOUT_S", "answer_json", "read_body", "read_query"]

BODY_BYTES_MAX = 1024 * 1024
"""A management request's body is at most so long, else 413."""
BODY_TIMEOUT_S = 30.0
"""A body that takes longer to arrive is not waited for: 408."""
QUERY_PARAMETERS_MAX = 50

Body = TypeVar("Body", bound=msgspec.Struct)

_MISSING = re.compile(r"missing required field `(\w+)`$")
_PATH = re.compile(r" - at `\$\.?([A-Za-z_]*)")
_encoder = msgspec.json.Encoder(decimal_format="number")


class BodyTimeout(ApiError):
    """408: the body did not arrive in time."""

    http_status = 408
    error_type = "timeout_error"


class UnsupportedMediaType(ApiError):
    """415: the body is not JSON."""

    http_status = 415
    error_type = "invalid_request_error"


async def read_body(
    request: Request[Any, Any, Any],
    body_type: type[Body],
    without_meaning: dict[str, str] | None = None,
) -> Body:
    """Return the request's JSON body as `body_type`.

    Numbers become Decimal without a float in between. Raises BadRequest with the wrong field as
    its `param`, UnsupportedMediaType, or BodyTimeout; the framework itself answers 413.
    """
    content_type = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if content_type != JSON and not content_type.endswith("+json"):
        raise UnsupportedMediaType('send the body as JSON with "Content-Type: application/json"')
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            payload = await request.body()
    except TimeoutError:
        raise BodyTimeout(f"the body did not arrive within {BODY_TIMEOUT_S:g} s") from None
    return decode_body(payload or b"{}", body_type, without_meaning or {})


def decode_body(payload: bytes, body_type: type[Body], without_meaning: dict[str, str]) -> Body:
    """Return JSON bytes as `body_type`. Raises BadRequest."""
    try:
        given = msgspec.json.decode(payload, type=dict[str, msgspec.Raw])
        refuse_unknown_fields(given, _names(body_type), without_meaning)
        return msgspec.json.decode(payload, type=body_type)
    except msgspec.ValidationError as error:
        raise _wrong_field(error, body_type) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from None


def read_query(request: Request[Any, Any, Any], query_type: type[Body]) -> Body:
    """Return the query parameters as `query_type`. Raises BadRequest, which names the parameter."""
    known = _names(query_type)
    given: dict[str, str] = {}
    pairs = list(request.query_params.multi_items())
    if len(pairs) > QUERY_PARAMETERS_MAX:
        raise BadRequest(f"more than {QUERY_PARAMETERS_MAX} query parameters")
    for name, value in pairs:
        if name not in known:
            near = get_close_matches(name[:64], known, n=1)
            advice = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
            shown = name if name.isprintable() and len(name) <= 64 else "one parameter"  # noqa: PLR2004
            raise BadRequest(f"{shown} is not a known query parameter; {advice}", param=shown)
        if name in given:
            raise BadRequest(f"{name} must be given once", param=name)
        if value:
            given[name] = value
    try:
        return msgspec.convert(given, type=query_type, strict=False)
    except msgspec.ValidationError as error:
        raise _wrong_field(error, query_type) from None


def answer_json(
    value: Any, *, status: int = 200, headers: dict[str, str] | None = None
) -> Response[bytes]:
    """Return a JSON answer. Decimals are written as JSON numbers, digit by digit."""
    return Response(
        content=_encoder.encode(value), status_code=status, media_type=JSON, headers=headers or {}
    )


def _names(struct: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(struct.__struct_encode_fields__)


def _wrong_field(error: msgspec.ValidationError, struct: type[msgspec.Struct]) -> BadRequest:
    """Return msgspec's verdict as ours: what was expected, and in which field."""
    text = str(error)
    missing = _MISSING.search(text)
    if missing is not None:
        return BadRequest(f"{missing[1]} is needed", param=missing[1])
    found = _PATH.search(text)
    if found is None or not found[1]:
        return BadRequest(text)
    choices = _choices(struct, found[1])
    verdict = text.partition(" - at ")[0]
    if choices:
        verdict = f"must be one of {', '.join(choices)}"
    elif "matching regex" in verdict:
        # The one pattern that the bodies use.
        verdict = "must hold no control characters"
    return BadRequest(f"{found[1]}: {verdict}", param=found[1])


def _choices(struct: type[msgspec.Struct], name: str) -> list[str]:
    """Return the values that a field may have, where they are few and named."""
    info = msgspec.inspect.type_info(struct)
    assert isinstance(info, msgspec.inspect.StructType)
    wanted = next((field.type for field in info.fields if field.encode_name == name), None)
    parts = wanted.types if isinstance(wanted, msgspec.inspect.UnionType) else (wanted,)
    for part in parts:
        if isinstance(part, msgspec.inspect.LiteralType):
            return [str(value) for value in part.values]
    return []
