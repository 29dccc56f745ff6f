"""Made-up personal data of several countries, and the texts that they stand in."""

from collections.abc import Callable
from random import Random

from faker import Faker

from services.guardrails.check_digits import verhoeff_fits
from tests.support.guardrail_secrets import Sample

__all__ = ["people_samples"]

_LOCALE_NAMES = """
    en_US en_GB en_CA en_IN de_DE de_AT de_CH fr_FR it_IT es_ES nl_NL nl_BE pl_PL pt_PT pt_BR
    sv_SE fi_FI
"""
_LOCALES = _LOCALE_NAMES.split()

# Name of the rule, the words for it in texts, and how it is drawn.
Form = tuple[str, str, Callable[[], str]]

CONTEXTS: tuple[tuple[str, str], ...] = (
    ("sentence", "The customer wrote again today, {name}: {value}, please call back."),
    ("end of a sentence", "It concerns {name} {value}."),
    ("JSON", '{{"{name}": "{value}", "active": true}}'),
    ("JSON in JSON", '{{"row": "{{\\"{name}\\": \\"{value}\\"}}"}}'),
    ("CSV without names", "17,{value},2024-03-01\n"),
    ("code", 'person = Person({name}="{value}", age=41)\n'),
    ("SQL", "INSERT INTO people ({name}, city) VALUES ('{value}', 'Ulm');"),
    ("Markdown", "| {name} | {value} |\n"),
)


def _forms(seed: int) -> list[Form]:
    fakers = {}
    for place, locale in enumerate(_LOCALES):
        fakers[locale] = Faker(locale)
        fakers[locale].seed_instance(seed + place)
    us, gb = fakers["en_US"], fakers["en_GB"]
    random = Random(seed)
    forms: list[Form] = [
        ("email", "email", us.free_email),
        ("email", "mail", fakers["de_DE"].free_email),
        ("email", "address", us.company_email),
        ("card-number", "card number", lambda: us.credit_card_number("visa16")),
        ("card-number", "card", lambda: us.credit_card_number("mastercard")),
        ("card-number", "amex", lambda: us.credit_card_number("amex")),
        ("card-number", "card_no", lambda: _grouped(us.credit_card_number("visa16"), " ")),
        ("card-number", "credit card", lambda: _grouped(us.credit_card_number("discover"), "-")),
        ("us-ssn", "SSN", us.ssn),
        ("us-itin", "ITIN", us.itin),
        ("gb-nino", "NI number", lambda: "AB" + gb.ssn()[2:-1].replace(" ", "") + "C"),
        ("ca-sin", "SIN", fakers["en_CA"].ssn),
        ("in-aadhaar", "aadhaar", lambda: _aadhaar(random)),
        ("de-social-insurance", "RVNR", fakers["de_DE"].rvnr),
        ("ch-ahv", "AHV", fakers["de_CH"].ssn),
        ("at-social-insurance", "SVNR", fakers["de_AT"].ssn),
        ("fr-nir", "NIR", fakers["fr_FR"].ssn),
        ("it-codice-fiscale", "codice fiscale", fakers["it_IT"].ssn),
        ("es-dni", "DNI", fakers["es_ES"].nif),
        ("es-dni", "NIE", fakers["es_ES"].nie),
        ("nl-bsn", "BSN", fakers["nl_NL"].ssn),
        ("be-national-number", "rijksregister", lambda: _belgian(fakers["nl_BE"].ssn())),
        ("pl-pesel", "PESEL", fakers["pl_PL"].pesel),
        ("pt-nif", "NIF", lambda: _portuguese(random)),
        ("br-cpf", "CPF", fakers["pt_BR"].cpf),
        ("se-personnummer", "personnummer", fakers["sv_SE"].ssn),
        ("fi-hetu", "hetu", fakers["fi_FI"].ssn),
        ("de-tax-id", "Steuer-ID", lambda: _german_tax_id(random)),
        ("gb-nhs-number", "NHS number", lambda: _nhs_number(random)),
        ("ie-pps", "PPS number", lambda: _pps_number(random)),
        ("au-tfn", "TFN", lambda: _tax_file_number(random)),
    ]
    forms += [
        ("iban", "IBAN", lambda faker=fakers[locale]: faker.iban())  # type: ignore[misc]
        for locale in ("de_DE", "fr_FR", "en_GB", "nl_NL")
    ]
    forms.append(("iban", "IBAN", lambda: _grouped(fakers["de_AT"].iban(), " ")))
    forms += [
        ("phone", "phone", lambda faker=fakers[locale]: faker.phone_number())  # type: ignore[misc]
        for locale in ("en_US", "en_GB", "de_DE", "fr_FR", "it_IT", "es_ES", "pl_PL", "nl_NL")
    ]
    forms.append(("phone", "mobile", lambda: f"+49 170 {random.randrange(10**6, 10**7)}"))
    forms.append(
        (
            "phone",
            "call me at",
            lambda: f"+1 415 {random.randrange(200, 999)} 7{random.randrange(100, 999)}",
        )
    )
    return forms


