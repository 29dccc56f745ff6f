"""An answer of the ledger as a table and, where its shape allows one, as a chart. Pure."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time
from decimal import Decimal
from itertools import pairwise
from typing import Any, Literal

import msgspec

from schemas.rpc import Column
from services.admin.ui.charting import SERIES_MAX
from services.admin.ui.formats import share, usd, usd_exact, whole

__all__ = ["Cell", "Picture", "cells_of", "picture_of"]

CELL_CHARS_MAX = 400
"""A cell is shown up to so many characters."""
BARS_MAX = 20
POINTS_MAX = 2000
"""A chart has at most so many points; longer answers are tables alone."""
_NUMBERS = ("DECIMAL", "HUGEINT", "DOUBLE", "FLOAT", "BIGINT", "INTEGER", "SMALLINT", "TINYINT")
_STEPS_S: tuple[tuple[int, Literal["day", "hour"]], ...] = ((86_400, "day"), (3_600, "hour"))
_OTHERS = "Others"


class Cell(msgspec.Struct, frozen=True):
    """A cell as it is shown. `is_null`: it is NULL, and `text` says so."""

    text: str
    is_number: bool = False
    is_null: bool = False


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """What can be drawn: `data` and `table` for a chart over time, else `bars` of names.

    `series` are the names of the lines or stacks, in the order of their colours.
    """

    title: str
    series: tuple[str, ...] = ()
    data: dict[str, Any] | None = None
    table: tuple[tuple[str, ...], list[tuple[str, ...]]] = ((), [])
    bars: tuple[dict[str, Any], ...] = ()


def is_number(column: Column) -> bool:
    """Tell whether a column holds numbers."""
    kind = column.type
    return kind.startswith("DECIMAL") or kind.removeprefix("U") in _NUMBERS


def cells_of(columns: Sequence[Column], row: Sequence[Any]) -> list[Cell]:
    """Return a row's cells as they are shown: every digit, but no zeros behind the last one."""
    return [_cell(column, value) for column, value in zip(columns, row, strict=True)]


def _cell(column: Column, value: Any) -> Cell:
    if value is None:
        return Cell("NULL", is_number=is_number(column), is_null=True)
    if is_number(column):
        text = str(value)
        if "." in text and "e" not in text.lower():
            text = text.rstrip("0").rstrip(".")
        return Cell(text, is_number=True)
    if column.type.startswith("TIMESTAMP") and isinstance(value, str):
        return Cell(value.replace("T", " ").removesuffix("Z"))
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return Cell(text if len(text) <= CELL_CHARS_MAX else f"{text[:CELL_CHARS_MAX]}…")


