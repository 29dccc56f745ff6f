"""What commands print: tables for people, JSON and CSV for programs.

Names come from whoever made a key or sent a request, so in tables their control characters are
shown and not obeyed; and CSV, which spreadsheets open, marks cells that would be formulas.
"""

import csv
import io
import sys
from decimal import Decimal
from typing import Any

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from schemas.money import usd_text

__all__ = [
    "cell_text",
    "csv_text",
    "dollars",
    "no_formula",
    "note",
    "plain_cell",
    "print_json",
    "print_table",
]

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_TEXT_TYPES = ("VARCHAR", "JSON", "ENUM")
_WIDTH_WITHOUT_TERMINAL = 1000
"""Into a pipe or a file a table is as wide as its cells, up to this."""


def cell_text(value: Any) -> str:
    """Return a cell for a terminal: one line, in which nothing moves the cursor."""
    if value is None:
        return ""
    if isinstance(value, (dict, list)):
        value = msgspec.json.encode(value).decode()
    if isinstance(value, bool):
        return "true" if value else "false"
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in str(value))


def dollars(amount_usd: Decimal | None) -> str:
    """Return an amount of money for people; nothing where it is not known."""
    return "" if amount_usd is None else usd_text(amount_usd)


def print_table(columns: list[str], rows: list[list[Any]], *, right: frozenset[int]) -> None:
    """Print rows as a table; the columns numbered in `right` are aligned right."""
    width = None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(columns):
        justify: Any = "right" if number in right else "left"
        table.add_column(Text(cell_text(name)), justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell_text(value)) for value in row))
    Console(width=width, highlight=False, markup=False).print(table)


def print_json(content: bytes) -> None:
    """Print a gateway's JSON, indented; its numbers keep every digit."""
    sys.stdout.write(msgspec.json.format(content, indent=2).decode() + "\n")


def csv_text(columns: list[tuple[str, str]], rows: list[list[Any]], *, raw: bool) -> str:
    """Return rows as CSV (RFC 4180). `columns` are names and DuckDB's types.

    A text that a spreadsheet would take for a formula (it begins with = + - @, a tab or a carriage
    return) gets an apostrophe before it; with `raw` it stays as it is. NULL is an empty cell.
    """
    file = io.StringIO()
    writer = csv.writer(file)
    is_text = [kind.startswith(_TEXT_TYPES) for _, kind in columns]
    writer.writerow([name if raw else no_formula(name) for name, _ in columns])
    for row in rows:
        cells = [_csv_cell(value) for value in row]
        if not raw:
            cells = [
                no_formula(cell) if text else cell
                for cell, text in zip(cells, is_text, strict=True)
            ]
        writer.writerow(cells)
    return file.getvalue()


def note(text: str) -> None:
    """Tell people something beside the output: on standard error."""
    sys.stderr.write(f"{cell_text(text)}\n")


def _csv_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        return msgspec.json.encode(value).decode()
    return str(value)


def plain_cell(value: Any) -> Any:
    """Return an amount without an exponent, which some programs do not read; all else as it is."""
    return f"{value:f}" if isinstance(value, Decimal) else value


def no_formula(text: str) -> str:
    """Return a text that a spreadsheet shows, and does not compute."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
