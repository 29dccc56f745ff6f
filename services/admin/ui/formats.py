"""Numbers, money and times as people read them. Pure; each is a filter of the templates."""

from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Decimal

__all__ = [
    "FILTERS",
    "NOTHING",
    "ago",
    "clock",
    "counted",
    "day",
    "duration",
    "exact_time",
    "iso_time",
    "percent",
    "share",
    "short",
    "size",
    "usd",
    "usd_exact",
    "whole",
]

NOTHING = "–"
"""What is not known, or does not apply."""

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400
_DAYS_AGO_MAX = 7
_MILLION_PLACES = Decimal("0.000001")
_CENTS = Decimal("0.01")
_SCALES = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))
_BYTES = 1024
_SECOND_MS = 1000


def usd(amount: Decimal | float | str | None) -> str:
    """Return dollars for reading: cents from one dollar on, up to six decimals below."""
    if amount is None:
        return NOTHING
    exact = Decimal(str(amount))
    if abs(exact) >= 1:
        return _signed(exact.quantize(_CENTS, ROUND_HALF_EVEN))
    rounded = exact.quantize(_MILLION_PLACES, ROUND_HALF_EVEN)
    if exact and not rounded:
        return "< $0.000001" if exact > 0 else "> -$0.000001"
    return _signed(rounded)


def usd_exact(amount: Decimal | str | None) -> str:
    """Return dollars with every digit that the ledger has, at least two."""
    return NOTHING if amount is None else _signed(Decimal(str(amount)))


def _signed(amount: Decimal) -> str:
    """Return `$1,234.50`: trailing zeros only as far as cents need them."""
    digits = f"{abs(amount):,f}"
    head, _, tail = digits.partition(".")
    tail = tail.rstrip("0").ljust(2, "0")
    return f"{'-' if amount < 0 else ''}${head}.{tail}"


def whole(number: float | str | Decimal | None) -> str:
    """Return a whole number with thousands separated: 65,012."""
    return NOTHING if number is None else f"{int(number):,}"


def counted(number: int | None, noun: str) -> str:
    """Return how many there are of something: 1 request, 65,012 requests."""
    return f"{whole(number)} {noun}" if number == 1 else f"{whole(number)} {noun}s"


def short(number: float | str | Decimal | None) -> str:
    """Return a number of at most four characters and its scale: 1.2M."""
    if number is None:
        return NOTHING
    value = int(number)
    for scale, letter in _SCALES:
        if abs(value) >= scale:
            scaled = f"{value / scale:.1f}" if abs(value) < 100 * scale else f"{value / scale:.0f}"
            return f"{scaled.removesuffix('.0')}{letter}"
    return str(value)


def share(part: float | Decimal | None, total: float | Decimal | None) -> float | None:
    """Return a part of a total in percent; None where there is no total."""
    if part is None or not total:
        return None
    return float(part) / float(total) * 100


def percent(value: float | None) -> str:
    """Return percent for reading: 84%, 0.4%."""
    if value is None:
        return NOTHING
    return f"{value:.1f}%" if 0 < abs(value) < 10 else f"{value:.0f}%"  # noqa: PLR2004


def duration(milliseconds: float | None) -> str:
    """Return a length of time for reading: 950 ms, 3.2 s, 2 min 5 s, 1 h 3 min, 2 d 4 h."""
    if milliseconds is None:
        return NOTHING
    if milliseconds < _SECOND_MS:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / _SECOND_MS
    if seconds < _MINUTE_S:
        return f"{seconds:.1f} s"
    left = round(seconds)
    if left < _HOUR_S:
        return f"{left // _MINUTE_S} min {left % _MINUTE_S} s"
    if left < _DAY_S:
        return f"{left // _HOUR_S} h {left % _HOUR_S // _MINUTE_S} min"
    return f"{left // _DAY_S} d {left % _DAY_S // _HOUR_S} h"


def size(count: float | None) -> str:
    """Return bytes for reading: 812 B, 1.4 KiB, 3.0 MiB."""
    if count is None:
        return NOTHING
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < _BYTES:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= _BYTES
    return f"{value:.1f} GiB"


def ago(moment: datetime | None, now: datetime | None = None) -> str:
    """Return how long ago (or how soon) a time is; beyond a week its date."""
    if moment is None:
        return NOTHING
    passed_s = ((now or datetime.now(UTC)) - moment).total_seconds()
    away_s = abs(passed_s)
    if away_s < 1:
        return "now"
    if away_s >= (_DAYS_AGO_MAX + 1) * _DAY_S:
        return day(moment.date())
    for unit_s, unit in ((_DAY_S, "d"), (_HOUR_S, "h"), (_MINUTE_S, "min"), (1, "s")):
        if away_s >= unit_s:
            text = f"{away_s // unit_s:.0f} {unit}"
            return f"{text} ago" if passed_s > 0 else f"in {text}"
    raise AssertionError


def day(value: date | None, *, with_year: bool = False) -> str:
    """Return a day for reading: Nov 3, or Nov 3, 2026."""
    if value is None:
        return NOTHING
    return f"{value:%b} {value.day}" + (f", {value.year}" if with_year else "")


def clock(moment: datetime | None) -> str:
    """Return a time to the second, for lists: Nov 25, 17:52:08."""
    if moment is None:
        return NOTHING
    utc = moment.astimezone(UTC)
    return f"{day(utc.date())}, {utc:%H:%M:%S}"


def exact_time(moment: datetime | None) -> str:
    """Return a time to the millisecond: 2026-11-25 17:52:08.123 UTC."""
    if moment is None:
        return NOTHING
    utc = moment.astimezone(UTC)
    return f"{utc:%Y-%m-%d %H:%M:%S}.{utc.microsecond // 1000:03d} UTC"


def iso_time(moment: datetime | None) -> str:
    """Return a time as programs read it (RFC 3339)."""
    return "" if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


FILTERS = {
    function.__name__: function
    for function in (
        ago,
        clock,
        counted,
        day,
        duration,
        exact_time,
        iso_time,
        percent,
        share,
        short,
        size,
        usd,
        usd_exact,
        whole,
    )
}
"""The filters of the templates by their names."""
