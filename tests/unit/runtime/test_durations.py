"""Durations and budget windows: LiteLLM's words and rules, gapless in every time zone."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.runtime.durations import (
    DURATION_S_MAX,
    budget_window,
    expiry_from,
    named_timezone,
    parse_duration,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Havana",  # puts its clocks back at 01:00, so that midnight comes twice
    "Asia/Beirut",  # puts them forward at midnight, which then does not come
    "Australia/Lord_Howe",  # moves by half an hour
    "Pacific/Apia",  # left out 30 December 2011
    "Asia/Kathmandu",  # 5:45 ahead
    "Africa/Casablanca",
]
DURATIONS = ["1s", "7s", "1m", "15m", "7m", "1h", "5h", "6h", "12h", "36h", "24h", "1d", "2d"]
DURATIONS += ["7d", "10d", "1w", "2w", "30d", "31d", "1mo", "hourly", "daily", "weekly", "monthly"]


def us(time: datetime) -> int:
    return (time - EPOCH) // timedelta(microseconds=1)


def at(text: str, zone: str = "UTC", fold: int = 0) -> int:
    return us(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold))


NOW = at("2026-09-23T14:37:12.345678")  # a Wednesday


@pytest.mark.parametrize(
    ("duration", "start", "end"),
    [
        ("1d", "2026-09-23", "2026-09-24"),
        ("daily", "2026-09-23", "2026-09-24"),
        ("24h", "2026-09-23", "2026-09-24"),
        ("7d", "2026-09-21", "2026-09-28"),
        ("1w", "2026-09-21", "2026-09-28"),
        ("weekly", "2026-09-21", "2026-09-28"),
        ("30d", "2026-09-01", "2026-10-01"),
        ("1mo", "2026-09-01", "2026-10-01"),
        ("monthly", "2026-09-01", "2026-10-01"),
        ("1h", "2026-09-23T14:00", "2026-09-23T15:00"),
        ("hourly", "2026-09-23T14:00", "2026-09-23T15:00"),
        ("6h", "2026-09-23T12:00", "2026-09-23T18:00"),
        ("1m", "2026-09-23T14:37", "2026-09-23T14:38"),
        ("15m", "2026-09-23T14:30", "2026-09-23T14:45"),
        ("30s", "2026-09-23T14:37:00", "2026-09-23T14:37:30"),
        ("2d", "2026-09-22", "2026-09-24"),
        ("2w", "2026-09-21", "2026-10-05"),
    ],
)
def test_windows_are_aligned_as_litellm_s_are(duration: str, start: str, end: str) -> None:
    # Given a moment, when a duration's window is asked for, then it is the aligned one.
    assert budget_window(duration, NOW, "UTC") == (at(start), at(end))


def test_midnight_is_that_of_the_time_zone() -> None:
    # Given a moment that is already tomorrow in Berlin, then the day's window is Berlin's.
    now = at("2026-09-23T22:30")
    berlin = (at("2026-09-24", "Europe/Berlin"), at("2026-09-25", "Europe/Berlin"))
    assert budget_window("1d", now, "Europe/Berlin") == berlin
    assert budget_window("1d", now, "UTC") == (at("2026-09-23"), at("2026-09-24"))


def test_december_s_window_ends_with_the_year() -> None:
    # Given the last microsecond of a year, then the month ends at its end, to the microsecond.
    window = (at("2026-12-01"), at("2027-01-01"))
    assert budget_window("monthly", at("2027-01-01") - 1, "UTC") == window
    assert budget_window("monthly", at("2027-01-01"), "UTC")[0] == at("2027-01-01")


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("America/Havana", "2025-11-02", 25),
        ("Asia/Beirut", "2025-03-30", 23),
        ("Australia/Lord_Howe", "2026-10-04", 23.5),
    ],
)
def test_a_day_with_a_change_of_clocks_is_one_window(zone: str, day: str, hours: float) -> None:
    # Given a day that is shorter or longer, then it is one window from end to end.
    noon = at(f"{day}T12:00", zone)
    start, end = budget_window("1d", noon, zone)
    assert (end - start) / 3_600_000_000 == hours
    assert budget_window("1d", start, zone) == budget_window("1d", end - 1, zone) == (start, end)


def test_an_hour_that_comes_twice_is_one_window() -> None:
    # Given the hour from two to three in Berlin, which comes twice, then it is one window.
    window = (at("2026-10-25T02:00", "Europe/Berlin"), at("2026-10-25T03:00", "Europe/Berlin"))
    for fold in (0, 1):
        now = at("2026-10-25T02:30", "Europe/Berlin", fold)
        assert budget_window("1h", now, "Europe/Berlin") == window
    assert window[1] - window[0] == 2 * 3_600_000_000


def test_half_hours_that_come_twice_end_with_their_second_time() -> None:
    # Given half-hour windows in that hour, then the second time belongs to the last of them.
    berlin = "Europe/Berlin"
    last = (at("2026-10-25T02:30", berlin), at("2026-10-25T03:00", berlin))
    assert budget_window("30m", at("2026-10-25T02:10", berlin, 0), berlin)[1] == last[0]
    assert budget_window("30m", at("2026-10-25T02:10", berlin, 1), berlin) == last


@pytest.mark.parametrize("duration", ["7m", "25m", "1000s"])
def test_a_window_that_would_begin_in_a_left_out_hour_begins_with_the_next(duration: str) -> None:
    # Given three o'clock in Berlin, right after two, then the window begins there and not before.
    berlin = "Europe/Berlin"
    three = at("2026-03-29T03:00", berlin)
    assert budget_window(duration, three, berlin)[0] == three
    assert budget_window(duration, three - 1, berlin)[1] == three


def test_a_day_that_never_was_has_no_window() -> None:
    # Given Samoa's jump over 30 December 2011, then the 29th ends where the 31st begins.
    apia = "Pacific/Apia"
    end = budget_window("1d", at("2011-12-29T12:00", apia), apia)[1]
    assert end == at("2011-12-31T00:00", apia)
    assert budget_window("1d", end, apia) == (end, at("2012-01-01T00:00", apia))


@settings(deadline=None)  # the machine may be busy
@given(
    duration=st.one_of(
        st.sampled_from(DURATIONS),
        st.builds("{}{}".format, st.integers(1, 400), st.sampled_from("smhdw")),
    ),
    now_us=st.integers(us(datetime(1990, 1, 1, tzinfo=UTC)), us(datetime(2100, 1, 1, tzinfo=UTC))),
    zone=st.sampled_from(ZONES),
)
def test_windows_tile_time_without_gap_or_overlap(duration: str, now_us: int, zone: str) -> None:
    # Given any time, then it lies in its window, every time of a window has the same window, and
    # the windows before and after begin and end where it ends and begins.
    start, end = budget_window(duration, now_us, zone)
    assert start <= now_us < end
    for inside in (start, (start + end) // 2, end - 1):
        assert budget_window(duration, inside, zone) == (start, end)
    assert budget_window(duration, start - 1, zone)[1] == start
    assert budget_window(duration, end, zone)[0] == end


@settings(deadline=None)  # the machine may be busy
@given(
    zone=st.sampled_from([zone for zone in ZONES if zone != "UTC"]),
    year=st.integers(1975, 2036),
    duration=st.sampled_from(["1d", "1h", "5h", "30m", "7m", "1s"]),
    offset_us=st.integers(-7_200_000_000, 7_200_000_000),
    data=st.data(),
)
def test_windows_tile_time_around_every_change_of_clocks(
    zone: str, year: int, duration: str, offset_us: int, data: st.DataObject
) -> None:
    # Given a time near a change of clocks, then the same holds there.
    changes = _changes(zone, year)
    if not changes:
        return
    now_us = data.draw(st.sampled_from(changes)) + offset_us
    start, end = budget_window(duration, now_us, zone)
    assert start <= now_us < end
    assert budget_window(duration, start, zone) == budget_window(duration, end - 1, zone)
    assert budget_window(duration, start - 1, zone)[1] == start
    assert budget_window(duration, end, zone)[0] == end


def _changes(zone: str, year: int) -> list[int]:
    """Return the hours of a year, in microseconds, after which a zone's offset is another."""
    first = datetime(year, 1, 1, tzinfo=UTC)
    hours = [first + timedelta(hours=number) for number in range(0, 365 * 24, 12)]
    offsets = [hour.astimezone(ZoneInfo(zone)).utcoffset() for hour in hours]
    found = []
    for hour, before, after in zip(hours, offsets, offsets[1:], strict=False):
        if before != after:
            steps = [hour + timedelta(minutes=30 * number) for number in range(25)]
            found += [us(step) for step in steps if _offset(step, zone) == before][-1:]
    return found


