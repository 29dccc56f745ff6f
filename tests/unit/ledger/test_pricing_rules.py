"""The rules of pricing: exactness, parts of a request, conditions, and what stays unpriced."""

import random
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import us_from_time
from schemas.prices import PricePeriod
from schemas.usage import TOKENS_MAX, IterationUsage, Usage
from services.runtime.price_book import PriceBook
from services.runtime.pricing import Cost, Priced, cost_picos

BOOK = PriceBook.load()
MODELS = [model.id for model in BOOK.models]
NOW_US = us_from_time(datetime(2026, 11, 1, 12, tzinfo=UTC))
YEAR_US = 366 * 86_400 * 1_000_000
KINDS = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")

token_counts = st.one_of(st.integers(0, 300_000), st.integers(0, TOKENS_MAX))
usages = st.builds(
    Usage,
    input_tokens=token_counts,
    output_tokens=token_counts,
    cache_read_tokens=token_counts,
    cache_write_5m_tokens=token_counts,
    cache_write_1h_tokens=token_counts,
    web_search_requests=st.integers(0, 1000),
    service_tier=st.sampled_from([None, "standard", "priority", "batch"]),
    speed=st.sampled_from([None, "standard", "fast"]),
    inference_geo=st.sampled_from([None, "global", "us", "not_available"]),
)
times_us = st.integers(NOW_US - YEAR_US, NOW_US)


def cost(usage: Usage, model: str) -> Cost:
    result = cost_picos(BOOK, usage, model, NOW_US)
    assert result.cost is not None, result.unpriced
    return result.cost


def reason(usage: Usage, model: str) -> str:
    result = cost_picos(BOOK, usage, model, NOW_US)
    assert result.cost is None
    assert result.unpriced is not None
    return result.unpriced


def entry(kind: str, model: str | None = None, **tokens: int) -> IterationUsage:
    return IterationUsage(type=kind, model=model, **tokens)


def cost_in_fractions(usage: Usage, period: PricePeriod) -> Fraction:
    """Dollars, worked out again from the data by other means."""
    tokens = {kind: getattr(usage, f"{kind}_tokens") for kind in KINDS}
    prices = period.usd_per_mtok
    for tier in period.context_tiers:
        if sum(tokens.values()) - tokens["output"] > tier.above_prompt_tokens:
            prices = tier.usd_per_mtok
    dollars = Fraction(0)
    for kind in KINDS:
        dollars += Fraction(getattr(prices, kind)) * tokens[kind] / 10**6
    if usage.service_tier == "batch":
        dollars *= Fraction(period.batch_multiplier)
    if usage.speed == "fast":
        dollars *= Fraction(period.fast_multiplier or "0")
    if usage.inference_geo == "us":
        dollars *= Fraction(period.inference_geo_multipliers.get("us", "1"))
    return dollars + usage.web_search_requests * Fraction(period.usd_per_1000_web_searches) / 1000


@given(usage=usages, model=st.sampled_from(MODELS), at_us=times_us)
def test_the_cost_is_exactly_what_fractions_say(usage: Usage, model: str, at_us: int) -> None:
    # Given any usage of any model on any day, when it is priced,
    result = cost_picos(BOOK, usage, model, at_us)
    period = BOOK.price_for(model, at_us)
    assert period is not None
    # Then the cost has no rounding at all; without a fast price there is no cost.
    if usage.speed == "fast" and period.fast_multiplier is None:
        assert result == Priced(None, f"the model {model!r} has no price for fast mode")
        return
    assert result.cost is not None
    assert all(isinstance(part, int) for part in result.cost)
    assert Fraction(result.cost.total, 10**12) == cost_in_fractions(usage, period)


@given(
    requests=st.lists(
        st.tuples(usages.filter(lambda u: u.speed != "fast"), st.sampled_from(MODELS)), max_size=30
    ),
    seed=st.integers(),
)
def test_sums_do_not_depend_on_order(requests: list[tuple[Usage, str]], seed: int) -> None:
    # Given requests in two orders, when their costs are summed, then the sums are equal.
    shuffled = random.Random(seed).sample(requests, len(requests))
    total = sum(cost(*request).total for request in requests)
    assert sum(cost(*request).total for request in shuffled) == total


def test_the_tier_applies_to_every_token_of_a_prompt_above_it() -> None:
    # Given prompts at the threshold and one token above it, made of all kinds of tokens.
    at = Usage(
        input_tokens=25_000,
        cache_read_tokens=25_000,
        cache_write_5m_tokens=25_000,
        cache_write_1h_tokens=25_000,
        output_tokens=1_000_000,
    )
    above = Usage(
        input_tokens=25_000,
        cache_read_tokens=25_001,
        cache_write_5m_tokens=25_000,
        cache_write_1h_tokens=25_000,
        output_tokens=1_000_000,
    )
    # When they are priced, then the output does not count, but it costs the tier's price.
    assert cost(at, "claude-haiku-5-5").output == 500_000_000_000
    assert cost(above, "claude-haiku-5-5").output == 2_500_000_000_000
    assert cost(above, "claude-haiku-5-5").input == 25_000 * 500_000


def test_multipliers_multiply_each_other_and_leave_web_searches_alone() -> None:
    # Given all conditions at once, when it is priced, then tokens cost 0.5 x 2 x 1.1.
    usage = Usage(
        input_tokens=1000,
        web_search_requests=1,
        service_tier="batch",
        speed="fast",
        inference_geo="us",
    )
    assert cost(usage, "claude-opus-5").input == 1000 * 5_500_000
    assert cost(usage, "claude-opus-5").web_search == 10_000_000_000


