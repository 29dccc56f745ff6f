"""A CSV file of the dashboard has the same cells as the ledger's answer, and no formula."""

import csv
import io

from hypothesis import given, settings
from hypothesis import strategies as st

from services.admin.ui.sheets import Marking

_CELLS = st.text(alphabet='ab=+-@\t",\n1. é', max_size=12)


def _rows(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode(), newline="")))


@settings(deadline=None)
@given(rows=st.lists(st.lists(_CELLS, min_size=2, max_size=4)), size=st.integers(1, 40))
def test_cells_are_the_same_however_they_come_in_parts(rows: list[list[str]], size: int) -> None:
    # Given any table, cut anywhere into parts, when it is marked, then each cell is what it was,
    # with an apostrophe before what would be a formula.
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator="\n").writerows(rows)
    content = file.getvalue().encode()
    marking = Marking()
    parts = [content[start : start + size] for start in range(0, len(content), size)]
    marked = b"".join(marking.take(part) for part in parts) + marking.take(b"", is_last=True)
    found = _rows(marked)
    assert len(found) == len(rows)
    for row, expected in zip(found, rows, strict=True):
        for cell, was in zip(row, expected, strict=True):
            assert cell in (was, f"'{was}")
            assert cell[:1] not in ("=", "@", "\t")
            assert cell[:1] not in ("+", "-") or float(cell) is not None


def test_numbers_stay_numbers_and_formulas_do_not_stay_formulas() -> None:
    # Given numbers, negative ones too, and a key's name that is a formula, when they are marked,
    # then only that one is.
    content = b'name,usd\n"=HYPERLINK(""http://x"")",-0.5\n-2+3,1e-07\nplain,\n'
    assert Marking().take(content, is_last=True) == (
        b'name,usd\n"\'=HYPERLINK(""http://x"")",-0.5\n\'-2+3,1e-07\nplain,\n'
    )
