"""What the proxy reads of a request body, and the one change that it makes to it.

The body goes upstream as the bytes that came, but for the model name where an alias stands for
another name. That name is found by parsing, at the top level of the object only: the word "model"
inside a message is never touched.
"""

import re

import msgspec

from schemas.errors import BadRequest

__all__ = ["RequestBody", "read_body", "session_id_of", "with_model"]

_FIRST_KEY = re.compile(rb'\s*\{\s*"model"\s*:\s*("[^"\\]*+(?:\\.[^"\\]*+)*+")')
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}:,]')
_OPENING = (b"{", b"[")
_CLOSING = (b"}", b"]")


class RequestBody(msgspec.Struct):
    """The fields of a Messages request that the gateway looks at; all others are passed over.

    Only the model must have its type: what else is wrong with a request, the API says best.
    """

    model: str
    stream: object = False
    metadata: msgspec.Raw = msgspec.Raw(b"null")


class _Metadata(msgspec.Struct):
    user_id: str


class _UserId(msgspec.Struct):
    session_id: str


_decoder = msgspec.json.Decoder(RequestBody)
_metadata_decoder = msgspec.json.Decoder(_Metadata)
_user_id_decoder = msgspec.json.Decoder(_UserId)


def read_body(body: bytes) -> RequestBody:
    """Return the fields that the gateway needs. Raises BadRequest where they cannot be read."""
    try:
        read = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise BadRequest(f"The request body is not a Messages request: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"The request body is not valid JSON: {error}") from None
    except RecursionError:
        raise BadRequest("The request body is nested too deeply") from None
    if not read.model or len(read.model) > 256:  # noqa: PLR2004 - no model name is longer
        raise BadRequest("model: a model name of 1 to 256 characters is required")
    return read


def session_id_of(read: RequestBody) -> str | None:
    """Return the Claude Code session named in `metadata.user_id` (a string that holds JSON)."""
    try:
        return _user_id_decoder.decode(_metadata_decoder.decode(read.metadata).user_id).session_id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def with_model(body: bytes, read: RequestBody, model: str) -> bytes:
    """Return the body with its top-level `model` set to `model`, every other byte unchanged.

    Raises BadRequest where the object has several `model` keys: programs differ in which one
    counts, so what was checked might not be what is billed.
    """
    if model == read.model:
        return body
    start, end = _model_span(body, read.model)
    return body[:start] + msgspec.json.encode(model) + body[end:]


def _model_span(body: bytes, value: str) -> tuple[int, int]:
    """Return where the value of the top-level `model` stands, quotes included."""
    first = _FIRST_KEY.match(body)
    # Claude Code sends the model first; then nothing else needs to be looked at.
    if first is not None and body.count(b'"model"') == 1 and msgspec.json.decode(first[1]) == value:
        return first.span(1)
    spans = _top_level_spans(body)
    if len(spans) != 1:
        raise BadRequest("model: the request body must have this key once")
    return spans[0]


def _top_level_spans(body: bytes) -> list[tuple[int, int]]:
    """Walk over the tokens of a valid JSON object; return the values of its `model` keys."""
    spans: list[tuple[int, int]] = []
    depth = 0
    key: bytes | None = None
    after_colon = False
    for token in _TOKEN.finditer(body):
        text = token[0]
        if text in _OPENING:
            depth += 1
            after_colon = False
        elif text in _CLOSING:
            depth -= 1
        elif depth == 1:
            if text == b":":
                after_colon = True
            elif text == b",":
                key, after_colon = None, False
            elif after_colon:
                if key is not None and msgspec.json.decode(key) == "model":
                    spans.append(token.span())
                after_colon = False
            else:
                key = text
    return spans
