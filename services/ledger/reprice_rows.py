"""Applies repricings to the books: in the transaction of the message that told them.

A repricing is a message of the stream, and means rows of messages before it; so it makes the same
of the same stream, however messages are grouped into commits. Rows that are meant say by
`priced_sequence` that their cost is by its prices, whether or not that is another one.
"""

import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

import duckdb
import msgspec
import pyarrow as pa

from schemas.money import usd_from_picos
from schemas.prices import Repricing
from services.ledger import rollups, rows
from services.ledger.repricing import NewCost, meant, new_costs
from services.runtime.price_book import PriceBook

__all__ = [
    "REPRICED_ROWS_MAX",
    "DueRepricing",
    "RepriceCount",
    "apply_repricing",
    "rows_meant",
]

log = logging.getLogger(__name__)

REPRICED_ROWS_MAX = 300_000
"""A repricing that means more rows is not applied: so many hold the books up for 6 s (measured)."""
_ROWS_AT_ONCE = 20_000
_NONE: tuple[Any, ...] = (None,) * len(rows.COST_COLUMNS)
_FIELDS: "list[pa.Field[Any]]" = [
    pa.field("producer", pa.string()),
    pa.field("producer_sequence", pa.int64()),
    *(pa.field(name, pa.decimal128(18, 12)) for name in rows.COST_COLUMNS),
    pa.field("unpriced_reason", pa.string()),
]
_REPRICED = pa.schema(_FIELDS)
_FACTS = ", ".join(name for name, _ in rows.REQUEST_COLUMNS)
_IS_ONE = (
    "EXISTS (SELECT 1 FROM repriced AS n WHERE n.producer = requests.producer "
    "AND n.producer_sequence = requests.producer_sequence)"
)


class DueRepricing(NamedTuple):
    """A repricing, its message of the stream, and its prices: its own before those in force."""

    sequence: int
    repricing: Repricing
    book: PriceBook


class RepriceCount(msgspec.Struct):
    """What some rows cost, before and after a repricing; money in pico-dollars."""

    requests: int = 0
    changed_requests: int = 0
    before_picos: int = 0
    after_picos: int = 0
    unpriced_before: int = 0
    unpriced_after: int = 0

    def add(self, cost: NewCost) -> None:
        """Count one row."""
        self.requests += 1
        self.changed_requests += cost.is_other
        self.before_picos += cost.old.total if cost.old is not None else 0
        self.after_picos += cost.new.total if cost.new is not None else 0
        self.unpriced_before += cost.old is None
        self.unpriced_after += cost.new is None


def apply_repricing(connection: duckdb.DuckDBPyConnection, due: DueRepricing) -> tuple[Any, ...]:
    """Price the rows that a repricing means anew; return its row, for REPRICING_COLUMNS.

    To be called in a transaction in which all rows of earlier messages are there.
    """
    sums = RepriceCount()
    requests = rows_meant(connection, due.book, due.repricing, due.sequence)
    is_applied = requests <= REPRICED_ROWS_MAX
    if is_applied:
        costs = new_costs(connection, due.book, due.repricing, due.sequence)
        table = pa.Table.from_batches(_batches(costs, sums), _REPRICED)
        if table.num_rows:
            _replace(connection, table, due.sequence)
    else:
        sums.requests = requests
        log.error("a repricing of %d requests is too large and is not applied", sums.requests)
    return _row(due, sums, is_applied=is_applied)


def rows_meant(
    connection: duckdb.DuckDBPyConnection, book: PriceBook, repricing: Repricing, before: int
) -> int:
    """Return how many rows a repricing means; see `meant`."""
    with meant(connection, book, repricing, before) as (where, parameters):
        found = connection.execute(
            f"SELECT count(*) FROM requests WHERE {where}",  # noqa: S608
            parameters,
        ).fetchall()
    return int(found[0][0])


def _batches(costs: Iterator[NewCost], sums: RepriceCount) -> Iterator[pa.RecordBatch]:
    lines: list[tuple[Any, ...]] = []
    for cost in costs:
        sums.add(cost)
        new = cost.new
        money = _NONE if new is None else tuple(map(usd_from_picos, (new.total, *new)))
        lines.append((cost.producer, cost.producer_sequence, *money, cost.unpriced))
        if len(lines) >= _ROWS_AT_ONCE:
            yield _batch(lines)
            lines.clear()
    if lines:
        yield _batch(lines)


def _batch(lines: list[tuple[Any, ...]]) -> pa.RecordBatch:
    columns = zip(*lines, strict=True)
    arrays = [
        pa.array(column, type=field.type) for column, field in zip(columns, _REPRICED, strict=True)
    ]
    return pa.record_batch(arrays, schema=_REPRICED)


def _replace(connection: duckdb.DuckDBPyConnection, table: pa.Table, sequence: int) -> None:
    connection.register("repriced", table)
    try:
        # What the digest at an earlier message counts is kept: the rows as they were.
        _note_hashes(connection, sequence, 1)
        rollups.count(connection, "out", where=_IS_ONE)
        changes = ", ".join(
            f"{name} = n.{name}" for name in (*rows.COST_COLUMNS, "unpriced_reason")
        )
        connection.execute(
            f"UPDATE requests SET {changes}, unpriced = n.cost_usd IS NULL, priced_sequence = ? "  # noqa: S608
            "FROM repriced AS n WHERE n.producer = requests.producer "
            "AND n.producer_sequence = requests.producer_sequence",
            [sequence],
        )
        rollups.count(connection, "in", where=_IS_ONE)
        _note_hashes(connection, sequence, -1)
    finally:
        connection.unregister("repriced")


def _note_hashes(connection: duckdb.DuckDBPyConnection, sequence: int, sign: int) -> None:
    connection.execute(
        "INSERT INTO repriced_hashes SELECT stream_sequence, ?, "  # noqa: S608
        f"{sign} * sum(hash({_FACTS})::HUGEINT) FROM requests WHERE {_IS_ONE} "
        "GROUP BY stream_sequence",
        [sequence],
    )


def _row(due: DueRepricing, sums: RepriceCount, *, is_applied: bool) -> tuple[Any, ...]:
    """Return the row of a repricing, in the order of REPRICING_COLUMNS."""
    repricing = due.repricing
    return (
        due.sequence,
        repricing.repriced_at_us,
        repricing.repriced_by,
        repricing.reason,
        repricing.from_us,
        repricing.to_us,
        list(repricing.models),
        msgspec.json.encode(repricing.overlays).decode(),
        is_applied,
        sums.requests,
        sums.changed_requests,
        usd_from_picos(sums.before_picos),
        usd_from_picos(sums.after_picos),
        sums.unpriced_before,
        sums.unpriced_after,
        repricing.client_address,
        repricing.route,
        repricing.request_id,
    )
