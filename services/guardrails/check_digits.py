"""Check digits of numbers that stand for people and accounts. Pure arithmetic on their characters.

Each function takes what was found (spaces, dots, dashes and slashes in it do not matter) and tells
whether its check digits fit; `False` for what does not have the form at all.
"""

from collections.abc import Sequence
from datetime import date

__all__ = [
    "IBAN_LENGTHS",
    "ahv_fits",
    "austrian_insurance_fits",
    "belgian_number_fits",
    "bsn_fits",
    "codice_fiscale_fits",
    "cpf_fits",
    "dni_fits",
    "german_insurance_fits",
    "german_tax_id_fits",
    "hetu_fits",
    "iban_fits",
    "luhn_fits",
    "nhs_fits",
    "nif_fits",
    "nir_fits",
    "personnummer_fits",
    "pesel_fits",
    "plain",
    "pps_fits",
    "tfn_fits",
    "verhoeff_fits",
]

_SEPARATORS = str.maketrans("", "", " .-/\u00a0\u202f")

_IBAN_LENGTHS = """
    AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27
    DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28
    IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22
    MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24
    SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30
"""
IBAN_LENGTHS = {
    code: int(length)
    for entry in _IBAN_LENGTHS.split()
    for code, length in [(entry[:2], entry[2:])]
}
"""Characters of an IBAN, by country (the SWIFT registry of IBANs)."""


def plain(value: str) -> str:
    """Return the value in upper case without what only makes it easier to read."""
    return value.translate(_SEPARATORS).upper()


def _digits(value: str, *lengths: int) -> list[int] | None:
    """Return the digits, None where it is not digits alone or not so many of them."""
    text = plain(value)
    if not (text.isascii() and text.isdigit() and len(text) in lengths):
        return None
    return [int(character) for character in text]


def _weighted(digits: Sequence[int], weights: Sequence[int]) -> int:
    return sum(digit * weight for digit, weight in zip(digits, weights, strict=True))


