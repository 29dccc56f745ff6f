"""What the proxy reads of a new message batch, and the one change that it makes to it. Pure.

As with a single message: the body goes upstream as the bytes that came, but for each request's
model where an alias stands for another name. The names are found by parsing, at
`requests[].params.model` and nowhere else.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from schemas.errors import BadRequest
from services.proxy.body import read_body

__all__ = ["BATCH_REQUESTS_MAX", "BatchModel", "batch_models", "value_span", "with_models"]

BATCH_REQUESTS_MAX = 100_000
"""As the API has it: no batch holds more requests."""

_MARKS = b"~^|`!@#$%&*+<>?"
_COLON = re.compile(rb"[ \t\n\r]*:[ \t\n\r]*")
_BETWEEN = re.compile(rb"[ \t\n\r,]*")
_object_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_array_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class BatchModel(msgspec.Struct, frozen=True):
    """The model of one request of a batch, and where its value stands in the body."""

    name: str
    span: tuple[int, int]


def value_span(body: bytes, key: str) -> tuple[int, int]:
    """Return where the value of a top-level key stands in a JSON object.

    Raises BadRequest where the object cannot be read, or has the key not exactly once, spelled
    plainly: programs differ in which of two counts.
    """
    quoted = b'"%b"' % key.encode()
    width = len(key) - 1
    mark = next((mark for mark in _MARKS if b'"%c' % mark not in body), 0)
    if not mark or body.count(quoted) >= 16**width:
        raise BadRequest("The request body holds too many odd keys to be told apart")
    ends: list[int] = []

    def marked(found: re.Match[bytes]) -> bytes:
        ends.append(found.end())
        return b'"%c%0*x"' % (mark, width, len(ends) - 1)

    try:
        fields = _object_decoder.decode(re.sub(quoted, marked, body))
    except _UNREADABLE as error:
        raise BadRequest(f"The request body cannot be read: {error}") from None
    names = [name for name in fields if name[:1] == chr(mark)]
    if len(names) != 1 or key in fields:
        raise BadRequest(f'{key}: this key must be there once, spelled "{key}"')
    colon = _COLON.match(body, ends[int(names[0][1:], 16)])
    assert colon is not None, "the decoder has seen a key here"
    return colon.end(), colon.end() + len(bytes(fields[names[0]]))


def batch_models(body: bytes) -> Iterator[BatchModel]:
    """Yield the model of every request of a batch, in order. Raises BadRequest."""
    start, end = value_span(body, "requests")
    try:
        requests = _array_decoder.decode(body[start:end])
    except _UNREADABLE as error:
        raise BadRequest(f"requests: a list is required: {error}") from None
    if not 1 <= len(requests) <= BATCH_REQUESTS_MAX:
        raise BadRequest(f"requests: a list of 1 to {BATCH_REQUESTS_MAX} requests is required")
    at = start + 1
    for index, raw in enumerate(requests):
        between = _BETWEEN.match(body, at)
        assert between is not None
        request = bytes(raw)
        at = between.end()
        try:
            params_start, params_end = value_span(request, "params")
            read = read_body(request[params_start:params_end])
        except BadRequest as error:
            raise BadRequest(f"requests.{index}: {error.message}") from None
        offset = at + params_start
        yield BatchModel(read.model, (offset + read.model_span[0], offset + read.model_span[1]))
        at += len(request)


def with_models(body: bytes, found: Sequence[BatchModel], names: Mapping[str, str]) -> bytes:
    """Return the body with each model set to its name upstream, every other byte unchanged."""
    parts: list[bytes] = []
    at = 0
    for model in found:
        name = names[model.name]
        if name != model.name:
            parts += (body[at : model.span[0]], msgspec.json.encode(name))
            at = model.span[1]
    return b"".join((*parts, body[at:])) if parts else body
