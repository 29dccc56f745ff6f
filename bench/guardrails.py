"""What scanning costs: `python -m bench.guardrails`, or `--smoke`.

CPU of one thread for 100 KB of new text, for each kind of guardrail with all of its rules and for
all of them together: code, documents and prose in which nothing is found; then texts full of
findings; then hostile texts, which repeat what a rule looks for or begins with, rule by rule, in
two lengths (linear time: the second takes twice as long).
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from services.guardrails import Scanner, Texts, build_scanner
from services.guardrails.own_secrets import secret_rules
from services.guardrails.personal_data import personal_data_rules
from tests.support.guardrail_clean import clean_snippets
from tests.support.guardrail_people import people_samples
from tests.support.guardrail_secrets import secret_samples
from tests.support.pattern_samples import matching_text

SEED = 11
CHARACTERS = 100_000
WORDS = 1_000
GOAL_MS = 1.0


def settings_of(random: Random) -> dict[str, dict[str, Any]]:
    """Each kind with all of its rules, the block lists with what a large firm may have."""
    words = ["".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=9)) for _ in range(WORDS)]
    patterns = [rf"\b{word[:4].upper()}-[0-9]{{4,6}}\b" for word in words[:50]]
    lists = [{"name": "names", "words": words}, {"name": "numbers", "patterns": patterns}]
    return {"secrets": {}, "personal_data": {}, "block_list": {"lists": lists}}


def cpu_ms(scan: Callable[[str], object], text: str) -> float:
    began = time.thread_time_ns()
    scan(text)
    return (time.thread_time_ns() - began) / 1e6


def clean_texts(count: int, random: Random) -> Iterator[str]:
    """Texts of 100,000 characters of which no two share much."""
    snippets = [text for _, text in clean_snippets(SEED)]
    random.shuffle(snippets)
    text = "\n".join(snippets)
    for place in range(min(count, len(text) // CHARACTERS)):
        yield text[place * CHARACTERS : (place + 1) * CHARACTERS]


def show_clean(scanners: dict[str, Scanner], texts: list[str]) -> None:
    print(f"100 KB of clean text, {len(texts)} texts, CPU ms (goal: {GOAL_MS} for all together)")
    for kind, scanner in scanners.items():
        for text in texts[:3]:
            scanner.scan(text)  # compiles what is needed
        times = [min(cpu_ms(scanner.scan, text) for _ in range(3)) for text in texts]
        print(f"  {kind:14} {of(times)}")

    def together(text: str) -> None:
        given = Texts([text])
        for scanner in scanners.values():
            scanner.scan_all(given)

    for name, size in (("together", CHARACTERS), ("1 KB, together", 1_000)):
        times = [min(cpu_ms(together, text[:size]) for _ in range(3)) for text in texts]
        print(f"  {name:14} {of(times)}")


def of(times: list[float]) -> str:
    ordered = sorted(times)
    last = ordered[int(len(ordered) * 0.99)]
    return f"median {statistics.median(ordered):.2f}, 99 % {last:.2f}, most {ordered[-1]:.2f}"


def hostile_texts(kind: str, random: Random) -> dict[str, str]:
    """For each rule, texts of what it describes, and of the first part of that, again and again."""
    texts = {}
    for rule in secret_rules() if kind == "secrets" else personal_data_rules():
        whole = matching_text(rule.pattern, random)
        for name, part in (("whole", whole), ("begun", whole[: len(whole) * 2 // 3])):
            for end in ("\n", ""):
                unit = part + end
                texts[f"{rule.name} {name}{' in lines' if end else ''}"] = unit * (
                    2 * CHARACTERS // max(1, len(unit)) + 1
                )
    return texts


def show_hostile(kind: str, scanner: Scanner, count: int) -> None:
    random = Random(SEED)
    texts = list(hostile_texts(kind, random).items())[:: 1 if count <= 0 else 40]
    measured = []
    for name, text in texts:
        once, twice = (cpu_ms(scanner.scan, text[: CHARACTERS * times]) for times in (1, 2))
        measured.append((once, twice, name))
    measured.sort(reverse=True)
    ratios = [twice / once for once, twice, _ in measured if once >= 1]
    print(f"100 KB of hostile text, {kind}, {len(measured)} texts, CPU ms")
    for once, twice, name in measured[:3]:
        print(f"  {once:7.1f}  (200 KB: {twice:.1f})  {name}")
    if ratios:
        median, most = statistics.median(ratios), max(ratios)
        print(f"  200 KB against 100 KB: {median:.2f} times (median), {most:.2f} (most)")


def show_full(scanners: dict[str, Scanner]) -> None:
    print("texts full of findings, CPU ms for 100 KB")
    for kind, samples in (
        ("secrets", secret_samples(SEED)),
        ("personal_data", people_samples(SEED)),
    ):
        text = "\n".join(sample.text for sample in samples)
        text = (text * (CHARACTERS // len(text) + 1))[:CHARACTERS]
        findings = scanners[kind].scan(text)
        print(f"  {kind:14} {cpu_ms(scanners[kind].scan, text):.1f} ({len(findings)} findings)")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.guardrails", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="few texts: only sees that it works")
    smoke = parser.parse_args().smoke
    random = Random(SEED)
    scanners: dict[str, Scanner] = {}
    for kind, settings in settings_of(random).items():
        began = time.perf_counter(), time.process_time()
        scanners[kind] = build_scanner(kind, settings)
        scanners[kind].scan("-")  # the first text has the first pass compiled
        took = time.perf_counter() - began[0], time.process_time() - began[1]
        print(f"built {kind}: {took[0]:.2f} s, {took[1]:.2f} s of CPU")
    show_clean(scanners, list(clean_texts(3 if smoke else 60, random)))
    show_full(scanners)
    for kind in ("secrets", "personal_data"):
        show_hostile(kind, scanners[kind], 1 if smoke else 0)


if __name__ == "__main__":
    main()
