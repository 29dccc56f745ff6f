"""The price book in memory: checked whole when it is loaded, then asked for exact rates.

A rate is the price of one token in pico-dollars (1e-12 USD). For the prices of a book it is a whole
number: a price in dollars per million tokens with at most six decimals, times a million. Loading
fails where any combination of multipliers would leave a fraction of a pico-dollar. Entries that
differ from the book (services.runtime.price_overlays) may leave one: then rates are whole numbers
of a finer unit, and `Rates.scale` says how many of it are a pico-dollar.
"""

from collections.abc import Iterator
from datetime import date
from fractions import Fraction
from functools import cache
from itertools import pairwise, product
from math import lcm
from pathlib import Path
from typing import NamedTuple, Self

import msgspec

from schemas.events import time_from_us
from schemas.money import PICOS_PER_USD
from schemas.prices import (
    BookContent,
    ModelPrices,
    PriceBookFile,
    PriceOverlay,
    PricePeriod,
    TokenPrices,
)
from services.runtime.price_overlays import (
    NO_OVERLAYS,
    Origin,
    Overlays,
    covers,
    is_whole,
    matches,
    merged,
    normal_name,
)

__all__ = [
    "RATES_CACHED_MAX",
    "Conditions",
    "InForce",
    "PriceBook",
    "PriceBookError",
    "Rates",
    "TokenRates",
    "book_with",
]

RATES_CACHED_MAX = 4096
"""Resolved rates kept in memory. Names come from outside: at the limit the cache is emptied."""

_TOKENS_PER_MTOK = 1_000_000
_DAY_US = 86_400 * 1_000_000
_GEO_WITHOUT_SURCHARGE = frozenset({"", "global", "not_available"})
_TIERS_AT_LIST_PRICE = frozenset({"", "standard", "priority"})
_DEFAULT_FILE = Path(__file__).resolve().parents[2] / "prices" / "anthropic.json"
"""Beside the packages `services` and `schemas`, in a checkout as in an installed wheel."""


class PriceBookError(ValueError):
    """A price book cannot be used. The message names the model and what is wrong with it."""


class Conditions(NamedTuple):
    """What of a request changes its price, as the API's usage reports it (None: not reported)."""

    service_tier: str | None = None
    speed: str | None = None
    inference_geo: str | None = None


class TokenRates(NamedTuple):
    """Pico-dollars per token that apply to prompts of more than `above_prompt_tokens`."""

    above_prompt_tokens: int
    input: int
    output: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int


class Rates(NamedTuple):
    """Exact rates of one model on one day under given conditions.

    `tiers` are ordered from the highest threshold down to 0. `web_search` is the price of a
    search. All rates are in units of which `scale` make a pico-dollar: 1 for the book's own
    prices.
    """

    tiers: tuple[TokenRates, ...]
    web_search: int
    scale: int = 1


class InForce(NamedTuple):
    """What a model costs on a day: its prices, what multiplies the whole cost, whose word it is."""

    period: PricePeriod
    multiplier: Fraction
    origin: Origin


