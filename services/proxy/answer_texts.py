"""The texts of an answer, streamed or not: what a model said, block by block. Pure."""

from collections.abc import Callable

import msgspec

from services.proxy.json_members import elements_of, members_of
from services.proxy.json_texts import texts_in
from services.proxy.meter import Meter
from services.proxy.metering import Unpacker

__all__ = ["ANSWER_BYTES_MAX", "Heard", "heard_of", "texts_of_answer"]

ANSWER_BYTES_MAX = 4 * 1024 * 1024
"""So much of an answer is looked at (unpacked); it has some 10 KB as a rule."""

_PACKED = frozenset({b"gzip", b"x-gzip", b"deflate"})


class _Block(msgspec.Struct):
    text: object = None


class _Delta(msgspec.Struct):
    text: object = None
    partial_json: object = None
    thinking: object = None


class _Event(msgspec.Struct):
    index: int = 0
    content_block: _Block | None = None
    delta: _Delta | None = None


_decoder = msgspec.json.Decoder(_Event)
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError)


class Heard(Meter):
    """A copy of an answer's beginning, unpacked."""

    def __init__(self) -> None:
        super().__init__()
        self.body = bytearray()

    def feed(self, chunk: bytes) -> None:
        """Keep the next bytes, as long as there is room."""
        self.body += chunk[: ANSWER_BYTES_MAX - len(self.body)]

    def finish(self) -> None:
        """The body has ended."""


def heard_of(content_encoding: bytes) -> tuple[Heard, Callable[[bytes], None]]:
    """Return what keeps an answer of this coding, and what its chunks are to be fed to."""
    heard = Heard()
    if content_encoding.strip().lower() in _PACKED:
        return heard, Unpacker(heard).feed
    return heard, heard.feed


def texts_of_answer(body: bytes, *, is_stream: bool) -> dict[int, list[str]]:
    """Return the texts of each content block; what cannot be read is left out."""
    return _of_stream(body) if is_stream else _of_message(body)


def _of_stream(body: bytes) -> dict[int, list[str]]:
    said: dict[int, list[str]] = {}
    inputs: dict[int, list[str]] = {}
    for line in body.splitlines():
        if not line.startswith(b"data:"):
            continue
        try:
            event = _decoder.decode(line[5:])
        except _UNREADABLE:
            continue
        if event.content_block is not None and isinstance(event.content_block.text, str):
            said.setdefault(event.index, []).append(event.content_block.text)
        if event.delta is None:
            continue
        for piece in (event.delta.text, event.delta.thinking):
            if isinstance(piece, str):
                said.setdefault(event.index, []).append(piece)
        if isinstance(event.delta.partial_json, str):
            inputs.setdefault(event.index, []).append(event.delta.partial_json)
    texts = {index: ["".join(pieces)] for index, pieces in said.items()}
    for index, pieces in inputs.items():
        part = "".join(pieces).encode("utf-8", "replace")
        texts.setdefault(index, []).extend(each.text for each in texts_in(part))
    return texts


def _of_message(body: bytes) -> dict[int, list[str]]:
    try:
        start, end = members_of(body)["content"]
        blocks = elements_of(body[start:end])
    except (*_UNREADABLE, KeyError):
        return {}
    content = body[start:end]
    return {
        number: [each.text for each in texts_in(content[first:last])]
        for number, (first, last) in enumerate(blocks)
    }
