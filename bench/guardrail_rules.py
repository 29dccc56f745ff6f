"""How often the guardrails' rules are right: `python -m bench.guardrail_rules`.

Looks for made-up secrets and personal data in made-up texts, and in texts in which there is nothing
(code, documents, prose, and what looks alike), and prints precision and recall of each rule, every
kind of miss and every false alarm. With --misses also one line for each miss.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.guardrails import build_scanner
from tests.support.guardrail_clean import clean_snippets
from tests.support.guardrail_people import people_samples
from tests.support.guardrail_secrets import Sample, secret_samples

SEED = 20_241_101


@dataclass
class Score:
    """What became of one rule's samples, and what it said where there was nothing."""

    samples: int = 0
    found: int = 0
    """Wholly inside of findings, whichever rule's."""
    by_itself: int = 0
    """Found by this very rule."""
    right: int = 0
    """This rule's findings that lie on a sample."""
    false_alarms: int = 0

    @property
    def recall(self) -> float:
        return self.found / self.samples if self.samples else 1.0

    @property
    def precision(self) -> float:
        said = self.right + self.false_alarms
        return self.right / said if said else 1.0


@dataclass
class Result:
    """The scores of a kind of guardrail."""

    kind: str
    scores: dict[str, Score] = field(default_factory=dict)
    misses: list[Sample] = field(default_factory=list)
    alarms: list[tuple[str, str, str]] = field(default_factory=list)
    """Rule, where the text is from, and what was found in it."""
    clean: Counter[str] = field(default_factory=Counter)
    clean_characters: int = 0

    def score(self, rule: str) -> Score:
        return self.scores.setdefault(rule, Score())

    @property
    def total(self) -> Score:
        """All rules' scores together; samples that no rule speaks of are in it."""
        scores = self.scores.values()
        return Score(
            samples=sum(score.samples for score in scores),
            found=sum(score.found for score in scores),
            by_itself=sum(score.by_itself for score in scores),
            right=sum(score.right for score in scores),
            false_alarms=sum(score.false_alarms for score in scores),
        )


def evaluate(kind: str, samples: Sequence[Sample], clean: Sequence[tuple[str, str]]) -> Result:
    """Scan all texts and count."""
    scanner = build_scanner(kind, {})
    result = Result(kind)
    for sample in samples:
        findings = scanner.scan(sample.text)
        on_it = [f for f in findings if f.start < sample.end and f.end > sample.start]
        score = result.score(sample.rule)
        score.samples += 1
        if any(f.start <= sample.start and f.end >= sample.end for f in on_it):
            score.found += 1
        else:
            result.misses.append(sample)
        score.by_itself += any(f.rule == sample.rule for f in on_it)
        for finding in findings:
            if finding in on_it:
                result.score(finding.rule).right += 1
            else:
                result.score(finding.rule).false_alarms += 1
                said = sample.text[finding.start : finding.end]
                result.alarms.append((finding.rule, f"sample, {sample.label}", said))
    for source, text in clean:
        result.clean[source] += 1
        result.clean_characters += len(text)
        for finding in scanner.scan(text):
            result.score(finding.rule).false_alarms += 1
            result.alarms.append((finding.rule, source, text[finding.start : finding.end]))
    return result


def evaluate_all() -> list[Result]:
    """Both kinds, each with its samples and the same clean texts."""
    clean = clean_snippets(SEED)
    return [
        evaluate("secrets", secret_samples(SEED), clean),
        evaluate("personal_data", people_samples(SEED), clean),
    ]


def show(result: Result, *, every_miss: bool) -> None:
    total = result.total
    clean = sum(result.clean.values())
    print(f"## {result.kind}\n")
    print(
        f"{total.samples} samples, {total.found} found (recall {total.recall:.1%}); "
        f"{clean} clean texts ({result.clean_characters / 1e6:.1f} million characters: "
        + ", ".join(f"{source} {count}" for source, count in result.clean.items())
        + f"), {total.false_alarms} false alarms (precision {total.precision:.1%})\n"
    )
    print("| rule | samples | found | by this rule | recall | false alarms | precision |")
    print("|---|---|---|---|---|---|---|")
    for rule, score in sorted(result.scores.items()):
        print(
            f"| {rule or '(no rule)'} | {score.samples} | {score.found} | {score.by_itself} "
            f"| {score.recall:.0%} | {score.false_alarms} | {score.precision:.1%} |"
        )
    print("\nMissed, by the text around:\n")
    for label, count in Counter(
        miss.label.partition(" in: ")[2] or miss.label for miss in result.misses
    ).most_common():
        print(f"- {count} in: {label}")
    if every_miss:
        for miss in result.misses:
            print(f"  {miss.rule or '(no rule)'}: {miss.label}")
    print("\nFalse alarms:\n")
    for (rule, source), count in Counter(
        (rule, source) for rule, source, _ in result.alarms
    ).most_common():
        print(f"- {count} {rule} ({source})")
    for rule, source, said in result.alarms[:40]:
        print(f"    {rule} ({source}): {said[:80]!r}")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--misses", action="store_true", help="one line for each miss")
    arguments = parser.parse_args()
    for result in evaluate_all():
        show(result, every_miss=arguments.misses)


if __name__ == "__main__":
    main()
