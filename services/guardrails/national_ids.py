"""National ids: one rule per number, most with check digits."""

from collections.abc import Callable

from services.guardrails import check_digits
from services.guardrails.check_digits import plain
from services.guardrails.money_numbers import stands_free
from services.guardrails.rules import Candidate, Check

__all__ = ["CODICE_FISCALE_PATTERN", "NATIONAL_IDS"]

_GAP = r"[^0-9\n\x80-\xff]{0,24}?"
"""Between the name of a number and the number: `"ssn": "`, ` is `, ` number: `."""


def _named(words: str, digits: str) -> str:
    """Return the pattern of a number that a word before it names."""
    return rf"(?i)(?:^|[^a-z])(?:{words}){_GAP}\b({digits})\b"


def _if(fits: Callable[[str], bool]) -> Check:
    """Return the check of a number by its digits, where it is not a part of something else."""

    def check(candidate: Candidate) -> bool:
        return stands_free(candidate) and fits(candidate.value)

    return check


_SSN_NOBODY_HAS = frozenset({"078051120", "219099999", "123456789", "111111111", "333333333"})


def _ssn_fits(value: str) -> bool:
    """Social Security numbers have no check digit; some are never given out."""
    digits = plain(value)
    return (
        digits[:3] not in {"000", "666"}
        and digits[0] != "9"
        and digits[3:5] != "00"
        and digits[5:] != "0000"
        and digits not in _SSN_NOBODY_HAS
    )


def _itin_fits(value: str) -> bool:
    group = int(plain(value)[3:5])
    return 50 <= group <= 65 or 70 <= group <= 88 or 90 <= group <= 92 or 94 <= group <= 99


def _nino_fits(value: str) -> bool:
    return plain(value)[:2] not in {"BG", "GB", "KN", "NK", "NT", "TN", "ZZ"}


def _digits(fits: Callable[..., bool], *lengths: int) -> Callable[[str], bool]:
    return lambda value: fits(value, *lengths)


_FR_NIR = r"[12] ?[0-9]{2} ?[0-9]{2} ?(?:[0-9]{2}|2[AB]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}"
_IT_DIGIT = "[0-9LMNP-V]"
CODICE_FISCALE_PATTERN = (
    rf"\b[A-Z]{{6}}{_IT_DIGIT}{{2}}[A-EHLMPR-T]{_IT_DIGIT}{{2}}[A-Z]{_IT_DIGIT}{{3}}[A-Z]\b"
)

NATIONAL_IDS: tuple[tuple[str, str, Check], ...] = (
    (
        "it-codice-fiscale",
        CODICE_FISCALE_PATTERN,
        _if(check_digits.codice_fiscale_fits),
    ),
    ("fr-nir", rf"\b{_FR_NIR}\b", _if(check_digits.nir_fits)),
    (
        "de-social-insurance",
        r"\b[0-9]{2} ?[0-3][0-9][01][0-9]{3} ?[A-Z] ?[0-9]{3}\b",
        _if(check_digits.german_insurance_fits),
    ),
    (
        "de-tax-id",
        r"\b[1-9][0-9] [0-9]{3} [0-9]{3} [0-9]{3}\b",
        _if(check_digits.german_tax_id_fits),
    ),
    (
        "de-tax-id",
        _named(
            r"steuer.{0,2}id|steuer.?identifikationsnummer|steuer.?nummer|id.?nr|idnr|tax.?id|tin",
            r"[1-9][0-9](?: ?[0-9]{3}){3}",
        ),
        _if(check_digits.german_tax_id_fits),
    ),
    ("ch-ahv", r"\b756\.?[0-9]{4}\.?[0-9]{4}\.?[0-9]{2}\b", _if(check_digits.ahv_fits)),
    (
        "at-social-insurance",
        _named(r"svnr|sv.?nummer|vsnr|sozialversicherungs.?nummer", r"[0-9]{4} ?[0-9]{6}"),
        _if(check_digits.austrian_insurance_fits),
    ),
    (
        "es-dni",
        r"\b(?:[0-9]{8}-?|[XYZ]-?[0-9]{7}-?)[A-HJ-NP-TV-Z]\b",
        _if(check_digits.dni_fits),
    ),
    (
        "be-national-number",
        r"\b[0-9]{2}\.[0-9]{2}\.[0-9]{2}-[0-9]{3}\.[0-9]{2}\b",
        _if(check_digits.belgian_number_fits),
    ),
    (
        "br-cpf",
        r"\b[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}\b",
        _if(check_digits.cpf_fits),
    ),
    ("br-cpf", _named("cpf", r"[0-9]{11}"), _if(check_digits.cpf_fits)),
    (
        "fi-hetu",
        r"\b[0-3][0-9][01][0-9]{3}[-+A-FU-Y][0-9]{3}[0-9A-FHJ-NPR-Y]\b",
        _if(check_digits.hetu_fits),
    ),
    (
        "se-personnummer",
        r"\b[0-9]{2}[01][0-9][0-9]{2}[-+][0-9]{4}\b",
        _if(check_digits.personnummer_fits),
    ),
    (
        "se-personnummer",
        _named(r"person.?nummer|person.?nr|pnr", r"(?:19|20)[0-9]{6}[-+]?[0-9]{4}"),
        _if(check_digits.personnummer_fits),
    ),
    ("pl-pesel", _named("pesel", r"[0-9]{11}"), _if(check_digits.pesel_fits)),
    (
        "nl-bsn",
        _named(r"bsn|burgerservice.?nummer|sofi.?nummer", r"[0-9]{9}|[0-9]{4}\.[0-9]{2}\.[0-9]{3}"),
        _if(check_digits.bsn_fits),
    ),
    (
        "pt-nif",
        _named(r"nif|contribuinte|identificação fiscal", r"[0-9]{3} ?[0-9]{3} ?[0-9]{3}"),
        _if(check_digits.nif_fits),
    ),
    (
        "ie-pps",
        _named(r"ppsn?|personal public service", r"[0-9]{7}[A-W][A-IW]?"),
        _if(check_digits.pps_fits),
    ),
    (
        "in-aadhaar",
        _named(r"aadh?aar|uidai", r"[2-9][0-9]{3}[ -]?[0-9]{4}[ -]?[0-9]{4}"),
        _if(_digits(check_digits.verhoeff_fits, 12)),
    ),
    (
        "ca-sin",
        _named(r"sin|social insurance", r"[1-9][0-9]{2}[ -]?[0-9]{3}[ -]?[0-9]{3}"),
        _if(_digits(check_digits.luhn_fits, 9)),
    ),
    (
        "au-tfn",
        _named(r"tfn|tax file", r"[0-9]{3} ?[0-9]{3} ?[0-9]{3}"),
        _if(check_digits.tfn_fits),
    ),
    (
        "gb-nhs-number",
        _named(r"nhs", r"[0-9]{3}[ -]?[0-9]{3}[ -]?[0-9]{4}"),
        _if(check_digits.nhs_fits),
    ),
    (
        "gb-nino",
        r"\b[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]\b",
        _if(_nino_fits),
    ),
    ("us-ssn", r"\b[0-8][0-9]{2}-[0-9]{2}-[0-9]{4}\b", _if(_ssn_fits)),
    (
        "us-ssn",
        _named(r"ssn|social.?security", r"[0-8][0-9]{2}[ -]?[0-9]{2}[ -]?[0-9]{4}"),
        _if(_ssn_fits),
    ),
    ("us-itin", r"\b9[0-9]{2}-[5-9][0-9]-[0-9]{4}\b", _if(_itin_fits)),
)
"""Name, pattern and check of each; two of one name are two forms of one number."""
