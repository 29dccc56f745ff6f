"""Personal data: addresses, numbers of phones, accounts and cards, and national ids.

A number counts where its form and its check digits speak for it. Where the form is nothing but
digits, and one in ten numbers has fitting check digits, a word beside it must say what it is.
"""

from functools import cache

from services.guardrails.contacts import (
    EMAIL_GATE,
    EMAIL_PATTERN,
    NAMED_PHONE_PATTERN,
    NORTH_AMERICAN_GATE,
    NORTH_AMERICAN_PATTERN,
    PHONE_PATTERN,
    email_counts,
    named_phone_counts,
    north_american_counts,
    phone_counts,
)
from services.guardrails.gate import ANYWHERE, Shape
from services.guardrails.money_numbers import (
    CARD_PATTERN,
    IBAN_PATTERN,
    card_counts,
    iban_counts,
)
from services.guardrails.national_ids import CODICE_FISCALE_PATTERN, NATIONAL_IDS
from services.guardrails.rules import Rule

__all__ = ["personal_data_rules"]

CATEGORY = "personal_data"
_GATES = {EMAIL_PATTERN: EMAIL_GATE, NORTH_AMERICAN_PATTERN: NORTH_AMERICAN_GATE}
_SHAPES = {
    EMAIL_PATTERN: Shape(bytes_max=2, bytes_after=1_300),
    IBAN_PATTERN: Shape(48),
    CARD_PATTERN: Shape(24),
    PHONE_PATTERN: Shape(84),
    NORTH_AMERICAN_PATTERN: Shape(bytes_max=14, bytes_after=12),
    **{pattern: Shape(24) for _, pattern, _ in NATIONAL_IDS if not pattern.startswith("(?i)")},
}
"""Of the patterns that many texts hold a part of (a test compares)."""
_APART = frozenset({IBAN_PATTERN, PHONE_PATTERN, CODICE_FISCALE_PATTERN})
"""Patterns without which the first pass of all others takes a third of its time (measured)."""


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
            gate=_GATES.get(pattern, ""),
            shape=_SHAPES.get(pattern, ANYWHERE),
            apart=pattern in _APART,
        )
        for name, pattern, check in given
    )