class PriceBook:
    """Prices by model name and time. Safe to share between threads that only read."""

    def __init__(
        self,
        version: date,
        models: tuple[ModelPrices, ...],
        overlays: Overlays = NO_OVERLAYS,
    ) -> None:
        """Take models and entries; raises PriceBookError where models contradict one another."""
        self.version = version
        self.models = models
        self.overlays = overlays
        self._by_name: dict[str, ModelPrices] = {}
        self._rates: dict[tuple[str, int, Conditions], Rates | str] = {}
        for model in models:
            _check_model(model)
            for name in (model.id, *model.aliases):
                if name in self._by_name:
                    raise PriceBookError(f"{model.id}: the name {name!r} is given twice")
                self._by_name[name] = model

    @classmethod
    def load(cls, path: Path = _DEFAULT_FILE) -> Self:
        """Read a price book, by default the one that ships. Raises OSError, PriceBookError."""
        return cls.from_bytes(path.read_bytes())

    @staticmethod
    @cache
    def shipped() -> "PriceBook":
        """Return the book that ships, read once in a process. Raises as `load` does."""
        return PriceBook.load()

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Decode and check a price book in JSON. Raises PriceBookError."""
        try:
            # Checked for the whole file at once: the decoder would skip it in raw models.
            content.decode("utf-8")
            book = msgspec.json.decode(content, type=PriceBookFile)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise PriceBookError(f"the price book cannot be read: {error}") from error
        models = tuple(_decode_model(raw, index) for index, raw in enumerate(book.models))
        return cls(book.version, models)

    @property
    def content(self) -> BookContent:
        """The book itself, without what differs from it."""
        return BookContent(version=self.version, models=self.models)

    def with_content(self, content: BookContent) -> "PriceBook":
        """Return another book with the same entries. Raises PriceBookError."""
        return PriceBook(content.version, content.models, self.overlays)

    def with_overlays(self, overlays: Overlays) -> "PriceBook":
        """Return the same book with other entries."""
        return PriceBook(self.version, self.models, overlays)

    def names_of(self, model: str) -> tuple[str, ...]:
        """Return all names of a model, its id first; of an unknown one, the name itself."""
        found = self._find(model)
        return (normal_name(model),) if found is None else (found.id, *found.aliases)

    def in_force(self, model: str, day: date) -> InForce | None:
        """Return what a model costs on a day, None where it has no price."""
        found = self._find(model)
        periods = () if found is None else found.periods
        period = next((each for each in periods if covers(each, day)), None)
        decision = self.overlays.deciding(self.names_of(model), day)
        if decision is None:
            return None if period is None else InForce(period, Fraction(1), "book")
        origin, entry = decision
        made = merged(period, entry)
        if made is None:
            return None
        return InForce(made, Fraction(entry.multiplier or "1"), origin)

    def price_for(self, model: str, at_us: int) -> PricePeriod | None:
        """Return what a model cost at a time (microseconds since the epoch), None if unknown.

        A `multiplier` of an entry is not in it.
        """
        found = self.in_force(model, time_from_us(at_us).date())
        return None if found is None else found.period

    def canonical_name(self, model: str) -> str | None:
        """Return the id of the model that goes by a name, None if it is unknown.

        A model that entries alone know goes by its own name.
        """
        found = self._find(model)
        if found is not None:
            return found.id
        names = (normal_name(model),)
        entries = (*self.overlays.repricing, *self.overlays.api, *self.overlays.file)
        known = any(is_whole(entry) and matches(entry, names) for entry in entries)
        return names[0] if known else None

    def rates_for(self, model: str, at_us: int, conditions: Conditions) -> Rates | str:
        """Return the exact rates, or in words why there are none."""
        key = (model, at_us // _DAY_US, conditions)
        rates = self._rates.get(key)
        if rates is None:
            rates = self._resolve(model, at_us, conditions)
            if len(self._rates) >= RATES_CACHED_MAX:
                self._rates.clear()
            self._rates[key] = rates
        return rates

    def _find(self, model: str) -> ModelPrices | None:
        return self._by_name.get(model) or self._by_name.get(normal_name(model))

    def _resolve(self, model: str, at_us: int, conditions: Conditions) -> Rates | str:
        day = time_from_us(at_us).date()
        found = self.in_force(model, day)
        if found is None:
            if self.canonical_name(model) is None:
                return f"the model {model!r} is not in the price book"
            return f"the model {model!r} has no price on {day}"
        multiplier = _multiplier(found.period, conditions)
        if isinstance(multiplier, str):
            return f"the model {model!r} has no price for {multiplier}"
        return _rates(found.period, multiplier, found.multiplier)


def _multiplier(period: PricePeriod, conditions: Conditions) -> Fraction | str:
    """Return what the token prices are multiplied by, or the condition that has no price."""
    multiplier = Fraction(1)
    if conditions.service_tier == "batch":
        multiplier *= Fraction(period.batch_multiplier)
    elif (conditions.service_tier or "") not in _TIERS_AT_LIST_PRICE:
        return f"the service tier {conditions.service_tier!r}"
    if conditions.speed == "fast":
        if period.fast_multiplier is None:
            return "fast mode"
        multiplier *= Fraction(period.fast_multiplier)
    elif conditions.speed not in {None, "", "standard"}:
        return f"the speed {conditions.speed!r}"
    geo = conditions.inference_geo or ""
    if period.inference_geo_multipliers and geo not in _GEO_WITHOUT_SURCHARGE:
        geo_multiplier = period.inference_geo_multipliers.get(geo)
        if geo_multiplier is None:
            return f"the inference region {geo!r}"
        multiplier *= Fraction(geo_multiplier)
    return multiplier


def book_with(
    shipped: PriceBook,
    book: BookContent | None,
    file: tuple[PriceOverlay, ...],
    api: tuple[PriceOverlay, ...],
) -> PriceBook:
    """Return the book that the stream has, or the shipped one, with entries of file and API."""
    found = shipped if book is None else shipped.with_content(book)
    return found.with_overlays(Overlays(file, api)) if file or api else found


def _rates(period: PricePeriod, multiplier: Fraction, overall: Fraction) -> Rates:
    """Return a period's rates, highest threshold first.

    `multiplier` is for tokens, `overall` for them and for searches.
    """
    tiers = [(0, period.usd_per_mtok)]
    tiers += [(tier.above_prompt_tokens, tier.usd_per_mtok) for tier in period.context_tiers]
    tiers.reverse()
    factor = multiplier * overall * PICOS_PER_USD / _TOKENS_PER_MTOK
    exact = [[Fraction(price) * factor for price in _five(prices)] for _, prices in tiers]
    search = Fraction(period.usd_per_1000_web_searches) * overall * PICOS_PER_USD / 1000
    scale = lcm(search.denominator, *(rate.denominator for five in exact for rate in five))
    return Rates(
        tuple(
            TokenRates(above, *(int(rate * scale) for rate in five))
            for (above, _), five in zip(tiers, exact, strict=True)
        ),
        int(search * scale),
        scale,
    )


def _five(prices: TokenPrices) -> tuple[str, str, str, str, str]:
    """Return the five prices in the order of TokenRates."""
    return (
        prices.input,
        prices.output,
        prices.cache_read,
        prices.cache_write_5m,
        prices.cache_write_1h,
    )


def _decode_model(raw: msgspec.Raw, index: int) -> ModelPrices:
    """Decode one model. Raises PriceBookError with the model's name, or its place without one."""
    try:
        return msgspec.json.decode(raw, type=ModelPrices)
    except msgspec.DecodeError as error:
        fields = msgspec.json.decode(raw)
        name = fields.get("id") if isinstance(fields, dict) else None
        raise PriceBookError(f"{name or f'model number {index + 1}'}: {error}") from error


