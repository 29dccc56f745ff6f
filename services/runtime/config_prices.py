"""Reading `prices:` and LiteLLM's price keys into entries that differ from the price book.

Amounts are read from their text, never from floats. The management API reads the entries that it
is given by the same code.
"""

import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec

from schemas.prices import ContextTier, PriceOverlay, SomeTokenPrices, TokenPrices
from services.runtime.config_reader import ConfigReader
from services.runtime.price_book import PriceBook
from services.runtime.price_checks import check_overlays
from services.runtime.yaml_lines import Node

__all__ = ["amount", "read_day", "read_overlays", "read_prices", "read_words"]

_AMOUNT = re.compile(r"(0|[1-9][0-9]{0,5})(\.[0-9]{1,6})?")
_NUMBER = re.compile(r"([0-9]{1,20}(\.[0-9]{0,20})?|\.[0-9]{1,20})([eE][+-]?[0-9]{1,2})?")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NAME_LENGTH_MAX = 200
_WORDS_LENGTH_MAX = 1000
_PROMPT_TOKENS_MAX = 10**9


def read_prices(
    reader: ConfigReader, node: Node | None, others: list[tuple[PriceOverlay, int]]
) -> tuple[PriceOverlay, ...]:
    """Return the entries of `prices:`, then `others`, which LiteLLM's keys have made.

    Each of `others` comes with its line. What is wrong is noted; then nothing is returned.
    """
    count = len(reader.problem_texts)
    entries, lines = read_overlays(reader, node, "prices")
    if len(reader.problem_texts) > count:
        return ()
    own = len(entries)
    if not own and not others:
        return ()
    entries += [entry for entry, _ in others]
    lines += [line for _, line in others]
    for place, text in check_overlays(PriceBook.shipped(), entries):
        name = f"prices[{place}]" if place < own else "LiteLLM's price of a model"
        reader.problem(lines[place], f"{name} ({_shown(entries[place].model)}) {text}")
    return () if len(reader.problem_texts) > count else tuple(entries)


def read_overlays(
    reader: ConfigReader, node: Node | None, where: str
) -> tuple[list[PriceOverlay], list[int]]:
    """Return the entries of a list with their lines, checked each by itself alone."""
    entries: list[PriceOverlay] = []
    lines: list[int] = []
    for place, item in enumerate(reader.items(node, where)):
        entry = _read_overlay(reader, item, f"{where}[{place}]")
        if entry is not None:
            entries.append(entry)
            lines.append(item.line)
    return entries, lines


def amount(reader: ConfigReader, node: Node | None, where: str, factor: int = 1) -> str | None:
    """Return an exact decimal, multiplied by a power of ten; None where it is missing or wrong."""
    if node is None or node.value is None:
        return None
    if isinstance(node.value, str):
        text = reader.text(node, where)
        if text is None:
            return None
    else:
        text = node.text or str(node.value)
    # Not through a float: of 0.1 there would be 0.1000000000000000055 left.
    if isinstance(node.value, bool | tuple | Mapping) or not _NUMBER.fullmatch(text):
        reader.problem(node.line, f"{where} must be an amount such as 3 or 0.25")
        return None
    exact = f"{Decimal(text) * factor:f}"
    if "." in exact and len(exact.partition(".")[2]) > 6:  # noqa: PLR2004 - the amounts' decimals
        exact = exact.rstrip("0")
    exact = exact.rstrip(".")
    if not _AMOUNT.fullmatch(exact):
        reader.problem(
            node.line,
            f"{where} must have six digits before the point and six decimals at most"
            + (" (in US dollars per million tokens)" if factor != 1 else ""),
        )
        return None
    return exact


