"""LiteLLM's price keys: those that mean the same as an entry of `prices:` become one.

LiteLLM prices a deployment, tallygate a model: what a request cost is then the same whichever way
it went. So prices in model_list are taken where all entries of a model say the same.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import NamedTuple

from schemas.prices import PriceOverlay, SomeTokenPrices
from services.runtime.config_keys import LITELLM_PRICES, is_off
from services.runtime.config_prices import amount
from services.runtime.config_reader import ConfigReader, plain
from services.runtime.yaml_lines import Node

__all__ = ["read_litellm_prices"]

_PROVIDER = "anthropic/"
_SOURCE = "LiteLLM's price keys in the configuration"
_DECIMALS_MAX = 6


class _Priced(NamedTuple):
    """What one entry of model_list says of its model's prices; `line` is that of the first."""

    model: str
    prices: dict[str, str]
    line: int


def read_litellm_prices(
    reader: ConfigReader, model_list: Node | None, litellm: Mapping[str, Node], own: Node | None
) -> list[tuple[PriceOverlay, int]]:
    """Return the entries that LiteLLM's keys make, each with its line; problems are noted.

    `litellm` is the section litellm_settings, `own` are the entries of `prices:`.
    """
    entries = list(_of_models(reader, model_list))
    discount, margin = litellm.get("cost_discount_config"), litellm.get("cost_margin_config")
    factor = Decimal(1)
    line = 0
    for node, where, sign in (
        (discount, "litellm_settings.cost_discount_config", -1),
        (margin, "litellm_settings.cost_margin_config", 1),
    ):
        share = _share(reader, node, where)
        if share is None or node is None:
            continue
        factor *= 1 + sign * share
        line = node.line
    if not line:
        return entries
    if entries or (own is not None and not is_off(plain(own))):
        reader.problem(
            line,
            "a discount or margin for all models beside prices of single ones: write it as "
            "`multiplier` with each entry of prices:, and as one for '*'",
        )
        return []
    factor = factor.normalize()
    if factor < 0 or -int(factor.as_tuple().exponent) > _DECIMALS_MAX:
        reader.problem(line, "discount and margin together must be a factor of six decimals")
        return []
    return [(PriceOverlay(model="*", multiplier=f"{factor:f}", source=_SOURCE), line)]


def _share(reader: ConfigReader, node: Node | None, where: str) -> Decimal | None:
    """Return the share for Anthropic (0.05: five percent), None where there is none."""
    if node is None or is_off(plain(node)):
        return None
    if not isinstance(node.value, Mapping):
        reader.problem(node.line, f"{where} must be a mapping of providers to shares")
        return None
    found = node.value.get("anthropic")
    if found is None and where.endswith("margin_config"):
        found = node.value.get("global")
    if found is None:
        reader.notice(node.line, f"{where} names other providers alone: that changes nothing")
        return None
    if isinstance(found.value, Mapping):
        if "fixed_amount" in found.value:
            reader.problem(
                found.line,
                f"{where}: an amount per request is not supported by tallygate, only a share",
            )
            return None
        found = found.value.get("percentage")
    text = amount(reader, found, f"{where} for anthropic")
    return None if text is None else Decimal(text)


def _of_models(reader: ConfigReader, model_list: Node | None) -> Iterator[tuple[PriceOverlay, int]]:
    """Yield an entry for each model whose prices model_list tells, and all entries the same."""
    items = model_list.value if model_list is not None else ()
    found: dict[str, list[_Priced]] = {}
    for place, item in enumerate(items if isinstance(items, tuple) else ()):
        priced = _priced(reader, item, f"model_list[{place}]")
        if priced is not None:
            found.setdefault(priced.model, []).append(priced)
    for model, priced_list in found.items():
        first = next((each for each in priced_list if each.prices), None)
        if first is None:
            continue
        if "*" in model:
            reader.problem(
                first.line,
                "prices of a model with * would hold for all that it matches: write an entry of "
                "prices: with the names or the pattern that you mean",
            )
        elif any(each.prices != first.prices for each in priced_list):
            reader.problem(
                first.line,
                f"the entries of model_list for {model} have different prices, or some have none: "
                "tallygate prices a model, whichever way a request goes. Say the same with each, "
                "or write an entry of prices:",
            )
        else:
            tokens = SomeTokenPrices(**first.prices)
            yield PriceOverlay(model=model, usd_per_mtok=tokens, source=_SOURCE), first.line


def _priced(reader: ConfigReader, item: Node, where: str) -> _Priced | None:
    if not isinstance(item.value, Mapping):
        return None
    params = _mapping(item.value.get("litellm_params"))
    model = params.get("model")
    if model is None or not isinstance(model.value, str):
        return None
    prices: dict[str, str] = {}
    line = 0
    # LiteLLM looks into litellm_params before model_info.
    for name, entries in (
        ("model_info", _mapping(item.value.get("model_info"))),
        ("litellm_params", params),
    ):
        for key, component in LITELLM_PRICES.items():
            node = entries.get(key)
            text = amount(reader, node, f"{where}.{name}.{key}", 1_000_000)
            if text is not None and node is not None:
                prices[component] = text
                line = line or node.line
    return _Priced(model.value.removeprefix(_PROVIDER), prices, line)


def _mapping(node: Node | None) -> Mapping[str, Node]:
    return node.value if node is not None and isinstance(node.value, Mapping) else {}
