"""The data of charts over days, and the same as a table. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal

import msgspec

from services.admin.ui.formats import day, usd, usd_exact, whole

__all__ = ["SERIES_MAX", "DayChart", "cells_of", "day_chart"]

SERIES_MAX = 5
"""So many names have a colour of their own; the others are one."""
OTHERS = "Others"


class DayChart(msgspec.Struct, frozen=True, kw_only=True):
    """`data` is what charts.js draws; `table` heads and rows; `totals` the names with their sums.

    `totals` are in the order of the series: name, text, exact text.
    """

    data: dict[str, Any]
    table: tuple[tuple[str, ...], list[tuple[str, ...]]]
    totals: list[tuple[str, str, str]]
    is_empty: bool


def cells_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[date, Decimal | int]]:
    """Return rows with `name`, `day` and `value` as values by name and day."""
    cells: dict[str, dict[date, Decimal | int]] = defaultdict(dict)
    for row in rows:
        cells[row["name"]][row["day"]] = row["value"]
    return cells


def day_chart(
    cells: Mapping[str, Mapping[date, Decimal | int]],
    first: date,
    last: date,
    unit: Literal["usd", "whole"],
) -> DayChart:
    """Return the chart of values by name and day; names with the largest sums come first."""
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    ranked = sorted(cells, key=lambda name: (-sum(cells[name].values()), name))
    shown = ranked if len(ranked) <= SERIES_MAX + 1 else ranked[:SERIES_MAX]
    series: list[tuple[str, list[Decimal | int]]] = [
        (name, [cells[name].get(each, 0) for each in days]) for name in shown
    ]
    if left := ranked[len(shown) :]:
        series.append((OTHERS, [sum(cells[name].get(each, 0) for name in left) for each in days]))
    text = usd if unit == "usd" else whole
    return DayChart(
        data={
            "x": [int(datetime.combine(each, time(), UTC).timestamp()) for each in days],
            "series": [
                {"label": name, "values": [float(value) for value in values]}
                for name, values in series
            ],
            "kind": "bars",
            "unit": unit,
            "step": "day",
        },
        table=(
            ("Day", *(name for name, _ in series)),
            [
                (day(each), *(text(values[index]) for _, values in series))
                for index, each in reversed(list(enumerate(days)))
                if any(values[index] for _, values in series)
            ],
        ),
        totals=[
            (
                name,
                text(sum(values)),
                usd_exact(Decimal(sum(values))) if unit == "usd" else whole(sum(values)),
            )
            for name, values in series
        ],
        is_empty=not any(any(values) for _, values in series),
    )
