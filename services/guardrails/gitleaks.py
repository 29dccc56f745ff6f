"""gitleaks' rules (gitleaks.json, made by bench/gitleaks_rules.py) as rules of ours.

A rule means here what it means to gitleaks: its pattern, the entropy that its value must exceed,
and what it allows (patterns of the value, the match or the line, words in the value). Three things
differ, since gitleaks reads files, and this reads conversations:

- A token ends at a quote, white space or a semicolon in a file. In a conversation it also ends at a
  full stop, a comma or a bracket; so tokens with a form of their own (no name before them) may end
  there too. Secrets behind a name may not (each list of identifiers would be full of them).
- JSON in JSON has escaped quotes, and addresses go on with &: both may stand beside a secret.
- One of a rule's keywords must be in the same file. A conversation holds many files; here it must
  be near (KEYWORD_BYTES_MAX): some rules are nothing but 40 hexadecimal digits and a word.
"""

from functools import cache
from hashlib import sha256
from importlib import resources
from typing import Any, Literal

import msgspec
import re2

from services.guardrails.engine import linear_pattern
from services.guardrails.entropy import shannon_entropy
from services.guardrails.gate import Shape
from services.guardrails.rules import Candidate, Check, Rule

__all__ = ["CATEGORY", "KEYWORD_BYTES_MAX", "RULES_FILE", "gitleaks_rules", "left_out"]

RULES_FILE = "gitleaks.json"
CATEGORY = "secret"
KEYWORD_BYTES_MAX = 1_000
"""How far from a match one of the rule's keywords may be."""

_FILE_END = r"""(?:[\x60'"\s;]|\\[nr]|$)"""
_TEXT_END = r"""(?:[\x60'"\s;,.:!?()\[\]{}<>|&*\\]|$)"""
_NAMED = {
    r"""[\s'"]{0,3}""": r"""[\s'"\\]{0,4}""",
    r"""[\x60'"\s=]{0,5}""": r"""[\x60'"\s=\\]{0,6}""",
    _FILE_END: r"""(?:[\x60'"\s;&\\]|$)""",
}
"""What stands around a name, its sign and its secret."""


class _Allow(msgspec.Struct, forbid_unknown_fields=True):
    """What lets a candidate pass: any of these."""

    patterns: list[str] = []
    target: Literal["secret", "match", "line"] = "secret"
    hashes: list[str] = []
    words: list[str] = []


class _Rule(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    pattern: str
    gate: str = ""
    utf8: bool = False
    bytes_max: int = 0
    run: str = ""
    plain: str = ""
    entropy: float = 0
    group: int = 0
    keywords: list[str] = []
    allow: list[_Allow] = []


class _LeftOut(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    reason: str


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    source: str
    licence: str
    left_out: list[_LeftOut]
    allow: _Allow
    rules: list[_Rule]


class _Allowance:
    """An allow list whose patterns are compiled when the first candidate is asked for."""

    def __init__(self, given: _Allow) -> None:
        self._given = given
        self._compiled: list[Any] | None = None
        self._hashes = frozenset(given.hashes)

    def covers(self, candidate: Candidate) -> bool:
        """Tell whether the candidate is known to be harmless."""
        if self._compiled is None:
            self._compiled = [
                linear_pattern(text) for text in (*self._given.patterns, *self._words())
            ]
        value = candidate.value
        if self._hashes and sha256(value.encode()).hexdigest() in self._hashes:
            return True
        patterns = len(self._given.patterns)
        target = value
        if self._given.target == "match":
            target = candidate.match
        elif self._given.target == "line":
            target = candidate.line()
        data = target.encode()
        if any(pattern.search(data) for pattern in self._compiled[:patterns]):
            return True
        data = value.encode()
        return any(pattern.search(data) for pattern in self._compiled[patterns:])

    def _words(self) -> list[str]:
        """Return one pattern for all words, none for none."""
        words = [re2.escape(word) for word in self._given.words]
        return [f"(?i)(?:{'|'.join(words)})"] if words else []


@cache
def _document() -> _Document:
    data = resources.files("services.guardrails").joinpath(RULES_FILE).read_bytes()
    return msgspec.json.decode(data, type=_Document)


def left_out() -> dict[str, str]:
    """Return gitleaks' rules that are not here, each with the reason."""
    return {entry.id: entry.reason for entry in _document().left_out}


@cache
def gitleaks_rules() -> tuple[Rule, ...]:
    """Return the rules, in the order of the file, the generic one last."""
    document = _document()
    everywhere = _Allowance(document.allow)
    rules = [
        Rule(
            name=entry.id,
            category=CATEGORY,
            pattern=_in_texts(entry.pattern),
            group=entry.group,
            check=_check(entry, [everywhere, *map(_Allowance, entry.allow)]),
            gate=_in_texts(entry.gate),
            utf8=entry.utf8,
            shape=Shape(entry.bytes_max, 0, entry.run.encode(), entry.plain.encode()),
        )
        for entry in document.rules
    ]
    return tuple(sorted(rules, key=lambda rule: rule.name.startswith("generic")))


def _in_texts(pattern: str) -> str:
    """Return the pattern as it fits texts that are no files; see the module."""
    _, own, _ = pattern.rpartition(_FILE_END + r"|\b(")
    own = own or pattern.removeprefix("(?i)")
    if own.removeprefix(_FILE_END + "|").startswith(r"\b") and pattern.endswith(_FILE_END):
        pattern = pattern.removesuffix(_FILE_END) + _TEXT_END
    for in_files, in_texts in _NAMED.items():
        pattern = pattern.replace(in_files, in_texts)
    return pattern


def _check(rule: _Rule, allow: list[_Allowance]) -> Check:
    keywords = [word.encode() for word in rule.keywords]

    def check(candidate: Candidate) -> bool:
        if rule.entropy and shannon_entropy(candidate.value) <= rule.entropy:
            return False
        low = max(0, candidate.match_start - KEYWORD_BYTES_MAX)
        near = candidate.data[low : candidate.match_end + KEYWORD_BYTES_MAX].lower()
        if not any(word in near for word in keywords):
            return False
        return not any(allowance.covers(candidate) for allowance in allow)

    return check