def _is_date(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


def luhn_fits(value: str, *lengths: int) -> bool:
    """Luhn (ISO/IEC 7812-1): card numbers, Canada's SIN, Sweden's number."""
    digits = _digits(value, *lengths)
    if digits is None:
        return False
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return (sum(doubled) + sum(digits[::-2])) % 10 == 0


def verhoeff_fits(value: str, *lengths: int) -> bool:
    """Verhoeff: India's Aadhaar."""
    digits = _digits(value, *lengths)
    if digits is None:
        return False
    state = 0
    for place, digit in enumerate(reversed(digits)):
        state = _VERHOEFF_PRODUCT[state][_VERHOEFF_PERMUTED[place % 8][digit]]
    return state == 0


_VERHOEFF_PRODUCT = [
    [(i + j) % 5 if j < 5 else 5 + (i + j) % 5 for j in range(10)]
    if i < 5
    else [5 + (i - j) % 5 if j < 5 else (i - j) % 5 for j in range(10)]
    for i in range(10)
]
"""The product in the dihedral group of order ten."""
_VERHOEFF_PERMUTED = [list(range(10)), [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]]
while len(_VERHOEFF_PERMUTED) < 8:
    _VERHOEFF_PERMUTED.append([_VERHOEFF_PERMUTED[1][digit] for digit in _VERHOEFF_PERMUTED[-1]])


def _mod_97(text: str) -> int:
    """Return ISO 7064 MOD 97-10's remainder; letters count from 10 on."""
    return int("".join(str(int(character, 36)) for character in text)) % 97


def iban_fits(value: str) -> bool:
    """IBAN (ISO 13616): the country's length and MOD 97-10."""
    text = plain(value)
    return (
        len(text) == IBAN_LENGTHS.get(text[:2])
        and text.isascii()
        and text.isalnum()
        and _mod_97(text[4:] + text[:4]) == 1
    )


def german_tax_id_fits(value: str) -> bool:
    """Germany's tax id: one digit of the first ten twice or thrice, ISO 7064 MOD 11,10."""
    digits = _digits(value, 11)
    if digits is None or digits[0] == 0:
        return False
    repeated = [
        digits[:10].count(digit) for digit in set(digits[:10]) if digits[:10].count(digit) > 1
    ]
    if repeated not in ([2], [3]):
        return False
    product = 10
    for digit in digits[:10]:
        product = ((digit + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == digits[10]


def german_insurance_fits(value: str) -> bool:
    """Germany's pension insurance number: the letter as two digits, digit sums by weights."""
    text = plain(value)
    if len(text) != 12 or not (text[:8] + text[9:]).isdigit() or not "A" <= text[8] <= "Z":
        return False
    if not (1 <= int(text[2:4]) % 50 <= 31 and 1 <= int(text[4:6]) <= 12):
        return False
    digits = [int(character) for character in f"{text[:8]}{ord(text[8]) - 64:02}{text[9:]}"]
    weights = (2, 1, 2, 5, 7, 1, 2, 1, 2, 1, 2, 1)
    products = (digit * weight for digit, weight in zip(digits, weights, strict=False))
    return sum(product // 10 + product % 10 for product in products) % 10 == digits[12]


def nir_fits(value: str) -> bool:
    """France's NIR: 97 less the remainder of the first thirteen; Corsica's letters are 19, 18."""
    text = plain(value)
    number = text[:13].replace("2A", "19", 1).replace("2B", "18", 1)
    if len(text) != 15 or not (number + text[13:]).isdigit():
        return False
    return 97 - int(number) % 97 == int(text[13:])


def dni_fits(value: str) -> bool:
    """Spain's DNI and NIE: the letter is the number's remainder by 23."""
    text = plain(value)
    number = str("XYZ".find(text[:1])) + text[1:8] if text[:1] in set("XYZ") else text[:8]
    if len(text) != 9 or not number.isdigit():
        return False
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == text[8]


def codice_fiscale_fits(value: str) -> bool:
    """Italy's codice fiscale: a letter from the odd and even places (Decreto 23/12/1976)."""
    text = plain(value)
    if len(text) != 16 or not (text.isascii() and text.isalnum()):
        return False
    odd = (
        1,
        0,
        5,
        7,
        9,
        13,
        15,
        17,
        19,
        21,
        2,
        4,
        18,
        20,
        11,
        3,
        6,
        8,
        12,
        14,
        16,
        10,
        22,
        25,
        24,
        23,
    )
    values = [
        int(character) if character.isdigit() else ord(character) - 65 for character in text[:15]
    ]
    total = sum(odd[number] for number in values[::2]) + sum(values[1::2])
    return text[15] == chr(65 + total % 26)


def bsn_fits(value: str) -> bool:
    """The Netherlands' BSN: the eleven-proof."""
    digits = _digits(value, 9)
    return (
        digits is not None
        and any(digits)
        and _weighted(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0
    )


def belgian_number_fits(value: str) -> bool:
    """Belgium's national number: 97 less the remainder, with a 2 before it from 2000 on."""
    text = plain(value)
    # A registry adds 20 or 40 to the month of those whose date or sex it does not know.
    if len(text) != 11 or not text.isdigit() or not 0 <= int(text[2:4]) % 20 <= 12:
        return False
    check = int(text[9:])
    return check in (97 - int(text[:9]) % 97, 97 - int("2" + text[:9]) % 97)


def pesel_fits(value: str) -> bool:
    """Poland's PESEL: weights 1, 3, 7, 9; a date whose month tells the century."""
    digits = _digits(value, 11)
    if digits is None:
        return False
    text = plain(value)
    century = {0: 1900, 1: 2000, 2: 2100, 3: 2200, 4: 1800}[int(text[2:4]) // 20]
    born = _is_date(century + int(text[:2]), int(text[2:4]) % 20, int(text[4:6]))
    return born and _weighted(digits, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0


def personnummer_fits(value: str) -> bool:
    """Sweden's number: a date and Luhn of its last ten digits."""
    text = value.replace("-", "").replace("+", "")[-10:]
    # A coordination number has 60 added to its day. The century does not matter here.
    return (
        luhn_fits(text, 10)
        and 1 <= int(text[2:4]) <= 12
        and 1 <= int(text[4:6]) - 60 * (int(text[4:6]) > 60) <= 31
    )


def ahv_fits(value: str) -> bool:
    """Switzerland's AHV number: 756 and the check digit of an EAN-13."""
    digits = _digits(value, 13)
    return (
        digits is not None
        and digits[:3] == [7, 5, 6]
        and (sum(digits[::2]) + 3 * sum(digits[1::2])) % 10 == 0
    )


def austrian_insurance_fits(value: str) -> bool:
    """Austria's insurance number: the fourth digit is a weighted sum of the others by 11."""
    digits = _digits(value, 10)
    if digits is None or digits[0] == 0 or not 1 <= digits[4] * 10 + digits[5] <= 31:
        return False
    return _weighted(digits[:3] + digits[4:], (3, 7, 9, 5, 8, 4, 2, 1, 6)) % 11 == digits[3]


def hetu_fits(value: str) -> bool:
    """Finland's number: a date, and a character that is the remainder by 31."""
    text = value.upper()
    number = text[:6] + text[7:10]
    if len(text) != 11 or not number.isdigit():
        return False
    if not (1 <= int(text[:2]) <= 31 and 1 <= int(text[2:4]) <= 12):
        return False
    return "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(number) % 31] == text[10]


def _complement_11(total: int) -> int:
    """Return 11 less the remainder by 11; 10 and 11 count as 0."""
    check = 11 - total % 11
    return 0 if check > 9 else check


def nif_fits(value: str) -> bool:
    """Portugal's NIF."""
    digits = _digits(value, 9)
    return (
        digits is not None
        and digits[0] != 0
        and _complement_11(_weighted(digits[:8], range(9, 1, -1))) == digits[8]
    )


def cpf_fits(value: str) -> bool:
    """Brazil's CPF: two check digits; no number of one digit alone."""
    digits = _digits(value, 11)
    return (
        digits is not None
        and len(set(digits)) > 1
        and _complement_11(_weighted(digits[:9], range(10, 1, -1))) == digits[9]
        and _complement_11(_weighted(digits[:10], range(11, 1, -1))) == digits[10]
    )


def nhs_fits(value: str) -> bool:
    """The NHS number of England: weights 10 to 2, by 11."""
    digits = _digits(value, 10)
    if digits is None:
        return False
    check = 11 - _weighted(digits[:9], range(10, 1, -1)) % 11
    return check != 10 and check % 11 == digits[9]


def tfn_fits(value: str) -> bool:
    """Australia's tax file number of nine digits: a weighted sum by 11."""
    digits = _digits(value, 9)
    return digits is not None and _weighted(digits, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0


def pps_fits(value: str) -> bool:
    """Ireland's PPS number: seven digits, a letter by 23, perhaps a second letter."""
    text = plain(value)
    if len(text) not in (8, 9) or not text[:7].isdigit() or not text[7:].isalpha():
        return False
    second = 0 if len(text) == 8 or text[8] == "W" else ord(text[8]) - 64
    total = _weighted([int(c) for c in text[:7]], range(8, 1, -1)) + 9 * second
    return "WABCDEFGHIJKLMNOPQRSTUV"[total % 23] == text[7]
