"""Personal data: addresses, numbers of phones, accounts and cards, and national ids.

A number counts where its form and its check digits speak for it. Where the form is nothing but
digits, and one in ten numbers has fitting check digits, a word beside it must say what it is.
"""

from functools import cache, lru_cache

from services.guardrails.chosen import build_chosen
from services.guardrails.contacts import (
    EMAIL_GATE,
    EMAIL_PATTERN,
    NAMED_PHONE_PATTERN,
    NORTH_AMERICAN_PATTERN,
    PHONE_PATTERN,
    email_counts,
    named_phone_counts,
    north_american_counts,
    phone_counts,
)
from services.guardrails.engine import Gate
from services.guardrails.money_numbers import (
    CARD_PATTERN,
    IBAN_PATTERN,
    card_counts,
    iban_counts,
)
from services.guardrails.national_ids import NATIONAL_IDS
from services.guardrails.rules import Rule, RuleScanner

__all__ = ["build_personal_data", "personal_data_rules"]

CATEGORY = "personal_data"
_BYTES_MAX = {
    IBAN_PATTERN: 48,
    CARD_PATTERN: 24,
    PHONE_PATTERN: 84,
    NORTH_AMERICAN_PATTERN: 26,
    **{pattern: 24 for _, pattern, _ in NATIONAL_IDS if not pattern.startswith("(?i)")},
}
"""Of the patterns that many texts hold a part of: the longest match (a test compares)."""


@cache
def personal_data_rules() -> tuple[Rule, ...]:
    """Return all rules, those whose numbers prove themselves first."""
    given = (
        ("email", EMAIL_PATTERN, email_counts),
        ("iban", IBAN_PATTERN, iban_counts),
        ("card-number", CARD_PATTERN, card_counts),
        *NATIONAL_IDS,
        ("phone", PHONE_PATTERN, phone_counts),
        ("phone", NORTH_AMERICAN_PATTERN, north_american_counts),
        ("phone", NAMED_PHONE_PATTERN, named_phone_counts),
    )
    return tuple(
        Rule(
            name=name,
            category=CATEGORY,
            pattern=pattern,
            check=check,
            gate=EMAIL_GATE if name == "email" else "",
            bytes_max=_BYTES_MAX.get(pattern, 0),
        )
        for name, pattern, check in given
    )


def build_personal_data(settings: object) -> RuleScanner:
    """Return the scanner of personal data. Raises ConfigError with the place of what is wrong."""
    return build_chosen(settings, personal_data_rules(), _gate)


@lru_cache(maxsize=8)
def _gate(names: frozenset[str]) -> Gate:
    """Return the first pass for some rules; it has no state that texts change."""
    patterns = [rule.for_gate() for rule in personal_data_rules() if rule.name in names]
    return Gate(patterns, trusted=True)
