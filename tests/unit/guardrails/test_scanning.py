"""What holds for every scanner and every text; and how often the rules are right."""

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bench.guardrail_rules import SEED, Result, evaluate_all
from services.guardrails import KINDS, Finding, build_scanner, mask
from services.guardrails.gate import PIECE_OVERLAP_BYTES, TEXTS_MAX, Gate, GatePattern, Shape
from services.guardrails.own_secrets import secret_rules
from services.guardrails.personal_data import personal_data_rules
from services.guardrails.rules import Rule, RuleScanner
from services.guardrails.texts import PIECE_BYTES, Hit, Texts
from services.runtime.config_guardrail_keys import COMMON_KEYS
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

    def open_for(self, texts: Texts) -> dict[int, list[Hit]]:
        hits = [Hit(number, None) for number in range(self.count)]
        return dict.fromkeys(range(len(texts.encoded)), hits)


def exact_scanner(rules: Sequence[Rule]) -> RuleScanner:
    """The rules without a first pass."""
    return RuleScanner(dict(enumerate(rules)), AllOpen(len(rules)))


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
        if rule.shape.bytes_max:
            counted += 1
            pattern = rule.pattern.replace("(?i)", "").replace("[[:alnum:]]", "[a-z]")
            pattern = re.sub(r"\\p[LN]", "", pattern)
            if rule.shape.run:
                pattern = pattern.replace("{11,}", "")
            most = rule.shape.bytes_max + rule.shape.bytes_after
            assert parse(pattern).getwidth()[1] <= most, rule.name
    assert counted > 10


@pytest.mark.parametrize("kind", SCANNERS)
def test_the_first_pass_changes_no_finding(kind: str) -> None:
    # Given all samples, and texts drawn from all patterns, when they are scanned with and without
    # the first pass, then the findings are the same.
    rules: tuple[Rule, ...] = RULES[kind]
    random = Random(SEED)
    texts = [sample.text for sample in SAMPLES[kind]]
    texts += [f"é {matching_text(rule.pattern, random)} \n" for rule in rules for _ in range(2)]
    exact = exact_scanner(rules)
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
def test_texts_that_are_read_together_are_read_as_each_alone(kind: str) -> None:
    # Given all samples and their beginnings and ends, when they are scanned as one after the other,
    # then the findings of each are those that it has alone, without any first pass.
    random = Random(SEED)
    texts = [sample.text for sample in SAMPLES[kind]]
    texts += [text[random.randrange(len(text)) :] for text in texts]
    texts += [text[: random.randrange(len(text))] for text in texts]
    texts = random.sample(texts, 300)
    exact = exact_scanner(RULES[kind])
    alone = {number: found for number, text in enumerate(texts) if (found := exact.scan(text))}
    assert len(alone) > 60
    assert SCANNERS[kind].scan_all(Texts(texts)) == alone


NAMED = st.sampled_from(
    ["key", "secret_token", ": ", "=", "==", "'", '"', " ", "; ", "\n", "&", "\\", ",", "self.x"]
)
VALUES = st.sampled_from(
    ["abcdefghij", "k3Jh8sQzP0aV", "a/b+c/d9e8f7g6", "Zx9=", "q" * 160, "Qw7Er5Ty3Ui1" * 30, "9"]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(NAMED, VALUES), max_size=40).map("".join))
@example("key=" + "Qw7Er5Ty3Ui1" * 700 + " ")
def test_secrets_behind_a_name_are_found_as_without_the_first_pass(text: str) -> None:
    # Given names, signs, values of all lengths and what ends them in any order, when they are
    # scanned alone, in a long text and among others, then what is found is what the pattern finds.
    (rule,) = (rule for rule in RULES["secrets"] if rule.name == "generic-api-key")
    scanner = build_scanner("secrets", {"rules": [rule.name]})
    exact = exact_scanner([rule])
    assert scanner.scan_all(Texts(["a", text, text])) == {
        number: exact.scan(text) for number in (1, 2) if exact.scan(text)
    }
    for space in (PIECE_BYTES - 30, PIECE_BYTES - 9, PIECE_BYTES - PIECE_OVERLAP_BYTES - 30):
        long = " " * space + text + " " * PIECE_BYTES
        assert scanner.scan(long) == exact.scan(long)


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
            scanner = exact_scanner([rule])
            scanner._patterns[0] = counting
            text = (begun + "\n") * times
            scanner.scan(text)
            assert counting.characters_read <= 2 * len(text.encode()) + 1
            counts.append(counting.searches)
        assert counts[1] <= 2 * counts[0] + 2


class Counting:
    """A pattern that counts how often, and how far, it is searched for."""

    def __init__(self, rule: Rule) -> None:
        self.pattern = exact_scanner([rule])
        self.pattern.scan("")
        self.compiled = self.pattern._patterns[0]
        self.searches = 0
        self.characters_read = 0

    @property
    def groups(self) -> int:
        return int(self.compiled.groups)

    def finditer(self, data: bytes, position: int, limit: int) -> Iterator[Any]:
        self.searches += 1
        for found in self.compiled.finditer(data, position, limit):
            self.searches += 1
            self.characters_read += found.end(0) - position
            position = found.end(0)
            yield found
        self.characters_read += limit - position


