"""The rows of the tables `prices` and `price_changes`. Pure."""

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from itertools import pairwise
from typing import Any

import msgspec

from schemas.prices import TokenPrices
from services.ledger.price_history import PriceState
from services.runtime.price_book import InForce, PriceBook
from services.runtime.price_overlays import is_whole

__all__ = ["price_change_row", "price_rows"]


def price_change_row(state: PriceState) -> tuple[Any, ...]:
    """Return the row of one change, in the order of PRICE_CHANGE_COLUMNS."""
    change = state.change
    content = msgspec.json.encode(change.book if change.book is not None else change.overlays)
    return (
        state.sequence,
        change.kind,
        change.changed_at_us,
        change.changed_by,
        content.decode(),
        change.client_address,
        change.route,
        change.request_id,
    )


def price_rows(book: PriceBook) -> list[tuple[Any, ...]]:
    """Return what every model costs, from day to day and by the size of the prompt.

    In the order of PRICE_COLUMNS. A model that entries alone know is among them; a pattern that
    prices such models stands for them under its own name.
    """
    models = [model.id for model in book.models]
    entries = (*book.overlays.file, *book.overlays.api)
    models += [
        entry.model
        for entry in entries
        if is_whole(entry) and ("*" in entry.model or book.names_of(entry.model)[0] not in models)
    ]
    return [row for model in dict.fromkeys(models) for row in _model_rows(book, model)]


def _model_rows(book: PriceBook, model: str) -> Iterator[tuple[Any, ...]]:
    names = list(book.names_of(model))
    for first, end, found in _segments(book, model):
        period = found.period
        tiers = [(0, period.usd_per_mtok)]
        tiers += [(tier.above_prompt_tokens, tier.usd_per_mtok) for tier in period.context_tiers]
        ends = [above for above, _ in tiers[1:]] + [None]
        for (above, tokens), up_to in zip(tiers, ends, strict=True):
            yield (
                names[0],
                names,
                None if first == date.min else first,
                end,
                above,
                up_to,
                *_decimals(tokens),
                Decimal(period.usd_per_1000_web_searches),
                Decimal(period.batch_multiplier),
                None if period.fast_multiplier is None else Decimal(period.fast_multiplier),
                [(geo, Decimal(by)) for geo, by in period.inference_geo_multipliers.items()],
                Decimal(found.multiplier.numerator) / found.multiplier.denominator,
                found.origin,
                period.source,
            )


def _decimals(tokens: TokenPrices) -> tuple[Decimal, ...]:
    return (
        Decimal(tokens.input),
        Decimal(tokens.output),
        Decimal(tokens.cache_read),
        Decimal(tokens.cache_write_5m),
        Decimal(tokens.cache_write_1h),
    )


def _segments(book: PriceBook, model: str) -> Iterator[tuple[date, date | None, InForce]]:
    """Yield the longest stretches of days on which a model costs the same: first day, end."""
    periods = [period for each in book.models if each.id == model for period in each.periods]
    entries = (*book.overlays.file, *book.overlays.api)
    bounds = [(each.valid_from, each.valid_to) for each in periods]
    bounds += [(each.valid_from, each.valid_to) for each in entries]
    days = {day for pair in bounds for day in pair if day is not None}
    begun: tuple[date, InForce] | None = None
    for day, following in pairwise([date.min, *sorted(days), None]):
        assert day is not None
        found = book.in_force(model, day)
        if begun is None and found is not None:
            begun = (day, found)
        upcoming = None if following is None else book.in_force(model, following)
        if begun is not None and (following is None or upcoming != begun[1]):
            yield begun[0], following, begun[1]
            begun = None
