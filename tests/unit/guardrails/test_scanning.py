"""What holds for every scanner and every text; and how often the rules are right."""

import re
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.guardrail_rules import SEED, Result, evaluate_all
from services.guardrails import Finding, build_scanner, mask
from services.guardrails.engine import Hit
from services.guardrails.own_secrets import secret_rules
from services.guardrails.personal_data import personal_data_rules
from services.guardrails.rules import Rule, RuleScanner
from tests.support.guardrail_people import people_samples
from tests.support.guardrail_secrets import secret_samples
from tests.support.pattern_samples import matching_text

SCANNERS: dict[str, Any] = {kind: build_scanner(kind, {}) for kind in ("secrets", "personal_data")}
RULES = {"secrets": secret_rules(), "personal_data": personal_data_rules()}
SAMPLES = {"secrets": secret_samples(7), "personal_data": people_samples(7)}

# Below what docs/guardrail-rules.md records, for Python versions with other libraries.
FLOORS = {"secrets": (0.92, 0.98, 0.65), "personal_data": (0.94, 0.99, 0.8)}


class AllOpen:
    """In the place of the first pass: every pattern may be in every text."""

    def __init__(self, count: int) -> None:
        self.count = count

    def open_for(self, _: bytes) -> list[Hit]:
        return [Hit(number, None) for number in range(self.count)]


@pytest.fixture(scope="module")
def results() -> dict[str, Result]:
    return {result.kind: result for result in evaluate_all()}


@pytest.mark.parametrize("kind", FLOORS)
def test_rules_are_right_as_often_as_the_documents_say(
    kind: str, results: dict[str, Result]
) -> None:
    # Given hundreds of made-up secrets and personal data, and thousands of clean texts, when they
    # are scanned, then recall and precision are above their floors, of all rules and of each.
    recall, precision, of_each = FLOORS[kind]
    result = results[kind]
    assert result.total.samples >= 200
    assert sum(result.clean.values()) >= 1_000
    assert result.total.recall >= recall
    assert result.total.precision >= precision
    weak = {
        rule: (score.recall, score.precision)
        for rule, score in result.scores.items()
        if rule and (score.recall < of_each or score.precision < 0.9)
    }
    assert weak == {}


@pytest.mark.parametrize("kind", SCANNERS)
def test_no_match_is_longer_than_its_rule_says(kind: str) -> None:
    # Given the rules whose matches are looked for where they end, when the longest text that their
    # pattern can match is computed, then it is no longer than the rule says.
    parse = re._parser.parse  # type: ignore[attr-defined]
    counted = 0
    for rule in RULES[kind]:
        if rule.bytes_max:
            counted += 1
            pattern = rule.pattern.replace("(?i)", "").replace("[[:alnum:]]", "[a-z]")
            assert parse(pattern).getwidth()[1] <= rule.bytes_max, rule.name
    assert counted > 10


@pytest.mark.parametrize("kind", SCANNERS)
def test_the_first_pass_changes_no_finding(kind: str) -> None:
    # Given all samples, and texts drawn from all patterns, when they are scanned with and without
    # the first pass, then the findings are the same.
    rules: tuple[Rule, ...] = RULES[kind]
    random = Random(SEED)
    texts = [sample.text for sample in SAMPLES[kind]]
    texts += [f"é {matching_text(rule.pattern, random)} \n" for rule in rules for _ in range(2)]
    exact = RuleScanner(rules, AllOpen(len(rules)))  # type: ignore[arg-type]
    texts = ["\n".join(texts[place : place + 20]) for place in range(0, len(texts), 20)]
    assert sum(len(exact.scan(text)) for text in texts) > 200
    for text in texts:
        assert SCANNERS[kind].scan(text) == exact.scan(text)


