"""The texts in a part of a request, found in its bytes: what may say something, and where.

No structure is asked for: every string of JSON is looked at, but for keys and for what cannot be
a text (types, ids, data in base64). So nothing passes because it stands in a block that nobody
knew, or under a key that stands twice. What is replaced in a text leaves every other byte as it is.
"""

import re
from collections.abc import Iterable, Iterator
from json.decoder import scanstring  # type: ignore[attr-defined]

import msgspec

__all__ = ["Patch", "TextAt", "is_text", "patched", "places_in", "texts_in"]

_COLON = re.compile(r"[ \t\n\r]*:")
_ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\."
)
_WORDS = frozenset(
    {"type", "role", "id", "tool_use_id", "file_id", "media_type", "ttl", "encoding"}
)
"""Keys whose values are no texts, where they look like a word."""
_WORD = re.compile(r"[A-Za-z0-9_./+-]{0,128}")
_DATA = frozenset({"data", "signature", "encrypted_content", "encrypted_index"})
"""Keys whose values are no texts, where they are base64."""
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-"
_BASE64_BYTES_MIN = 256
"""Shorter values are looked at: they could be a text of letters alone."""
_encode = msgspec.json.Encoder().encode
_QUOTES = 2
_BYTES = "surrogateescape"


class TextAt(msgspec.Struct, frozen=True, gc=False):
    """A text, and where its JSON stands in the bytes: [start, end), without the quotes."""

    text: str
    start: int
    end: int


class Patch(msgspec.Struct, frozen=True, gc=False):
    """Bytes that go in the place of [start, end)."""

    start: int
    end: int
    replacement: bytes


def texts_in(part: bytes) -> Iterator[TextAt]:
    """Yield the texts of a piece of JSON (which it is known to be), in order."""
    # What is no UTF-8 is kept as it is, one character a byte, so that places stay right.
    spelled = part.decode("utf-8", _BYTES)
    is_ascii = spelled.isascii()
    key = ""
    characters = length = 0
    """How many characters and bytes are behind."""
    for start, end, text in _strings(spelled):
        if _COLON.match(spelled, end + 1):
            key = text
        elif is_text(key if _is_member(spelled, start - 2) else "", text):
            if is_ascii:
                yield TextAt(text, start, end)
                continue
            first = length + len(spelled[characters:start].encode("utf-8", _BYTES))
            characters, length = end, first + len(spelled[start:end].encode("utf-8", _BYTES))
            yield TextAt(text, first, length)


def _is_member(spelled: str, position: int) -> bool:
    """Tell whether the value before whose quote a position is has a key; in lists, none has."""
    while position >= 0 and spelled[position] in " \t\n\r":
        position -= 1
    return position >= 0 and spelled[position] == ":"


def is_text(key: str, value: str) -> bool:
    """Tell whether a string may say something: it is no name of a thing, and no base64."""
    if key in _WORDS:
        return _WORD.fullmatch(value) is None
    if key in _DATA and len(value) >= _BASE64_BYTES_MIN and value.isascii():
        return bool(value.encode().translate(None, _BASE64))
    return bool(value)


def _strings(spelled: str) -> Iterator[tuple[int, int, str]]:
    """Yield where the strings of a piece of JSON stand, keys too, without their quotes."""
    position = 0
    while (quote := spelled.find('"', position)) >= 0:
        start = quote + 1
        end = spelled.find('"', start)
        # Looking for a character is fast: images have megabytes without any escape.
        if spelled.find("\\", start, max(end, start)) < 0:
            text = spelled[start:end]
        else:
            try:
                text, after = scanstring(spelled, start, False)
            except ValueError:
                return
            end = after - 1
        if end < start:
            return
        yield start, end, text
        position = end + 1


def places_in(literal: bytes, text: str, offsets: Iterable[int]) -> dict[int, int]:
    """Return where characters of a text stand in its JSON, by their offsets in the text.

    `literal` is without its quotes. An offset may be the text's length: then it is the end.
    """
    wanted = sorted(set(offsets))
    found: dict[int, int] = {}
    if _is_spelled_as_usual(literal, text):
        last = length = 0
        for offset in wanted:
            length += len(_encode(text[last:offset])) - _QUOTES
            found[offset] = length
            last = offset
        return found
    spelled = literal.decode("utf-8", _BYTES)
    characters = position = length = 0
    """How many characters of the text, of its spelling and bytes are behind."""
    escapes = _ESCAPE.finditer(spelled)
    escape = next(escapes, None)
    for offset in wanted:
        while escape is not None and offset - characters > escape.start() - position:
            # The run before the escape, and the escape, which stands for one character.
            run = spelled[position : escape.start()]
            characters += len(run) + 1
            length += len(run.encode("utf-8", _BYTES)) + len(escape[0])
            position = escape.end()
            escape = next(escapes, None)
        run = spelled[position : position + offset - characters]
        characters += len(run)
        length += len(run.encode("utf-8", _BYTES))
        position += len(run)
        found[offset] = length
    return found


def _is_spelled_as_usual(literal: bytes, text: str) -> bool:
    """Tell whether msgspec would spell a text so: then it tells places ten times as fast."""
    try:
        return _encode(text)[1:-1] == literal
    except UnicodeEncodeError:
        return False


def patched(body: bytes, patches: Iterable[Patch]) -> bytes:
    """Return bytes with patches applied. Of those that overlap the first one covers all of them."""
    pieces: list[bytes] = []
    written = 0
    pending: Patch | None = None
    end = 0
    for patch in sorted(patches, key=lambda each: (each.start, -each.end)):
        if pending is not None and patch.start < end:
            end = max(end, patch.end)
            continue
        if pending is not None:
            pieces += (body[written : pending.start], pending.replacement)
            written = end
        pending, end = patch, patch.end
    if pending is not None:
        pieces += (body[written : pending.start], pending.replacement)
        written = end
    pieces.append(body[written:])
    return b"".join(pieces)
