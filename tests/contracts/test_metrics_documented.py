"""docs/metrics.md says what the services expose."""

import re
from pathlib import Path

from schemas.metrics import METRICS

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text()


def test_every_metric_has_its_row_and_no_other_has_one() -> None:
    # Given all metrics, then the document has a row for each, with its kind, labels and meaning,
    # and names no other metric anywhere.
    rows = [
        f"| `{each.name}` | {each.kind} | {', '.join(f'`{name}`' for name in each.labels)} "
        f"| {each.meaning} |"
        for each in METRICS.values()
    ]
    assert [row for row in rows if row not in DOCUMENT] == []
    named = set(re.findall(r"tallygate_[a-z_]+", DOCUMENT))
    assert named - METRICS.keys() == set()


def test_names_keep_to_the_conventions() -> None:
    # Given all metrics, then a counter ends with _total, nothing else does, and units come last.
    for each in METRICS.values():
        assert each.name.startswith("tallygate_")
        assert each.name.endswith("_total") == (each.kind == "counter"), each.name
        for unit in ("seconds", "bytes"):
            if unit in each.name:
                assert each.name.removesuffix("_total").endswith(unit), each.name
