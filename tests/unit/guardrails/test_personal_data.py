"""Personal data: which numbers and addresses count."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.guardrails import build_scanner
from services.guardrails import check_digits as check

SCANNER = build_scanner("personal_data", {})

# Specimens that the issuers of these numbers publish, or that stand in their descriptions.
SPECIMENS = {
    check.iban_fits: ["DE89 3704 0044 0532 0130 00", "GB29 NWBK 6016 1331 9268 19"],
    check.german_tax_id_fits: ["36574261809"],
    check.german_insurance_fits: ["15 070649 C 103", "65 180539 W 001"],
    check.nir_fits: ["2 55 08 14 168 025 38"],
    check.codice_fiscale_fits: ["RCCMNL83S18D969H"],
    check.dni_fits: ["12345678Z", "X1234567L"],
    check.bsn_fits: ["111222333"],
    check.belgian_number_fits: ["85.07.30-033.28"],
    check.pesel_fits: ["44051401359"],
    check.personnummer_fits: ["811218-9876"],
    check.ahv_fits: ["756.9217.0769.85"],
    check.austrian_insurance_fits: ["1237 010180"],
    check.hetu_fits: ["131052-308T"],
    check.nif_fits: ["123456789"],
    check.cpf_fits: ["390.533.447-05"],
    check.nhs_fits: ["943 476 5919"],
    check.tfn_fits: ["123 456 782"],
    check.pps_fits: ["1234567T"],
}


@pytest.mark.parametrize("fits", SPECIMENS, ids=lambda fits: fits.__name__)
def test_published_numbers_fit_and_a_changed_digit_does_not(fits: object) -> None:
    # Given a number that its issuer publishes, when it is checked, then it fits; and with one
    # digit changed to any other it never does.
    assert callable(fits)
    for number in SPECIMENS[fits]:  # type: ignore[index]
        assert fits(number)
        changed = [
            number[:place] + digit + number[place + 1 :]
            for place, old in enumerate(number)
            if old.isdigit()
            for digit in "0123456789"
            if digit != old
        ]
        # Weighted sums by ten miss a few changes of one digit; the others miss none.
        missed = [text for text in changed if fits(text)]
        assert len(missed) <= len(changed) * 0.1, missed


@given(st.text(max_size=24))
@settings(max_examples=80, deadline=None)
def test_check_digits_say_no_to_any_other_text(text: str) -> None:
    # Given any text, when it is checked as any number, then the answer is yes or no, no error.
    for fits in SPECIMENS:
        assert fits(text) in {True, False}
    assert check.luhn_fits(text, 16) in {True, False}
    assert check.verhoeff_fits(text, 12) in {True, False}


@pytest.mark.parametrize(
    "text",
    [
        "git clone git@github.com:team/project.git",
        "Co-Authored-By: Someone <noreply@anthropic.com>",
        "mail to jane@example.com or root@localhost",
        "# userEmail\nThe user's email address is jane@posteo.de. Use this email address only to",
        "q = query@key.transpose(1, 2) + weight@x.T",
        "pip install pkg@1.2.3 @scope/name@latest.js",
        "https://user:word@host.com/path",
        "card 4111 1111 1111 1111 and 4242424242424242",
        "4000 1234 5678 9010 0.4539578763621486 d4539578763621486",
        "54F8 54F9 4539 5787 6362 1486 5500 5501",
        "078-05-1120 000-12-3456 123-45-6789 2024-12-0001",
        "call 415-555-0134 for the film",
        "+2024-01-02 12:00:00\n+1234567890\n-987654321",
        "DE12 3456 7890 1234 5678 90",
        "sum = 3 + 4155550123",
        "version 1.2.3+20240102",
        "tin 12345678901 and nhs 1234567890",
    ],
)
def test_what_only_looks_like_personal_data_passes(text: str) -> None:
    # Given texts of developers that look like personal data, when scanned, then nothing is said.
    assert [text[f.start : f.end] for f in SCANNER.scan(text)] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("An jürgen.müller@posteo.de.", [("email", "jürgen.müller@posteo.de")]),
        ("Write to j.mueller+x@posteo.de, ok?", [("email", "j.mueller+x@posteo.de")]),
        ("ab x.y@z.example.de@a.org", []),
        ("<_me.too_@posteo.de>", [("email", "me.too_@posteo.de")]),
        ("Konto AT611904300234573201 ABCD EFGH", [("iban", "AT611904300234573201")]),
        (
            "IBAN DE89 3704 0044 0532 0130 00 AND MORE",
            [("iban", "DE89 3704 0044 0532 0130 00")],
        ),
        ("📞 +49 (0)30 901820-44!", [("phone", "+49 (0)30 901820-44")]),
        ("tel: 030/9018204", [("phone", "030/9018204")]),
        ("(212) 736-5000 x12", [("phone", "(212) 736-5000 x12")]),
        ("card=4539578763621486;", [("card-number", "4539578763621486")]),
        ("Karte 4539 5787 6362 1486.", [("card-number", "4539 5787 6362 1486")]),
        ("Steuer-ID: 36 574 261 809", [("de-tax-id", "36 574 261 809")]),
        ("my ssn is 536-22-1234.", [("us-ssn", "536-22-1234")]),
    ],
)
def test_places_are_exact(text: str, found: list[tuple[str, str]]) -> None:
    # Given texts with personal data, when scanned, then exactly it is marked, and named.
    assert [(f.rule, text[f.start : f.end]) for f in SCANNER.scan(text)] == found


def test_rules_of_two_forms_are_chosen_together() -> None:
    # Given a rule with several forms, when it is chosen alone, then all of them are used.
    scanner = build_scanner("personal_data", {"rules": ["phone"]})
    text = "+49 170 1234567, 212-736-5000, tel 030 9018204, a@posteo.de"
    assert scanner.rules == ("phone",)
    assert [f.rule for f in scanner.scan(text)] == ["phone"] * 3