def picture_of(columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> Picture | None:
    """Return what can be drawn of an answer; None: nothing that would say more than its table.

    A first column of days or times makes a chart over time: with a name and one number beside it
    a stack for each name, with numbers alone a line for each (one: bars). A first column of names
    makes bars of the first number.
    """
    if not 1 < len(rows) <= POINTS_MAX or len(columns) < 2:  # noqa: PLR2004 - one is no picture
        return None
    numbers = [index for index, column in enumerate(columns) if is_number(column)]
    if not numbers or 0 in numbers:
        return None
    first = columns[0].type
    if first == "DATE" or first.startswith("TIMESTAMP"):
        # A day that is infinite, or before the year 1, has no place on an axis.
        with suppress(ValueError, OverflowError):
            return _over_time(columns, rows, numbers)
        return None
    if first == "VARCHAR":
        return _of_names(columns, rows, numbers[0])
    return None


def _over_time(
    columns: Sequence[Column], rows: Sequence[Sequence[Any]], numbers: list[int]
) -> Picture | None:
    names = [index for index in range(1, len(columns)) if index not in numbers]
    by_name: dict[str, dict[float, Decimal]] = defaultdict(dict)
    is_stack = len(names) == 1 and len(numbers) == 1 and columns[names[0]].type == "VARCHAR"
    if (names and not is_stack) or len({columns[index].name for index in numbers}) < len(numbers):
        return None
    for row in rows:
        if row[0] is None:
            continue
        at = _seconds(row[0])
        for index in numbers:
            name = columns[index].name if not is_stack else str(row[names[0]] or "no name")
            sums = by_name[name]
            sums[at] = sums.get(at, Decimal(0)) + _number(row[index])
    if is_stack:  # a name that has nothing anywhere needs no colour
        by_name = {name: sums for name, sums in by_name.items() if any(sums.values())}
    times = sorted({at for sums in by_name.values() for at in sums})
    if len(times) < 2 or not by_name:  # noqa: PLR2004 - one point is no chart
        return None
    series = _largest(by_name) if is_stack else list(by_name.items())[:SERIES_MAX]
    if not is_stack and len(series) > 1 and len({_unit(name) for name, _ in series}) > 1:
        series = [each for each in series if _unit(each[0]) == _unit(series[0][0])]
    unit = _unit(columns[numbers[0]].name)
    values = [(name, [sums.get(at, Decimal(0)) for at in times]) for name, sums in series]
    is_bars = is_stack or len(values) == 1
    is_bars = is_bars and all(value >= 0 for _, each in values for value in each)
    text = usd if unit == "usd" else _plain
    return Picture(
        title=f"{columns[numbers[0]].name} by {columns[0].name}",
        series=tuple(name for name, _ in values),
        data={
            "x": times,
            "series": [
                {"label": name, "values": [float(value) for value in each]} for name, each in values
            ],
            "kind": "bars" if is_bars else "line",
            "unit": unit,
            "step": _step(times),
        },
        table=(
            (columns[0].name, *(name for name, _ in values)),
            [
                (_moment(at), *(text(each[index]) for _, each in values))
                for index, at in enumerate(times)
            ],
        ),
    )


def _largest(
    by_name: dict[str, dict[float, Decimal]],
) -> list[tuple[str, dict[float, Decimal]]]:
    """Return the names with the largest sums, and all others as one."""
    ranked = sorted(by_name.items(), key=lambda each: (-sum(each[1].values()), each[0]))
    if len(ranked) <= SERIES_MAX + 1:
        return ranked
    others: dict[float, Decimal] = defaultdict(Decimal)
    for _, sums in ranked[SERIES_MAX:]:
        for at, value in sums.items():
            others[at] += value
    return [*ranked[:SERIES_MAX], (_OTHERS, others)]


def _of_names(
    columns: Sequence[Column], rows: Sequence[Sequence[Any]], number: int
) -> Picture | None:
    shown = rows[:BARS_MAX]
    values = [_number(row[number]) for row in shown]
    if min(values) < 0 or len({row[0] for row in shown}) < len(shown):
        return None
    is_money = _unit(columns[number].name) == "usd"
    largest = max(values)
    return Picture(
        title=f"{columns[number].name} by {columns[0].name}"
        + (f", the first {BARS_MAX}" if len(rows) > BARS_MAX else ""),
        bars=tuple(
            {
                "name": "NULL" if row[0] is None else str(row[0])[:CELL_CHARS_MAX],
                "value": usd(value) if is_money else _plain(value),
                "exact": usd_exact(value) if is_money else "",
                "share": share(value, largest) or 0.0,
                "href": "",
            }
            for row, value in zip(shown, values, strict=True)
        ),
    )


def _number(value: Any) -> Decimal:
    number = Decimal(0) if value is None else Decimal(str(value))
    return number if number.is_finite() else Decimal(0)


def _plain(value: Decimal) -> str:
    return whole(value) if value == value.to_integral_value() else f"{value:,.2f}"


def _unit(name: str) -> str:
    is_money = name.endswith("_usd") or name in ("usd", "cost", "spend")
    return "usd" if is_money else "whole"


def _seconds(value: str) -> float:
    if "T" not in value:
        return datetime.combine(date.fromisoformat(value), time(), UTC).timestamp()
    return datetime.fromisoformat(value).timestamp()


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}".removesuffix(" 00:00")


def _step(times: list[float]) -> str:
    nearest_s = min(late - early for early, late in pairwise(times))
    return next((name for length_s, name in _STEPS_S if nearest_s >= length_s), "minute")
