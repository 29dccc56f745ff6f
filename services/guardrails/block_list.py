"""Block lists: words and patterns that the configuration names, each with a category."""

import msgspec
import re2

from schemas.errors import ConfigError
from services.guardrails.allowed import build_allowed
from services.guardrails.engine import linear_pattern
from services.guardrails.gate import Gate
from services.guardrails.rules import Candidate, Rule, RuleScanner
from services.guardrails.settings import read_settings

__all__ = [
    "BLOCK_LISTS_MAX",
    "NAME_CHARACTERS_MAX",
    "PATTERNS_MAX",
    "WORDS_MAX",
    "WORD_CHARACTERS_MAX",
    "build_block_list",
]

BLOCK_LISTS_MAX = 100
"""Lists of one guardrail."""
WORDS_MAX = 5_000
"""Words of all lists of one guardrail."""
WORD_CHARACTERS_MAX = 200
NAME_CHARACTERS_MAX = 100
"""Of a list's name and of its category."""
PATTERNS_MAX = 200
"""Patterns of all lists of one guardrail."""
_SPACE = r"\s{1,100}"
"""Between the parts of a word: a line's end with what indents the next one."""


class BlockList(msgspec.Struct):
    """One list of words and patterns.

    A word is found whatever its case is, where it stands as a word of its own (no letter, digit or
    underscore beside it); a space in it stands for any white space. A pattern is RE2's.
    """

    name: str
    """The rule's name in findings, events and masks."""
    category: str = "block_list"
    words: list[str] = []
    patterns: list[str] = []


class BlockLists(msgspec.Struct):
    """The settings of a guardrail of this kind."""

    lists: list[BlockList]
    allow: list[str] = []
    allow_patterns: list[str] = []


def build_block_list(settings: object) -> RuleScanner:
    """Return the scanner of block lists. Raises ConfigError with the place of what is wrong."""
    read = read_settings(settings, BlockLists)
    _check_sizes(read.lists)
    rules: list[Rule] = []
    for number, block_list in enumerate(read.lists):
        place = f"lists[{number}]"
        given = settings["lists"][number] if isinstance(settings, dict) else block_list
        if isinstance(given, dict):
            read_settings(given, BlockList, place)
        rules += _rules_of(block_list, place)
    return RuleScanner(
        dict(enumerate(rules)),
        Gate([rule.for_gate() for rule in rules], trusted=False),
        build_allowed(read.allow, read.allow_patterns),
    )


def _check_sizes(lists: list[BlockList]) -> None:
    """Raise ConfigError for no list, and for more than one guardrail may have."""
    if not lists:
        raise ConfigError("lists: a guardrail of kind block_list needs at least one list")
    names = [block_list.name for block_list in lists]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f'lists: "{name[:100]}" is the name of two lists')
    for what, count, most in (
        ("lists", len(lists), BLOCK_LISTS_MAX),
        ("words", sum(len(block_list.words) for block_list in lists), WORDS_MAX),
        ("patterns", sum(len(block_list.patterns) for block_list in lists), PATTERNS_MAX),
    ):
        if count > most:
            raise ConfigError(f"lists: {count} {what}, {most} are allowed in one guardrail")


def _rules_of(block_list: BlockList, place: str) -> list[Rule]:
    """Return the rules of one list, its words first."""
    for name, value in (("name", block_list.name), ("category", block_list.category)):
        if not (0 < len(value) <= NAME_CHARACTERS_MAX and value.isprintable()) or "]" in value:
            raise ConfigError(
                f"{place}.{name}: 1 to {NAME_CHARACTERS_MAX} printable characters without ] "
                "are needed"
            )
    if not (block_list.words or block_list.patterns):
        raise ConfigError(f"{place}: words or patterns are needed")
    rules: list[Rule] = []
    for number, word in enumerate(block_list.words):
        where = f"{place}.words[{number}]"
        parts = word.split()
        if not parts or len(word) > WORD_CHARACTERS_MAX:
            raise ConfigError(f"{where}: a word has 1 to {WORD_CHARACTERS_MAX} characters")
        pattern = "(?i)" + _SPACE.join(re2.escape(part) for part in parts)
        rules.append(
            Rule(
                name=block_list.name,
                category=block_list.category,
                pattern=pattern,
                check=_stands_alone,
                overlapping=True,
            )
        )
    for number, pattern in enumerate(block_list.patterns):
        where = f"{place}.patterns[{number}]"
        if linear_pattern(pattern, where).search(b"") is not None:
            raise ConfigError(f"{where}: the pattern matches an empty text, so it would match all")
        rules.append(Rule(block_list.name, block_list.category, pattern, where=where))
    return rules


def _stands_alone(candidate: Candidate) -> bool:
    """Tell whether no letter, digit or underscore goes on where the value begins or ends."""
    value = candidate.value
    return not (
        (_in_word(value[0]) and _in_word(candidate.before()))
        or (_in_word(value[-1]) and _in_word(candidate.after()))
    )


def _in_word(character: str) -> bool:
    return character == "_" or character.isalnum()
