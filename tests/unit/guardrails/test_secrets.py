"""Secrets: gitleaks' rules as data, and what was added to them."""

import json
import re
from importlib import resources
from random import Random

import pytest

from schemas.errors import ConfigError
from services.guardrails import build_scanner, mask
from services.guardrails.gitleaks import KEYWORD_BYTES_MAX, gitleaks_rules, left_out
from services.guardrails.own_secrets import secret_rules
from tests.support.guardrail_secrets import drawn
from tests.support.pattern_samples import matching_text

SCANNER = build_scanner("secrets", {})


def test_every_rule_finds_what_its_pattern_describes() -> None:
    # Given each rule, when texts are drawn from its pattern, then it finds one of them, or another
    # rule does in the same place: none is dead, whatever first pass, entropy and keywords ask for.
    random = Random(1)
    silent = []
    for rule, raw in zip(gitleaks_rules(), sorted_entries(), strict=True):
        assert rule.name == raw["id"]
        for _ in range(60):
            text = f"{' '.join(raw['keywords'])} \n {matching_text(rule.pattern, random)}\n"
            if any(finding.rule == rule.name for finding in SCANNER.scan(text)):
                break
        else:
            silent.append(rule.name)
    # Its pattern is that of bittrex-access-key, which comes first.
    assert silent == ["bittrex-secret-key"]


def sorted_entries() -> list[dict[str, list[str]]]:
    data = json.loads(resources.files("services.guardrails").joinpath("gitleaks.json").read_bytes())
    assert "MIT License" in data["licence"]
    assert "8.30.1" in data["source"]
    rules: list[dict[str, list[str]]] = data["rules"]
    return sorted(rules, key=lambda rule: str(rule["id"]).startswith("generic"))


def test_what_of_gitleaks_is_left_out_has_a_reason() -> None:
    # Given the rules that were not taken over, when they are listed, then each says why, and is
    # in the documents.
    assert left_out() == {"pkcs12-file": "speaks of file names alone"}


def test_only_the_secret_is_marked_not_its_name() -> None:
    # Given a secret behind its name, when the text is masked, then the name stays.
    value = drawn(Random(2), "abcdef0123456789", 40)
    text = f'service_api_key = "{value}"\n'
    assert mask(text, SCANNER.scan(text)) == 'service_api_key = "[MASKED:generic-api-key]"\n'


def test_secrets_behind_names_are_found_in_json_in_json_and_lists_of_names_are_not() -> None:
    # Given a secret behind a name in escaped JSON and in an address, and a list of identifiers that
    # speak of keys, when they are scanned, then the secrets alone are found.
    value = drawn(Random(5), "abcdef0123456789", 40)
    escaped = f'{{"row": "{{\\"api_key\\": \\"{value}\\"}}"}}'
    address = f"https://api.internal/items?api_key={value}&page=2"
    identifiers = "enum kind {\n\tATTR_SAE_PASSWORD,\n\tNL80211_ATTR_TWT_RESPONDER,\n};\n"
    for text in (escaped, address):
        assert [text[f.start : f.end] for f in SCANNER.scan(text)] == [value]
    assert SCANNER.scan(identifiers) == []


def test_what_gitleaks_takes_for_no_secret_is_none() -> None:
    # Given values that repeat themselves, hold everyday words, are examples of their issuer, or
    # stand in a match that gitleaks knows, when they are scanned, then none is found; and the like
    # of them is.
    random = Random(6)
    value = drawn(random, "bcdfghjkmnpqrstvwxz23456789", 30)
    issued = "AKIA" + drawn(random, "BCDFGHJKMNPQRSTV234567", 9)
    assert SCANNER.scan(f'api_key = "{value}"') != []
    for harmless in (
        'api_key = "1212121212121212121212121212"',  # entropy
        f'api_key = "{value[:9]}example{value[9:]}"',  # a word in the value
        f'public_key = "{value}"',  # a name in the match
        f"import {{ token }} from '{value}'",  # the line
        'api_key = "${SERVICE_API_KEY_2}"',  # allowed everywhere
        f"id = {issued}EXAMPLE",  # the issuer's own
    ):
        assert SCANNER.scan(harmless) == [], harmless
    assert [found.rule for found in SCANNER.scan(f"id = {issued}QWERTZU")] == ["aws-access-token"]


