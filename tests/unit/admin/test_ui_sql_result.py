"""What is drawn of an answer is what its table says, and an answer that fits no chart has none."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.rpc import Column
from services.admin.ui.sql_result import BARS_MAX, cells_of, picture_of

DAY = Column("day", "DATE")
HOUR = Column("hour", "TIMESTAMP")
NAME = Column("model", "VARCHAR")
COST = Column("cost_usd", "DECIMAL(38,12)")
COUNT = Column("requests", "BIGINT")


def test_cells_keep_every_digit_and_say_what_is_null() -> None:
    # Given cells of all kinds, when they are shown, then no digit that says something is missing.
    columns = [COST, COUNT, HOUR, NAME, Column("tags", "VARCHAR[]"), Column("x", "DOUBLE")]
    row = ["0.249753600000", 65012, "2026-11-24T04:14:12.5Z", None, ["a", "b"], 1e-7]
    assert [cell.text for cell in cells_of(columns, row)] == [
        "0.2497536", "65012", "2026-11-24 04:14:12.5", "NULL", '["a","b"]', "1e-07",
    ]  # fmt: skip
    assert [cell.is_number for cell in cells_of(columns, row)] == [
        True,
        True,
        False,
        False,
        False,
        True,
    ]
    assert cells_of([NAME], ["x" * 5000])[0].text == "x" * 400 + "…"
    assert cells_of([COST], ["100.000000000000"])[0].text == "100"


@given(
    st.lists(
        st.tuples(st.integers(1, 28), st.sampled_from("abcdefgh"), st.integers(1, 10**6)),
        min_size=2,
        max_size=80,
    )
)
def test_stacks_add_up_to_the_answer(given_rows: list[tuple[int, str, int]]) -> None:
    # Given costs by day and name, in any order and with repeats, when they are drawn, then all
    # stacks of a day together are what the answer has of that day.
    rows = [
        (f"2026-11-{day:02d}", name, str(Decimal(cents) / 100)) for day, name, cents in given_rows
    ]
    picture = picture_of([DAY, NAME, COST], rows)
    days = sorted({row[0] for row in rows})
    if len(days) < 2:
        assert picture is None
        return
    assert picture is not None
    assert picture.data is not None
    assert picture.data["kind"] == "bars"
    assert picture.data["unit"] == "usd"
    sums = [
        sum(values)
        for values in zip(*(each["values"] for each in picture.data["series"]), strict=True)
    ]
    expected = [float(sum(Decimal(row[2]) for row in rows if row[0] == day)) for day in days]
    assert sums == pytest.approx(expected)


def test_numbers_beside_times_are_lines_of_one_unit() -> None:
    # Given several numbers for each hour, when they are drawn, then as lines, and money and
    # counts do not share an axis; one number alone makes bars.
    rows = [("2026-11-24T10:00:00Z", "1.5", 3), ("2026-11-24T11:00:00Z", "2.5", None)]
    picture = picture_of([HOUR, COST, COUNT], rows)
    assert picture is not None
    assert picture.data is not None
    assert picture.series == ("cost_usd",)
    assert picture.data["kind"] == "bars"
    assert picture.data["step"] == "hour"
    paid = Column("paid_usd", "DECIMAL(38,12)")
    lines = picture_of([HOUR, COST, paid], rows)
    assert lines is not None
    assert lines.data is not None
    assert lines.data["kind"] == "line"
    assert [each["values"] for each in lines.data["series"]] == [[1.5, 2.5], [3.0, 0.0]]


def test_names_are_bars_of_the_first_number() -> None:
    # Given more names than are drawn, when they are, then the first ones, and the title says so.
    rows: list[tuple[Any, ...]] = [(f"m{number}", 100 - number) for number in range(BARS_MAX + 5)]
    picture = picture_of([NAME, COUNT], rows)
    assert picture is not None
    assert len(picture.bars) == BARS_MAX
    assert picture.bars[0]["value"] == "100"
    assert picture.bars[0]["share"] == 100
    assert f"the first {BARS_MAX}" in picture.title


@pytest.mark.parametrize(
    ("columns", "rows"),
    [
        ([COUNT], [(1,), (2,)]),
        ([COUNT, COST], [(1, "1"), (2, "2")]),
        ([NAME, COUNT], [("a", 1)]),
        ([NAME, NAME], [("a", "b"), ("c", "d")]),
        ([NAME, COUNT], [("a", 1), ("a", 2)]),
        ([NAME, COUNT], [("a", -1), ("b", 2)]),
        ([DAY, NAME, NAME, COUNT], [("2026-11-24", "a", "b", 1), ("2026-11-25", "a", "b", 1)]),
        ([DAY, COUNT], [("2026-11-24", 1), ("2026-11-24", 2)]),
        ([DAY, COUNT], [(None, 1), (None, 2)]),
        ([DAY, COUNT], [("infinity", 1), ("2026-11-24", 2)]),
        ([DAY, COUNT, COUNT], [("2026-11-23", 1, 1), ("2026-11-24", 2, 2)]),
        ([DAY, NAME, COUNT], [("2026-11-24", "a", 0), ("2026-11-25", "b", 0)]),
        ([Column("tags", "VARCHAR[]"), COUNT], [(["a"], 1), (["b"], 2)]),
    ],
)
def test_answers_of_other_shapes_are_tables_alone(
    columns: list[Column], rows: list[tuple[Any, ...]]
) -> None:
    # Given an answer that fits no chart, then none is drawn.
    assert picture_of(columns, rows) is None
