"""CSV that comes in parts: the same cells, however it is cut, and none that is a formula."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.client.csv_stream import guarded_rows
from services.client.gateway import ClientError

CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"))


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.lists(CELLS, min_size=2, max_size=2)), st.integers(1, 9))
def test_cells_are_the_same_however_they_are_cut(table: list[list[str]], size: int) -> None:
    # Given any cells as CSV, when it comes in parts, then each is itself, or has an apostrophe.
    file = io.StringIO()
    csv.writer(file).writerows(table)
    text = file.getvalue()
    parts = [text[at : at + size] for at in range(0, len(text), size)]
    found = list(csv.reader(io.StringIO("".join(guarded_rows(parts)), newline="")))
    for row, before in zip(found, table, strict=True):
        for cell, original in zip(row, before, strict=True):
            assert cell in (original, f"'{original}")
            is_formula = original.startswith(("=", "+", "-", "@", "\t", "\r"))
            assert (cell == original) == (not is_formula or _is_number(original))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def test_negative_numbers_stay_numbers_and_long_cells_whole() -> None:
    # Given a correction, a formula, and a cell longer than Python's own limit, then each is right.
    long = "x" * 200_000
    rows = "".join(guarded_rows([f"-0.25,-1+1,{long}\n"]))
    assert rows == f"-0.25,'-1+1,{long}\r\n"
    with pytest.raises(ClientError, match="no CSV"):
        list(guarded_rows(['a,"b\n']))
