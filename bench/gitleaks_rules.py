"""Takes gitleaks' rules over as data: `python -m bench.gitleaks_rules gitleaks.toml 8.30.1`.

Reads the file config/gitleaks.toml of a release of gitleaks (MIT) and writes
services/guardrails/gitleaks.json, one rule per line, with what was left out and why. What only
means files (paths, commits) goes: a conversation has none. Values that are allowed by name become
hashes, so that no key of anybody stands in this repository.
"""

import json
import re
import string
import sys
import tomllib
from hashlib import sha256
from pathlib import Path
from typing import Any

from schemas.errors import ConfigError
from services.guardrails.engine import linear_pattern
from tests.support.pattern_samples import SPELLINGS

TARGET = Path(__file__).parents[1] / "services" / "guardrails" / "gitleaks.json"
LICENCE = (
    "MIT License\n\nCopyright (c) 2019 Zachary Rice\n\n"
    "Permission is hereby granted, free of charge, to any person obtaining a copy of this software "
    'and associated documentation files (the "Software"), to deal in the Software without '
    "restriction, including without limitation the rights to use, copy, modify, merge, publish, "
    "distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the "
    "Software is furnished to do so, subject to the following conditions:\n\n"
    "The above copyright notice and this permission notice shall be included in all copies or "
    "substantial portions of the Software.\n\n"
    'THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING '
    "BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND "
    "NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, "
    "DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING "
    "FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."
)

# What may be absent before the part that matters decides about allowed matches, but not whether
# there is a match: the first pass is faster without it.
LEADS = (r"(?i)[\w.-]{0,50}?", r"[\w.-]{0,50}?(?i:[\w.-]{0,50}?")
BYTES_MAX = 400
"""Of a match that is looked for where the first pass saw its end."""
GATES = {
    "kubernetes-secret-yaml": r"(?i)\bkind:[ \t]*[\"']?secret\b",
    "private-key": r"(?i)-----BEGIN[ A-Z0-9_-]{0,100}PRIVATE KEY(?: BLOCK)?-----",
    "sourcegraph-access-token": "(?i)sgp_|sourcegraph",  # its keywords; else, all hashes of commits
}
"""Simpler patterns for the first pass, where the rule's own is too large, long or slow for it."""
RUNS = {
    "generic-api-key": {
        "bytes_max": 260,
        "run": string.ascii_letters + string.digits + "_.=+/-",
        "plain": string.ascii_letters + "_.-" + "`'\"\\;&" + string.whitespace,
    }
}
"""Bytes of which a value may have any number, and how long a match is without them; and a value of
which bytes alone the rule allows, with those that may follow it."""


def main(source: Path, version: str) -> None:
    config = tomllib.loads(source.read_text("utf-8"))
    rules: list[dict[str, Any]] = []
    left_out: list[dict[str, str]] = []
    for entry in config["rules"]:
        reason = why_not(entry)
        if reason:
            left_out.append({"id": entry["id"], "reason": reason})
        else:
            rules.append(taken(entry))
    document = {
        "source": f"gitleaks {version}, config/gitleaks.toml (https://github.com/gitleaks/gitleaks)",
        "licence": LICENCE,
        "left_out": left_out,
        "allow": allowance(config["allowlist"]),
        "rules": rules,
    }
    lines = (f"{json.dumps(key)}: {in_lines(value)}" for key, value in document.items())
    TARGET.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
    print(f"{len(rules)} rules taken, {len(left_out)} left out: {left_out}")


def in_lines(value: Any) -> str:
    """A list with one item per line, so that a change of a rule is a change of its line."""
    if not isinstance(value, list) or not value:
        return json.dumps(value)
    return "[\n" + ",\n".join(json.dumps(item) for item in value) + "\n]"


def why_not(entry: dict[str, Any]) -> str:
    if "regex" not in entry:
        return "speaks of file names alone"
    try:
        linear_pattern(entry["regex"])
    except ConfigError as error:
        return str(error)
    return ""


def taken(entry: dict[str, Any]) -> dict[str, Any]:
    pattern = entry["regex"]
    rule: dict[str, Any] = {"id": entry["id"], "pattern": pattern}
    longest = longest_match(pattern)
    if longest <= BYTES_MAX and entry["id"] not in GATES:
        rule["bytes_max"] = longest
    if entry["id"] in GATES:
        rule["gate"] = GATES[entry["id"]]
    elif (gate := without_lead(pattern)) != pattern:
        rule["gate"] = gate
    elif takes_any_character(pattern):
        rule["utf8"] = True
    if entry["id"] in RUNS:
        rule |= RUNS[entry["id"]]
    for name, ours in (
        ("entropy", "entropy"),
        ("secretGroup", "group"),
        ("keywords", "keywords"),
    ):
        if name in entry:
            rule[ours] = entry[name]
    allow = [found for one in entry.get("allowlists", []) if (found := allowance(one))]
    if allow:
        rule["allow"] = allow
    return rule


def without_lead(pattern: str) -> str:
    """The pattern without what may be absent before it: it matches in the same texts."""
    for lead in LEADS:
        if pattern.startswith(lead):
            return ("(?i)" if lead == LEADS[0] else "(?i:") + pattern.removeprefix(lead)
    return pattern


def longest_match(pattern: str) -> int:
    """Bytes of the longest match; very many where it has no bound, or any character is in it."""
    if takes_any_character(pattern):
        return sys.maxsize
    for theirs, ours in SPELLINGS.items():
        pattern = pattern.replace(theirs, ours)
    # A few characters more: the reader adds what stands around secrets in texts.
    return int(re._parser.parse(pattern).getwidth()[1]) + 4  # type: ignore[attr-defined]


def takes_any_character(pattern: str) -> bool:
    """Any character, or any but some, may have several bytes."""
    without_classes = re.sub(r"\[(?!\^)(?:[^\]\\]|\\.)*\]", "", pattern)
    return re.search(r"(?<!\\)\.|\[\^|\\[WSD]", without_classes) is not None


def allowance(given: dict[str, Any]) -> dict[str, Any]:
    """What an allow list says of values, matches and lines."""
    if given.get("condition") == "AND" and "paths" in given:
        return {}
    found: dict[str, Any] = {}
    names = [text for text in given.get("regexes", []) if re.fullmatch(r"[\w-]{30,}", text)]
    patterns = [text for text in given.get("regexes", []) if text not in names]
    if patterns:
        found["patterns"] = patterns
        if "regexTarget" in given:
            found["target"] = given["regexTarget"]
    if names:
        found["hashes"] = sorted(sha256(name.encode()).hexdigest() for name in names)
    if "stopwords" in given:
        found["words"] = given["stopwords"]
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
