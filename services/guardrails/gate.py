"""The first pass: which of many patterns are in some texts at all, and where about.

Vectorscan reads the texts once for all patterns together and says which of them hit; RE2 then says
where exactly, with groups, for the few that do (services/guardrails/engine.py). Neither ever tries
a second way through a text (no ReDoS).

A gate may open for a pattern that RE2 then does not find, never the other way round: a pattern
that the two could read differently is not left to it (`_alike`).
"""

import re
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import hyperscan

from services.guardrails.texts import PIECE_BYTES, Block, Hit, Texts

__all__ = [
    "ANYWHERE",
    "ENDS_MAX",
    "PIECE_OVERLAP_BYTES",
    "TEXTS_MAX",
    "WINDOWS_MAX",
    "WINDOW_BYTES",
    "Gate",
    "GatePattern",
    "Shape",
]

PIECE_OVERLAP_BYTES = 8_192
"""Each piece of a long text begins so far before the end of the one before it: matches this long
lie in one. Patterns of others that may match more (`*`, `+`, `{2,}`) are searched by RE2 in such
texts; in this project's own rules, what must be there at least is shorter."""
WINDOWS_MAX = 8
"""Places in a text that are looked at one by one; with more, all of it is looked through."""
WINDOW_BYTES = 2_048
"""What a look at one more place costs: as much as to look through so much text."""
ENDS_MAX = 128
"""Hits of a pattern in a block; with more, all of its texts are looked through."""
TEXTS_MAX = 16
"""Texts of a block in which a pattern may be anywhere; those of one with more are read once more,
half of them at a time: a body may be thousands of them."""

_ALIKE = re.compile(
    r"""(?:\(\?i\))?
    (?: [^\\()\[\]{}?*+|\x00]                  # a character, . ^ $ (NUL would end the pattern)
      | \\[bdw.\-/\\+*?()|\[\]{}^$@#&%!~:;,'"=<>\ ]  # an escape that means one thing
      | \( (?:\?: | (?!\?)) | \) | \|            # groups without a name or a flag
      | \[ \^? (?: [^\\\[\]\x00] | \\[dw.\-/\\+*?()|\[\]{}^$@#&] )+ \]
      | [?*+] \??  | \{ [0-9]{1,3} (?: , (?:[0-9]{1,3})? )? \} \??
    )*""",
    re.VERBOSE,
)
_FOLDED = re.compile(r"(?<!\\)\.|\[\^|\(\?i\)|[^\x00-\x7f]")
_RUN_BYTES = 512
"""So many are looked at in one go."""
_UNBOUND = re.compile(r"[*+]|,\}")  # also where it is a plain character: that costs time alone
_EDGE = re.compile(r"[\^$]")  # the same


class Shape(NamedTuple):
    """Where the matches of a pattern are, seen from where those of its first pass end."""

    bytes_max: int = 0
    """They begin at most so many bytes before that end; 0: not known, or far."""
    bytes_after: int = 0
    """They end at most so many bytes after it."""
    run: bytes = b""
    """Bytes of which any number may stand before that end, and one other one after them;
    `bytes_max` counts from their begin."""
    plain: bytes = b""
    """A run of these alone is nothing that counts: the rule's check refuses it. What may stand
    after the run is among them."""


ANYWHERE = Shape()
"""Of matches that may be anywhere in a text that has one."""


class GatePattern(NamedTuple):
    """What the first pass looks for."""

    pattern: str
    utf8: bool = False
    """A character may have several bytes in it (any, any but some)."""
    shape: Shape = ANYWHERE
    apart: bool = False
    """It is read in a pass of its own kind, since it would make that of all others slow."""


