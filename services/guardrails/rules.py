"""A rule, the text it looks at, and the scanner that applies many of them. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.guardrails.allowed import Allowed
from services.guardrails.engine import linear_pattern
from services.guardrails.findings import Finding
from services.guardrails.gate import ANYWHERE, GatePattern, Shape
from services.guardrails.texts import Hit, Opener, Texts

__all__ = ["FINDINGS_PER_RULE_MAX", "Candidate", "Check", "Rule", "RuleScanner"]

FINDINGS_PER_RULE_MAX = 1_000
"""In one text. At it, the last finding reaches to the end of the text: nothing goes unseen, and
the work is bound by the text's length times this number, whatever pattern and text are."""


class Candidate:
    """What a pattern matched, before the rule's own check: bytes of UTF-8 and places in them.

    A check may move `start` and `end`: these are what is reported then.
    """

    __slots__ = ("data", "end", "match_end", "match_start", "start")

    def __init__(self, data: bytes, start: int, end: int, match_start: int, match_end: int) -> None:
        self.data = data
        self.start = start
        self.end = end
        self.match_start = match_start
        self.match_end = match_end

    @property
    def value(self) -> str:
        """What is reported: the secret, number or word itself."""
        return self.data[self.start : self.end].decode("utf-8", "replace")

    @property
    def match(self) -> str:
        """All that the pattern matched, what stands around the value included."""
        return self.data[self.match_start : self.match_end].decode("utf-8", "replace")

    def line(self, bytes_max: int = 4_096) -> str:
        """Return the lines that the match is in, at most `bytes_max` bytes to each side of it."""
        low = max(0, self.match_start - bytes_max)
        begin = max(low, self.data.rfind(b"\n", low, self.match_start) + 1)
        high = min(len(self.data), self.match_end + bytes_max)
        newline = self.data.find(b"\n", self.match_end, high)
        return self.data[begin : newline if newline >= 0 else high].decode("utf-8", "replace")

    def before(self) -> str:
        """Return the character before the value, empty at the start of the text."""
        return self.data[max(0, self.start - 4) : self.start].decode("utf-8", "ignore")[-1:]

    def after(self) -> str:
        """Return the character after the value, empty at the end of the text."""
        return self.data[self.end : self.end + 4].decode("utf-8", "ignore")[:1]


