"""What a request may cost, before it is sent: a bound, and what is likely. Pure.

**Bound.** The prompt has no more tokens than the body has bytes and the API's own additions
(ADDED_TOKENS_MAX), each at the dearest of the prices that a prompt token can have, in the dearest
context tier that so many tokens reach, with the dearest region; the output has no more than
`max_tokens`. Not in it is what the body does not show: pages and searches that server tools fetch,
files that it names by reference, and the work of other models that the API itself calls in.

**Likely.** Four bytes a token at the price of input, and as much output as the key's recent
requests had at most, LIKELY_OUTPUT_TOKENS_MIN at least.
"""

from typing import NamedTuple

import msgspec

from services.runtime.price_book import RATES_CACHED_MAX, Conditions, PriceBook, Rates

__all__ = [
    "ADDED_TOKENS_MAX",
    "KEYS_MAX",
    "LIKELY_OUTPUT_TOKENS_MIN",
    "OUTPUT_TOKENS_MAX",
    "Estimator",
    "History",
]

ADDED_TOKENS_MAX = 4096
"""So many tokens the API adds to a prompt at most: the words that explain its tools to the model
(under 1,000 for each kind of tools that it has had), and markers of turns."""
OUTPUT_TOKENS_MAX = 1_000_000
"""A `max_tokens` that cannot be read, or is more than any model has, counts as so many."""
LIKELY_OUTPUT_TOKENS_MIN = 4096
"""So much output is likely at least: a long answer follows many short ones without a sign."""
KEYS_MAX = 10_000
"""Of so many keys the recent output is remembered, those used last."""

_BYTES_PER_TOKEN = 4
_DAY_US = 86_400 * 1_000_000
_FADES = 8
"""A large output fades from memory by an eighth with each request."""
_FAST = b'"fast"'
_number_decoder = msgspec.json.Decoder(int)


class _Tier(NamedTuple):
    """Prices above a number of prompt tokens: the dearest of a prompt's, input's, output's."""

    above_prompt_tokens: int
    prompt: int
    input: int
    output: int
    scale: int


class History:
    """How much output the recent requests of each key had, at most."""

    def __init__(self) -> None:
        self._tokens: dict[str, int] = {}

    def saw(self, key_id: str, output_tokens: int) -> None:
        """Take in how much output a request had."""
        before = self._tokens.pop(key_id, 0)
        # The key that was used last stands last: the first one is forgotten first.
        self._tokens[key_id] = max(output_tokens, before - before // _FADES)
        if len(self._tokens) > KEYS_MAX:
            del self._tokens[next(iter(self._tokens))]

    def likely(self, key_id: str) -> int:
        """Return how much output the next request of a key is likely to have."""
        return max(LIKELY_OUTPUT_TOKENS_MIN, self._tokens.get(key_id, 0))


class Estimator:
    """Estimates under one price book. What a model costs is looked up once a day."""

    def __init__(self, book: PriceBook) -> None:
        self.book = book
        self._tiers: dict[tuple[str, int, bool], tuple[_Tier, ...]] = {}

    def bound_picos(self, model: str, at_us: int, *, body: bytes, max_tokens: bytes) -> int:
        """Return what a request to a model costs at most.

        `max_tokens` is the body's, as JSON. A model without a price costs nothing in the books, so
        nothing is expected of it either.
        """
        prompt = len(body) + ADDED_TOKENS_MAX
        output = _max_tokens(max_tokens)
        return max(
            (
                # Each of the components may be rounded up by itself.
                -(-(prompt * tier.prompt + output * tier.output) // tier.scale) + _COMPONENTS
                for tier in self._prices(model, at_us // _DAY_US, is_fast=_FAST in body)
                if prompt > tier.above_prompt_tokens
            ),
            default=0,
        )

    def likely_picos(
        self, model: str, at_us: int, *, body_bytes: int, max_tokens: bytes, likely_output: int
    ) -> int:
        """Return what a request to a model is likely to cost; see `bound_picos`."""
        prompt = -(-body_bytes // _BYTES_PER_TOKEN)
        output = min(_max_tokens(max_tokens), likely_output)
        for tier in self._prices(model, at_us // _DAY_US, is_fast=False):
            if prompt >= tier.above_prompt_tokens:
                return -(-(prompt * tier.input + output * tier.output) // tier.scale)
        return 0

    def _prices(self, model: str, day: int, *, is_fast: bool) -> tuple[_Tier, ...]:
        known = self._tiers.get((model, day, is_fast))
        if known is None:
            if len(self._tiers) >= RATES_CACHED_MAX:
                self._tiers.clear()
            known = self._tiers[model, day, is_fast] = self._look_up(model, day, is_fast=is_fast)
        return known

    def _look_up(self, model: str, day: int, *, is_fast: bool) -> tuple[_Tier, ...]:
        """Return the dearest prices that a request can have, highest threshold first."""
        at_us = day * _DAY_US
        period = self.book.price_for(model, at_us)
        regions = (None, *period.inference_geo_multipliers) if period is not None else (None,)
        speeds = (None, "fast") if is_fast else (None,)
        found = [
            rates
            for speed in speeds
            for region in regions
            if isinstance(
                rates := self.book.rates_for(model, at_us, Conditions(None, speed, region)), Rates
            )
        ]
        return _dearest(found)


_COMPONENTS = 6


def _dearest(found: list[Rates]) -> tuple[_Tier, ...]:
    """Return the dearest of rates that have the same thresholds."""
    if not found:
        return ()
    # All conditions multiply one list of prices, so the dearest has every price dearest.
    dearest = max(found, key=lambda rates: rates.tiers[-1].output / rates.scale)
    return tuple(
        _Tier(
            tier.above_prompt_tokens,
            max(tier.input, tier.cache_read, tier.cache_write_5m, tier.cache_write_1h),
            tier.input,
            tier.output,
            dearest.scale,
        )
        for tier in dearest.tiers
    )


def _max_tokens(raw: bytes) -> int:
    try:
        return max(0, min(_number_decoder.decode(raw), OUTPUT_TOKENS_MAX))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return OUTPUT_TOKENS_MAX
