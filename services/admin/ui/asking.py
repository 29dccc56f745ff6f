"""Asking the ledger for a page: rows by column name, in Python's own types."""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from schemas.rpc import QueryReply
from services.admin.state import AdminState

__all__ = ["PAGE_TIMEOUT_S", "Row", "ask", "rows_from"]

PAGE_TIMEOUT_S = 8.0
"""A page does not wait longer for one of its queries; it then says so in its place."""

Row = dict[str, Any]
"""One row: DECIMAL is Decimal, TIMESTAMP a datetime in UTC, DATE a date, the rest as in JSON."""


async def ask(admin: AdminState, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
    """Return the rows of one SELECT. Raises ApiError as the ledger's client does."""
    return rows_from(await admin.ledger.query(sql, parameters, timeout_s=PAGE_TIMEOUT_S))


def rows_from(reply: QueryReply) -> list[Row]:
    """Return an answer's rows in Python's types."""
    names = [column.name for column in reply.columns]
    readers = [_reader(column.type) for column in reply.columns]
    return [
        {
            name: None if cell is None else read(cell)
            for name, read, cell in zip(names, readers, row, strict=True)
        }
        for row in reply.rows
    ]


def _reader(kind: str) -> Callable[[Any], Any]:
    if kind.startswith("DECIMAL"):
        return Decimal
    if kind == "HUGEINT" or kind.endswith("BIGINT"):
        return int
    if kind.startswith("TIMESTAMP"):
        return _time
    return date.fromisoformat if kind == "DATE" else _same


def _time(cell: str) -> datetime:
    return datetime.fromisoformat(cell).astimezone(UTC)


def _same(cell: Any) -> Any:
    return cell
