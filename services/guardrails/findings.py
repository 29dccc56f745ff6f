"""What a scanner says of a text, and the text with what was found taken out."""

from collections.abc import Iterable
from typing import Protocol

import msgspec

from services.guardrails.texts import Texts

__all__ = ["Finding", "Scanner", "mask"]


class Finding(msgspec.Struct, frozen=True):
    """A place in a text that a rule speaks of; what stands there is never part of it.

    `start` and `end` are offsets in characters of the text that was given, as in `text[start:end]`.
    `rule` is the name of the rule, `category` what it belongs to (`secret`, `personal_data`, or
    the category of a block list).
    """

    rule: str
    category: str
    start: int
    end: int


class Scanner(Protocol):
    """Finds in a text what the rules of one guardrail speak of."""

    @property
    def rules(self) -> tuple[str, ...]:
        """The names that findings can have, in the order of their precedence."""

    def scan(self, text: str) -> list[Finding]:
        """Return all findings, by start. Raises for no text; may be called in several threads."""

    def scan_all(self, texts: Texts) -> dict[int, list[Finding]]:
        """Return the same of several texts, by the texts' numbers, of those that have some."""

    def bytes_to_search(self, texts: Texts) -> int:
        """Return how many bytes scan_all looks at slowly; what comes before that is fast."""


def mask(text: str, findings: Iterable[Finding]) -> str:
    """Return the text with `[MASKED:rule]` in the place of each finding.

    Findings that overlap become one, named by the one that starts first (the longer one of two
    that start together). Masking the same text by the same findings gives the same text.
    """
    pieces: list[str] = []
    rule, start, end = "", 0, 0  # the masked place that is not written yet
    written = 0
    for finding in sorted(findings, key=lambda found: (found.start, -found.end, found.rule)):
        if rule and finding.start < end:
            end = max(end, finding.end)
            continue
        if rule:
            pieces += (text[written:start], f"[MASKED:{rule}]")
            written = end
        rule, start, end = finding.rule, finding.start, finding.end
    if rule:
        pieces += (text[written:start], f"[MASKED:{rule}]")
        written = end
    pieces.append(text[written:])
    return "".join(pieces)
