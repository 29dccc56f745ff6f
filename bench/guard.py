"""The guard against becoming slower: CPU ratios of a short run against a stored baseline.

A ratio is the proxy's CPU a request over that of the benchmark's own upstream, which is a small
Python server under the same load in the same run: what slows the machine slows both. Of several
rounds the smallest figure counts. Noise stays: so a ratio fails only beyond TOLERANCE times its
baseline, and the table is printed always.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.report import Measured
from bench.targets import GATEWAY

__all__ = ["GUARDED", "TOLERANCE", "compare", "ratios"]

GUARDED = ("whole-1k-c16", "whole-100k-c16", "burst-1k-c16")
TOLERANCE = 1.5
"""Runs of one version on a busy machine differ by up to a third."""
BASELINE = Path(__file__).with_name("baseline.json")


def ratios(rounds: Sequence[Measured]) -> dict[str, float]:
    """Return the ratio of each guarded cell that was measured."""

    def smallest(cell: str, target: str) -> float | None:
        return min(
            (each.cpu_us for each in rounds if (each.cell, each.target) == (cell, target)),
            default=None,
        )

    found = {}
    for cell in GUARDED:
        ours, upstream = smallest(cell, GATEWAY), smallest(cell, "direct")
        if ours and upstream:
            found[cell] = ours / upstream
    return found


def compare(rounds: Sequence[Measured], baseline_path: Path = BASELINE) -> tuple[str, list[str]]:
    """Return the table of ratios against the baseline, and what is wrong with them."""
    baseline = msgspec.json.decode(baseline_path.read_bytes(), type=dict[str, float])
    measured = ratios(rounds)
    lines = [
        "| cell | CPU ratio to the upstream | baseline | may be at most |",
        "|---|---|---|---|",
    ]
    faults = []
    for cell in GUARDED:
        if cell not in measured:
            faults.append(f"{cell} was not measured")
            continue
        ratio, allowed = measured[cell], TOLERANCE * baseline[cell]
        lines.append(f"| {cell} | {ratio:.1f} | {baseline[cell]:.1f} | {allowed:.1f} |")
        if ratio > allowed:
            faults.append(
                f"{cell}: the proxy uses {ratio:.1f} times the upstream's CPU, baseline "
                f"{baseline[cell]:.1f}: find what became slower, or correct bench/baseline.json"
            )
    return "\n".join(lines), faults
