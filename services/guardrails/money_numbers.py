"""Numbers of accounts and cards: which of the numbers in a text are some."""

import re

from services.guardrails.check_digits import IBAN_LENGTHS, iban_fits, luhn_fits, plain
from services.guardrails.rules import Candidate

__all__ = ["CARD_PATTERN", "IBAN_PATTERN", "card_counts", "iban_counts", "stands_free"]

IBAN_PATTERN = r"\b[A-Z]{2}[0-9]{2}(?:[ \-]?[A-Z0-9]{4}){2,7}(?:[ \-]?[A-Z0-9]{1,3})?\b"

CARD_PATTERN = (
    r"\b(?:[2-6][0-9]{3}(?:[ \-]?[0-9]{4}){2}[ \-]?[0-9]{1,4}(?:[ \-]?[0-9]{1,3})?"
    r"|3[0-9]{3}[ \-]?[0-9]{6}[ \-]?[0-9]{4,5})\b"
)
"""Groups of four, or those of American Express and Diners Club (4-6-5, 4-6-4)."""

_CARDS: tuple[tuple[range, tuple[int, ...]], ...] = (
    (range(4000, 5000), (16, 19)),  # Visa (those of 13 digits are no longer given out)
    (range(5100, 5600), (16,)),  # Mastercard
    (range(2221, 2721), (16,)),  # Mastercard
    (range(3400, 3500), (15,)),  # American Express
    (range(3700, 3800), (15,)),  # American Express
    (range(6011, 6012), (16, 17, 18, 19)),  # Discover
    (range(6440, 6600), (16, 17, 18, 19)),  # Discover
    (range(3528, 3590), (16, 17, 18, 19)),  # JCB
    (range(3000, 3060), (14,)),  # Diners Club
    (range(3600, 3700), (14,)),  # Diners Club
    (range(3800, 4000), (14,)),  # Diners Club
    (range(6200, 6300), (16, 17, 18, 19)),  # UnionPay
    (range(5018, 5039), (16, 17, 18, 19)),  # Maestro
    (range(6304, 6305), (16, 17, 18, 19)),  # Maestro
    (range(6759, 6764), (16, 17, 18, 19)),  # Maestro
)
"""First four digits and lengths of the numbers that card networks give out."""

_PUBLISHED_FOR_TESTS = """
    4111111111111111 4012888888881881 4242424242424242 4000056655665556 5555555555554444
    5105105105105100 5200828282828210 2223003122003222 378282246310005 371449635398431
    6011111111111117 6011000990139424 3056930009020004 36227206271667 3566002020360505
    6200000000000005
"""
_TEST_NUMBERS = frozenset(_PUBLISHED_FOR_TESTS.split())
"""Numbers that networks and payment services publish for tests: nobody's."""

_GROUP_BEFORE = re.compile(rb"[0-9A-Fa-f]{4}[ \t]$")
_GROUP_AFTER = re.compile(rb"[ \t][0-9A-Fa-f]{4}")


def stands_free(candidate: Candidate) -> bool:
    """Tell whether a number is not a part of a longer one, of a word, a fraction or a path."""
    before, after = candidate.before(), candidate.after()
    data, end = candidate.data, candidate.end
    if before.isalnum() or (before and before in "._-/+#&%$@"):
        return False
    if after.isalnum() or (after and after in "_-/%@"):
        return False
    # A full stop may end a sentence; before a digit it does not.
    return not (after == "." and data[end + 1 : end + 2].isdigit())


def card_counts(candidate: Candidate) -> bool:
    """Tell whether a number is one that a card network gives out, and Luhn fits."""
    digits = plain(candidate.value)
    if digits in _TEST_NUMBERS or not stands_free(candidate):
        return False
    data = candidate.data
    if _GROUP_BEFORE.search(data, max(0, candidate.start - 8), candidate.start) or (
        _GROUP_AFTER.match(data, candidate.end, candidate.end + 8)
    ):
        return False  # a row of a table of numbers
    prefix = int(digits[:4])
    lengths = next((lengths for prefixes, lengths in _CARDS if prefix in prefixes), ())
    return luhn_fits(digits, *lengths) if lengths else False


def iban_counts(candidate: Candidate) -> bool:
    """Tell whether an IBAN is there; what follows it in the same line is cut off the candidate."""
    value = candidate.value
    length = IBAN_LENGTHS.get(value[:2])
    if length is None:
        return False
    count = 0
    for place, character in enumerate(value):
        count += character not in " -"
        if count == length:
            if value[place + 1 : place + 2].isalnum() or not iban_fits(value[: place + 1]):
                return False
            candidate.end = candidate.start + place + 1
            return True
    return False
