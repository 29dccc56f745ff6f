"""Cells of an answer: from DuckDB's Arrow arrays to JSON values without losing a digit.

| DuckDB type | JSON value |
|---|---|
| BOOLEAN, whole numbers up to 2^53, FLOAT, DOUBLE | as such |
| whole numbers beyond 2^53, DECIMAL | string |
| NaN, infinity | "NaN", "Infinity", "-Infinity" |
| TIMESTAMP (all kinds; those without a zone are UTC) | "2026-11-24T04:14:12.5Z" |
| DATE, TIME, INTERVAL | "2026-11-24", "04:14:12", "1 month 2 days 00:00:03" |
| VARCHAR, JSON, UUID, ENUM | string |
| BLOB | hexadecimal string |
| LIST, ARRAY | array; STRUCT, MAP: object |

DuckDB's own rows of Python values are not used: they lose nanoseconds and months, and need pytz.
"""

import datetime as dt
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

__all__ = ["UnsupportedType", "cell_reader"]

_EXACT_MAX = 2**53
_INFINITE = {32: 2**31 - 1, 64: 2**63 - 1}
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_SECONDS_PER_DAY = 86_400
_DAYS_PER_CYCLE = 146_097
_YEARS_PER_CYCLE = 400
_DAYS_TO_EPOCH = dt.date(1970, 1, 1).toordinal()
_MONTHS_PER_YEAR = 12

CellReader = Callable[[Any], list[Any]]
"""Takes an Arrow array, gives its cells as JSON values."""


class UnsupportedType(Exception):
    """Arrow has no exact form of this type: the query must cast it."""


def cell_reader(kind: Any) -> CellReader:
    """Return the reader for columns of DuckDB's type `kind` (a DuckDBPyType).

    Raises UnsupportedType for types that Arrow cannot carry exactly.
    """
    name = kind.id
    if name in _READERS:
        return _READERS[name]
    if name in ("list", "array"):
        return _list_reader(cell_reader(kind.children[0][1]), fixed=name == "array")
    if name == "struct":
        return _struct_reader([(key, cell_reader(child)) for key, child in kind.children])
    if name == "map":
        keys, values = (cell_reader(child) for _, child in kind.children)
        return _map_reader(keys, values)
    raise UnsupportedType(f"values of type {kind} have no JSON form: CAST them AS VARCHAR")


def _plain(array: Any) -> list[Any]:
    values: list[Any] = array.to_pylist()
    return values


def _whole(array: Any) -> list[Any]:
    return [
        None if value is None else int(value) if -_EXACT_MAX <= value <= _EXACT_MAX else str(value)
        for value in _plain(array)
    ]


def _decimals(array: Any) -> list[Any]:
    return [format(v, "f") if isinstance(v, Decimal) else None for v in _plain(array)]


def _floats(array: Any) -> list[Any]:
    return [v if v is None or math.isfinite(v) else _not_finite(v) for v in _plain(array)]


