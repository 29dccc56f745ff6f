"""Numbers as people read them: nothing is rounded away unseen, nothing is shown twice."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.admin.ui.charting import SERIES_MAX, day_chart
from services.admin.ui.formats import (
    ago,
    counted,
    duration,
    percent,
    short,
    size,
    usd,
    usd_exact,
    whole,
)


@pytest.mark.parametrize(
    ("amount", "shown", "exact"),
    [
        ("0", "$0.00", "$0.00"),
        ("0.249753600000", "$0.249754", "$0.2497536"),
        ("0.5", "$0.50", "$0.50"),
        ("1234.565", "$1,234.56", "$1,234.565"),
        ("0.0000000001", "< $0.000001", "$0.0000000001"),
        ("-0.25", "-$0.25", "-$0.25"),
        ("1000000", "$1,000,000.00", "$1,000,000.00"),
    ],
)
def test_money_is_short_to_read_and_whole_on_hover(amount: str, shown: str, exact: str) -> None:
    # Given an amount, when it is shown, then it is short, and its exact form has every digit.
    assert usd(Decimal(amount)) == shown
    assert usd_exact(Decimal(amount)) == exact
    assert usd(None) == usd_exact(None) == "–"


@given(st.decimals(-(10**9), 10**9, allow_nan=False, places=12))
def test_exact_money_reads_back_as_itself(amount: Decimal) -> None:
    # Given any amount, when its exact form is read, then it is the amount.
    text = usd_exact(amount).replace("$", "").replace(",", "")
    assert Decimal(text) == amount
    assert abs(Decimal(usd(amount).lstrip("<> ").replace("$", "").replace(",", "")) - amount) <= (
        Decimal("0.005") if abs(amount) >= 1 else Decimal("0.000001")
    )


def test_counts_times_and_sizes() -> None:
    # Given counts, lengths of time and sizes, when they are shown, then as one would say them.
    assert whole(65012) == "65,012"
    assert [counted(n, "request") for n in (0, 1, 2000)] == [
        "0 requests",
        "1 request",
        "2,000 requests",
    ]
    assert [short(n) for n in (999, 1000, 65012, 1_250_000, 312_000_000)] == [
        "999",
        "1K",
        "65K",
        "1.2M",
        "312M",
    ]
    assert [duration(ms) for ms in (950, 3200, 125_000, 3_780_000, 187_200_000)] == [
        "950 ms",
        "3.2 s",
        "2 min 5 s",
        "1 h 3 min",
        "2 d 4 h",
    ]
    assert [size(n) for n in (812, 1434, 3_145_728)] == ["812 B", "1.4 KiB", "3.0 MiB"]
    assert [percent(value) for value in (84.4, 0.42, 0, None)] == ["84%", "0.4%", "0%", "–"]


def test_time_is_how_long_ago_and_beyond_a_week_a_date() -> None:
    # Given times around now, when they are shown, then near ones are relative.
    now = datetime(2026, 11, 25, 12, tzinfo=UTC)
    passed = (timedelta(0), timedelta(seconds=12), timedelta(hours=3), timedelta(days=2))
    assert [ago(now - each, now) for each in passed] == ["now", "12 s ago", "3 h ago", "2 d ago"]
    assert ago(now + timedelta(minutes=5), now) == "in 5 min"
    assert ago(now - timedelta(days=22), now) == "Nov 3"


def test_chart_shows_the_largest_names_and_loses_no_value() -> None:
    # Given more names than colours, when a chart is made, then the small ones are one series, and
    # all its values add up to all that was given.
    first, last = date(2026, 11, 1), date(2026, 11, 3)
    cells = {f"m{n}": {first: Decimal(n), last: Decimal("0.5")} for n in range(1, 10)}
    chart = day_chart(cells, first, last, "usd")
    labels = [series["label"] for series in chart.data["series"]]
    assert labels == ["m9", "m8", "m7", "m6", "m5", "Others"]
    assert len(labels) == SERIES_MAX + 1
    total = sum(sum(series["values"]) for series in chart.data["series"])
    assert total == float(sum(sum(days.values()) for days in cells.values()))
    assert [row[0] for row in chart.table[1]] == ["Nov 3", "Nov 1"]
    assert day_chart({}, first, last, "usd").is_empty