def _offset(time: datetime, zone: str) -> timedelta | None:
    return time.astimezone(ZoneInfo(zone)).utcoffset()


@given(st.integers(1, 400), st.sampled_from([("h", 24, "d"), ("m", 60, "h"), ("d", 7, "w")]))
def test_equal_lengths_have_equal_windows(count: int, units: tuple[str, int, str]) -> None:
    # Given one length in two units, then the windows are the same.
    small, factor, large = units
    one = budget_window(f"{count * factor}{small}", NOW, "Europe/Berlin")
    assert one == budget_window(f"{count}{large}", NOW, "Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "length_s"),
    [
        ("30s", 30),
        ("5m", 300),
        ("2h", 7200),
        ("3d", 259_200),
        ("1w", 604_800),
        ("1mo", 2_592_000),
        ("hourly", 3600),
        ("daily", 86_400),
        ("weekly", 604_800),
        ("monthly", 2_592_000),
    ],
)
def test_durations_are_read_as_litellm_writes_them(text: str, length_s: int) -> None:
    # Given a duration in LiteLLM's grammar, then it has that length.
    assert parse_duration(text).length_s == length_s


@pytest.mark.parametrize(
    "text",
    [
        *("", "1", "d", "0d", "-1d", "1.5d", "1 d", "1D", "2mo", "yearly", "1y", "１d", "1d\n"),
        *(f"{DURATION_S_MAX + 1}s", "9" * 5000 + "d"),
    ],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    # Given anything else, then ValueError, wherever it is used.
    for use in (parse_duration, lambda text: budget_window(text, NOW, "UTC")):
        with pytest.raises(ValueError, match=r"duration|1mo"):
            use(text)
    with pytest.raises(ValueError, match=r"duration|1mo"):
        expiry_from(text, NOW)


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    # Given any text, then a length of at least a second, or ValueError.
    try:
        length = parse_duration(text)
    except ValueError:
        return
    assert 1 <= length.length_s <= DURATION_S_MAX


def test_an_expiry_is_the_duration_added() -> None:
    # Given durations, then they are added to the microsecond; a month is a calendar month.
    assert expiry_from("30d", NOW) == NOW + 30 * 86_400 * 1_000_000
    assert expiry_from("90s", NOW) == NOW + 90_000_000
    assert expiry_from("1mo", NOW) == at("2026-10-23T14:37:12.345678")
    assert expiry_from("1mo", at("2027-01-31T05:00")) == at("2027-02-28T05:00")
    assert expiry_from("1mo", at("2026-12-31T05:00")) == at("2027-01-31T05:00")


@pytest.mark.parametrize("name", ["", "Europe/Berln", "../../etc/passwd", "America", "\x00", "ü"])
def test_what_is_no_time_zone_is_refused(name: str) -> None:
    # Given a name that no zone has, then ValueError.
    with pytest.raises(ValueError, match="time zone"):
        named_timezone(name)


@pytest.mark.parametrize("now_us", [-1, 10**18])
def test_a_time_out_of_range_is_refused(now_us: int) -> None:
    # Given a time before 1970 or after 3000, then ValueError.
    with pytest.raises(ValueError, match="between 1970 and 3000"):
        budget_window("1d", now_us, "UTC")
    with pytest.raises(ValueError, match="between 1970 and 3000"):
        expiry_from("1d", now_us)