TEXTS = st.one_of(
    st.text(max_size=200),
    st.text(st.characters(), max_size=200),  # half pairs of surrogates too
    st.lists(
        st.one_of(
            st.sampled_from([sample.text for kind in SAMPLES for sample in SAMPLES[kind]]),
            st.text(st.characters(), max_size=8),
            st.sampled_from(["@", "+49 ", "://", "key=", "\\", '"', "é", "\U0001f511", "\x00"]),
        ),
        max_size=6,
    ).map("".join),
)


@settings(max_examples=150, deadline=None)
@given(TEXTS)
def test_any_text_is_scanned_and_findings_stand_where_they_say(text: str) -> None:
    # Given any text, when it is scanned, then nothing is raised, places are inside of the text and
    # in order, a second scan says the same, and masks leave all else as it was.
    for scanner in SCANNERS.values():
        findings = scanner.scan(text)
        assert all(0 <= f.start < f.end <= len(text) for f in findings)
        assert findings == sorted(findings, key=lambda f: (f.start, -f.end))
        assert {f.rule for f in findings} <= set(scanner.rules)
        masked = mask(text, findings)
        assert masked == slowly_masked(text, findings)
        assert scanner.scan(text) == findings


def slowly_masked(text: str, findings: list[Finding]) -> str:
    """The same by its meaning: characters of findings go, each run of them becomes its mask."""
    pieces: list[str] = []
    position = 0
    while position < len(text):
        here = [f for f in findings if f.start == position]
        if not here:
            pieces.append(text[position])
            position += 1
            continue
        first = max(here, key=lambda f: f.end)
        end = first.end
        while wider := [f.end for f in findings if f.start < end < f.end]:
            end = max(wider)
        pieces.append(f"[MASKED:{first.rule}]")
        position = end
    return "".join(pieces)


def test_masks_of_findings_that_overlap_are_one() -> None:
    # Given findings that touch, overlap and hold one another, when the text is masked, then those
    # that overlap are one mask, and the others stay apart.
    places = (("a", 0, 4), ("b", 2, 6), ("c", 3, 4), ("d", 6, 8), ("e", 9, 10))
    findings = [Finding(rule, "c", start, end) for rule, start, end in places]
    assert mask("0123456789", findings) == "[MASKED:a][MASKED:d]8[MASKED:e]"
    assert mask("0123456789", reversed(findings)) == mask("0123456789", findings)
    assert mask("", []) == ""


@pytest.mark.parametrize("kind", SCANNERS)
def test_hostile_texts_take_a_bounded_number_of_searches(kind: str) -> None:
    # Given texts that repeat what patterns begin with, when twice as much of it is scanned, then
    # the searches are twice as many at most, and no place is read twice.
    rules = RULES[kind]
    random = Random(SEED)
    for rule in rules:
        begun = matching_text(rule.pattern, random)[:40]
        counts = []
        for times in (50, 100):
            counting = Counting(rule)
            scanner = RuleScanner([rule], AllOpen(1))  # type: ignore[arg-type]
            scanner._patterns[0] = counting
            text = (begun + "\n") * times
            scanner.scan(text)
            assert counting.characters_read <= 2 * len(text.encode()) + 1
            counts.append(counting.searches)
        assert counts[1] <= 2 * counts[0] + 2


class Counting:
    """A pattern that counts how often, and how far, it is searched for."""

    def __init__(self, rule: Rule) -> None:
        self.pattern = RuleScanner([rule], AllOpen(1))  # type: ignore[arg-type]
        self.pattern.scan("")
        self.compiled = self.pattern._patterns[0]
        self.searches = 0
        self.characters_read = 0

    def search(self, data: bytes, position: int, limit: int) -> Any:
        self.searches += 1
        found = self.compiled.search(data, position, limit)
        self.characters_read += (found.end(0) if found else len(data)) - position
        return found


def test_threads_share_a_scanner() -> None:
    # Given one scanner, when several threads scan at the same time, then each has its findings.
    texts = [sample.text * 50 for sample in SAMPLES["secrets"][:40]]
    expected = [SCANNERS["secrets"].scan(text) for text in texts]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(SCANNERS["secrets"].scan, texts)) == expected
