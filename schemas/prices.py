"""The price book as data: what every model costs, from when to when, and who says so.

Amounts are decimal strings in US dollars (never floats), so that a price is exactly what the source
says. The rules for reading them are in docs/prices.md; services.runtime.price_book checks them.
"""

from datetime import date
from typing import Annotated, Literal

import msgspec

__all__ = [
    "PRICE_CHANGE_BYTES_MAX",
    "REPRICE_MODELS_MAX",
    "Amount",
    "BookContent",
    "ContextTier",
    "ModelName",
    "ModelPrices",
    "PriceBookFile",
    "PriceChange",
    "PriceKind",
    "PriceOverlay",
    "PricePeriod",
    "Repricing",
    "SomeTokenPrices",
    "TokenPrices",
]

PRICE_CHANGE_BYTES_MAX = 60 * 1024
"""The book, the file's entries and the API's entries are each at most so long in JSON: one event
carries all of them."""

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


class SomeTokenPrices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """US dollars per million tokens, for those kinds of tokens whose price is another one."""

    input: Amount | None = None
    output: Amount | None = None
    cache_read: Amount | None = None
    cache_write_5m: Amount | None = None
    cache_write_1h: Amount | None = None


class PriceOverlay(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """An entry of `prices:`, or one set through the API: what differs from the price book.

    `model` is a model's name, or a pattern in which `*` stands for any text. What is None stays as
    the price book has it; a model that the book does not know needs all token prices,
    `batch_multiplier` and `usd_per_1000_web_searches`. `multiplier` multiplies the whole cost: 0.9
    is a discount of ten percent, 1.2 a margin of twenty. Days are those of UTC on which a request
    starts; `valid_to` is the first day that is not meant any more.
    """

    model: ModelName
    valid_from: date | None = None
    valid_to: date | None = None
    usd_per_mtok: SomeTokenPrices | None = None
    context_tiers: tuple[ContextTier, ...] | None = None
    batch_multiplier: Amount | None = None
    fast_multiplier: Amount | None = None
    inference_geo_multipliers: dict[str, Amount] | None = None
    usd_per_1000_web_searches: Amount | None = None
    multiplier: Amount | None = None
    source: Words | None = None


PriceKind = Literal["book", "file", "api"]


class BookContent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole price book, as an event carries it."""

    version: date
    models: tuple[ModelPrices, ...]


class PriceChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a `price.changed` event carries: the whole new state of one of three parts.

    `book` is the price book that a version of tallygate ships, `file` the entries of `prices:` in
    the configuration, `api` those set through the management API, which go before the file's. It
    holds for all requests whose end follows it in the stream. `client_address`, `route` and
    `request_id` tell which request asked for it.
    """

    kind: PriceKind
    book: BookContent | None = None
    overlays: tuple[PriceOverlay, ...] = ()
    changed_at_us: int = 0
    changed_by: str | None = None
    client_address: str | None = None
    route: str | None = None
    request_id: str | None = None


REPRICE_MODELS_MAX = 100


class Repricing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a `requests.repriced` event carries: whose costs are computed anew, and by what prices.

    Meant are requests that started from `from_us` until before `to_us` (microseconds since the
    epoch; None: no end) and whose end is before this event in the stream. `models` are names of
    models, by which the answer or the deployment goes (empty: all). They cost what the prices in
    force at this event say; `overlays` are entries that go before all those in force, for this
    repricing alone. `repriced_by` and `reason` say who and why; `client_address`, `route` and
    `request_id` which request asked for it.
    """

    from_us: int
    to_us: int | None = None
    models: Annotated[tuple[ModelName, ...], msgspec.Meta(max_length=REPRICE_MODELS_MAX)] = ()
    overlays: tuple[PriceOverlay, ...] = ()
    reason: Annotated[str, msgspec.Meta(max_length=1000)] = ""
    repriced_at_us: int = 0
    repriced_by: str | None = None
    client_address: str | None = None
    route: str | None = None
    request_id: str | None = None
