"""Costs computed anew under other prices: of which rows, and what they come to. Nothing is written.

Meant are requests that cost by their tokens and ended before the repricing. Lost requests,
pass-through paths, unreadable batch results and refusals stay as they are: no price helps them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any, NamedTuple

import duckdb
import msgspec
import pyarrow as pa

from schemas.prices import PriceOverlay, Repricing
from schemas.usage import IterationUsage, Usage
from services.ledger.request_rows import (
    COST_PICOS_MAX,
    LOST_ERROR_TYPE,
    RESULT_UNPRICED,
)
from services.ledger.rows import COMPONENT_COSTS
from services.runtime.price_book import PriceBook
from services.runtime.price_overlays import normal_name
from services.runtime.pricing import Cost, Priced, cost_picos, priced_model

__all__ = [
    "TOO_DEAR_UNPRICED",
    "NewCost",
    "believed",
    "is_meant",
    "laid_over",
    "meant",
    "new_costs",
    "read_repricings",
]

TOO_DEAR_UNPRICED = "the prices of a repricing make it cost more than is believed"
ROWS_AT_ONCE_MAX = 10_000

_COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "web_search_requests",
    "web_fetch_requests",
)
_IS_PAID = (
    "endpoint IN ('messages', 'batch_result') AND reason IS NULL "
    f"AND NOT (estimated AND error_type IS NOT DISTINCT FROM '{LOST_ERROR_TYPE}') "
    f"AND unpriced_reason IS DISTINCT FROM '{RESULT_UNPRICED}' "
    "AND (total_tokens > 0 OR web_search_requests > 0 OR iterations IS NOT NULL OR unpriced)"
)
_IS_OF_MODELS = (
    "EXISTS (SELECT 1 FROM repriced_models WHERE answered IS NOT DISTINCT FROM response_model "
    "AND asked IS NOT DISTINCT FROM model)"
)
_decode_iterations = msgspec.json.Decoder(tuple[IterationUsage, ...]).decode


class NewCost(NamedTuple):
    """A row that is meant, and its cost. Without a cost, `unpriced` says why it has none."""

    producer: str
    producer_sequence: int
    stream_sequence: int
    request_id: str
    day: date
    key_id: str | None
    model: str
    old: Cost | None
    old_unpriced: str | None
    new: Cost | None
    unpriced: str | None

    @property
    def is_other(self) -> bool:
        """Whether the row says something else then."""
        return self.old != self.new or self.old_unpriced != self.unpriced


def laid_over(book: PriceBook, repricing: Repricing) -> PriceBook:
    """Return the prices of a repricing: those in force with its own entries before them."""
    return book.with_overlays(book.overlays._replace(repricing=repricing.overlays))


def is_meant(
    book: PriceBook, repricing: Repricing, response_model: str | None, model: str | None
) -> bool:
    """Tell whether a request of these models is meant; a name means the model, with its aliases."""
    if not repricing.models:
        return True
    wanted = {_name(book, name) for name in repricing.models}
    return any(name is not None and _name(book, name) in wanted for name in (response_model, model))


@contextmanager
def meant(
    connection: duckdb.DuckDBPyConnection, book: PriceBook, repricing: Repricing, before: int
) -> Iterator[tuple[str, list[int]]]:
    """Have SQL that chooses the rows that a repricing means, and its parameters.

    `book` are its prices (`laid_over`); `before` is its message: rows of later ones are not meant.
    To be called in a transaction; the models that are meant are a view of the body's alone.
    """
    to_us = 2**62 if repricing.to_us is None else repricing.to_us
    where = (
        f"{_IS_PAID} AND stream_sequence < ? AND epoch_us(started_at) >= ? "
        "AND epoch_us(started_at) < ?"
    )
    parameters = [before, repricing.from_us, to_us]
    if not repricing.models:
        yield where, parameters
        return
    pairs = connection.execute(
        f"SELECT DISTINCT response_model, model FROM requests WHERE {where}",  # noqa: S608
        parameters,
    ).fetchall()
    chosen = [pair for pair in pairs if is_meant(book, repricing, *pair)]
    columns = {
        name: pa.array([pair[number] for pair in chosen], type=pa.string())
        for number, name in enumerate(("answered", "asked"))
    }
    connection.register("repriced_models", pa.table(columns))
    try:
        yield f"{where} AND {_IS_OF_MODELS}", parameters
    finally:
        connection.unregister("repriced_models")


def new_costs(
    connection: duckdb.DuckDBPyConnection, book: PriceBook, repricing: Repricing, before: int
) -> Iterator[NewCost]:
    """Yield the rows that a repricing means, with what they cost and will cost.

    As `meant`. The connection does nothing else meanwhile.
    """
    with meant(connection, book, repricing, before) as (where, parameters):
        cursor = connection.execute(
            "SELECT producer, producer_sequence, stream_sequence, request_id, started_at::DATE, "  # noqa: S608
            "key_id, response_model, model, epoch_us(started_at), iterations, service_tier, speed, "
            f"inference_geo, unpriced_reason, [{', '.join(_COUNTS)}], "
            f"[{', '.join(map(_picos, COMPONENT_COSTS))}] FROM requests WHERE {where}",
            parameters,
        )
        while rows := cursor.fetchmany(ROWS_AT_ONCE_MAX):
            for row in rows:
                yield _new_cost(book, *row)


def _new_cost(
    book: PriceBook,
    producer: str,
    number: int,
    sequence: int,
    request_id: str,
    day: date,
    key_id: str | None,
    response_model: str | None,
    model: str | None,
    at_us: int,
    iterations: str | None,
    service_tier: str | None,
    speed: str | None,
    inference_geo: str | None,
    old_reason: str | None,
    counts: list[int],
    picos: list[Any],
) -> NewCost:
    usage = Usage(
        **dict(zip(_COUNTS, counts, strict=True)),
        service_tier=service_tier,
        speed=speed,
        inference_geo=inference_geo,
        iterations=_decode_iterations(iterations) if iterations else (),
    )
    named = priced_model(book, response_model, model)
    new, reason = believed(cost_picos(book, usage, named, at_us))
    old = None if old_reason is not None else Cost(*map(int, picos))
    return NewCost(
        producer, number, sequence, request_id, day, key_id, named, old, old_reason, new, reason
    )


def believed(priced: Priced) -> Priced:
    """Return a cost, or that it is none where no column holds it.

    A repricing must not stop the books, and a row must not vanish from them.
    """
    if priced.cost is not None and priced.cost.total > COST_PICOS_MAX:
        return Priced(None, TOO_DEAR_UNPRICED)
    return priced


def _name(book: PriceBook, name: str) -> str:
    return book.canonical_name(name) or normal_name(name)


def _picos(name: str) -> str:
    """Return SQL for a stored cost in whole pico-dollars; no digit is rounded."""
    return f"({name}::DECIMAL(31, 12) * 1000000000000::DECIMAL(13, 0))::HUGEINT"


def read_repricings(
    connection: duckdb.DuckDBPyConnection,
) -> list[tuple[int, Repricing]]:
    """Return every repricing that was applied, with its message, in the order of the stream."""
    found = connection.execute(
        "SELECT stream_sequence, epoch_us(requests_from), epoch_us(requests_to), models, content, "
        "reason, epoch_us(repriced_at), repriced_by FROM repricings WHERE applied "
        "ORDER BY stream_sequence"
    ).fetchall()
    return [
        (
            sequence,
            Repricing(
                from_us=from_us,
                to_us=to_us,
                models=tuple(models),
                overlays=msgspec.json.decode(content, type=tuple[PriceOverlay, ...]),
                reason=reason,
                repriced_at_us=at_us,
                repriced_by=by,
            ),
        )
        for sequence, from_us, to_us, models, content, reason, at_us, by in found
    ]