def test_a_keyword_far_away_does_not_make_a_hash_a_secret() -> None:
    # Given 40 hexadecimal digits, when the word of a rule that takes them is near, far, or absent,
    # then only the near one counts.
    digits = drawn(Random(3), "abcdef0123456789", 40)
    near = f"sourcegraph {digits} "
    far = f"sourcegraph {'x ' * KEYWORD_BYTES_MAX} {digits} "
    assert [finding.rule for finding in SCANNER.scan(near)] == ["sourcegraph-access-token"]
    assert SCANNER.scan(far) == []
    assert SCANNER.scan(f"commit {digits} ") == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("postgres://app:{}@db.internal:5432/app", True),
        ("https://{}@git.internal/team/project.git", False),
        ("redis://:{}@cache:6379/0", True),
        ("postgres://postgres:password@localhost/test", False),
        ("amqp://guest:guest@localhost", False),
        ("mysql://root:********@db", False),
        ("postgres://app:${{DB_PASSWORD}}@db", False),
        ("http://[::1]:8080/a@b", False),
        ('"Authorization": "Bearer {}"', True),
        (r"{{\"authorization\": \"Basic {}\"}}", True),
        ("Authorization: Bearer <your token>", False),
        ("Authorization: Bearer aaaaaaaaaaaaaaaaaaaaaaaa", False),
    ],
)
def test_passwords_in_addresses_and_headers(text: str, found: bool) -> None:  # noqa: FBT001
    # Given addresses and headers with a password and with what stands for one, when they are
    # scanned, then the passwords alone are found.
    secret = "Zk4vW8mQ2xT7pL1nR5sD"
    given = text.format(secret)
    assert [given[f.start : f.end] for f in SCANNER.scan(given)] == ([secret] if found else [])


def test_rules_are_chosen_by_name() -> None:
    # Given a guardrail with one rule, and one without it, when a text is scanned, then it counts in
    # the first alone.
    text = "token: ghp_" + drawn(Random(4), "abcDEF123", 36)
    only = build_scanner("secrets", {"rules": ["github-pat"]})
    without = build_scanner("secrets", {"exclude_rules": ["github-pat", "generic-api-key"]})
    assert only.rules == ("github-pat",)
    assert [finding.rule for finding in only.scan(text)] == ["github-pat"]
    assert without.scan(text) == []


@pytest.mark.parametrize("kind", ["secrets", "personal_data"])
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rules": ["github-pa"]}, "did you mean github-pat?"),
        ({"rules": ["emial"]}, "did you mean email?"),
        ({"exclude_rules": ["none"]}, 'no rule "none"'),
        ({"rules": []}, "no rule is left"),
        ({"rule": []}, "did you mean rules?"),
        ({"allow": "x"}, "allow"),
        ({"allow_patterns": ["(?!a)"]}, "look-around"),
        (["x"], "expected settings by name"),
    ],
)
def test_settings_that_are_wrong_are_refused(kind: str, given: object, said: str) -> None:
    # Given settings with a mistake, when a scanner is built, then the error says what to do.
    if ("github" in said) != (kind == "secrets") and ("github" in said or "email" in said):
        said = "there is no rule"
    with pytest.raises(ConfigError, match=re.escape(said)):
        build_scanner(kind, given)


def test_rules_have_names_of_their_own() -> None:
    # Given all rules, when their names are counted, then none is there twice.
    names = [rule.name for rule in secret_rules()]
    assert len(set(names)) == len(names) == len(SCANNER.rules)
    assert names[-1] == "generic-api-key"
