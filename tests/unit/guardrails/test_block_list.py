"""Block lists: words at word boundaries, patterns in linear time, and what is refused."""

import re
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.errors import ConfigError
from services.guardrails import build_scanner, mask
from services.guardrails.engine import linear_pattern
from services.guardrails.gate import Gate, GatePattern
from services.guardrails.rules import FINDINGS_PER_RULE_MAX
from services.guardrails.texts import Hit, Texts


def lists(**of_list: Any) -> dict[str, Any]:
    return {"lists": [{"name": "names", "category": "confidential", **of_list}]}


def found(text: str, **of_list: Any) -> list[str]:
    return [text[f.start : f.end] for f in build_scanner("block_list", lists(**of_list)).scan(text)]


def test_words_are_found_whatever_their_case_and_only_as_words() -> None:
    # Given words, when texts hold them in other cases, over lines, inside of other words, beside
    # letters that ASCII does not have, then only whole words are found, where they stand.
    words = ["Project Atlas", "café", "C++", "a-a"]
    text = "über PROJECT\n   atlas, Café! xcafé caféine c++ c+++ _café (café) xa-a-a"
    assert found(text, words=words) == [
        "PROJECT\n   atlas",
        "Café",
        "c++",
        "c++",
        "café",
        "a-a",
    ]


def test_findings_name_list_and_category_and_masks_take_the_text_out() -> None:
    # Given a list with words and patterns, when a text is scanned and masked, then the findings
    # name the list, and nothing of what they mean is left.
    scanner = build_scanner("block_list", lists(words=["atlas"], patterns=[r"ACME-\d{4}"]))
    text = "\U0001f600 atlas and ACME-1234."
    findings = scanner.scan(text)
    assert [(f.rule, f.category, text[f.start : f.end]) for f in findings] == [
        ("names", "confidential", "atlas"),
        ("names", "confidential", "ACME-1234"),
    ]
    assert mask(text, findings) == "\U0001f600 [MASKED:names] and [MASKED:names]."
    assert scanner.rules == ("names",)


def test_what_is_allowed_passes() -> None:
    # Given values allowed by themselves, by hash and by a pattern, when they stand in a text, then
    # they pass, and others do not; a pattern allows whole values alone.
    allow = {
        "allow": ["ACME-0001", "sha256:" + sha256(b"ACME-0002").hexdigest()],
        "allow_patterns": ["ACME-1.*", "9"],
    }
    scanner = build_scanner("block_list", {**lists(patterns=[r"ACME-\d{4}"]), **allow})
    text = "ACME-0001 ACME-0002 ACME-1999 ACME-9999"
    assert [text[f.start : f.end] for f in scanner.scan(text)] == ["ACME-9999"]


@pytest.mark.parametrize(
    ("settings_given", "said"),
    [
        ({}, "lists"),
        ({"lists": []}, "at least one list"),
        ({"list": []}, "did you mean lists?"),
        (lists(word=["x"]), "did you mean words?"),
        (lists(words=[1]), "words"),
        (lists(), "words or patterns"),
        (lists(words=["  "]), "words[0]"),
        (lists(patterns=["(a"]), "missing )"),
        (lists(patterns=[r"(a)\1"]), "back-references"),
        (lists(patterns=["(?=a)b"]), "look-around"),
        (lists(patterns=["a*"]), "empty text"),
        (lists(patterns=[r"a\C"]), "one byte"),
        (lists(patterns=["(?:a{1000}){100}"]), "patterns[0]"),
        (lists(patterns=["a[bc]{900}" * 6]), "too large"),
        (lists(patterns=["a" * 1_001]), "1001 characters"),
        (lists(words=["w"] * 5_001), "5000 are allowed"),
        (lists(category="[x]", words=["a"]), "category"),
        ({"lists": [{"name": "a", "words": ["a"]}] * 2}, "two lists"),
        ({**lists(words=["a"]), "allow": ["sha256:12"]}, "64 hexadecimal"),
        ({**lists(words=["a"]), "allow_patterns": ["("]}, "allow_patterns[0]"),
    ],
)
def test_settings_that_are_wrong_are_refused_with_their_place(
    settings_given: dict[str, Any], said: str
) -> None:
    # Given settings with a mistake, when a scanner is built, then the error says what and where.
    with pytest.raises(ConfigError, match=re.escape(said)):
        build_scanner("block_list", settings_given)


def test_an_unknown_kind_is_refused_with_the_nearest_one() -> None:
    # Given a kind with a typing error, when a scanner is built, then the known one is named.
    with pytest.raises(ConfigError, match="block_list"):
        build_scanner("blocklist", {})


def test_more_findings_than_the_limit_cover_the_rest_of_the_text() -> None:
    # Given a text with more findings than a rule may have, when it is scanned and masked, then the
    # last finding reaches to the end: nothing passes unseen, and the work is bounded.
    scanner = build_scanner("block_list", lists(patterns=["x[^z]*z|x"]))
    text = "x" * (FINDINGS_PER_RULE_MAX + 500)
    findings = scanner.scan(text)
    assert len(findings) == FINDINGS_PER_RULE_MAX
    assert findings[-1].end == len(text)
    assert "x" not in mask(text, findings)


PARTS = st.sampled_from(
    [
        r"a",
        r"K",
        r"s",
        r"é",
        r"ß",
        r".",
        r"\b",
        r"\d",
        r"\w",
        r"\s",
        r"\S",
        r"\W",
        r"[^a]",
        r"[a-é]",
        r"$",
        r"^",
        r"(a|s)",
        r"(?:b)?",
        r"a{2,3}",
        r".{2}",
        r"[^b]{2}",
        r"(?i)",
        r"\.",
        r"x+?",
        r"\pL",
        r"\x61",
    ]
)


@example([r"\S"], "\v")
@example(["[^", r"\s", "]"], "\v")
@example(["b\x00", "|", "a"], "a")
@example(["(?U)", "a+"], "a")
@example([r"\p{Greek}"], "\u03b1")
@example(["(?i)", "s"], "\u017f")
@example([".{2}", "$"], "\u00e9\u00e9")
@settings(max_examples=300, deadline=None)
@given(st.lists(PARTS, min_size=1, max_size=5), st.text("aAbsSkKéß.\u212a\u017f\n\v 1x\U0001f600"))
def test_the_first_pass_never_hides_what_the_exact_pattern_finds(
    parts: list[str], text: str
) -> None:
    # Given any pattern, when it is in a text by the exact engine, then the first pass says so too.
    pattern = "".join(parts)
    try:
        exact = linear_pattern(pattern, "here")
    except ConfigError:
        return
    if exact.search(b"") is None and exact.search(text.encode()) is not None:
        gate = Gate([GatePattern(pattern)], trusted=False)
        for texts in ([text], ["b", text, "b"]):
            hits = gate.open_for(Texts(texts))
            assert hits[texts.index(text)] == [Hit(0, None)]
