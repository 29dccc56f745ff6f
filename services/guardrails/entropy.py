"""How little a text repeats itself, in bits per character."""

from collections import Counter
from math import log2

__all__ = ["shannon_entropy"]


def shannon_entropy(text: str) -> float:
    """Return Shannon's entropy of the characters of a text: 0 for none or one kind of them."""
    total = len(text)
    return -sum(count / total * log2(count / total) for count in Counter(text).values())
