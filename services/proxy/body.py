"""What the proxy reads of a request body, and the one change that it makes to it.

The body goes upstream as the bytes that came, but for the model name where an alias stands for
another name. That name is found by parsing, at the top level of the object only: the word "model"
inside a message is never touched.
"""

import re

import msgspec

from schemas.errors import BadRequest

__all__ = [
    "COUNTED_BYTES_MAX",
    "MODEL_CHARACTERS_MAX",
    "BodyParts",
    "Element",
    "RequestBody",
    "optional_model",
    "read_body",
    "with_model",
]

MODEL_CHARACTERS_MAX = 256
"""No model name is longer."""
COUNTED_BYTES_MAX = 16 * 1024 * 1024
"""Of a longer body no part is told: to count its elements could take eight times as much memory."""
_MODEL_KEYS_MAX = 0x10000
"""A body that spells the key "model" more often than this, at whatever depth, is refused."""

_SPACE = rb"[ \t\n\r]*"
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_FIRST = re.compile(
    _SPACE + rb"\{" + _SPACE + rb'"model"' + _SPACE + b":" + _SPACE + b"(" + _STRING + b")"
    # A comma and a key must follow: then what is left is an object but for its brace.
    + _SPACE + b"," + _SPACE + rb'(?=")'
)  # fmt: skip
_KEY = re.compile(rb'"model"')
_VALUE = re.compile(_SPACE + b":" + _SPACE + b"(" + _STRING + b")")
_MARKS = b"~^|`!@#$%&*+<>?"


class Element(msgspec.Struct, gc=False):
    """A message or a tool: an object, of which nothing is read. It is counted."""


class BodyParts(msgspec.Struct):
    """The parts of a request that tell of its client (services.proxy.client_facts), unread.

    None and empty: they are absent, or not of the kind that they should be.
    """

    messages: list[Element] | None = None
    tools: list[Element] | None = None
    system: msgspec.Raw = msgspec.Raw(b"")
    max_tokens: msgspec.Raw = msgspec.Raw(b"")
    thinking: msgspec.Raw = msgspec.Raw(b"")
    output_config: msgspec.Raw = msgspec.Raw(b"")


class RequestBody(msgspec.Struct, frozen=True):
    """The fields of a Messages request that the gateway looks at; all others are passed over.

    Only the model must have its type: what else is wrong with a request, the API says best.
    `model_span` is where the model's value stands in the body, quotes included. `parts` are read
    for the books alone.
    """

    model: str
    is_stream: bool
    metadata: msgspec.Raw
    model_span: tuple[int, int]
    parts: BodyParts


class _Rest(msgspec.Struct):
    """A body without its first key. `model` is there only where the key comes twice."""

    model: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    stream: object = False
    metadata: msgspec.Raw = msgspec.Raw(b"null")


class _RestWithParts(BodyParts):
    """The same with its parts, where they have the types that they should have."""

    model: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    stream: object = False
    metadata: msgspec.Raw = msgspec.Raw(b"null")


_rest_decoder = msgspec.json.Decoder(_Rest)
_parts_decoder = msgspec.json.Decoder(_RestWithParts)
_elements_decoder = msgspec.json.Decoder(list[Element])
_object_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_name_decoder = msgspec.json.Decoder(str)


