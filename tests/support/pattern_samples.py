"""Texts that match a pattern, drawn from it at random."""

import re
import warnings
from random import Random
from string import printable
from typing import Any

__all__ = ["SPELLINGS", "matching_text"]

_REPEATED_MAX = 3
"""How often more than needed what may come any number of times does come."""
# Flags in the middle make letters of either case match: the text is right without them.
SPELLINGS = {
    "(?i)": "",
    r"\z": r"\Z",
    "[[:alnum:]]": "[a-zA-Z0-9]",
    r"@(?:[\pL\pN][\pL\pN\-]{0,62}": "a@(?:[a-z]{2}",
    r"\x80-\xff": "a-z",
}
_PLAIN = [ord(character) for character in printable[:94]]


def matching_text(pattern: str, random: Random) -> str:
    """Return a text that the pattern is in (RE2's syntax, as far as Python's parser reads it)."""
    parser = re._parser  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for theirs, ours in SPELLINGS.items():
            pattern = pattern.replace(theirs, ours)
        tree = parser.parse(pattern)
    return _draw(tree, random)


def _draw(tree: Any, random: Random) -> str:
    return "".join(_one(str(operation), argument, random) for operation, argument in tree)


def _one(operation: str, argument: Any, random: Random) -> str:
    match operation:
        case "LITERAL":
            return chr(argument)
        case "NOT_LITERAL":
            return chr(random.choice([code for code in _PLAIN if code != argument]))
        case "ANY":
            return chr(random.choice(_PLAIN))
        case "IN":
            return chr(random.choice(_members(argument)))
        case "MAX_REPEAT" | "MIN_REPEAT":
            low, high, inner = argument
            count = random.randint(low, min(int(high), low + _REPEATED_MAX))
            return "".join(_draw(inner, random) for _ in range(count))
        case "SUBPATTERN":
            return _draw(argument[3], random)
        case "BRANCH":
            return _draw(random.choice(argument[1]), random)
        case "AT":
            return ""
    raise AssertionError(operation)


def _members(items: Any) -> list[int]:
    """The characters of a class; of one that names what is not in it, the printable ones."""
    codes: set[int] = set()
    negated = False
    for operation, argument in items:
        match str(operation):
            case "NEGATE":
                negated = True
            case "LITERAL":
                codes.add(argument)
            case "RANGE":
                codes.update(range(argument[0], argument[1] + 1))
            case "CATEGORY":
                wanted = {
                    "CATEGORY_DIGIT": r"\d",
                    "CATEGORY_WORD": r"\w",
                    "CATEGORY_SPACE": r"\s",
                    "CATEGORY_NOT_SPACE": r"\S",
                }[str(argument)]
                codes.update(code for code in [*_PLAIN, 32] if re.match(wanted, chr(code)))
    return [code for code in _PLAIN if code not in codes] if negated else sorted(codes)
