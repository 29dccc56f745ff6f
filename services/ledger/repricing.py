"""Costs computed anew under other prices: of which rows, and what they come to. Nothing is written.

Meant are requests that cost by their tokens and ended before the repricing. Lost requests,
pass-through paths, unreadable batch results and refusals stay as they are: no price helps them.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import duckdb
import msgspec

from schemas.prices import Repricing
from schemas.usage import IterationUsage, Usage
from services.ledger.pricing import Cost, cost_picos
from services.ledger.request_rows import (
    COST_PICOS_MAX,
    LOST_ERROR_TYPE,
    RESULT_UNPRICED,
    priced_model,
)
from services.runtime.price_book import PriceBook
from services.runtime.price_overlays import normal_name

__all__ = ["TOO_DEAR_UNPRICED", "NewCost", "changed_costs", "is_meant"]

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
_COSTS = (
    "input_cost_usd",
    "output_cost_usd",
    "cache_read_cost_usd",
    "cache_write_5m_cost_usd",
    "cache_write_1h_cost_usd",
    "web_search_cost_usd",
)
_IS_PAID = (
    "endpoint IN ('messages', 'batch_result') AND reason IS NULL "
    f"AND NOT (estimated AND error_type IS NOT DISTINCT FROM '{LOST_ERROR_TYPE}') "
    f"AND unpriced_reason IS DISTINCT FROM '{RESULT_UNPRICED}' "
    "AND (total_tokens > 0 OR web_search_requests > 0 OR iterations IS NOT NULL OR unpriced)"
)
_decode_iterations = msgspec.json.Decoder(tuple[IterationUsage, ...]).decode


class NewCost(NamedTuple):
    """A row whose cost becomes another one. Without a cost, `unpriced` says why it has none."""

    stream_sequence: int
    request_id: str
    old: Cost | None
    new: Cost | None
    unpriced: str | None


def is_meant(
    book: PriceBook, repricing: Repricing, response_model: str | None, model: str | None
) -> bool:
    """Tell whether a request of these models is meant; a name means the model, with its aliases."""
    if not repricing.models:
        return True
    wanted = {_name(book, name) for name in repricing.models}
    return any(name is not None and _name(book, name) in wanted for name in (response_model, model))


def changed_costs(
    connection: duckdb.DuckDBPyConnection, book: PriceBook, repricing: Repricing, before: int
) -> Iterator[NewCost]:
    """Yield the rows that a repricing changes, in the order of the stream.

    `book` are the prices in force, without the repricing's own entries, which are laid over them.
    Meant are rows whose message of the stream is before number `before`. To be called in a
    transaction, on a cursor that does nothing else meanwhile.
    """
    overlays = book.overlays._replace(repricing=repricing.overlays)
    book = book.with_overlays(overlays)
    to_us = 2**62 if repricing.to_us is None else repricing.to_us
    cursor = connection.execute(
        "SELECT stream_sequence, request_id, response_model, model, epoch_us(started_at), "  # noqa: S608
        f"iterations, service_tier, speed, inference_geo, unpriced_reason, [{', '.join(_COUNTS)}], "
        f"[{', '.join(map(_picos, _COSTS))}] FROM requests WHERE {_IS_PAID} "
        "AND stream_sequence < ? AND epoch_us(started_at) >= ? AND epoch_us(started_at) < ? "
        "ORDER BY stream_sequence, request_id",
        [before, repricing.from_us, to_us],
    )
    while rows := cursor.fetchmany(ROWS_AT_ONCE_MAX):
        for row in rows:
            if not is_meant(book, repricing, row[2], row[3]):
                continue
            changed = _changed(book, *row)
            if changed is not None:
                yield changed


def _changed(
    book: PriceBook,
    sequence: int,
    request_id: str,
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
) -> NewCost | None:
    usage = Usage(
        **dict(zip(_COUNTS, counts, strict=True)),
        service_tier=service_tier,
        speed=speed,
        inference_geo=inference_geo,
        iterations=_decode_iterations(iterations) if iterations else (),
    )
    new, reason = cost_picos(book, usage, priced_model(book, response_model, model), at_us)
    if new is not None and new.total > COST_PICOS_MAX:
        # A repricing must not stop the books, and a row must not vanish from them.
        new, reason = None, TOO_DEAR_UNPRICED
    old = None if old_reason is not None else Cost(*map(int, picos))
    if old == new and old_reason == reason:
        return None
    return NewCost(sequence, request_id, old, new, reason)


def _name(book: PriceBook, name: str) -> str:
    return book.canonical_name(name) or normal_name(name)


def _picos(name: str) -> str:
    """Return SQL for a stored cost in whole pico-dollars; no digit is rounded."""
    return f"({name}::DECIMAL(31, 12) * 1000000000000::DECIMAL(13, 0))::HUGEINT"