def read_body(body: bytes) -> RequestBody:
    """Return the fields that the gateway needs. Raises BadRequest where they cannot be read.

    An object with several `model` keys is refused: programs differ in which one counts, so what
    was checked might not be what is billed.
    """
    try:
        # Claude Code sends the model first. One decoding of the rest then tells all.
        first = _FIRST.match(body)
        read = _read_rest(body, first) if first is not None else _read_whole(body)
    except msgspec.ValidationError as error:
        raise BadRequest(f"The request body is not a Messages request: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"The request body is not valid JSON: {error}") from None
    except RecursionError:
        raise BadRequest("The request body is nested too deeply") from None
    if not 1 <= len(read.model) <= MODEL_CHARACTERS_MAX:
        raise BadRequest(f"model: a name of 1 to {MODEL_CHARACTERS_MAX} characters is required")
    return read


def _read_rest(body: bytes, first: re.Match[bytes]) -> RequestBody:
    model = _name_decoder.decode(first[1])
    left = b"{" + body[first.end() :]
    rest: _Rest | _RestWithParts
    parts = BodyParts()
    try:
        # One decoding tells all of nearly every request.
        rest = (_parts_decoder if len(body) <= COUNTED_BYTES_MAX else _rest_decoder).decode(left)
    except msgspec.ValidationError:
        # It may be a part that only the books are interested in.
        rest = _rest_decoder.decode(left)
        parts = _sound_parts(left)
    if rest.model is not msgspec.UNSET:
        raise _not_once()
    if isinstance(rest, _RestWithParts):
        parts = rest
    return RequestBody(model, rest.stream is True, rest.metadata, first.span(1), parts)


def _read_whole(body: bytes) -> RequestBody:
    """Read a body whose model stands anywhere.

    Each spelling of the key is given a mark of its own, of the same length; the marks that the
    decoder then finds among the object's own keys are those of the top level.
    """
    mark = next((mark for mark in _MARKS if b'"%c' % mark not in body), 0)
    if not mark or body.count(b'"model"') > _MODEL_KEYS_MAX:
        raise BadRequest("The request body holds too many odd keys to be told apart")
    spans: list[tuple[int, int]] = []

    def marked(key: re.Match[bytes]) -> bytes:
        spans.append(key.span())
        return b'"%c%04x"' % (mark, len(spans) - 1)

    fields = _object_decoder.decode(_KEY.sub(marked, body))
    names = [name for name in fields if name[:1] == chr(mark)]
    # A key that is called "model" and was not marked is spelled with escapes.
    if len(names) != 1 or "model" in fields:
        raise _not_once()
    found = _VALUE.match(body, spans[int(names[0][1:], 16)][1])
    if found is None:
        raise BadRequest("model: a name is required")
    return RequestBody(
        _name_decoder.decode(found[1]),
        bytes(fields.get("stream", b"")) == b"true",
        fields.get("metadata", msgspec.Raw(b"null")),
        found.span(1),
        _parts_of(fields) if len(body) <= COUNTED_BYTES_MAX else BodyParts(),
    )


def _sound_parts(body: bytes) -> BodyParts:
    """Return those parts of a body that have the types that they should have."""
    try:
        return _parts_of(_object_decoder.decode(body))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return BodyParts()


def _parts_of(fields: dict[str, msgspec.Raw]) -> BodyParts:
    """Return the parts of a body whose keys have been told apart."""
    nothing = msgspec.Raw(b"")
    return BodyParts(
        _elements(fields.get("messages", nothing)),
        _elements(fields.get("tools", nothing)),
        fields.get("system", nothing),
        fields.get("max_tokens", nothing),
        fields.get("thinking", nothing),
        fields.get("output_config", nothing),
    )


def _elements(part: msgspec.Raw) -> list[Element] | None:
    # A part whose name was marked within it still is JSON, and has as many elements.
    try:
        return _elements_decoder.decode(part)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def optional_model(body: bytes, *, is_json: bool) -> RequestBody | None:
    """Return what `read_body` does of a body that names a model at its top level; None of others.

    Raises BadRequest for a body that calls itself JSON and is not: what is not read here could
    still name a model to the deployment.
    """
    try:
        fields = _object_decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        if is_json and body[:1] != b"[":
            raise BadRequest(f"The request body is not a JSON object: {error}") from None
        return None
    return read_body(body) if "model" in fields else None


def _not_once() -> BadRequest:
    return BadRequest('model: the request body must have this key once, spelled "model"')


def with_model(body: bytes, read: RequestBody, model: str) -> bytes:
    """Return the body with its top-level `model` set to `model`, every other byte unchanged."""
    if model == read.model:
        return body
    start, end = read.model_span
    return body[:start] + msgspec.json.encode(model) + body[end:]