@pytest.mark.parametrize("kind", SCANNERS)
def test_long_texts_are_looked_at_in_pieces_without_a_seam(kind: str) -> None:
    # Given a text of several pieces, with samples everywhere and at each seam, and characters of
    # several bytes between them, when it is scanned with and without the first pass, then the
    # findings are the same.
    samples = [sample.text for sample in SAMPLES[kind]]
    rules = RULES[kind]
    exact = exact_scanner(rules)
    for shift in (0, 1, 37):
        text = "\u20ac" * shift
        while len(text.encode()) < 3 * PIECE_BYTES:
            step = len(text.encode()) % (PIECE_BYTES - PIECE_OVERLAP_BYTES)
            near = step > PIECE_BYTES - PIECE_OVERLAP_BYTES - 800
            text += samples[len(text) % len(samples)] + ("\n" if near else "\n\u00e9\u20ac " * 150)
        findings = SCANNERS[kind].scan(text)
        assert len(findings) > 20
        assert findings == exact.scan(text)


def test_the_first_pass_is_never_given_more_than_a_piece() -> None:
    # Given a first pass, when texts of all lengths are given to it, then what its engine reads at
    # once is bounded, all of a text is read, and no character is cut.
    gate = Gate([GatePattern("falcon")], trusted=True)
    gate.open_for(Texts(["-"]))
    read: list[bytes] = []

    class Engine:
        def scan(self, data: bytes, **_: object) -> None:
            read.append(data)

    gate._databases = [Engine()]
    for count in (1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES, 5 * PIECE_BYTES):
        read.clear()
        gate.open_for(Texts(["é" * count]))
        assert all(0 < len(piece) <= PIECE_BYTES and piece.decode() for piece in read)
        overlaps = (len(read) - 1) * PIECE_OVERLAP_BYTES
        assert 2 * count <= sum(map(len, read)) - overlaps <= 2 * count + 2 * len(read)


def test_windows_hold_what_may_match_and_are_one_where_they_overlap() -> None:
    # Given hits of patterns with several shapes in texts of one block, then windows begin and end
    # where matches may, those that overlap are one, none leaves its text, and what cannot count
    # opens nothing.
    shapes = [Shape(4), Shape(2, 3), Shape(4, run=b"abc0", plain=b"abc ")]
    patterns = ("xx", "yy", "[abc]+[ 0]")
    gate = Gate(
        [GatePattern(text, shape=shape) for text, shape in zip(patterns, shapes, strict=True)],
        trusted=True,
    )
    texts = ["xx -- xx -xx", "-yy", "yy------yy", "-------aaaaaaaa0 ", "aaa aaa ", "xx " * 9, "-"]
    assert gate.open_for(Texts(texts)) == {
        0: [Hit(0, [(0, 2), (4, 12)])],
        1: [Hit(1, [(1, 3)])],
        2: [Hit(1, [(0, 5), (8, 10)])],
        3: [Hit(2, [(3, 16)])],
        5: [Hit(0, [(0, 26)])],
    }
    assert gate.open_for(Texts(["xx    " * 9])) == {0: [Hit(0, None)]}
    assert gate.open_for(Texts(["xx" * 200])) == {0: [Hit(0, None)]}


def test_what_is_in_one_of_thousands_of_texts_opens_few_of_them() -> None:
    # Given thousands of small texts of which two have something, somewhere, when they are read
    # together, then few are looked through for it, and it is found.
    texts = ["-"] * 5_000
    texts[1_234], texts[4_999] = "falcon", "the falcon of falcons"
    gate = Gate([GatePattern("falcon"), GatePattern("on$", shape=Shape(9))], trusted=True)
    hits = gate.open_for(Texts(texts))
    assert {1_234, 4_999} <= hits.keys()
    assert len(hits) <= 2 * TEXTS_MAX
    scanner = build_scanner("block_list", {"lists": [{"name": "n", "words": ["falcon"]}]})
    assert scanner.scan_all(Texts(texts)) == {
        1_234: [Finding("n", "block_list", 0, 6)],
        4_999: [Finding("n", "block_list", 4, 10)],
    }


def test_words_and_patterns_are_found_at_every_seam() -> None:
    # Given a block list with a short and an unbounded pattern, when they stand across each place in
    # which a long text is cut, then they are found, however long they are.
    settings = {"name": "n", "words": ["falcon"], "patterns": ["<<[^>]+>>", "é{3}ü"]}
    scanner = build_scanner("block_list", {"lists": [settings]})
    for wanted in ("falcon", "<<" + "-" * 2 * PIECE_BYTES + ">>", "éééü"):
        for cut in (PIECE_BYTES, 2 * PIECE_BYTES - PIECE_OVERLAP_BYTES):
            for before in (-5, -3, -1, 0, 1):
                text = " " * (cut + before) + wanted + " é" * PIECE_BYTES
                assert [text[f.start : f.end] for f in scanner.scan(text)] == [wanted]


def test_threads_share_a_scanner() -> None:
    # Given one scanner, when several threads scan at the same time, then each has its findings.
    texts = [sample.text * 50 for sample in SAMPLES["secrets"][:40]]
    expected = [SCANNERS["secrets"].scan(text) for text in texts]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(SCANNERS["secrets"].scan, texts)) == expected


def test_the_examples_of_the_documents_are_guardrails() -> None:
    # Given the examples of the documents, when scanners are built of them, then all of them are.
    text = (Path(__file__).parents[3] / "docs" / "guardrail-rules.md").read_text("utf-8")
    kinds = []
    for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL):
        for entry in yaml.safe_load(block)["guardrails"]:
            params = entry["litellm_params"]
            own = {name: value for name, value in params.items() if name not in COMMON_KEYS}
            kinds.append(params["guardrail"])
            assert build_scanner(params["guardrail"], own).rules
    assert sorted(kinds) == sorted(KINDS)