@pytest.mark.parametrize("model", ["claude-opus-4-6", "claude-opus-4-7"])
def test_fast_mode_of_older_models_costs_six_times(model: str) -> None:
    # Given fast answers of models that had it at 30 and 150 USD, then that is what they cost.
    usage = Usage(input_tokens=1_000_000, output_tokens=1_000_000, speed="fast")
    assert cost(usage, model)[:2] == (30 * 10**12, 150 * 10**12)


def test_rounds_of_one_answer_have_their_own_tiers() -> None:
    # Given an answer in two rounds of 60,000 tokens each: no round exceeds 100,000.
    rounds = (entry("message", input_tokens=60_000), entry("message", input_tokens=60_000))
    usage = Usage(input_tokens=120_000, iterations=rounds)
    # When it is priced, then at the lower tier; as a single prompt it is at the higher one.
    assert cost(usage, "claude-haiku-5-5").total == 120_000 * 100_000
    assert cost(Usage(input_tokens=120_000), "claude-haiku-5-5").total == 120_000 * 500_000


def test_rounds_that_do_not_add_up_leave_the_totals_in_force() -> None:
    # Given entries that miss tokens of the total, when it is priced, then none is lost.
    usage = Usage(input_tokens=120_000, iterations=(entry("message", input_tokens=60_000),))
    assert cost(usage, "claude-sonnet-5").total == 120_000 * 2_000_000


def test_a_compaction_is_added_to_the_answer() -> None:
    # Given a compaction, which no total includes, when it is priced, then it is paid for.
    parts = (entry("compaction", input_tokens=1000), entry("message", output_tokens=10))
    usage = Usage(output_tokens=10, iterations=parts)
    assert cost(usage, "claude-sonnet-5") == Cost(input=2_000_000_000, output=100_000_000)


def test_a_declined_attempt_is_paid_for_once_it_has_output() -> None:
    # Given a fallback after an attempt that was declined in the middle of its output.
    served = entry("fallback_message", "claude-opus-5", input_tokens=1000, output_tokens=10)
    declined = entry("message", "claude-fable-5", input_tokens=1000, output_tokens=5)
    usage = Usage(input_tokens=1000, output_tokens=10, iterations=(declined, served))
    # When it is priced, then each model is paid for its own tokens.
    assert cost(usage, "claude-opus-5") == Cost(
        input=1000 * 10_000_000 + 1000 * 5_000_000, output=5 * 50_000_000 + 10 * 25_000_000
    )


def test_rounds_of_the_fallback_are_part_of_the_answer() -> None:
    # Given a fallback that used tools before its last round, under an alias of its name.
    served = entry("fallback_message", "claude-haiku-4-5-20251001", input_tokens=10)
    earlier = entry("message", "claude-haiku-4-5", input_tokens=20)
    usage = Usage(input_tokens=30, iterations=(earlier, served))
    # When it is priced, then both rounds are, once.
    assert cost(usage, "claude-fable-5").total == 30 * 1_000_000


def test_the_advisor_is_not_in_fast_mode() -> None:
    # Given a fast answer whose advisor has no fast mode, then only the answer costs twice.
    advisor = entry("advisor_message", "claude-sonnet-5", input_tokens=1000)
    usage = Usage(input_tokens=1000, speed="fast", iterations=(advisor,))
    assert cost(usage, "claude-opus-5").total == 1000 * 10_000_000 + 1000 * 2_000_000


def test_web_searches_of_an_answer_with_iterations_are_counted_once() -> None:
    # Given searches and iterations, when it is priced, then each search costs a cent once.
    parts = (entry("message", input_tokens=1), entry("message", input_tokens=1))
    usage = Usage(input_tokens=2, web_search_requests=2, iterations=parts)
    assert cost(usage, "claude-sonnet-5").web_search == 2 * 10**10


UNPRICED: list[tuple[str, str, dict[str, Any], str]] = [
    ("model", "claude-unheard-of", {}, "the model 'claude-unheard-of' is not in the price book"),
    ("preview", "claude-mythos-preview", {}, "'claude-mythos-preview' is not in the price book"),
    (
        "date",
        "claude-sonnet-5-20260801",
        {},
        "the model 'claude-sonnet-5-20260801' is not in the price book",
    ),
    ("advisor", "claude-opus-5", {"iterations": (entry("advisor_message", "x"),)}, "model 'x'"),
    ("iteration", "claude-opus-5", {"iterations": (entry("novelty"),)}, "type 'novelty'"),
    ("speed", "claude-opus-5", {"speed": "faster"}, "the speed 'faster'"),
    ("fast mode", "claude-sonnet-5", {"speed": "fast"}, "no price for fast mode"),
    ("tier", "claude-opus-5", {"service_tier": "flex"}, "the service tier 'flex'"),
    ("region", "claude-opus-5", {"inference_geo": "moon"}, "the inference region 'moon'"),
]


@pytest.mark.parametrize(
    ("model", "fields", "expected"),
    [row[1:] for row in UNPRICED],
    ids=[row[0] for row in UNPRICED],
)
def test_what_has_no_known_price_is_unpriced_and_says_why(
    model: str, fields: dict[str, Any], expected: str
) -> None:
    # Given a request with a part of unknown price, then it has no cost, rather than a wrong one.
    assert expected in reason(Usage(input_tokens=1, **fields), model)
