"""What a request costs: against figures kept here, apart from the price book's own data."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from schemas.events import us_from_time
from schemas.money import usd_from_picos, usd_text
from schemas.usage import IterationUsage, Usage
from services.runtime.price_book import PriceBook
from services.runtime.pricing import Cost, cost_picos

BOOK = PriceBook.load()
NOW_US = us_from_time(datetime(2026, 11, 1, 12, tzinfo=UTC))
BASE: dict[str, int] = {
    "input_tokens": 1000,
    "cache_write_5m_tokens": 1500,
    "cache_write_1h_tokens": 500,
    "cache_read_tokens": 4000,
    "output_tokens": 100,
}

# Input, output, 5-minute write, 1-hour write, read: US dollars per million tokens, at 1000 tokens.
LIST_PRICES = [
    ("claude-3-haiku-20240307", "0.25 1.25 0.30 0.50 0.03"),
    ("claude-3-sonnet-20240229", "3 15 3.75 6 0.30"),
    ("claude-3-opus-20240229", "15 75 18.75 30 1.50"),
    ("claude-3-opus-latest", "15 75 18.75 30 1.50"),
    ("claude-3-5-sonnet-20240620", "3 15 3.75 6 0.30"),
    ("claude-3-5-sonnet-20241022", "3 15 3.75 6 0.30"),
    ("claude-3-5-sonnet-latest", "3 15 3.75 6 0.30"),
    ("claude-3-5-haiku-20241022", "0.8 4 1.0 1.6 0.08"),
    ("claude-3-5-haiku-latest", "0.8 4 1.0 1.6 0.08"),
    ("claude-3-7-sonnet-20250219", "3 15 3.75 6 0.30"),
    ("claude-3-7-sonnet-latest", "3 15 3.75 6 0.30"),
    ("claude-sonnet-4-20250514", "3 15 3.75 6 0.30"),
    ("claude-sonnet-4-0", "3 15 3.75 6 0.30"),
    ("claude-opus-4-20250514", "15 75 18.75 30 1.50"),
    ("claude-opus-4-0", "15 75 18.75 30 1.50"),
    ("claude-opus-4-1-20250805", "15 75 18.75 30 1.50"),
    ("claude-opus-4-1", "15 75 18.75 30 1.50"),
    ("claude-haiku-4-5-20251001", "1 5 1.25 2 0.10"),
    ("claude-haiku-4-5", "1 5 1.25 2 0.10"),
    ("claude-sonnet-4-5-20250929", "3 15 3.75 6 0.30"),
    ("claude-sonnet-4-5", "3 15 3.75 6 0.30"),
    ("claude-opus-4-5-20251101", "5 25 6.25 10 0.50"),
    ("claude-opus-4-5", "5 25 6.25 10 0.50"),
    ("claude-sonnet-4-6", "3 15 3.75 6 0.30"),
    ("claude-opus-4-6", "5 25 6.25 10 0.50"),
    ("claude-opus-4-7", "5 25 6.25 10 0.50"),
    ("claude-opus-4-8", "5 25 6.25 10 0.50"),
    ("claude-opus-5", "5 25 6.25 10 0.50"),
    ("claude-sonnet-5", "2 10 2.5 4 0.20"),
    ("claude-sonnet-5-5", "2 10 2.5 4 0.10"),
    ("claude-opus-5-5", "4 20 5 8 0.20"),
    ("claude-haiku-5-5", "0.10 0.50 0.125 0.20 0.01"),
    ("claude-fable-5", "10 50 12.5 20 1.0"),
    ("claude-mythos-5", "10 50 12.5 20 1.0"),
    ("claude-fable-5-1", "10 50 12.5 20 0.25"),
    ("claude-mythos-5-1", "10 50 12.5 20 0.25"),
    ("claude-fable-5-2", "8 40 10 16 0.20"),
    ("claude-mythos-5-2", "8 40 10 16 0.20"),
]


def priced(usage: Usage, model: str, at_us: int = NOW_US) -> Cost:
    result = cost_picos(BOOK, usage, model, at_us)
    assert result.unpriced is None
    assert result.cost is not None
    return result.cost


def usd(usage: Usage, model: str, at_us: int = NOW_US) -> Decimal:
    return usd_from_picos(priced(usage, model, at_us).total)


@pytest.mark.parametrize(("model", "prices"), LIST_PRICES)
def test_every_model_costs_its_list_price(model: str, prices: str) -> None:
    # Given a million tokens in a thousand requests of one kind of tokens each.
    fields = (
        "input_tokens",
        "output_tokens",
        "cache_write_5m_tokens",
        "cache_write_1h_tokens",
        "cache_read_tokens",
    )
    for field, price in zip(fields, prices.split(), strict=True):
        # When they are priced, then they cost the list price and nothing else.
        usage = msgspec.structs.replace(Usage(), **{field: 1000})
        assert usd(usage, model) * 1000 == Decimal(price), field
        assert usd(Usage(web_search_requests=1000), model) == 10


def test_the_table_above_names_every_model_of_the_price_book() -> None:
    # Given the models above, when the book is compared, then it has no other model.
    assert {BOOK.canonical_name(model) for model, _ in LIST_PRICES} == {
        model.id for model in BOOK.models
    }


@pytest.mark.parametrize(
    ("input_tokens", "write_1h", "read"),
    [(0, 39_536, 25_143), (2, 39_535, 25_142), (17, 39_528, 25_134), (19, 39_527, 25_133)],
)
def test_the_tutorials_example_costs_what_it_says(
    input_tokens: int, write_1h: int, read: int
) -> None:
    # Given 64,679 prompt and 333 completion tokens of a model that is retired today.
    usage = Usage(
        input_tokens=input_tokens,
        cache_write_1h_tokens=write_1h,
        cache_read_tokens=read,
        output_tokens=333,
    )
    assert input_tokens + write_1h + read == 64_679
    # When it is priced, then the cost is that of the tutorial.
    assert usd_text(usd(usage, "claude-sonnet-4-20250514")) == "$0.249754"


def entry(kind: str, model: str | None = None, **tokens: int) -> IterationUsage:
    return IterationUsage(type=kind, model=model, **tokens)


COMPACTION = entry("compaction", input_tokens=100_000, output_tokens=3000)
ADVISOR = entry("advisor_message", "claude-opus-5", input_tokens=50_000, output_tokens=1000)
FALLBACK = (
    entry("message", "claude-fable-5", input_tokens=1000),
    entry("fallback_message", "claude-opus-5", **BASE),
)
HAIKU_LONG = {**BASE, "input_tokens": 110_000}
# What Anthropic charges for measured answers; the comments say where others go wrong.
MEASURED: list[tuple[str, str, dict[str, Any], str]] = [
    ("plain", "claude-sonnet-5", BASE, "0.00955"),
    (
        "server tools",
        "claude-sonnet-5",
        {
            **BASE,
            "cache_write_5m_tokens": 19_500,  # 18,000 of them without a stated lifetime
            "cache_read_tokens": 8000,
            "output_tokens": 300,
            "web_search_requests": 3,
        },
        "0.08735",
    ),
    ("compaction", "claude-opus-5", {**BASE, "iterations": (COMPACTION,)}, "0.598875"),
    ("fast mode", "claude-opus-5", {**BASE, "speed": "fast"}, "0.04775"),
    ("US inference", "claude-opus-5", {**BASE, "inference_geo": "us"}, "0.0262625"),
    ("context tier", "claude-haiku-5-5", HAIKU_LONG, "0.0568875"),
    # A model that is missing in a price map must not be free of charge.
    ("new model", "claude-fable-5-2", BASE, "0.0358"),
    # The advisor ran on another model: pricing it as the executor is 58 % too low.
    ("advisor", "claude-sonnet-5", {**BASE, "iterations": (ADVISOR,)}, "0.28455"),
    # The fallback answered: pricing it as the model asked for is 70 to 140 % too high.
    ("fallback", "claude-fable-5", {**BASE, "iterations": FALLBACK}, "0.023875"),
    ("batch", "claude-sonnet-5", {**BASE, "service_tier": "batch"}, "0.004775"),
    ("priority", "claude-sonnet-5", {**BASE, "service_tier": "priority"}, "0.00955"),
    (
        "writes without a breakdown",
        "claude-sonnet-5",
        {**BASE, "cache_write_5m_tokens": 2000, "cache_write_1h_tokens": 0},
        "0.0088",
    ),
    # What a client that left had received: all of the prompt, and three tokens of the answer.
    ("closed early", "claude-sonnet-5", {**BASE, "output_tokens": 3}, "0.00858"),
    ("US inference of 4.5", "claude-haiku-4-5", {**BASE, "inference_geo": "us"}, "0.004775"),
]


@pytest.mark.parametrize(
    ("model", "fields", "expected"),
    [row[1:] for row in MEASURED],
    ids=[row[0] for row in MEASURED],
)
def test_measured_answers_cost_what_anthropic_charges(
    model: str, fields: dict[str, Any], expected: str
) -> None:
    # Given the usage of an answer, when it is priced, then to the last decimal.
    assert usd(Usage(**fields), model) == Decimal(expected)
