"""The texts of a file that is uploaded: a form of several parts, read strictly. Pure.

Programs differ in how they read forms that are not quite right, so that a part could be hidden from
whoever reads first. What is not written as RFC 7578 says is refused here, and so is a file that is
neither a text nor of a kind that is not looked at in messages either (images, PDF).
"""

import re
from collections.abc import Sequence

import msgspec

from services.proxy.headers import RawHeaders, header_values

__all__ = ["FORM_PARTS_MAX", "FormText", "OddForm", "texts_of_form", "with_texts"]

FORM_PARTS_MAX = 100
"""Parts of a form: a file has one, or two with its name or purpose."""
_BOUNDARY = re.compile(
    rb"multipart/form-data[ \t]*;[ \t]*boundary=(?:\"([0-9A-Za-z'()+_,./:=? -]{1,70})\""
    rb"|([0-9A-Za-z'+_.-]{1,70}))",
    re.IGNORECASE,
)
_HEADER = re.compile(rb"content-(?:disposition|type):[^\r\n\x00]*", re.IGNORECASE)
_NOT_LOOKED_AT = re.compile(rb"%PDF-|\x89PNG\r\n|\xff\xd8\xff|GIF8[79]a|RIFF.{4}WEBP", re.DOTALL)
_NOTHING = "\0"
_LINE, _AFTER_HEADERS, _DASHES = b"\r\n", b"\r\n\r\n", b"--"


class OddForm(Exception):
    """A form that cannot be checked; `reason` says why, for whoever sent it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class FormText(msgspec.Struct, frozen=True):
    """A text of a form, and where it stands in the body: [start, end)."""

    text: str
    start: int
    end: int


def texts_of_form(headers: RawHeaders, body: bytes) -> list[FormText]:
    """Return the texts of a form, names of files included, in order. Raises OddForm."""
    encodings = header_values(headers, b"content-encoding")
    if any(each.lower() != b"identity" for each in encodings):
        raise OddForm("it is compressed")
    types = header_values(headers, b"content-type")
    found = _BOUNDARY.fullmatch(types[0]) if len(types) == 1 else None
    if found is None:
        raise OddForm("its content-type is not multipart/form-data with a boundary and no more")
    delimiter = _DASHES + (found[1] or found[2])
    texts: list[FormText] = []
    for start, end in _parts(body, delimiter):
        head = body.find(_AFTER_HEADERS, start, end)
        if head < 0 or not all(map(_HEADER.fullmatch, body[start:head].split(_LINE))):
            raise OddForm("a part has other headers than content-disposition and content-type")
        first = head + len(_AFTER_HEADERS)
        texts.append(_text(body, start, head))
        try:
            texts.append(_text(body, first, end))
        except OddForm:
            if not _NOT_LOOKED_AT.match(body, first, end):
                raise
    return texts


def with_texts(body: bytes, texts: Sequence[FormText], new: Sequence[str]) -> bytes:
    """Return a body with other texts in the places of its own: the same where none is another."""
    pieces: list[bytes] = []
    position = 0
    for old, text in zip(texts, new, strict=True):
        if text != old.text:
            pieces += (body[position : old.start], text.encode())
            position = old.end
    return b"".join((*pieces, body[position:])) if pieces else body


def _parts(body: bytes, delimiter: bytes) -> list[tuple[int, int]]:
    """Return where the parts of a form stand, between the lines that delimit them."""
    opening, closing = delimiter + _LINE, _LINE + delimiter + _DASHES
    end = len(body) - (len(_LINE) if body.endswith(closing + _LINE) else 0)
    end -= len(closing)
    if not (body.startswith(opening) and body.startswith(closing, max(0, end))):
        raise OddForm("it does not begin and end with its boundary")
    between = _LINE + opening
    parts: list[tuple[int, int]] = []
    start = len(opening)
    while (stop := body.find(between, start)) >= 0:
        parts.append((start, stop))
        start = stop + len(between)
    parts.append((start, end))
    # Whoever takes other line ends for a boundary would see other parts.
    if body.count(delimiter) != len(parts) + 1 or len(parts) > FORM_PARTS_MAX or start > end:
        raise OddForm("its boundary stands where no part begins, or it has too many parts")
    return parts


def _text(body: bytes, start: int, end: int) -> FormText:
    try:
        text = body[start:end].decode()
    except UnicodeDecodeError:
        text = _NOTHING
    # No text has it, but for one whose characters have two bytes each.
    if _NOTHING in text:
        raise OddForm("it is no text in UTF-8, no PDF and no image")
    return FormText(text, start, end)
