"""What a request's cost is made of, and whether today's list prices give the same. Pure.

The ledger has the cost of each component by itself, so a line's price is its cost divided by its
tokens: what was paid, whatever prices are now. The price book's own figure stands beside it.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

__all__ = ["CostLine", "cost_lines"]

_MILLION, _THOUSAND = 1_000_000, 1_000
_PRICE_PLACES = Decimal("0.000000001")
_LAST_DIGIT = Decimal("0.000000000001")
_PER_TOKEN = (
    ("Input", "input"),
    ("Cache write, 5 min", "cache_write_5m"),
    ("Cache write, 1 h", "cache_write_1h"),
    ("Cache read", "cache_read"),
    ("Output", "output"),
)
_SEARCHES = (
    "Web searches",
    "web_search_requests",
    "web_search_cost_usd",
    "usd_per_1000_web_searches",
)
_COMPONENTS = (
    *((name, f"{of}_tokens", f"{of}_cost_usd", f"{of}_usd_per_mtok") for name, of in _PER_TOKEN),
    _SEARCHES,
)
"""The name of each component, and the columns of its count, its cost and its price."""


class CostLine(msgspec.Struct, frozen=True, kw_only=True):
    """One component: `count` at `price_usd` per `per` is `cost_usd`.

    `is_exact`: the price as shown times the count is the cost to the last digit. `list_usd` is the
    price in the book now (None: it has none), `factors` what multiplies it for such a request, and
    `is_listed` says that both together give the cost.
    """

    name: str
    count: int
    per: int
    price_usd: Decimal | None
    cost_usd: Decimal
    is_exact: bool
    list_usd: Decimal | None = None
    factors: tuple[tuple[str, Decimal], ...] = ()
    is_listed: bool = False


def cost_lines(row: Mapping[str, Any], price: Mapping[str, Any] | None) -> list[CostLine]:
    """Return the components of a row of `requests` that are not nothing.

    `price` is the row of `prices` for its model, day and length of prompt; None: there is none.
    """
    factors = () if price is None else _factors(row, price)
    return [
        _line(row, price, component, factors)
        for component in _COMPONENTS
        if row[component[1]] or row[component[2]]
    ]


def _line(
    row: Mapping[str, Any],
    price: Mapping[str, Any] | None,
    component: tuple[str, str, str, str],
    factors: tuple[tuple[str, Decimal], ...],
) -> CostLine:
    name, count_column, cost_column, price_column = component
    count, cost_usd = row[count_column], row[cost_column] or Decimal(0)
    is_searches = component is _SEARCHES
    per = _THOUSAND if is_searches else _MILLION
    price_usd = (cost_usd * per / count).quantize(_PRICE_PLACES) if count else None
    meant = tuple(each for each in factors if each[0] == "margin or discount" or not is_searches)
    list_usd = None if price is None else price[price_column]
    listed_usd = list_usd
    for _, factor in meant:
        listed_usd = None if listed_usd is None else listed_usd * factor
    return CostLine(
        name=name,
        count=count,
        per=per,
        price_usd=price_usd,
        cost_usd=cost_usd,
        is_exact=price_usd is not None and _is_cost(price_usd, count, per, cost_usd),
        list_usd=list_usd,
        factors=meant,
        is_listed=listed_usd is not None and _is_cost(listed_usd, count, per, cost_usd),
    )


def _is_cost(price_usd: Decimal, count: int, per: int, cost_usd: Decimal) -> bool:
    """Tell whether so many at a price are the cost, to the last digit that the ledger has."""
    return abs(price_usd * count / per - cost_usd) < _LAST_DIGIT


def _factors(row: Mapping[str, Any], price: Mapping[str, Any]) -> tuple[tuple[str, Decimal], ...]:
    geo = price["inference_geo_multipliers"].get(row["inference_geo"] or "")
    found = (
        ("batch", price["batch_multiplier"] if row["service_tier"] == "batch" else None),
        ("fast mode", price["fast_multiplier"] if row["speed"] == "fast" else None),
        (f"inference in {row['inference_geo']}", None if geo is None else Decimal(geo)),
        ("margin or discount", price["multiplier"]),
    )
    return tuple((name, factor) for name, factor in found if factor is not None and factor != 1)