def _not_finite(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _timestamps(array: Any) -> list[Any]:
    per_second = _UNITS[array.type.unit]
    return [v if v is None else _timestamp(v, per_second) for v in _plain(array.cast("int64"))]


def _timestamp(value: int, per_second: int) -> str:
    if abs(value) == _INFINITE[64]:
        return "infinity" if value > 0 else "-infinity"
    days, rest = divmod(value, _SECONDS_PER_DAY * per_second)
    return f"{_day(days)}T{_clock(rest, per_second)}Z"


def _dates(array: Any) -> list[Any]:
    return [v if v is None else _date(v) for v in _plain(array.cast("int32"))]


def _date(days: int) -> str:
    if abs(days) == _INFINITE[32]:
        return "infinity" if days > 0 else "-infinity"
    return _day(days)


def _day(days: int) -> str:
    """Return a day since 1970 as ISO 8601 text, of any year (the calendar repeats every 400)."""
    cycles, rest = divmod(days + _DAYS_TO_EPOCH - 1, _DAYS_PER_CYCLE)
    day = dt.date.fromordinal(rest + 1)
    if cycles < 0 or day.year + cycles * _YEARS_PER_CYCLE > dt.MAXYEAR:
        return f"{day.year + cycles * _YEARS_PER_CYCLE:+05d}-{day:%m-%d}"
    return f"{day.year + cycles * _YEARS_PER_CYCLE:04d}-{day:%m-%d}"


def _times(array: Any) -> list[Any]:
    per_second = _UNITS[array.type.unit]
    return [v if v is None else _clock(v, per_second) for v in _plain(array.cast("int64"))]


def _clock(value: int, per_second: int) -> str:
    seconds, fraction = divmod(value, per_second)
    text = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    if fraction:
        digits = len(str(per_second)) - 1
        text += f".{fraction:0{digits}d}".rstrip("0")
    return text


def _intervals(array: Any) -> list[Any]:
    return [v if v is None else _interval(*v) for v in _plain(array)]


def _interval(months: int, days: int, nanoseconds: int) -> str:
    """Return an interval in DuckDB's own words: `1 year 2 months 3 days 04:05:06`."""
    years, months = (int(part) for part in _truncated(months, _MONTHS_PER_YEAR))
    parts = [
        f"{count} {word}{'' if abs(count) == 1 else 's'}"
        for count, word in ((years, "year"), (months, "month"), (days, "day"))
        if count
    ]
    if nanoseconds or not parts:
        sign = "-" if nanoseconds < 0 else ""
        parts.append(sign + _clock(abs(nanoseconds), _UNITS["ns"]))
    return " ".join(parts)


def _truncated(value: int, divisor: int) -> tuple[int, int]:
    sign = -1 if value < 0 else 1
    whole, rest = divmod(abs(value), divisor)
    return sign * whole, sign * rest


def _blobs(array: Any) -> list[Any]:
    return [v if v is None else v.hex() for v in _plain(array)]


def _list_reader(read: CellReader, *, fixed: bool) -> CellReader:
    def cells(array: Any) -> list[Any]:
        inner = read(array.values)
        if fixed:
            size = array.type.list_size
            starts = [size * (array.offset + index) for index in range(len(array) + 1)]
        else:
            starts = _plain(array.offsets)
        return [
            inner[starts[index] : starts[index + 1]] if valid else None
            for index, valid in enumerate(_plain(array.is_valid()))
        ]

    return cells


def _struct_reader(fields: list[tuple[str, CellReader]]) -> CellReader:
    def cells(array: Any) -> list[Any]:
        columns = [read(child) for (_, read), child in zip(fields, array.flatten(), strict=True)]
        names = [name for name, _ in fields]
        rows = zip(*columns, strict=True)
        valid = _plain(array.is_valid())
        if all(names):
            return [
                dict(zip(names, row, strict=True)) if ok else None
                for row, ok in zip(rows, valid, strict=True)
            ]
        return [list(row) if ok else None for row, ok in zip(rows, valid, strict=True)]

    return cells


def _map_reader(read_keys: CellReader, read_values: CellReader) -> CellReader:
    def cells(array: Any) -> list[Any]:
        keys = [_key(key) for key in read_keys(array.keys)]
        values = read_values(array.items)
        starts = _plain(array.offsets)
        rows: list[Any] = []
        for index, valid in enumerate(_plain(array.is_valid())):
            part = slice(starts[index], starts[index + 1])
            rows.append(dict(zip(keys[part], values[part], strict=True)) if valid else None)
        return rows

    return cells


def _key(value: Any) -> str:
    """Return a map's key as the name that JSON asks for."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


_READERS: dict[str, CellReader] = {
    **dict.fromkeys(("boolean", "varchar", "uuid", "enum", '"null"', "null", "json"), _plain),
    **dict.fromkeys(("tinyint", "smallint", "integer", "utinyint", "usmallint"), _plain),
    **dict.fromkeys(("uinteger", "bigint", "ubigint", "hugeint", "uhugeint"), _whole),
    **dict.fromkeys(("float", "double"), _floats),
    **dict.fromkeys(("timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns"), _timestamps),
    **dict.fromkeys(("timestamp with time zone", "timestamptz"), _timestamps),
    **dict.fromkeys(("time", "time_ns"), _times),
    "decimal": _decimals,
    "date": _dates,
    "interval": _intervals,
    "blob": _blobs,
}