def _grouped(value: str, separator: str) -> str:
    return separator.join(value[place : place + 4] for place in range(0, len(value), 4))


def _belgian(value: str) -> str:
    text = "".join(character for character in value if character.isdigit())
    return f"{text[:2]}.{text[2:4]}.{text[4:6]}-{text[6:9]}.{text[9:]}"


def _german_tax_id(random: Random) -> str:
    """Ten digits of which one comes twice, and the check digit of ISO 7064 MOD 11,10."""
    chosen = random.sample(range(10), 9)
    body = [*chosen, random.choice(chosen)]
    while body[0] == 0:
        random.shuffle(body)
    state = 10
    for digit in body:
        total = (state + digit) % 10
        state = (2 * (10 if total == 0 else total)) % 11
    return "".join(map(str, body)) + str((11 - state) % 10)


def _portuguese(random: Random) -> str:
    body = [random.choice((1, 2, 5)), *(random.randrange(10) for _ in range(7))]
    check = 11 - sum(digit * (9 - place) for place, digit in enumerate(body)) % 11
    return "".join(map(str, body)) + str(check if check < 10 else 0)


def _aadhaar(random: Random) -> str:
    """Eleven digits and the one with which the whole is right by Verhoeff."""
    body = str(random.randrange(2 * 10**10, 10**11))
    return next(body + last for last in "0123456789" if verhoeff_fits(body + last, 12))


def _nhs_number(random: Random) -> str:
    while True:
        body = [random.randrange(10) for _ in range(9)]
        check = 11 - sum(digit * (10 - place) for place, digit in enumerate(body)) % 11
        if check != 10:
            text = "".join(map(str, body)) + str(0 if check == 11 else check)
            return f"{text[:3]} {text[3:6]} {text[6:]}"


def _pps_number(random: Random) -> str:
    body = [random.randrange(10) for _ in range(7)]
    total = sum(digit * (8 - place) for place, digit in enumerate(body))
    return "".join(map(str, body)) + "WABCDEFGHIJKLMNOPQRSTUV"[total % 23]


def _tax_file_number(random: Random) -> str:
    while True:
        body = [random.randrange(10) for _ in range(9)]
        if sum(d * w for d, w in zip(body, (1, 4, 3, 7, 5, 8, 6, 9, 10), strict=True)) % 11 == 0:
            text = "".join(map(str, body))
            return f"{text[:3]} {text[3:6]} {text[6:]}"


def people_samples(seed: int) -> list[Sample]:
    """Every form in every context."""
    samples = []
    for rule, name, make in _forms(seed):
        for context, template in CONTEXTS:
            value = make()
            shown = name
            if context in {"code", "SQL"}:
                shown = name.replace(" ", "_").replace("-", "_")
            text = template.format(name=shown, value=value)
            start = text.index(value)
            samples.append(Sample(rule, f"{name} in: {context}", text, start, start + len(value)))
    return samples
