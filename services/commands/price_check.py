"""`tallygate prices check`: the price book beside public ones, every difference explained.

The five token prices of today are compared. A difference that is known is listed with its reason;
any other is a fault, and so is a listed one that is none any more.
"""

import argparse
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from schemas.errors import ConfigError
from services.runtime.config_keys import LITELLM_PRICES
from services.runtime.price_book import PriceBook

__all__ = ["GENAI_DIFFERENCES", "LITELLM_DIFFERENCES", "compare", "main"]

LITELLM_BYTES_MAX = 64 * 1024 * 1024
_KINDS = tuple(LITELLM_PRICES.values())
_OLD = "older than the Messages API's usage figures; retired"
_MISSING_HERE = "not in tallygate's price book"
_MISSING_THERE = "only in tallygate's price book"
_LIMITED = "limited availability: their importer skips it"
GENAI_DIFFERENCES = {
    f"claude-2: {_MISSING_HERE}": _OLD,
    f"claude-v1: {_MISSING_HERE}": _OLD,
    f"claude-mythos-5: {_MISSING_THERE}": _LIMITED,
    f"claude-mythos-5-1: {_MISSING_THERE}": _LIMITED,
}
"""What is known of genai-prices, with the reasons."""
_RETIRED = "retired: LiteLLM drops such models, so their history has no price there"
_NEWER = "newer than LiteLLM's file of release 1.109.1"
LITELLM_DIFFERENCES = {
    f"{model}: {_MISSING_THERE}": _RETIRED
    for model in (
        "claude-3-haiku",
        "claude-3-sonnet",
        "claude-3-opus",
        "claude-3-5-sonnet",
        "claude-3-5-haiku",
        "claude-3-7-sonnet",
        "claude-sonnet-4-0",
        "claude-opus-4-0",
        "claude-opus-4-1",
    )
} | {f"{model}: {_MISSING_THERE}": _NEWER for model in ("claude-fable-5-2", "claude-mythos-5-2")}
"""What is known of LiteLLM's file, with the reasons; one that it has caught up with is no fault."""
Prices = dict[str, dict[str, Decimal]]
"""By name of a model: US dollars per million tokens, by kind."""


def compare(book: PriceBook, theirs: Prices) -> list[str]:
    """Return every difference of today's prices, in words, sorted."""
    return sorted(_differences(book, theirs))


def _differences(book: PriceBook, theirs: Prices) -> Iterator[str]:
    today = datetime.now(UTC).date()
    found = set()
    for name, amounts in theirs.items():
        model = book.canonical_name(name)
        ours = None if model is None else book.in_force(model, today)
        if model is None or ours is None:
            yield f"{name}: {_MISSING_HERE}"
            continue
        found.add(model)
        for kind, amount in amounts.items():
            own = Decimal(getattr(ours.period.usd_per_mtok, kind))
            if own != amount:
                yield f"{name}: {kind} is {own.normalize():f} here and {amount.normalize():f} there"
    for entry in book.models:
        if entry.id not in found:
            yield f"{entry.id}: {_MISSING_THERE}"


def genai_prices() -> Prices:
    """Return the prices of the installed genai-prices. Raises ConfigError where it is not there."""
    if find_spec("genai_prices") is None:
        raise ConfigError("genai-prices is not installed: pip install genai-prices, or --litellm")
    import genai_prices as genai
    from genai_prices.data import providers

    now = datetime.now(UTC)
    usages = {
        "input": genai.Usage(input_tokens=1000),
        "output": genai.Usage(output_tokens=1000),
        "cache_read": genai.Usage(input_tokens=1000, cache_read_tokens=1000),
        "cache_write_5m": genai.Usage(
            input_tokens=1000, cache_write_tokens=1000, cache_write_5m_tokens=1000
        ),
        "cache_write_1h": genai.Usage(
            input_tokens=1000, cache_write_tokens=1000, cache_write_1h_tokens=1000
        ),
    }
    models = [model.id for each in providers if each.id == "anthropic" for model in each.models]
    return {
        model: {
            kind: 1000
            * genai.calc_price(
                usage, model, provider_id="anthropic", genai_request_timestamp=now
            ).total_price
            for kind, usage in usages.items()
        }
        for model in models
    }


def litellm_prices(path: Path) -> Prices:
    """Return Anthropic's models of LiteLLM's JSON file. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            content = file.read(LITELLM_BYTES_MAX + 1)
        # Digits as they are written: no float comes between.
        entries = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode(content)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not LiteLLM's file of prices: {error}") from None
    found: Prices = {}
    for name, entry in entries.items():
        if isinstance(entry, dict) and entry.get("litellm_provider") == "anthropic":
            found[name] = {
                kind: Decimal(entry[key]) * 1_000_000
                for key, kind in LITELLM_PRICES.items()
                if isinstance(entry.get(key), int | Decimal)
            }
    if not found:
        raise ConfigError(f"{path} has no model of the provider anthropic: is it LiteLLM's file?")
    return found


def main(arguments: list[str]) -> int:
    """Run the command; return 0 where all differences are known, 1 where not, 78 for no file."""
    parser = argparse.ArgumentParser(
        prog="tallygate prices check",
        description="Compare the price book with genai-prices, or with LiteLLM's file.",
    )
    parser.add_argument(
        "--litellm",
        type=Path,
        metavar="FILE",
        help="LiteLLM's model_prices_and_context_window.json, instead of genai-prices",
    )
    path: Path | None = parser.parse_args(arguments).litellm
    try:
        theirs = genai_prices() if path is None else litellm_prices(path)
    except ConfigError as error:
        sys.stderr.write(f"tallygate: {error}\n")
        return 78
    known = GENAI_DIFFERENCES if path is None else LITELLM_DIFFERENCES
    differences = compare(PriceBook.shipped(), theirs)
    unknown = [each for each in differences if each not in known]
    gone = [] if path is not None else [each for each in known if each not in differences]
    for each in differences:
        sys.stdout.write(f"{'known  ' if each in known else 'UNKNOWN'} {each}")
        sys.stdout.write(f" ({known[each]})\n" if each in known else "\n")
    for each in gone:
        sys.stdout.write(f"GONE    {each}: it is listed as known and is none any more\n")
    sys.stdout.write(
        f"{len(theirs)} models compared: {len(differences) - len(unknown)} known differences, "
        f"{len(unknown)} unknown, {len(gone)} gone\n"
    )
    return 1 if unknown or gone else 0
