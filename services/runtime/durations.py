"""Durations in LiteLLM's words, and the budget windows that they stand for. Pure.

A duration is `<whole number><unit>` with the units s, m, h, d, w and mo, or one of the words
hourly (1h), daily (24h), weekly (7d), monthly (30d). Of months there is only `1mo`.

Budget windows are aligned to the wall clock of a time zone, as LiteLLM's resets are, and are a
function of the time alone: no start has to be remembered, and every process finds the same one.

- `1mo` and `30d` (so `monthly`): from the 1st of a month to the 1st of the next.
- Whole weeks: from Monday to Monday; two weeks and more are counted from 29 December 1969.
- Other whole days: from midnight to midnight; two days and more are counted from 1 January 1970.
- Everything shorter than a day, and what is not whole days: in steps counted from midnight of
  1 January 1970, so that 1h, 6h or 15m begin at full hours, quarters of the day and of the hour.

Equal lengths have equal windows: `24h` is `1d`. LiteLLM counts days other than 1, 7 and 30 from
the day of the first request, which is the one difference.

A window begins when the wall clock first reaches its beginning. Where clocks are put forward over
that beginning, it begins at once; where they are put back, an hour that comes twice belongs to
one window, so that nobody's budget is reset twice.
"""

import re
import zoneinfo
from calendar import monthrange
from datetime import UTC, datetime, timedelta, tzinfo

import msgspec

__all__ = [
    "DURATION_S_MAX",
    "TIME_US_MAX",
    "Duration",
    "budget_window",
    "expiry_from",
    "named_timezone",
    "parse_duration",
]

DURATION_S_MAX = 10 * 366 * 86_400
"""Ten years; a longer duration is refused."""
TIME_US_MAX = 32_503_680_000_000_000
"""The year 3000; a later time is refused."""

_WORDS = {"hourly": "1h", "daily": "24h", "weekly": "7d", "monthly": "30d"}
_PATTERN = re.compile(r"([0-9]{1,12})(mo|[smhdw])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_DAY_S = 86_400
_MONTH_S = 30 * _DAY_S
_WEEK_S = 7 * _DAY_S
_DAY_ZERO = datetime(1970, 1, 1)  # noqa: DTZ001 - a point of the wall clock, in any zone
_MONDAY_ZERO = datetime(1969, 12, 29)  # noqa: DTZ001 - the same
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Duration(msgspec.Struct, frozen=True, kw_only=True):
    """A length of time: `length_s` seconds, or a calendar month (then `length_s` is 30 days)."""

    length_s: int
    calendar_month: bool = False


def parse_duration(text: str) -> Duration:
    """Return what a duration text means. Raises ValueError, whose message says what is allowed."""
    found = _PATTERN.fullmatch(_WORDS.get(text, text))
    if found is None:
        raise ValueError(
            "a duration is a whole number and a unit (30s, 15m, 1h, 1d, 1w, 1mo), or hourly, "
            "daily, weekly or monthly"
        )
    count, unit = int(found[1]), found[2]
    if count == 0:
        raise ValueError("a duration must be longer than zero")
    if unit == "mo":
        if count != 1:
            raise ValueError("of months there is only 1mo")
        return Duration(length_s=_MONTH_S, calendar_month=True)
    length_s = count * _UNIT_S[unit]
    if length_s > DURATION_S_MAX:
        raise ValueError("a duration can be ten years at most")
    return Duration(length_s=length_s)


def named_timezone(name: str) -> tzinfo:
    """Return the time zone of a name such as Europe/Berlin; UTC needs no zone database.

    Raises ValueError, whose message says what is wrong.
    """
    if name == "UTC":
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("is not the name of a time zone, such as UTC or Europe/Berlin") from None


def budget_window(duration: str, now_us: int, timezone: str) -> tuple[int, int]:
    """Return the window that `now_us` lies in: its beginning and the beginning of the next.

    All times are microseconds since the epoch; beginning <= now < next. Raises ValueError where
    the duration, the zone or the time is none.
    """
    length = parse_duration(duration)
    zone = named_timezone(timezone)
    if not 0 <= now_us <= TIME_US_MAX:
        raise ValueError("the time must lie between 1970 and 3000")
    now = _EPOCH + timedelta(microseconds=now_us)
    step = _step_from(_wall_clock_reached(now, zone), length)
    start_us = _us(_first_instant(step, zone))
    resets_at_us = _us(_first_instant(_step_after(step, length), zone))
    assert start_us <= now_us < resets_at_us, "a window holds the time that it was made for"
    return start_us, resets_at_us


def expiry_from(duration: str, now_us: int) -> int:
    """Return when something that lives this long from now on ends, in microseconds.

    `1mo` ends on the same day and time (UTC) of the next month, or on its last day where it is
    shorter; every other duration is just added. Raises ValueError as budget_window does.
    """
    length = parse_duration(duration)
    if not 0 <= now_us <= TIME_US_MAX:
        raise ValueError("the time must lie between 1970 and 3000")
    if not length.calendar_month:
        return now_us + length.length_s * 1_000_000
    now = _EPOCH + timedelta(microseconds=now_us)
    following = _next_month(now)
    day = min(now.day, monthrange(following.year, following.month)[1])
    return _us(following.replace(day=day))


def _us(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND


def _next_month(time: datetime) -> datetime:
    """Return the same time on the 1st of the following month."""
    return (time.replace(day=1) + timedelta(days=31)).replace(day=1)


def _is_month(length: Duration) -> bool:
    return length.length_s == _MONTH_S


def _step_from(wall: datetime, length: Duration) -> datetime:
    """Return the last step of the windows' grid at or before a time of the wall clock."""
    if _is_month(length):
        return wall.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    zero = _MONDAY_ZERO if length.length_s % _WEEK_S == 0 else _DAY_ZERO
    every = timedelta(seconds=length.length_s)
    return zero + (wall - zero) // every * every


def _step_after(step: datetime, length: Duration) -> datetime:
    return _next_month(step) if _is_month(length) else step + timedelta(seconds=length.length_s)


def _wall_clock_reached(now: datetime, zone: tzinfo) -> datetime:
    """Return the furthest that the wall clock has shown until now.

    That is what it shows, but in an hour that comes a second time: then it is the end of the
    first one, less a microsecond, since the clock was put back in that instant.
    """
    local = now.astimezone(zone)
    wall = local.replace(tzinfo=None, fold=0)
    if not local.fold:
        return wall
    first = wall.replace(tzinfo=zone).astimezone(UTC)
    changed = _change_between(first, now, zone)
    return (changed - _MICROSECOND).astimezone(zone).replace(tzinfo=None, fold=0)


def _first_instant(wall: datetime, zone: tzinfo) -> datetime:
    """Return the first instant at which the wall clock shows this or, in a gap, has passed it."""
    instant = wall.replace(tzinfo=zone).astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None, fold=0) == wall:
        return instant
    # The clock never shows it: with the offset after the change, it lies before the change.
    before = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return _change_between(before, instant, zone)


def _change_between(before: datetime, after: datetime, zone: tzinfo) -> datetime:
    """Return the instant, a whole second, in (before, after] from which the later offset holds."""
    later = after.astimezone(zone).utcoffset()
    low, high = _us(before) // 1_000_000, _us(after) // 1_000_000
    while high - low > 1:
        middle = (low + high) // 2
        instant = _EPOCH + timedelta(seconds=middle)
        if instant.astimezone(zone).utcoffset() == later:
            high = middle
        else:
            low = middle
    return _EPOCH + timedelta(seconds=high)