def _check_model(model: ModelPrices) -> None:
    for period in model.periods:
        if period.valid_from and period.valid_to and period.valid_from >= period.valid_to:
            raise PriceBookError(
                f"{model.id}: a period ends on {period.valid_to}, not after it begins"
            )
        thresholds = [tier.above_prompt_tokens for tier in period.context_tiers]
        if any(low >= high for low, high in pairwise(thresholds)):
            raise PriceBookError(f"{model.id}: context tiers must rise, not {thresholds}")
        for multiplier in _all_multipliers(period):
            if _rates(period, multiplier, Fraction(1)).scale != 1:
                raise PriceBookError(
                    f"{model.id}: with the multiplier {float(multiplier)} a price has more than "
                    "six decimals, so a rate is not whole"
                )
    ordered = sorted(model.periods, key=lambda period: period.valid_from or date.min)
    for earlier, later in pairwise(ordered):
        if (earlier.valid_to or date.max) > (later.valid_from or date.min):
            raise PriceBookError(
                f"{model.id}: periods overlap: one lasts until {earlier.valid_to or 'ever'}, "
                f"the next begins on {later.valid_from or 'the first day'}"
            )


def _all_multipliers(period: PricePeriod) -> Iterator[Fraction]:
    """Yield every product of multipliers that a request can meet."""
    batch = ["1", period.batch_multiplier]
    fast = ["1", period.fast_multiplier or "1"]
    geo = ["1", *period.inference_geo_multipliers.values()]
    for batch_factor, fast_factor, geo_factor in product(batch, fast, geo):
        yield Fraction(batch_factor) * Fraction(fast_factor) * Fraction(geo_factor)
