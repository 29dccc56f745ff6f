"""Texts that are looked at together: encoded once, and read once by all who look for the same.

A conversation's new messages are dozens of texts of a few KB. They are joined to blocks for the
first pass (services/guardrails/gate.py), so that it costs what their bytes do, however many they
are.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple, Protocol

__all__ = ["PIECE_BYTES", "Block", "Hit", "Opener", "Texts"]

PIECE_BYTES = 65_536
"""A block is no longer, but for one text that is: Vectorscan is given no more at once, since some
patterns together made its time grow with the square of that (measured)."""
_BETWEEN = b"\n"
"""Between two texts of a block. A pattern that asks for a text's begin or end finds white space."""


class Block(NamedTuple):
    """Some texts, one after the other, with a line's end between two."""

    first: int
    """The number of the first text; the others follow."""
    starts: list[int]
    """Where each text begins in `data`."""
    data: bytes


class Hit(NamedTuple):
    """A pattern that may be in a text, by its number."""

    number: int
    windows: list[tuple[int, int]] | None
    """Where its matches are, each in one window of bytes; None: anywhere."""


class Opener(Protocol):
    """What says which patterns may be in texts."""

    def open_for(self, texts: "Texts") -> dict[int, list[Hit]]:
        """Return the patterns that may be in each text, by its number; most texts have none."""


class Texts:
    """Some texts, to be given to several scanners by one thread."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Half of a pair of surrogates, which no UTF-8 has, is looked at as a question mark."""
        self.encoded = [text.encode("utf-8", "replace") for text in texts]
        """The bytes of each text."""
        self._opened: dict[Opener, Mapping[int, list[Hit]]] = {}

    @cached_property
    def blocks(self) -> list[Block]:
        """All texts, in blocks."""
        blocks: list[Block] = []
        first, length = 0, -1
        starts: list[int] = []
        for number, data in enumerate(self.encoded):
            if starts and length + 1 + len(data) > PIECE_BYTES:
                blocks.append(Block(first, starts, _BETWEEN.join(self.encoded[first:number])))
                first, length, starts = number, -1, []
            starts.append(length + 1)
            length += 1 + len(data)
        if starts:
            blocks.append(Block(first, starts, _BETWEEN.join(self.encoded[first:])))
        return blocks

    def opened_by(self, opener: Opener) -> Mapping[int, list[Hit]]:
        """Return what an opener says of these texts; it is asked once."""
        found = self._opened.get(opener)
        if found is None:
            found = self._opened[opener] = opener.open_for(self)
        return found
