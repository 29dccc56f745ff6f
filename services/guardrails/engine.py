"""Patterns in linear time: which of many are in a text at all, and where exactly one of them is.

Two engines, neither of which ever tries a second way through the text (no ReDoS):

- Vectorscan reads the text once for all patterns together and says which of them hit (`Gate`);
- RE2 says where, with groups, for the few that do (`linear_pattern`).

A gate may open for a pattern that RE2 then does not find, never the other way round: a pattern
that the two could read differently is not left to it (`_alike`). Texts are UTF-8 bytes here.
"""

import re
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import hyperscan
import re2

from schemas.errors import ConfigError

__all__ = [
    "PATTERN_CHARACTERS_MAX",
    "PIECE_BYTES",
    "PIECE_OVERLAP_BYTES",
    "PROGRAM_SIZE_MAX",
    "WINDOWS_MAX",
    "Gate",
    "GatePattern",
    "Hit",
    "linear_pattern",
]

PATTERN_CHARACTERS_MAX = 1_000
"""Of one pattern in the configuration."""
PROGRAM_SIZE_MAX = 5_000
"""Instructions of RE2's program for one pattern in the configuration: time per byte is bound by it
in the worst case."""
_ENGINE_MEMORY_BYTES_MAX = 8 << 20
"""What RE2 may hold per pattern, its cache of states included (RE2's own default)."""

PIECE_BYTES = 65_536
"""Longer texts are given to Vectorscan in pieces: some patterns together made its time grow with
the square of what it was given at once (measured), and pieces bound that."""
PIECE_OVERLAP_BYTES = 8_192
"""Each piece begins so far before the end of the one before it: matches this long lie in one.
Patterns of others that may match more (`*`, `+`, `{2,}`) are searched by RE2 in such texts; in this
project's own rules, what must be there at least is shorter."""
WINDOWS_MAX = 8
"""Places in a text that are looked at one by one; with more, all of it is looked through."""

_ONE_BYTE = re.compile(r"(?<!\\)(?:\\\\)*\\C")
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


def linear_pattern(pattern: str, where: str = "") -> Any:
    """Return RE2's compiled pattern, to be used on UTF-8 bytes.

    `where` says that the pattern is the configuration's: then it has limits, and what is wrong
    with it is said by ConfigError.
    """
    if where and len(pattern) > PATTERN_CHARACTERS_MAX:
        raise ConfigError(
            f"{where}: the pattern has {len(pattern)} characters, "
            f"{PATTERN_CHARACTERS_MAX} are allowed; split it into several"
        )
    if where and _ONE_BYTE.search(pattern):
        raise ConfigError(f"{where}: \\C (one byte) is not supported, write . for a character")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _ENGINE_MEMORY_BYTES_MAX
    try:
        compiled = re2.compile(pattern, options)
    except (re2.error, UnicodeError) as error:
        why = error.args[0] if error.args else error
        text = why.decode("utf-8", "replace") if isinstance(why, bytes) else str(why)
        raise ConfigError(
            f"{where or pattern}: RE2 cannot use the pattern ({text}); back-references and "
            "look-around are not supported, since their time has no bound"
        ) from None
    if where and compiled.programsize > PROGRAM_SIZE_MAX:
        raise ConfigError(
            f"{where}: the pattern is too large ({compiled.programsize} instructions, "
            f"{PROGRAM_SIZE_MAX} are allowed); lower its repetitions, such as {{1,1000}}"
        )
    return compiled


_UNBOUND = re.compile(r"[*+]|,\}")  # also where it is a plain character: that costs time alone


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


class GatePattern(NamedTuple):
    """What the first pass looks for."""

    pattern: str
    utf8: bool = False
    """A character may have several bytes in it (any, any but some)."""
    bytes_max: int = 0
    """No match is longer; 0: not known, or long."""


class Hit(NamedTuple):
    """A pattern that may be in a text, by its number."""

    number: int
    windows: list[tuple[int, int]] | None
    """Where its matches are, each in one window of bytes; None: anywhere."""


