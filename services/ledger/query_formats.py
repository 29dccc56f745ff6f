"""The forms of an answer other than JSON: CSV for spreadsheets, Arrow for programs.

Both are made in the reader, from rows that the limits of a query have cut already, and travel in
one message. In CSV each cell is what it is in JSON, so money keeps every digit; Arrow keeps
DuckDB's types: a DECIMAL stays one.
"""

import csv
import io
from collections.abc import Iterable
from typing import Any

import msgspec
import pyarrow as pa

__all__ = ["arrow_stream", "csv_cell", "csv_content"]


def csv_content(names: list[str], rows: Iterable[tuple[Any, ...]]) -> bytes:
    """Return rows of JSON values as CSV (RFC 4180) in UTF-8, names first; NULL is empty."""
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(names)
    writer.writerows([csv_cell(value) for value in row] for row in rows)
    return file.getvalue().encode("utf-8", "replace")


def arrow_stream(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> bytes:
    """Return batches as Arrow's IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def csv_cell(value: Any) -> str:
    """Return a JSON value as a cell of CSV; NULL is empty."""
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
