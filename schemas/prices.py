"""The price book as data: what every model costs, from when to when, and who says so.

Amounts are decimal strings in US dollars (never floats), so that a price is exactly what the source
says. The rules for reading them are in docs/prices.md; services.runtime.price_book checks them.
"""

from datetime import date
from typing import Annotated

import msgspec

__all__ = [
    "Amount",
    "ContextTier",
    "ModelName",
    "ModelPrices",
    "PriceBookFile",
    "PricePeriod",
    "TokenPrices",
]

Amount = Annotated[str, msgspec.Meta(pattern=r"^(0|[1-9][0-9]{0,5})(\.[0-9]{1,6})?$")]
"""A decimal that is not negative: at most six digits before the point and six behind it."""

ModelName = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Words = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
PromptTokens = Annotated[int, msgspec.Meta(ge=1, le=10**9)]


class TokenPrices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """US dollars per million tokens, for each of the five kinds of tokens."""

    input: Amount
    output: Amount
    cache_read: Amount
    cache_write_5m: Amount
    cache_write_1h: Amount


class ContextTier(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Prices of a whole request whose prompt has more than `above_prompt_tokens` tokens.

    The prompt is input, cache reads and cache writes together. Every token of such a request
    costs the tier's price, those below the threshold and the output too.
    """

    above_prompt_tokens: PromptTokens
    usd_per_mtok: TokenPrices


class PricePeriod(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one model costs from `valid_from` until the day before `valid_to` (UTC days).

    A bound that is absent is open. `fast_multiplier` is None where fast mode has no price.
    `inference_geo_multipliers` holds the regions that cost extra. Multipliers apply to the token
    prices and multiply each other; web searches have one price. `source` says in words where
    the figures come from.
    """

    valid_from: date | None = None
    valid_to: date | None = None
    usd_per_mtok: TokenPrices
    context_tiers: tuple[ContextTier, ...] = ()
    batch_multiplier: Amount
    fast_multiplier: Amount | None = None
    inference_geo_multipliers: dict[str, Amount] = {}
    usd_per_1000_web_searches: Amount
    source: Words


class ModelPrices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model: its name, the other names it goes by, and its prices over time."""

    id: ModelName
    aliases: tuple[ModelName, ...]
    periods: Annotated[tuple[PricePeriod, ...], msgspec.Meta(min_length=1)]


class PriceBookFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A price book. `version` is the day of its last change; `models` are raw `ModelPrices`.

    The models stay raw at first, so that an error in one of them can be reported by its name.
    """

    version: date
    models: tuple[msgspec.Raw, ...]
