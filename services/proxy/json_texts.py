"""The texts in a part of a request, found in its bytes: what may say something, and where.

No structure is asked for: every string of JSON is looked at, but for keys and for what cannot be
a text (types, ids, data in base64). So nothing passes because it stands in a block that nobody
knew, or under a key that stands twice. What is replaced in a text leaves every other byte as it is.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence

import msgspec

__all__ = ["Patch", "TextAt", "is_text", "patched", "places_in", "texts_in"]

_REST = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_COLON = re.compile(rb"[ \t\n\r]*:")
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
_decoder = msgspec.json.Decoder(str)


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
    key = ""
    for start, end in _strings(part):
        text = _decoded(part[start - 1 : end + 1])
        if _COLON.match(part, end + 1):
            key = text
        elif is_text(key, text):
            yield TextAt(text, start, end)


def is_text(key: str, value: str) -> bool:
    """Tell whether a string may say something: it is no name of a thing, and no base64."""
    if key in _WORDS:
        return _WORD.fullmatch(value) is None
    if key in _DATA and len(value) >= _BASE64_BYTES_MIN and value.isascii():
        return bool(value.encode().translate(None, _BASE64))
    return bool(value)


def _strings(part: bytes) -> Iterator[tuple[int, int]]:
    """Yield where the strings of a piece of JSON stand, keys too, without their quotes."""
    position = 0
    while (quote := part.find(b'"', position)) >= 0:
        start = quote + 1
        end = part.find(b'"', start)
        # Looking for a byte is ten times as fast as a pattern: images have megabytes without any.
        if part.find(b"\\", start, max(end, start)) >= 0:
            rest = _REST.match(part, start)
            assert rest is not None
            end = rest.end()
        if not start <= end < len(part):
            return
        yield start, end
        position = end + 1


def _decoded(literal: bytes) -> str:
    try:
        return _decoder.decode(literal)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        # Half of a pair of surrogates, which JSON can spell and UTF-8 cannot.
        text: str = json.loads(literal.decode("utf-8", "replace"))
        return text


def places_in(literal: bytes, offsets: Sequence[int]) -> dict[int, int]:
    """Return where characters of a text stand in its JSON, by their offsets in the text.

    `literal` is without its quotes. An offset may be the text's length: then it is the end.
    """
    spelled = literal.decode("utf-8", "replace")
    wanted = sorted(set(offsets))
    found: dict[int, int] = {}
    characters = position = length = 0
    """How many characters of the text, of its spelling and bytes are behind."""
    escapes = _ESCAPE.finditer(spelled)
    escape = next(escapes, None)
    for offset in wanted:
        while escape is not None and offset - characters > escape.start() - position:
            # The run before the escape, and the escape, which stands for one character.
            run = spelled[position : escape.start()]
            characters += len(run) + 1
            length += len(run.encode()) + len(escape[0])
            position = escape.end()
            escape = next(escapes, None)
        run = spelled[position : position + offset - characters]
        characters += len(run)
        length += len(run.encode())
        position += len(run)
        found[offset] = length
    return found


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
