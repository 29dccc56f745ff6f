"""CSV as a gateway sends it, in parts, made safe for spreadsheets on its way to standard output."""

import codecs
import csv
import io
import sys
from collections.abc import Iterable, Iterator

from services.client.gateway import ClientError, Gateway
from services.client.output import no_formula, note

__all__ = ["guarded_rows", "print_csv"]

CELL_BYTES_MAX = 16 * 1024 * 1024
"""A longer cell is not this gateway's; Python's own limit would be 128 KiB."""

TRUNCATED_HEADER = "x-tallygate-truncated"
_CUT_MARK = "# truncated after "
_END_CHARACTERS = 200
"""The line that says that rows were cut is shorter than this."""


def print_csv(gateway: Gateway, path: str, query: dict[str, str | int], *, raw: bool) -> None:
    """Write a report as CSV to standard output, however long; say so where it was cut.

    With `raw` it stays byte for byte; without, texts that a spreadsheet would take for a formula
    get an apostrophe. Raises ClientError, also where the answer breaks off.
    """
    end = ""
    with gateway.streamed_get(path, {**query, "format": "csv"}) as (headers, chunks):
        texts = _texts(chunks)
        for text in texts if raw else guarded_rows(texts):
            sys.stdout.write(text)
            end = (end + text)[-_END_CHARACTERS:]
    sys.stdout.flush()
    truncated = headers.get(TRUNCATED_HEADER)
    last_line = end.rstrip("\r\n").rpartition("\n")[2]
    if truncated == "true" or (truncated == "at-end" and last_line.startswith(_CUT_MARK)):
        note("note: the list was cut; there are more rows: choose a shorter period")


def guarded_rows(texts: Iterable[str]) -> Iterator[str]:
    """Return CSV row by row, whatever parts it comes in; formulas get an apostrophe before them.

    Numbers stay numbers, negative ones too. Raises ClientError where it is no CSV.
    """
    csv.field_size_limit(CELL_BYTES_MAX)
    file = io.StringIO()
    writer = csv.writer(file)
    try:
        for row in csv.reader(_lines(texts), strict=True):
            writer.writerow([cell if _is_number(cell) else no_formula(cell) for cell in row])
            yield file.getvalue()
            file.seek(0)
            file.truncate()
    except csv.Error as error:
        raise ClientError(f"the answer is no CSV ({error}): is it a gateway's?") from None


def _texts(chunks: Iterable[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for chunk in chunks:
        yield decoder.decode(chunk)
    yield decoder.decode(b"", final=True)


def _lines(texts: Iterable[str]) -> Iterator[str]:
    """Return whole lines with their ends; a line of a quoted cell is one, too."""
    rest = ""
    for text in texts:
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            yield line + "\n"
    if rest:
        yield rest


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
