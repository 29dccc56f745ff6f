"""docs/prices.md is current, and the price book is part of the package."""

import tomllib
from pathlib import Path

import msgspec
import pytest

from schemas.prices import (
    ContextTier,
    ModelPrices,
    PriceBookFile,
    PriceOverlay,
    PricePeriod,
    TokenPrices,
)
from services.ledger.pricing_docs import main, with_current_table
from services.runtime.price_book import PriceBook

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "prices.md"


def test_the_table_of_prices_is_current() -> None:
    # Given the page, when its table is made anew from the price book, then nothing changes.
    page = PAGE.read_text("utf-8")
    assert page == with_current_table(page, PriceBook.load()), (
        "run: python -m services.ledger.pricing_docs docs/prices.md"
    )


def test_an_outdated_table_is_noticed_and_mended(tmp_path: Path) -> None:
    # Given a page with a wrong price, when the command runs, then the page is right again.
    page = PAGE.read_text("utf-8")
    outdated = tmp_path / "prices.md"
    outdated.write_text(page.replace("| 2.50 | 4 |", "| 2.51 | 4 |"), "utf-8")
    assert outdated.read_text("utf-8") != page
    assert main([str(outdated)]) == 0
    assert outdated.read_text("utf-8") == page


def test_a_page_without_the_marks_is_refused() -> None:
    # Given a page without marks, when the table is made, then the error says what is missing.
    with pytest.raises(ValueError, match="prices: begin"):
        with_current_table("# Prices", PriceBook.load())


@pytest.mark.parametrize(
    "struct", [PriceBookFile, ModelPrices, PricePeriod, TokenPrices, ContextTier, PriceOverlay]
)
def test_every_field_of_the_price_book_is_documented(struct: type[msgspec.Struct]) -> None:
    # Given the fields of the file, when the page is read, then it names each of them.
    page = PAGE.read_text("utf-8")
    for field in msgspec.structs.fields(struct):
        assert f"`{field.encode_name}`" in page, field.encode_name


def test_the_price_book_ships_in_the_package() -> None:
    # Given the packaging's settings, then the folder of prices and its data are included.
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    assert "prices*" in settings["packages"]["find"]["include"]
    assert "*.json" in settings["package-data"]["prices"]
    assert (ROOT / "prices" / "__init__.py").is_file()
