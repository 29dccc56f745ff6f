"""CSV files of the dashboard: they are opened in spreadsheets, so none of their texts is a formula.

The API's own CSV is the ledger's words unchanged; what a page hands out marks each text that a
spreadsheet would take for a formula with an apostrophe (threats: a key's name that is a formula).
"""

import asyncio
import codecs
import csv
import io
import re
from collections.abc import AsyncIterator
from typing import Any

from litestar import Response
from litestar.response import Stream

from services.admin.ui.pages import HEADERS

__all__ = ["Marking", "as_sheet"]

CELL_CHARS_MAX = 16 * 1024 * 1024
"""A longer cell is not the ledger's; Python's own limit would be 128 KiB."""
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?([eE][-+]?\d+)?|Infinity|inf)")


class Marking:
    """Marks formulas in CSV that comes in parts."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def take(self, content: bytes, *, is_last: bool = False) -> bytes:
        """Return the rows that are whole now; all that is left where nothing more comes."""
        text = self._rest + self._decoder.decode(content, final=is_last)
        end = len(text) if is_last else _end_of_rows(text)
        self._rest = text[end:]
        csv.field_size_limit(CELL_CHARS_MAX)
        file = io.StringIO(newline="")
        writer = csv.writer(file, lineterminator="\n")
        for row in csv.reader(io.StringIO(text[:end], newline="")):
            writer.writerow([_marked(cell) for cell in row])
        return file.getvalue().encode()


def as_sheet(answer: Response[Any] | Stream, filename: str) -> Response[Any] | Stream:
    """Return an answer in CSV as a file to be opened in a spreadsheet."""
    if isinstance(answer, Stream):
        answer.iterator = _marked_parts(answer.iterator)
    else:
        content: Any = answer.content
        answer.content = Marking().take(content, is_last=True)
    disposition = f'attachment; filename="{filename}"'
    answer.headers.update({**HEADERS, "content-disposition": disposition})
    return answer


async def _marked_parts(parts: Any) -> AsyncIterator[bytes]:
    marking = Marking()
    async for part in parts:
        yield await asyncio.to_thread(marking.take, part)
    yield await asyncio.to_thread(marking.take, b"", is_last=True)


def _end_of_rows(text: str) -> int:
    """Return where the last whole row of a text ends that begins with a row."""
    pieces = text.split('"')
    end = len(text)
    for place in range(len(pieces) - 1, -1, -1):
        start = end - len(pieces[place])
        if place % 2 == 0 and "\n" in pieces[place]:  # every second piece is within quotes
            return start + pieces[place].rindex("\n") + 1
        end = start - 1
    return 0


def _marked(cell: str) -> str:
    is_formula = cell.startswith(_FORMULA_STARTS) and not _NUMBER.fullmatch(cell)
    return f"'{cell}" if is_formula else cell
