"""Medians over the rounds, ratios within one run, and the tables."""

from collections.abc import Sequence
from statistics import median
from typing import Any

import msgspec

from bench.load import LoadResult
from bench.targets import GATEWAY

__all__ = ["Measured", "Report", "summarize", "table"]

_PARTS = {"nats-server": "nats", "writer": "writer", "reader": "reader", "postgres": "postgres"}
"""The titles of the columns of other processes' CPU; one that no target has is left out."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One round of one cell on one target. CPU in µs a request, memory in KiB."""

    cell: str
    target: str
    connections: int
    events: int
    load: LoadResult
    cpu_us: float
    wait_us: float
    others_us: dict[str, float]
    rss_before_kib: int
    rss_peak_kib: int


class Report(msgspec.Struct, kw_only=True):
    """All of a run, as `--json` writes it."""

    about: dict[str, Any]
    rows: list[dict[str, Any]] = []
    rounds: list[Measured] = []
    processes: dict[str, Any] = {}
    faults: list[str] = []


def summarize(rounds: Sequence[Measured]) -> list[dict[str, Any]]:
    """Return a row for each cell and target: medians, and what stands against direct and nginx.

    Ratios and differences are taken within each round, then their median: what slows a whole round
    does not count.
    """
    rows = []
    for cell, target in dict.fromkeys((each.cell, each.target) for each in rounds):
        mine = [each for each in rounds if each.cell == cell and each.target == target]
        row: dict[str, Any] = {"cell": cell, "target": target, "rounds": len(mine)}
        for name in ("p50_us", "p99_us", "ttfb_p50_us", "ttfb_p99_us"):
            row[name] = median(getattr(each.load, name) for each in mine)
        row["rps"] = median(each.load.requests / each.load.seconds for each in mine)
        delays = [each.load.event_delay_p99_us for each in mine]
        row["event_delay_p99_us"] = median([delay for delay in delays if delay] or [0]) or None
        costs = [each.cpu_us for each in mine]
        row |= {"cpu_us": median(costs), "cpu_us_min": min(costs), "cpu_us_max": max(costs)}
        row["wait_us"] = median(each.wait_us for each in mine)
        events = mine[0].events
        row["cpu_us_per_event"] = row["cpu_us"] / events if events else None
        growth = [(each.rss_peak_kib - each.rss_before_kib) / each.connections for each in mine]
        row["rss_growth_kib_per_connection"] = median(growth)
        row["others_us"] = {
            part: median(each.others_us[part] for each in mine) for part in mine[0].others_us
        }
        for base in ("direct", "nginx", GATEWAY):
            theirs = [each for each in rounds if each.cell == cell and each.target == base]
            pairs = list(zip(mine, theirs, strict=False))
            if not pairs or target == base:
                continue
            for name in ("p50_us", "ttfb_p50_us"):
                row[f"{name}_over_{base}"] = median(
                    getattr(a.load, name) - getattr(b.load, name) for a, b in pairs
                )
            row[f"rps_ratio_{base}"] = median(
                (a.load.requests / a.load.seconds) / (b.load.requests / b.load.seconds)
                for a, b in pairs
            )
            if base != "direct" and target != "direct":
                row[f"cpu_ratio_{base}"] = median(a.cpu_us / b.cpu_us for a, b in pairs)
        rows.append(row)
    return rows


def _ms(row: dict[str, Any], name: str) -> str:
    return f"{row[name] / 1000:.2f}" if row.get(name) is not None else ""


def _number(row: dict[str, Any], name: str, places: int = 0) -> str:
    return f"{row[name]:.{places}f}" if row.get(name) is not None else ""


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a table in Markdown."""
    parts = [part for part in _PARTS if any(part in row["others_us"] for row in rows)]
    titles = (
        "cell",
        "target",
        "req/s",
        "p50 ms",
        "p99 ms",
        "ttfb p50",
        "+p50 ms",
        "CPU µs/req",
        "(min-max)",
        "wait",
        "CPU/event",
        "delay p99",
        "KiB/conn",
        "× nginx",
        "× ours",
        *(_PARTS[part] for part in parts),
    )
    cells = [titles]
    for row in rows:
        others = row["others_us"]
        cells.append(
            (
                row["cell"],
                row["target"],
                _number(row, "rps"),
                _ms(row, "p50_us"),
                _ms(row, "p99_us"),
                _ms(row, "ttfb_p50_us"),
                _ms(row, "p50_us_over_direct"),
                _number(row, "cpu_us"),
                f"{row['cpu_us_min']:.0f}-{row['cpu_us_max']:.0f}",
                _number(row, "wait_us"),
                _number(row, "cpu_us_per_event", 1),
                _ms(row, "event_delay_p99_us"),
                _number(row, "rss_growth_kib_per_connection", 0),
                _number(row, "cpu_ratio_nginx", 1),
                _number(row, f"cpu_ratio_{GATEWAY}", 1),
                *(_number(others, part) for part in parts),
            )
        )
    widths = [max(len(line[column]) for line in cells) for column in range(len(titles))]
    lines = [
        "| " + " | ".join(field.ljust(width) for field, width in zip(line, widths, strict=True))
        + " |"
        for line in cells
    ]  # fmt: skip
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)
