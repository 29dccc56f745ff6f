"""What a request may cost: the bound against what usage within it costs, and what is likely."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import us_from_time
from schemas.prices import PriceOverlay
from schemas.usage import IterationUsage, Usage
from services.proxy.estimate import (
    ADDED_TOKENS_MAX,
    KEYS_MAX,
    LIKELY_OUTPUT_TOKENS_MIN,
    OUTPUT_TOKENS_MAX,
    Estimator,
    History,
)
from services.runtime.price_book import PriceBook
from services.runtime.price_overlays import Overlays
from services.runtime.pricing import cost_picos

NOW_US = us_from_time(datetime(2026, 11, 1, 12, tzinfo=UTC))
BOOK = PriceBook.shipped()
ODD = BOOK.with_overlays(
    Overlays(file=(PriceOverlay(model="claude-sonnet-4-5*", multiplier="1.234567"),))
)
MODELS = sorted(model.id for model in BOOK.models)


def bound(book: PriceBook, model: str, body: bytes, max_tokens: object) -> int:
    return Estimator(book).bound_picos(
        model, NOW_US, body=body, max_tokens=str(max_tokens).encode()
    )


def likely(model: str, body_bytes: int, max_tokens: int, likely_output: int = 100) -> int:
    return Estimator(BOOK).likely_picos(
        model,
        NOW_US,
        body_bytes=body_bytes,
        max_tokens=str(max_tokens).encode(),
        likely_output=likely_output,
    )


@given(
    book=st.sampled_from([BOOK, ODD]),
    model=st.sampled_from(MODELS),
    body_bytes=st.sampled_from([0, 1, 1000, 49_254, 195_000, 250_000, 900_000]),
    max_tokens=st.integers(0, 200_000),
    shares=st.lists(st.integers(0, 1000), min_size=4, max_size=4),
    output_share=st.integers(0, 1000),
    speed=st.sampled_from([None, "standard", "fast"]),
    region=st.sampled_from([None, "us", "global"]),
    tier=st.sampled_from([None, "standard", "priority", "batch"]),
    in_parts=st.booleans(),
)
def test_no_usage_within_the_body_and_max_tokens_costs_more_than_the_bound(
    book: PriceBook,
    model: str,
    body_bytes: int,
    max_tokens: int,
    shares: list[int],
    output_share: int,
    speed: str | None,
    region: str | None,
    tier: str | None,
    *,
    in_parts: bool,
) -> None:
    # given a request, and an answer whose prompt has no more tokens than the body has bytes
    body = (b'"fast"' if speed == "fast" else b"").ljust(body_bytes, b" ")
    prompt = len(body) + ADDED_TOKENS_MAX
    kinds = [prompt * share // max(1, sum(shares)) for share in shares]
    tokens = {
        "input_tokens": kinds[0],
        "cache_read_tokens": kinds[1],
        "cache_write_5m_tokens": kinds[2],
        "cache_write_1h_tokens": kinds[3],
        "output_tokens": max_tokens * output_share // 1000,
    }
    parts = (IterationUsage(type="message", **tokens),) if in_parts else ()
    usage = Usage(**tokens, speed=speed, inference_geo=region, service_tier=tier, iterations=parts)
    # when the ledger prices it
    cost = cost_picos(book, usage, model, NOW_US).cost
    # then it is no more than the bound
    if cost is not None:
        assert cost.total <= bound(book, model, body, max_tokens)


def test_the_likely_cost_is_that_of_bytes_by_four_and_the_keys_output() -> None:
    # given Sonnet at 3 and 15 dollars a million, when 4,000 bytes come and 100 tokens are likely
    # then 1,000 tokens of input and 100 of output are expected
    assert likely("claude-sonnet-4-5", 4000, 32_000) == 1000 * 3_000_000 + 100 * 15_000_000
    # and never more than may come
    assert likely("claude-sonnet-4-5", 4000, 1) == 1000 * 3_000_000 + 15_000_000
    # and of a long prompt the price of its tier
    assert likely("claude-sonnet-4-5", 4_000_000, 0) >= 10**6 * 3_000_000


@pytest.mark.parametrize("odd", ["", '"many"', "1.5", "null", 10**30, "[" * 5000])
def test_a_limit_that_cannot_be_read_counts_as_the_largest(odd: object) -> None:
    # given a request whose max_tokens is nothing or no number, when it is estimated, then as much
    # as any model can say is reckoned with
    most = bound(BOOK, "claude-sonnet-4-5", b"{}", OUTPUT_TOKENS_MAX)
    assert bound(BOOK, "claude-sonnet-4-5", b"{}", odd) == most


def test_a_model_without_a_price_is_expected_to_cost_nothing() -> None:
    # given a model that is unpriced in the books, when it is estimated, then at nothing
    assert bound(BOOK, "somebody-elses", b"{}", 100) == 0
    assert likely("somebody-elses", 4000, 100) == 0


def test_what_a_key_had_lately_is_likely_and_fades() -> None:
    # given a key without history, then so much is likely as always is
    history = History()
    assert history.likely("key") == LIKELY_OUTPUT_TOKENS_MIN
    # when it had a long answer and then short ones, then the long one fades
    history.saw("key", 8000)
    assert history.likely("key") == 8000
    history.saw("key", 100)
    assert history.likely("key") == 7000
    for _ in range(60):
        history.saw("key", 100)
    assert history.likely("key") == LIKELY_OUTPUT_TOKENS_MIN
    # and of too many keys the one that was used longest ago is forgotten
    history.saw("key", 8000)
    for number in range(KEYS_MAX):
        history.saw(f"other{number}", 1)
    assert history.likely("key") == LIKELY_OUTPUT_TOKENS_MIN
