"""The price book against genai-prices, which ships its own figures: every difference is listed."""

from datetime import UTC, datetime
from decimal import Decimal

import genai_prices
import pytest
from genai_prices.data import providers

from schemas.events import us_from_time
from schemas.money import usd_from_picos
from schemas.usage import Usage
from services.runtime.price_book import PriceBook
from services.runtime.pricing import cost_picos

BOOK = PriceBook.load()
DAYS = [datetime(2026, 3, 12, tzinfo=UTC), datetime(2026, 3, 13, tzinfo=UTC)]
DAYS.append(datetime(2026, 11, 1, tzinfo=UTC))
THEIR_MODELS = sorted(
    model.id for provider in providers if provider.id == "anthropic" for model in provider.models
)
NOT_IN_OURS = {
    "claude-2": "older than the Messages API's usage figures; retired",
    "claude-v1": "older than the Messages API's usage figures; retired",
}
NOT_IN_THEIRS = {
    "claude-mythos-5": "limited availability: their importer skips it",
    "claude-mythos-5-1": "limited availability: their importer skips it",
}
DIFFERENT_ABOVE_200K = {
    "claude-sonnet-4-0": "they lack the long context prices of the 1M beta, which ended with it",
}
SMALL = Usage(
    input_tokens=1003,
    cache_write_5m_tokens=1509,
    cache_write_1h_tokens=521,
    cache_read_tokens=4001,
    output_tokens=107,
)
LARGE = Usage(
    input_tokens=100_003,
    cache_write_5m_tokens=50_009,
    cache_write_1h_tokens=30_021,
    cache_read_tokens=40_001,
    output_tokens=10_007,
)


def their_usd(usage: Usage, model: str, when: datetime) -> Decimal:
    writes = usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
    return genai_prices.calc_price(
        genai_prices.Usage(
            input_tokens=usage.input_tokens + usage.cache_read_tokens + writes,
            cache_write_tokens=writes,
            cache_write_5m_tokens=usage.cache_write_5m_tokens,
            cache_write_1h_tokens=usage.cache_write_1h_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            output_tokens=usage.output_tokens,
        ),
        model,
        provider_id="anthropic",
        genai_request_timestamp=when,
    ).total_price


def our_usd(usage: Usage, model: str, when: datetime) -> Decimal:
    cost = cost_picos(BOOK, usage, model, us_from_time(when)).cost
    assert cost is not None
    return usd_from_picos(cost.total)


def test_both_books_know_the_same_models_but_for_the_listed_ones() -> None:
    # Given their models, when ours are compared, then only the listed ones differ.
    ours = {BOOK.canonical_name(model) for model in THEIR_MODELS}
    assert {model for model in THEIR_MODELS if BOOK.canonical_name(model) is None} == set(
        NOT_IN_OURS
    )
    assert {model.id for model in BOOK.models} - ours == set(NOT_IN_THEIRS)


@pytest.mark.parametrize("model", [model for model in THEIR_MODELS if model not in NOT_IN_OURS])
@pytest.mark.parametrize("when", DAYS, ids=lambda when: f"{when:%Y-%m-%d}")
def test_both_books_give_the_same_cost(model: str, when: datetime) -> None:
    # Given short and long prompts, when both books price them, then the costs are equal,
    # but for the listed differences, which must be real (else the list is out of date).
    assert our_usd(SMALL, model, when) == their_usd(SMALL, model, when)
    same = our_usd(LARGE, model, when) == their_usd(LARGE, model, when)
    assert same is (model not in DIFFERENT_ABOVE_200K)


@pytest.mark.parametrize("model", sorted(alias for m in BOOK.models for alias in m.aliases))
def test_both_books_agree_on_every_alias(model: str) -> None:
    # Given another name of a model, when both books price it, then they mean the same model.
    assert our_usd(SMALL, model, DAYS[-1]) == their_usd(SMALL, model, DAYS[-1])