class Gate:
    """Says which of many patterns are in texts, in one pass. Safe for several threads.

    `trusted` patterns were seen to mean the same to both engines (this project's own rules).
    Those of others are checked; what is not surely alike always passes the gate, and so does what
    Vectorscan finds too large: then RE2 looks through the text for it alone.

    Where matches of a pattern are short, Vectorscan says where each ends, and so RE2 need not look
    through all of the text again. It says all ends, and windows that overlap are one: so no match
    crosses a window's border, and what RE2 finds in windows is what it finds in the whole text.
    """

    def __init__(self, patterns: Sequence[GatePattern], *, trusted: bool) -> None:
        """Raise hyperscan.HyperscanError for a trusted pattern that Vectorscan does not take."""
        self._always: list[Hit] = []
        self._long: list[Hit] = []
        self._threads = threading.local()
        self._shapes = [pattern.shape for pattern in patterns]
        kept: tuple[list[tuple[int, bytes, int]], list[tuple[int, bytes, int]]] = ([], [])
        for number, pattern in enumerate(patterns):
            flags = 0 if pattern.shape.bytes_max else hyperscan.HS_FLAG_SINGLEMATCH
            if pattern.utf8 or (not trusted and _FOLDED.search(pattern.pattern)):
                flags |= hyperscan.HS_FLAG_UTF8
            if not trusted and _EDGE.search(pattern.pattern):
                flags |= hyperscan.HS_FLAG_MULTILINE  # the edges of texts that are joined
            if not trusted and not (_alike(pattern.pattern) and _compiles(pattern.pattern, flags)):
                self._always.append(Hit(number, None))
                continue
            kept[pattern.apart].append((number, pattern.pattern.encode(), flags))
            if not trusted and _UNBOUND.search(pattern.pattern):
                self._long.append(Hit(number, None))
        self._databases = [_compiled(each) for each in kept if each]

    def open_for(self, texts: Texts) -> dict[int, list[Hit]]:
        """Return the patterns that may be in each text, in their order; see Opener."""
        found: dict[int, list[Hit]] = {}
        if self._always:
            found = {number: list(self._always) for number in range(len(texts.encoded))}
        for block in texts.blocks:
            self._open_block(block, texts, found)
        for hits in found.values():
            hits.sort()
        return found

    def _open_block(self, block: Block, texts: Texts, found: dict[int, list[Hit]]) -> None:
        """Add the hits in one block."""
        if len(block.data) > PIECE_BYTES:
            ends = self._ends_in_pieces(block.data)
            found.setdefault(block.first, []).extend(self._long)
            for hit in self._long:
                ends.pop(hit.number, None)
        else:
            ends = self._ends_in(block.data)
        is_wide = any(self._is_anywhere(number, places) for number, places in ends.items())
        if is_wide and len(block.starts) > TEXTS_MAX:
            for half in _halves(block):
                self._open_block(half, texts, found)
            return
        for number, places in ends.items():
            self._tell(number, places, block, texts, found)

    def _is_anywhere(self, number: int, ends: list[int]) -> bool:
        """Tell whether a pattern with hits in a block may be anywhere in it."""
        return not (self._shapes[number].bytes_max and 0 < len(ends) <= ENDS_MAX)

    def _ends_in(self, data: bytes) -> dict[int, list[int]]:
        """Return where the matches of each pattern end: all, or one where no windows are asked."""
        ends: dict[int, list[int]] = {}

        def matched(number: int, _start: int, end: int, _flags: int, _context: object) -> None:
            ends.setdefault(number, []).append(end)

        # Each thread has its own working memory; the engine lets other threads run meanwhile.
        scratches = getattr(self._threads, "scratches", None)
        if scratches is None:
            scratches = self._threads.scratches = [each.scratch.clone() for each in self._databases]
        for database, scratch in zip(self._databases, scratches, strict=True):
            database.scan(data, match_event_handler=matched, scratch=scratch)
        return ends

    def _ends_in_pieces(self, data: bytes) -> dict[int, list[int]]:
        """Return the same of a long text; no ends of a pattern: it may be anywhere."""
        ends: dict[int, list[int]] = {}
        cut: list[int] = []
        for place, piece in _pieces(data):
            is_last = place + len(piece) == len(data)
            for number, found in self._ends_in(piece).items():
                ends.setdefault(number, []).extend(place + end for end in found)
                if self._shapes[number].run and not is_last and len(piece) in found:
                    cut.append(number)  # it goes on, and how far is not seen
        return ends | {number: [] for number in cut}

    def _tell(
        self,
        number: int,
        ends: list[int],
        block: Block,
        texts: Texts,
        found: dict[int, list[Hit]],
    ) -> None:
        """Add the hits of one pattern in the texts of a block."""
        shape = self._shapes[number]
        if self._is_anywhere(number, ends):
            for text in range(block.first, block.first + len(block.starts)):
                found.setdefault(text, []).append(Hit(number, None))
            return
        places = [(end, end, True) for end in sorted(ends)]
        if shape.run:
            places = [_run_before(block.data, end, shape) for end in sorted(ends)]
            if not any(counts for _, _, counts in places):
                return
        windows: dict[int, list[_Window]] = {}
        starts = block.starts
        for begin, end, counts in places:
            low, high = begin - shape.bytes_max, end + shape.bytes_after
            # Its last byte is in the text, or the line's end after it, taken for white space.
            at = bisect_right(starts, end - 1) - 1
            start, text = starts[at], block.first + at
            size = len(texts.encoded[text])
            window = (max(0, low - start), min(size, high - start), counts)
            _add(windows.setdefault(text, []), window)
        for text, seen in windows.items():
            spans = [(low, high) for low, high, counts in seen if counts]
            if spans:
                many = max(WINDOWS_MAX, len(texts.encoded[text]) // WINDOW_BYTES)
                hit = Hit(number, spans if len(spans) <= many else None)
                found.setdefault(text, []).append(hit)


def _halves(block: Block) -> tuple[Block, Block]:
    """Return the first texts of a block, and the others."""
    middle = len(block.starts) // 2
    begin = block.starts[middle]
    return (
        Block(block.first, block.starts[:middle], block.data[: begin - 1]),
        Block(
            block.first + middle,
            [start - begin for start in block.starts[middle:]],
            block.data[begin:],
        ),
    )


def _compiled(patterns: list[tuple[int, bytes, int]]) -> Any:
    database = hyperscan.Database()
    database.compile(
        expressions=[expression for _, expression, _ in patterns],
        ids=[number for number, _, _ in patterns],
        flags=[flags for _, _, flags in patterns],
    )
    return database


_Window = tuple[int, int, bool]
"""Where it begins and ends, and whether something in it may count."""


def _add(windows: list[_Window], window: _Window) -> None:
    """Add a window to others that end before it; those that may overlap become one."""
    while windows and window[0] <= windows[-1][1]:
        low, high, counts = windows.pop()
        window = (min(low, window[0]), max(high, window[1]), counts or window[2])
    windows.append(window)


def _run_before(data: bytes, end: int, shape: Shape) -> _Window:
    """Return where the run before an end begins, the end, and whether the run may count."""
    begin = end - 1  # the last byte may be what ends the run, or one of it at the end of a text
    while begin > 0:
        low = max(0, begin - _RUN_BYTES)
        rest = data[low:begin].rstrip(shape.run)
        begin = low + len(rest)
        if rest:
            break
    return begin, end, bool(data[begin:end].translate(None, shape.plain))


def _pieces(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield where each piece begins, and the piece; no character is cut."""
    start = 0
    while True:
        end = start + PIECE_BYTES
        if end >= len(data):
            yield start, data[start:]
            return
        end = _whole(data, end)
        yield start, data[start:end]
        start = _whole(data, end - PIECE_OVERLAP_BYTES)


def _whole(data: bytes, place: int) -> int:
    """Return the place, or the first one before it where a character begins."""
    while data[place] & 0xC0 == 0x80:  # noqa: PLR2004 - UTF-8's bytes that go on
        place -= 1
    return place


def _alike(pattern: str) -> bool:
    """Tell whether both engines read a pattern alike, or Vectorscan more widely."""
    return _ALIKE.fullmatch(pattern) is not None


def _compiles(pattern: str, flags: int) -> bool:
    """Tell whether Vectorscan takes a pattern: some are too large for it, some match nothing."""
    try:
        hyperscan.Database().compile(expressions=[pattern.encode()], ids=[0], flags=[flags])
    except hyperscan.HyperscanError:
        return False
    return True