class Gate:
    """Says which of many patterns are in a text, in one pass. Safe for several threads.

    `trusted` patterns were seen to mean the same to both engines (this project's own rules).
    Those of others are checked; what is not surely alike always passes the gate, and so does what
    Vectorscan finds too large: then RE2 looks through the text for it alone.

    Where matches of a pattern are short, Vectorscan says where each ends, and so RE2 need not look
    through all of the text again.
    """

    def __init__(self, patterns: Sequence[GatePattern], *, trusted: bool) -> None:
        """Raise hyperscan.HyperscanError for a trusted pattern that Vectorscan does not take."""
        self._always: list[Hit] = []
        self._long: list[Hit] = []
        self._threads = threading.local()
        self._bytes_max = [pattern.bytes_max for pattern in patterns]
        kept: list[tuple[int, bytes, int]] = []
        for number, pattern in enumerate(patterns):
            flags = 0 if pattern.bytes_max else hyperscan.HS_FLAG_SINGLEMATCH
            if pattern.utf8 or (not trusted and _FOLDED.search(pattern.pattern)):
                flags |= hyperscan.HS_FLAG_UTF8
            if not trusted and not (_alike(pattern.pattern) and _compiles(pattern.pattern, flags)):
                self._always.append(Hit(number, None))
                continue
            kept.append((number, pattern.pattern.encode(), flags))
            if not trusted and _UNBOUND.search(pattern.pattern):
                self._long.append(Hit(number, None))
        self._database = hyperscan.Database() if kept else None
        if self._database is not None:
            self._database.compile(
                expressions=[expression for _, expression, _ in kept],
                ids=[number for number, _, _ in kept],
                flags=[flags for _, _, flags in kept],
            )

    def open_for(self, data: bytes) -> list[Hit]:
        """Return the patterns that may be in the text, in their order."""
        if self._database is None or not data:
            return list(self._always)
        # Each thread has its own working memory; the engine lets other threads run meanwhile.
        scratch = getattr(self._threads, "scratch", None)
        if scratch is None:
            scratch = self._threads.scratch = self._database.scratch.clone()
        ends: dict[int, list[int]] = {}

        def matched(number: int, _start: int, end: int, _flags: int, _context: object) -> None:
            ends.setdefault(number, []).append(end)

        hits = list(self._always)
        if len(data) <= PIECE_BYTES:
            self._database.scan(data, match_event_handler=matched, scratch=scratch)
        else:
            hits += self._long
            for place, piece in _pieces(data):

                def matched_in_piece(
                    number: int,
                    _start: int,
                    end: int,
                    _flags: int,
                    _context: object,
                    at: int = place,
                ) -> None:
                    ends.setdefault(number, []).append(at + end)

                self._database.scan(piece, match_event_handler=matched_in_piece, scratch=scratch)
            for hit in self._long:
                ends.pop(hit.number, None)
        hits += (Hit(number, self._windows(number, places)) for number, places in ends.items())
        hits.sort()
        return hits

    def _windows(self, number: int, ends: list[int]) -> list[tuple[int, int]] | None:
        """Return where the matches that end somewhere are; those that may overlap are in one."""
        longest = self._bytes_max[number]
        if not longest:
            return None
        windows: list[tuple[int, int]] = []
        for end in sorted(ends):
            start = max(0, end - longest)
            if windows and start <= windows[-1][1]:
                windows[-1] = (windows[-1][0], end)
            else:
                windows.append((start, end))
                if len(windows) > WINDOWS_MAX:
                    return None
        return windows


def _compiles(pattern: str, flags: int) -> bool:
    """Tell whether Vectorscan takes a pattern: some are too large for it, some match nothing."""
    try:
        hyperscan.Database().compile(expressions=[pattern.encode()], ids=[0], flags=[flags])
    except hyperscan.HyperscanError:
        return False
    return True
