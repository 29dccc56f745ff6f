"""The guard of the benchmark tells a slower proxy from a noisy machine."""

from pathlib import Path

import msgspec

from bench.guard import BASELINE, GUARDED, TOLERANCE, compare, ratios
from bench.report import Measured
from tests.support.bench_rounds import measured

BASE = dict.fromkeys(GUARDED, 20.0)


def run_with(ours_us: float) -> list[Measured]:
    rounds = []
    for cell in GUARDED:
        # A round that something else slowed down stands beside one that nothing did.
        rounds += [measured(cell, "direct", 10), measured(cell, "direct", 30)]
        rounds += [measured(cell, "tallygate", ours_us), measured(cell, "tallygate", 9000)]
    return rounds


def baseline(folder: Path) -> Path:
    path = folder / "baseline.json"
    path.write_bytes(msgspec.json.encode(BASE))
    return path


def test_the_smallest_figures_of_the_rounds_count() -> None:
    assert ratios(run_with(200)) == BASE


def test_within_the_tolerance_nothing_is_wrong(tmp_path: Path) -> None:
    # Given a proxy as fast as before, or slower by less than noise explains, then all is well.
    for ours_us in (100, 200, 200 * TOLERANCE - 1):
        table, faults = compare(run_with(ours_us), baseline(tmp_path))
        assert faults == []
        assert table.count("\n") == len(GUARDED) + 1


def test_a_slower_proxy_and_a_missing_cell_are_told(tmp_path: Path) -> None:
    # Given a proxy beyond the tolerance, or a run without a cell, then the guard says which.
    _, faults = compare(run_with(200 * TOLERANCE + 1), baseline(tmp_path))
    assert len(faults) == len(GUARDED)
    assert all("became slower" in fault for fault in faults)
    _, faults = compare([], baseline(tmp_path))
    assert faults == [f"{cell} was not measured" for cell in GUARDED]


def test_the_stored_baseline_has_every_guarded_cell() -> None:
    assert set(msgspec.json.decode(BASELINE.read_bytes())) == set(GUARDED)
