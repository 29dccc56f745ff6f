"""Email addresses and phone numbers: which of the things that look like one are one."""

import re

from services.guardrails.rules import Candidate
from services.guardrails.top_level_domains import TOP_LEVEL_DOMAINS

__all__ = [
    "EMAIL_GATE",
    "EMAIL_PATTERN",
    "NAMED_PHONE_PATTERN",
    "NORTH_AMERICAN_GATE",
    "NORTH_AMERICAN_PATTERN",
    "PHONE_PATTERN",
    "email_counts",
    "named_phone_counts",
    "north_american_counts",
    "phone_counts",
]

_EXTENSION = r"(?: ?(?:x|ext\.? ?)[0-9]{1,5})?"

EMAIL_PATTERN = r"@(?:[\pL\pN][\pL\pN\-]{0,62}\.){1,5}[A-Za-z]{2,18}\b"
"""From the @ on, which is fast to find; what is before it is the check's business."""
EMAIL_GATE = r"[A-Za-z0-9._%+\-\x80-\xff]@[A-Za-z0-9\x80-\xff]"
PHONE_PATTERN = (
    r"\+[1-9][0-9]{0,3}(?:[ .\-/]{0,2}\(?[0-9]{1,5}\)?){2,7}"
    rf"{_EXTENSION}\b"
)
"""In international form: a plus sign and the country."""
NORTH_AMERICAN_PATTERN = (
    r"(?:\([2-9][0-9]{2}\) ?|\b[2-9][0-9]{2}[.\-])[2-9][0-9]{2}[.\-][0-9]{4}"
    rf"{_EXTENSION}\b"
)
NORTH_AMERICAN_GATE = r"[0-9]{3}[.\-][0-9]{4}"
NAMED_PHONE_PATTERN = (
    r"(?i)\b(?:tele?(?:phone|fon|fono|foon|fax)?|phone|mobile?|mobiel|movil|cellulare|handy|fax"
    r"|whatsapp|sms|rufnummer)(?:[ _\-]?(?:number|nummer|num|no|nr))?"
    r"[ .:=\"'#|\\]{1,8}(\(?[0-9]{2,6}\)?(?:[ .\-/]{0,2}[0-9]{2,8}){1,5})\b"
)
"""In the form of its own country: the word before it says that it is one."""

_EXAMPLE_DOMAINS = ("example.com", "example.org", "example.net")
_MAILBOXES_OF_MACHINES = """
    git noreply no-reply donotreply do-not-reply mailer-daemon postmaster nobody
"""
_NOT_A_PERSON = frozenset(_MAILBOXES_OF_MACHINES.split())
_COUNTRY_CODES = """
    1 7 20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62
    63 64 65 66 81 82 84 86 90 91 92 93 94 95 98 211 212 213 216 218 220 221 222 223 224 225
    226 227 228 229 230 231 232 233 234 235 236 237 238 239 240 241 242 243 244 245 246 248
    249 250 251 252 253 254 255 256 257 258 260 261 262 263 264 265 266 267 268 269 290 291
    297 298 299 350 351 352 353 354 355 356 357 358 359 370 371 372 373 374 375 376 377 378
    380 381 382 383 385 386 387 389 420 421 423 500 501 502 503 504 505 506 507 508 509 590
    591 592 593 594 595 596 597 598 599 670 672 673 674 675 676 677 678 679 680 681 682 683
    685 686 687 688 689 690 691 692 850 852 853 855 856 880 886 960 961 962 963 964 965 966
    967 968 970 971 972 973 974 975 976 977 979 992 993 994 995 996 998
"""
_CALLING_CODES = frozenset(_COUNTRY_CODES.split())
"""ITU-T E.164's country codes in use."""
_DATE = re.compile(r"\d{4}[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./]\d{4}")
_DIGITS_MIN, _DIGITS_MAX = 8, 15
_LOCAL_BYTES_MAX = 128
"""Of an address, before the @: 64 characters (RFC 5321), of which few have two bytes."""
_LOCAL_PART_BACKWARDS = re.compile(r"[\w.%+\-]{1,64}")
_CLIENTS_OWN_WORDS = b"The user's email address is "
"""What Claude Code (2.1.330) says of its own user in the first message."""
_USER_IN_ADDRESS = re.compile(rb"://[^\s/@]*$")


def email_counts(candidate: Candidate) -> bool:
    """Tell whether an address may be a person's: a domain that exists, no mailbox of machines."""
    data, at = candidate.data, candidate.start
    before = data[max(0, at - _LOCAL_BYTES_MAX) : at].decode("utf-8", "ignore")
    found = _LOCAL_PART_BACKWARDS.match(before[::-1])
    local = found.group()[::-1].lstrip("._%+-") if found else ""
    domain = candidate.value[1:].lower()
    top = domain.rpartition(".")[2]
    if not local or top not in TOP_LEVEL_DOMAINS or domain.endswith(_EXAMPLE_DOMAINS):
        return False
    if local.lower() in _NOT_A_PERSON or candidate.after() in {"(", "@", "["}:
        return False  # nobody's mailbox, or a call in code
    candidate.start = at - len(local.encode())
    if candidate.before() in {"@", "/", "\\"}:
        return False  # a path, or a package with its version
    if data.endswith(_CLIENTS_OWN_WORDS, 0, candidate.start):
        return False  # each request of somebody who is signed in would be refused
    low = max(0, candidate.start - _LOCAL_BYTES_MAX)
    return _USER_IN_ADDRESS.search(data, low, candidate.start) is None


def _count_of_digits(text: str) -> int:
    return sum(character.isdigit() for character in text)


def phone_counts(candidate: Candidate) -> bool:
    """Tell whether a number with a plus sign has a country and the length of a phone number."""
    value = candidate.value
    before, after = candidate.before(), candidate.after()
    if (
        before.isalnum()
        or (before and before in "+-_/.)]")
        or after.isalnum()
        or after in {"_", "%"}
    ):
        return False
    if before in {"", "\n"} and value[1:].isdigit():
        return False  # a line that a patch adds
    if _DATE.search(value) or value.count("(") != value.count(")"):
        return False
    digits = "".join(character for character in value if character.isdigit())
    return _DIGITS_MIN <= len(digits) <= _DIGITS_MAX and any(
        digits[:length] in _CALLING_CODES for length in (1, 2, 3)
    )


def north_american_counts(candidate: Candidate) -> bool:
    """Tell whether ten digits in North America's form are nobody's number for films (555-01xx)."""
    before, after = candidate.before(), candidate.after()
    if before.isalnum() or (before and before in "-_./"):
        return False
    if (
        after in {"-", "_", "/", "%"}
        or candidate.data[candidate.end + 1 : candidate.end + 2].isdigit()
    ):
        return False
    digits = "".join(character for character in candidate.value if character.isdigit())
    return not (digits[3:6] == "555" and digits[6:8] == "01") and digits[1:3] != "11"


def named_phone_counts(candidate: Candidate) -> bool:
    """Tell whether what a word calls a phone number has the length of one."""
    value = candidate.value
    # A number of its own country begins with a 0; without one it is easily another number.
    least = _DIGITS_MIN if value.lstrip("(").startswith("0") else _DIGITS_MIN + 1
    return least <= _count_of_digits(value) <= _DIGITS_MAX and not _DATE.search(value)
