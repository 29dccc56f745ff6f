"""The table of prices in docs/prices.md, made from the price book.

`python -m services.ledger.pricing_docs docs/prices.md` brings the table up to date; a contract
test fails where it is not.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from schemas.prices import ModelPrices, PricePeriod, TokenPrices
from services.runtime.price_book import PriceBook

__all__ = ["TABLE_BEGIN", "TABLE_END", "with_current_table"]

TABLE_BEGIN = "<!-- prices: begin (python -m services.ledger.pricing_docs docs/prices.md) -->"
TABLE_END = "<!-- prices: end -->"
_HEAD = (
    "| model | other names | valid | input | output | cache read | write 5 m | write 1 h "
    "| fast | US | source |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|\n"
)


def with_current_table(page: str, book: PriceBook) -> str:
    """Return the page with its table made anew. Raises ValueError where a mark is missing."""
    before, begin, rest = page.partition(TABLE_BEGIN)
    _, end, after = rest.partition(TABLE_END)
    if not begin or not end:
        raise ValueError(f"the page must contain {TABLE_BEGIN!r} and then {TABLE_END!r}")
    rows = "".join(row for model in book.models for row in _model_rows(model))
    caption = f"\n\nPrice book of {book.version}. US dollars per million tokens.\n\n"
    return f"{before}{begin}{caption}{_HEAD}{rows}\n{end}{after}"


def _model_rows(model: ModelPrices) -> Iterator[str]:
    names = ", ".join(f"`{alias}`" for alias in model.aliases) or "none"
    for period in model.periods:
        yield _row(f"`{model.id}`", names, period, period.usd_per_mtok, period.source)
        for tier in period.context_tiers:
            above = f"`{model.id}`, prompt above {tier.above_prompt_tokens:,} tokens"
            yield _row(above, "", period, tier.usd_per_mtok, "as the row above")


def _row(name: str, names: str, period: PricePeriod, prices: TokenPrices, source: str) -> str:
    cells = (
        name,
        names,
        _validity(period),
        prices.input,
        prices.output,
        prices.cache_read,
        prices.cache_write_5m,
        prices.cache_write_1h,
        _times(period.fast_multiplier),
        _times(period.inference_geo_multipliers.get("us")),
        source,
    )
    return f"| {' | '.join(cells)} |\n"


def _validity(period: PricePeriod) -> str:
    bounds = []
    if period.valid_from is not None:
        bounds.append(f"from {period.valid_from}")
    if period.valid_to is not None:
        bounds.append(f"before {period.valid_to}")
    return " ".join(bounds) or "always"


def _times(multiplier: str | None) -> str:
    return "" if multiplier is None else f"x {multiplier}"


def main(arguments: list[str]) -> int:
    """Rewrite the table in the page that is named. Returns the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m services.ledger.pricing_docs docs/prices.md\n")
        return 2
    page = Path(arguments[0])
    page.write_text(with_current_table(page.read_text("utf-8"), PriceBook.load()), "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
