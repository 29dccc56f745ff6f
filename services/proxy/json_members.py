"""Where the members of JSON objects and arrays stand in their text: pure, over bytes.

msgspec tells the values apart and checks that they are JSON; walking over the text once more then
tells where each is, and that no key stands twice or is spelled with escapes. Programs differ in
which one of two counts, so what was checked might not be what is done.
"""

import re

import msgspec

__all__ = ["Span", "elements_of", "members_of"]

Span = tuple[int, int]

_SPACE = re.compile(rb"[ \t\n\r]*")
_object_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_array_decoder = msgspec.json.Decoder(list[msgspec.Raw])


def members_of(text: bytes) -> dict[str, Span]:
    """Return where the value of each key of an object stands: [start, end) in the text.

    Raises msgspec.MsgspecError, UnicodeDecodeError or RecursionError for what is no object, and
    ValueError where a key stands twice or is not spelled as it is.
    """
    spans: dict[str, Span] = {}
    position = _after_space(text, 0) + 1
    for key, raw in _object_decoder.decode(text).items():
        value = bytes(raw)
        start = _after_space(text, position)
        spelled = b'"%s"' % key.encode()
        if not text.startswith(spelled, start):
            raise ValueError("a key stands twice, or is spelled with escapes")
        colon = _after_space(text, start + len(spelled))
        start = _after_space(text, colon + 1)
        end = start + len(value)
        if text[colon : colon + 1] != b":" or not text.startswith(value, start):
            raise ValueError("a key stands twice, or is spelled with escapes")
        spans[key] = (start, end)
        position = _after_space(text, end) + 1
    if spans and text[position - 1 : position] != b"}":
        raise ValueError("a key stands twice, or is spelled with escapes")
    return spans


def elements_of(text: bytes) -> list[Span]:
    """Return where each element of an array stands. Raises as members_of does, but no ValueError.

    msgspec gives elements in their order, so each is found where the one before it ends.
    """
    spans: list[Span] = []
    position = _after_space(text, 0) + 1
    for raw in _array_decoder.decode(text):
        start = _after_space(text, position)
        spans.append((start, start + len(raw)))
        position = _after_space(text, start + len(raw)) + 1
    return spans


def _after_space(text: bytes, position: int) -> int:
    if text[position : position + 1] > b" ":
        return position
    found = _SPACE.match(text, position)
    assert found is not None
    return found.end()
