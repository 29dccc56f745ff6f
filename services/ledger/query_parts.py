"""Answers in CSV and Arrow that come part by part, as they are asked for.

A part is made when it is asked for and not before: DuckDB's result is read no further, so neither
the reader nor who passes the answer on holds more than one part, however long the answer is. An
answer that is cut says so at its end: CSV with a last line `# truncated after 5 rows`, which no row
can look like, since an answer has as many cells in each row; Arrow in the metadata
`tallygate.truncated` of a last batch without rows. One that fits the first part has a header for
it, so its CSV is the plain rows.
"""

import csv
import io
from collections.abc import Iterator
from typing import Any, Literal

import duckdb
import pyarrow as pa

from schemas.rpc import QUERY_PARTS_BYTES_MAX, QueryReply
from services.ledger.cells import cell_reader
from services.ledger.query_formats import csv_cell

__all__ = [
    "PART_BYTES_MAX",
    "PART_BYTES_MIN",
    "AnswerTooLarge",
    "parts_of",
]

PART_BYTES_MIN = 512 * 1024
"""A part is sent as soon as it is this long; it has at most some rows more."""
PART_BYTES_MAX = 2 * 1024 * 1024
"""A part that is longer, since its rows are so long, is refused: it must fit a NATS message."""
_BATCH_ROWS = 2048


class AnswerTooLarge(Exception):
    """A few rows of it are longer than a message may be."""


def parts_of(
    cursor: duckdb.DuckDBPyConnection,
    form: Literal["csv", "arrow"],
    columns: list[tuple[str, Any]],
    rows_max: int,
) -> Iterator[QueryReply]:
    """Yield the answer that `cursor` has executed as replies with `content` and `more`."""
    reader = cursor.to_arrow_reader(_BATCH_ROWS)
    writer = _Csv(columns) if form == "csv" else _Arrow(reader.schema)
    left, bytes_before, is_cut = rows_max, 0, False
    for batch in _slices(reader):
        if left < batch.num_rows or bytes_before >= QUERY_PARTS_BYTES_MAX:
            is_cut = True
            if bytes_before < QUERY_PARTS_BYTES_MAX:
                writer.write(batch.slice(0, left))
                left = 0
            break
        writer.write(batch)
        left -= batch.num_rows
        if writer.size > PART_BYTES_MAX:
            raise AnswerTooLarge
        if writer.size >= PART_BYTES_MIN:
            content = writer.take()
            bytes_before += len(content)
            yield QueryReply(content=content, more=True)
    writer.end(rows_max - left if is_cut else None, is_first=bytes_before == 0)
    yield QueryReply(content=writer.take(), truncated=is_cut)


def _slices(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """Yield the rows in batches that are about as long as a part at most, none of them empty."""
    for batch in reader:
        rows = max(1, batch.num_rows * PART_BYTES_MIN // max(1, batch.nbytes))
        for first in range(0, batch.num_rows, rows):
            yield batch.slice(first, rows)


class _Csv:
    def __init__(self, columns: list[tuple[str, Any]]) -> None:
        self._file = io.StringIO(newline="")
        self._writer = csv.writer(self._file)
        self._writer.writerow([name for name, _ in columns])
        self._readers = [cell_reader(kind) for _, kind in columns]

    @property
    def size(self) -> int:
        return self._file.tell()

    def write(self, batch: pa.RecordBatch) -> None:
        cells = [read(column) for read, column in zip(self._readers, batch.columns, strict=True)]
        self._writer.writerows(
            [csv_cell(value) for value in row] for row in zip(*cells, strict=True)
        )

    def end(self, cut_after: int | None, *, is_first: bool) -> None:
        if cut_after is not None and not is_first:
            self._file.write(f"# truncated after {cut_after} rows\r\n")

    def take(self) -> bytes:
        text = self._file.getvalue()
        self._file.seek(0)
        self._file.truncate()
        return text.encode("utf-8", "replace")


class _Arrow:
    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._sink = _Sink()
        self._writer = pa.ipc.new_stream(self._sink, schema)

    @property
    def size(self) -> int:
        return self._sink.size

    def write(self, batch: pa.RecordBatch) -> None:
        if batch.num_rows:
            self._writer.write_batch(batch)

    def end(self, cut_after: int | None, *, is_first: bool) -> None:
        del is_first
        if cut_after is not None:
            nothing = self._schema.empty_table().to_batches() or [
                pa.RecordBatch.from_pylist([], schema=self._schema)
            ]
            metadata = {b"tallygate.truncated": b"after %d rows" % cut_after}
            self._writer.write_batch(nothing[0], custom_metadata=metadata)
        self._writer.close()

    def take(self) -> bytes:
        return self._sink.take()


class _Sink(io.RawIOBase):
    """What Arrow writes to; what was taken is gone, and positions go on."""

    def __init__(self) -> None:
        super().__init__()
        self._chunks: list[bytes] = []
        self._before = 0
        self.size = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._before + self.size

    def write(self, chunk: Any) -> int:
        copy = bytes(chunk)
        self._chunks.append(copy)
        self.size += len(copy)
        return len(copy)

    def take(self) -> bytes:
        content = b"".join(self._chunks)
        self._chunks.clear()
        self._before += len(content)
        self.size = 0
        return content
