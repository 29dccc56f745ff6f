"""The cost of one request: exact, in pico-dollars, by component, or openly unpriced.

Rules, with their sources in docs/prices.md: every part of a request is priced by the model that
did the work; a context tier applies to all tokens of a part; what has no known price makes the
whole request unpriced, because a part of a cost is a wrong cost. Where an entry that differs from
the book leaves a fraction of a pico-dollar, each component is rounded to whole ones by itself.
"""

from collections.abc import Iterator
from typing import NamedTuple

from schemas.usage import IterationUsage, Usage
from services.runtime.price_book import Conditions, PriceBook, Rates, TokenRates

__all__ = ["Cost", "Priced", "cost_picos", "priced_model"]


class Cost(NamedTuple):
    """What a request cost, in pico-dollars (1e-12 USD), by component. All are whole numbers."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    web_search: int = 0

    @property
    def total(self) -> int:
        """The sum of the components."""
        return sum(self)


class Priced(NamedTuple):
    """Either a cost, or the reason in words why there is none. Never both, never neither."""

    cost: Cost | None
    unpriced: str | None = None


class _Part(NamedTuple):
    """Tokens that one model spent under one set of conditions."""

    tokens: Usage | IterationUsage
    model: str
    conditions: Conditions


class _NoPriceError(Exception):
    """A part has no price; the message says which and why."""


def cost_picos(book: PriceBook, usage: Usage, model: str, at_us: int) -> Priced:
    """Return what a request cost at list price, or why that is not known.

    `model` is the model that answered (the response's own word for it; without one, the model
    that was asked for). `at_us` is when the request started, in microseconds since the epoch:
    its day decides the price.
    """
    conditions = Conditions(usage.service_tier, usage.speed, usage.inference_geo)
    try:
        if not usage.iterations:
            return Priced(_simple_cost(book, usage, model, at_us, conditions))
        return Priced(_cost_of_iterations(book, usage, model, at_us, conditions))
    except _NoPriceError as error:
        return Priced(None, str(error))


def priced_model(book: PriceBook, response_model: str | None, model: str | None) -> str:
    """Return the name of the model by which a request is priced.

    The model that answered decides; a name that the book does not know is no better than the one
    that was asked for.
    """
    if response_model is None or book.canonical_name(response_model) is None:
        return model or response_model or ""
    return response_model


def _simple_cost(
    book: PriceBook, usage: Usage, model: str, at_us: int, conditions: Conditions
) -> Cost:
    rates = _rates(book, model, at_us, conditions)
    tier = _tier(rates, usage)
    cost = Cost(
        usage.input_tokens * tier.input,
        usage.output_tokens * tier.output,
        usage.cache_read_tokens * tier.cache_read,
        usage.cache_write_5m_tokens * tier.cache_write_5m,
        usage.cache_write_1h_tokens * tier.cache_write_1h,
        usage.web_search_requests * rates.web_search,
    )
    return cost if rates.scale == 1 else Cost(*(_picos(part, rates.scale) for part in cost))


def _picos(amount: int, scale: int) -> int:
    """Return an amount of a finer unit in whole pico-dollars, half of one rounded up."""
    return (2 * amount + scale) // (2 * scale)


def _cost_of_iterations(
    book: PriceBook, usage: Usage, model: str, at_us: int, conditions: Conditions
) -> Cost:
    """Return the sum of the parts; web searches are counted once, for the model that answered."""
    serving_model = _serving_model(usage, model)
    sums = [0] * 5
    for part in _parts(book, usage, serving_model, conditions):
        rates = _rates(book, part.model, at_us, part.conditions)
        tier = _tier(rates, part.tokens)
        amounts = (
            part.tokens.input_tokens * tier.input,
            part.tokens.output_tokens * tier.output,
            part.tokens.cache_read_tokens * tier.cache_read,
            part.tokens.cache_write_5m_tokens * tier.cache_write_5m,
            part.tokens.cache_write_1h_tokens * tier.cache_write_1h,
        )
        # A part is rounded by itself: each may have another unit.
        sums = [
            before + _picos(amount, rates.scale)
            for before, amount in zip(sums, amounts, strict=True)
        ]
    cost = Cost(*sums)
    if not usage.web_search_requests:
        return cost
    rates = _rates(book, serving_model, at_us, conditions)
    searches = _picos(usage.web_search_requests * rates.web_search, rates.scale)
    return cost._replace(web_search=searches)


def _serving_model(usage: Usage, model: str) -> str:
    """Return the model of the answer: that of the fallback which served it, if one did."""
    for entry in reversed(usage.iterations):
        if entry.type == "fallback_message" and entry.model is not None:
            return entry.model
    return model


def _parts(
    book: PriceBook, usage: Usage, serving_model: str, conditions: Conditions
) -> Iterator[_Part]:
    """Yield what is to be priced: the answer, and what its top-level figures leave out.

    The top-level figures are those of the attempt that answered. Where the entries of that attempt
    add up to them, the entries are priced instead: each has its own model and context tier.
    """
    answer: list[IterationUsage] = []
    fell_back = any(entry.type == "fallback_message" for entry in usage.iterations)
    for entry in usage.iterations:
        entry_model = entry.model or serving_model
        if entry.type == "fallback_message":
            answer.append(entry)
        elif entry.type == "message":
            if not fell_back or _same_model(book, entry_model, serving_model):
                answer.append(entry)
            elif entry.output_tokens:
                # A declined attempt is in no total. It is billed once it has produced output.
                yield _Part(entry, entry_model, conditions)
        elif entry.type == "compaction":
            yield _Part(entry, entry_model, conditions)
        elif entry.type == "advisor_message":
            # Fast mode is a wish for the answer; the advisor has no such setting.
            yield _Part(entry, entry_model, conditions._replace(speed=None))
        else:
            raise _NoPriceError(f"the iteration type {entry.type!r} is not known")
    if answer and _adds_up(answer, usage):
        for entry in answer:
            yield _Part(entry, entry.model or serving_model, conditions)
    else:
        yield _Part(usage, serving_model, conditions)


def _same_model(book: PriceBook, one: str, other: str) -> bool:
    return one == other or (
        (name := book.canonical_name(one)) is not None and name == book.canonical_name(other)
    )


def _adds_up(entries: list[IterationUsage], usage: Usage) -> bool:
    """Say whether entries are a full breakdown of the top-level figures."""
    return (
        sum(entry.input_tokens for entry in entries) == usage.input_tokens
        and sum(entry.output_tokens for entry in entries) == usage.output_tokens
        and sum(entry.cache_read_tokens for entry in entries) == usage.cache_read_tokens
        and sum(entry.cache_write_5m_tokens for entry in entries) == usage.cache_write_5m_tokens
        and sum(entry.cache_write_1h_tokens for entry in entries) == usage.cache_write_1h_tokens
    )


def _rates(book: PriceBook, model: str, at_us: int, conditions: Conditions) -> Rates:
    rates = book.rates_for(model, at_us, conditions)
    if isinstance(rates, str):
        raise _NoPriceError(rates)
    return rates


def _tier(rates: Rates, tokens: Usage | IterationUsage) -> TokenRates:
    """Return the rates for a prompt's size: the highest threshold that it exceeds."""
    tiers = rates.tiers
    if len(tiers) > 1:
        prompt = (
            tokens.input_tokens
            + tokens.cache_read_tokens
            + tokens.cache_write_5m_tokens
            + tokens.cache_write_1h_tokens
        )
        for tier in tiers:
            if prompt > tier.above_prompt_tokens:
                return tier
    return tiers[-1]