Check = Callable[[Candidate], bool]


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing to look for.

    `group` is the pattern's group that is reported; 0 means the first one that took part in the
    match, or all of it where there is none. `check` says whether what was matched counts, and may
    move the candidate's start and end. `gate` is a simpler pattern that is in every text in which
    `pattern` is.
    """

    name: str
    category: str
    pattern: str
    group: int = 0
    check: Check | None = None
    gate: str = ""
    utf8: bool = False
    """A character may have several bytes in the pattern (any, any but some, letters of others)."""
    shape: Shape = ANYWHERE
    """Where its matches are, seen from where those of its gate end."""
    apart: bool = False
    """Its gate would make the first pass of all others slow (measured)."""
    overlapping: bool = False
    """A match that the check refuses may overlap one that it takes (matches are short then)."""
    where: str = field(default="", compare=False)
    """The place in the configuration, of the patterns that come from there."""

    def for_gate(self) -> GatePattern:
        """Return what the first pass looks for."""
        return GatePattern(self.gate or self.pattern, self.utf8, self.shape, self.apart)


class RuleScanner:
    """Applies rules to a text: those that are in it at all first, then their exact places.

    Of two findings, one inside of the other, the one whose rule comes first stays.
    """

    def __init__(
        self, rules: Mapping[int, Rule], gate: Opener, allowed: Allowed | None = None
    ) -> None:
        """`rules` are by the numbers of their patterns in the gate, which may have others."""
        self._rules = rules
        self._patterns: dict[int, Any] = {}
        self._gate = gate
        self._allowed = allowed
        self._names = tuple(dict.fromkeys(rule.name for rule in rules.values()))

    @property
    def rules(self) -> tuple[str, ...]:
        """The names of the rules, in the order of their precedence."""
        return self._names

    def scan(self, text: str) -> list[Finding]:
        """Return all findings of a text, by start. Raises for no text.

        Half of a pair of surrogates, which no UTF-8 has, is looked at as a question mark.
        """
        return self.scan_all(Texts([text])).get(0, [])

    def scan_all(self, texts: Texts) -> dict[int, list[Finding]]:
        """Return the findings of several texts by the texts' numbers, of those that have some."""
        found: dict[int, list[Finding]] = {}
        for number, hits in texts.opened_by(self._gate).items():
            data = texts.encoded[number]
            places: list[tuple[int, int, int]] = []
            for hit in hits:
                if hit.number in self._rules:
                    places += ((hit.number, *span) for span in self._spans(hit, data))
            if places:
                found[number] = self._findings(places, data)
        return found

    def bytes_to_search(self, texts: Texts) -> int:
        """Return how many bytes scan_all looks at after the first pass."""
        return sum(
            sum(high - low for low, high in hit.windows)
            if hit.windows is not None
            else len(texts.encoded[number])
            for number, hits in texts.opened_by(self._gate).items()
            for hit in hits
            if hit.number in self._rules
        )

    def _findings(self, places: list[tuple[int, int, int]], data: bytes) -> list[Finding]:
        kept = _outermost(places)
        to_characters = _offsets(data, [offset for _, *span in kept for offset in span])
        return [
            Finding(
                rule=self._rules[number].name,
                category=self._rules[number].category,
                start=to_characters[start],
                end=to_characters[end],
            )
            for number, start, end in kept
        ]

    def _spans(self, hit: Hit, data: bytes) -> list[tuple[int, int]]:
        """Return where a rule finds something, in bytes."""
        rule = self._rules[hit.number]
        pattern = self._patterns.get(hit.number)
        if pattern is None:  # compiled when first needed; twice at the same time does no harm
            pattern = self._patterns[hit.number] = linear_pattern(rule.pattern, rule.where)
        spans: list[tuple[int, int]] = []
        for first, limit in hit.windows or [(0, len(data))]:
            for candidate in _candidates(pattern, data, first, limit, rule):
                if self._counts(rule, candidate):
                    spans.append((candidate.start, candidate.end))
                    if len(spans) == FINDINGS_PER_RULE_MAX:
                        spans[-1] = (candidate.start, len(data))
                        return spans
        return spans

    def _counts(self, rule: Rule, candidate: Candidate) -> bool:
        """Tell whether a candidate is a finding: not empty, right by the check, not allowed."""
        if candidate.end <= candidate.start:
            return False
        if rule.check is not None and not rule.check(candidate):
            return False
        return self._allowed is None or not self._allowed.covers(candidate.value)


def _candidates(
    pattern: Any, data: bytes, position: int, limit: int, rule: Rule
) -> Iterator[Candidate]:
    """Yield what a pattern matches in a window of the text, by start.

    Of a rule whose matches may overlap, each start of a match is one.
    """
    groups = range(1, pattern.groups + 1) if not rule.group else ()
    if not rule.overlapping:
        for found in pattern.finditer(data, position, limit):
            yield _candidate(data, found, groups, rule.group)
        return
    while (found := pattern.search(data, position, limit)) is not None:
        yield _candidate(data, found, groups, rule.group)
        position = found.span(0)[0] + 1


def _candidate(data: bytes, found: Any, groups: Iterable[int], group: int) -> Candidate:
    """Return the match with the group that is reported: `group`, or the first that is not empty."""
    match_start, match_end = found.span(0)
    for number in groups:
        start, end = found.span(number)
        if end > start >= 0:
            return Candidate(data, start, end, match_start, match_end)
    start, end = found.span(group) if group else (match_start, match_end)
    return Candidate(data, start, end, match_start, match_end)


def _outermost(places: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Return the places by start, without those inside of one of a rule that comes first.

    A place that holds one of an earlier rule stays: nothing that was found is left uncovered.
    Equal places are the earlier rule's.
    """
    kept: list[tuple[int, int, int]] = []
    near: list[tuple[int, int, int]] = []  # of those kept: which reach beyond the place's start
    # By start, the longer first: whatever a place is inside of, comes before it.
    for place in sorted(places, key=lambda place: (place[1], -place[2], place[0])):
        number, start, end = place
        near = [other for other in near if other[2] > start]
        if not any(other[0] <= number and other[2] >= end for other in near):
            kept.append(place)
            near.append(place)
    return kept


def _offsets(data: bytes, offsets: list[int]) -> dict[int, int]:
    """Return the offsets in characters of offsets in bytes."""
    if data.isascii():
        return {offset: offset for offset in offsets}
    characters: dict[int, int] = {}
    last, count = 0, 0
    for offset in sorted(set(offsets)):
        count += len(data[last:offset].decode())
        characters[offset] = count
        last = offset
    return characters