def _read_overlay(reader: ConfigReader, item: Node, where: str) -> PriceOverlay | None:
    if not isinstance(item.value, Mapping):
        reader.problem(item.line, f"{where} must be a mapping: a model and what it costs")
        return None
    given = reader.section(item, "prices", where)
    count = len(reader.problem_texts)
    model = read_words(reader, given.get("model"), f"{where}.model", _NAME_LENGTH_MAX)
    if model is None and len(reader.problem_texts) == count:
        reader.problem(item.line, f"{where}.model is missing: a model's name, or a pattern with *")
    fields: dict[str, Any] = {
        "valid_from": read_day(reader, given.get("valid_from"), f"{where}.valid_from"),
        "valid_to": read_day(reader, given.get("valid_to"), f"{where}.valid_to"),
        "usd_per_mtok": _tokens(reader, given.get("usd_per_mtok"), f"{where}.usd_per_mtok"),
        "context_tiers": _tiers(reader, given.get("context_tiers"), f"{where}.context_tiers"),
        "inference_geo_multipliers": _regions(
            reader,
            given.get("inference_geo_multipliers"),
            f"{where}.inference_geo_multipliers",
        ),
        "source": read_words(reader, given.get("source"), f"{where}.source", _WORDS_LENGTH_MAX),
    }
    for name in (
        "batch_multiplier",
        "fast_multiplier",
        "usd_per_1000_web_searches",
        "multiplier",
    ):
        fields[name] = amount(reader, given.get(name), f"{where}.{name}")
    if len(reader.problem_texts) > count or model is None:
        return None
    return PriceOverlay(model=model, **fields)


def _tokens(reader: ConfigReader, node: Node | None, where: str) -> SomeTokenPrices | None:
    given = reader.section(node, "usd_per_mtok", where)
    if not given:
        return None
    return SomeTokenPrices(
        **{
            name: amount(reader, given.get(name), f"{where}.{name}")
            for name in SomeTokenPrices.__struct_fields__
        }
    )


def _tiers(reader: ConfigReader, node: Node | None, where: str) -> tuple[ContextTier, ...] | None:
    if node is None or node.value is None:
        return None
    tiers = []
    for place, item in enumerate(reader.items(node, where)):
        name = f"{where}[{place}]"
        given = reader.section(item, "context_tiers", name)
        above = given.get("above_prompt_tokens")
        tokens = _tokens(reader, given.get("usd_per_mtok"), f"{name}.usd_per_mtok")
        prices = {} if tokens is None else msgspec.to_builtins(tokens)
        missing = [each for each in TokenPrices.__struct_fields__ if prices.get(each) is None]
        if above is None or missing:
            lacking = [*(["above_prompt_tokens"] if above is None else []), *missing]
            reader.problem(item.line, f"{name} lacks {', '.join(lacking)}")
            continue
        count = above.value
        if isinstance(count, bool) or not isinstance(count, int):
            count = 0
        if not 0 < count <= _PROMPT_TOKENS_MAX:
            reader.problem(
                above.line,
                f"{name}.above_prompt_tokens must be a whole number from 1 to {_PROMPT_TOKENS_MAX}",
            )
            continue
        tiers.append(ContextTier(above_prompt_tokens=count, usd_per_mtok=TokenPrices(**prices)))
    return tuple(tiers)


def _regions(reader: ConfigReader, node: Node | None, where: str) -> dict[str, str] | None:
    if node is None or node.value is None:
        return None
    if not isinstance(node.value, Mapping):
        reader.problem(node.line, f"{where} must be a mapping of regions to multipliers")
        return None
    found = {
        name: amount(reader, item, f"{where} of a region") for name, item in node.value.items()
    }
    return {name: by for name, by in found.items() if by is not None}


def read_words(reader: ConfigReader, node: Node | None, where: str, length_max: int) -> str | None:
    """Return a line of printable text; None where it is missing or wrong."""
    text = reader.text(node, where)
    if text is None or node is None:
        return None
    if not 0 < len(text) <= length_max or not text.isprintable() or text != text.strip():
        reader.problem(node.line, f"{where} must be 1 to {length_max} printable characters")
        return None
    return text


def read_day(reader: ConfigReader, node: Node | None, where: str) -> date | None:
    """Return a day; None where it is missing or wrong."""
    if node is None or node.value is None:
        return None
    text = reader.text(node, where)
    if text is None:
        return None
    try:
        if _DAY.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    reader.problem(node.line, f"{where} must be a day such as 2026-12-31")
    return None


def _shown(model: str) -> str:
    return model if len(model) <= 100 else f"{model[:100]}…"  # noqa: PLR2004 - enough to know it
