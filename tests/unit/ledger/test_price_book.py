"""The price book: names, periods, and everything that a bad file is refused for."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.events import us_from_time
from schemas.usage import Usage
from services.runtime import price_book
from services.runtime.price_book import Conditions, PriceBook, PriceBookError
from services.runtime.pricing import cost_picos

BOOK = PriceBook.load()
LIST = Conditions()


def at(text: str) -> int:
    return us_from_time(datetime.fromisoformat(text).replace(tzinfo=UTC))


def model(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"id": "claude-test", "aliases": [], "periods": [period()]}
    return fields | changes


def period(**changes: Any) -> dict[str, Any]:
    prices = {
        "input": "1",
        "output": "5",
        "cache_read": "0.10",
        "cache_write_5m": "1.25",
        "cache_write_1h": "2",
    }
    fields: dict[str, Any] = {
        "usd_per_mtok": prices,
        "batch_multiplier": "0.5",
        "usd_per_1000_web_searches": "10",
        "source": "this test",
    }
    return fields | changes


def load(*models: dict[str, Any]) -> PriceBook:
    return PriceBook.from_bytes(
        msgspec.json.encode({"version": "2026-11-24", "models": list(models)})
    )


def prices(**changes: str) -> dict[str, Any]:
    return period(usd_per_mtok=period()["usd_per_mtok"] | changes)


def tier(threshold: int) -> dict[str, Any]:
    return {"above_prompt_tokens": threshold, "usd_per_mtok": period()["usd_per_mtok"]}


def without(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != name}


REFUSED: dict[str, tuple[Callable[[], list[dict[str, Any]]], str]] = {
    "overlap": (
        lambda: [
            model(periods=[period(valid_to="2026-03-14"), period(valid_from="2026-03-13")]),
        ],
        "claude-test: periods overlap: one lasts until 2026-03-14, the next begins on 2026-03-13",
    ),
    "two open periods": (
        lambda: [model(periods=[period(), period()])],
        "claude-test: periods overlap: one lasts until ever, the next begins on the first day",
    ),
    "empty period": (
        lambda: [model(periods=[period(valid_from="2026-01-02", valid_to="2026-01-02")])],
        "claude-test: a period ends",
    ),
    "no period": (lambda: [model(periods=[])], "claude-test: Expected `array` of length >= 1"),
    "missing component": (
        lambda: [
            model(periods=[period(usd_per_mtok=without("cache_read", period()["usd_per_mtok"]))])
        ],
        "claude-test: Object missing required field `cache_read`",
    ),
    "missing source": (
        lambda: [model(periods=[without("source", period())])],
        "claude-test: Object missing required field `source`",
    ),
    "negative": (
        lambda: [model(periods=[prices(input="-1")])],
        "claude-test: Expected `str` match",
    ),
    "float": (
        lambda: [model(periods=[period(batch_multiplier=0.5)])],
        "claude-test: Expected `str`",
    ),
    "not a number": (
        lambda: [model(periods=[prices(input="NaN")])],
        "claude-test: Expected `str` match",
    ),
    "unknown field": (
        lambda: [model(periods=[period(discount="0.1")])],
        "claude-test: Object contains unknown field `discount`",
    ),
    "too many decimals": (
        lambda: [model(periods=[prices(input="0.0000001")])],
        "claude-test: Expected `str` match",
    ),
    "too many decimals after multipliers": (
        lambda: [model(periods=[prices(input="0.000001")])],
        "claude-test: with the multiplier 0.5 a price has more than six decimals",
    ),
    "too many decimals in a tier": (
        lambda: [
            model(
                periods=[
                    period(
                        context_tiers=[
                            {
                                "above_prompt_tokens": 9,
                                "usd_per_mtok": prices(output="0.000001")["usd_per_mtok"],
                            }
                        ]
                    )
                ]
            )
        ],
        "claude-test: with the multiplier 0.5 a price has more than six decimals",
    ),
    "falling tiers": (
        lambda: [model(periods=[period(context_tiers=[tier(200), tier(100)])])],
        "claude-test: context tiers must rise, not [200, 100]",
    ),
    "the same name twice": (
        lambda: [model(), model(id="claude-other", aliases=["claude-test"])],
        "claude-other: the name 'claude-test' is given twice",
    ),
    "no name": (lambda: [without("id", model())], "model number 1: Object missing"),
}


@pytest.mark.parametrize(("models", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_wrong_price_book_is_refused_by_the_name_of_the_entry(
    models: Callable[[], list[dict[str, Any]]], message: str
) -> None:
    # Given a book with one fault, when it is loaded, then the error names model and fault.
    with pytest.raises(PriceBookError) as refused:
        load(*models())
    assert message in str(refused.value)


BAD_NAME = b'{"version": "2026-11-24", "models": [{"id": "\xff"}]}'


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"models": []}', b"\xff", BAD_NAME])
def test_what_is_no_price_book_is_refused(content: bytes) -> None:
    # Given bytes that are no book, when they are loaded, then the error is of one kind.
    with pytest.raises(PriceBookError, match="the price book cannot be read"):
        PriceBook.from_bytes(content)


def test_a_book_like_those_faulty_ones_but_without_a_fault_loads(tmp_path: Path) -> None:
    # Given adjoining periods and rising tiers in a file, when it is loaded, then it is used.
    path = tmp_path / "prices.json"
    periods = [period(valid_from="2026-03-13", context_tiers=[tier(100), tier(200)]), period()]
    periods[1]["valid_to"] = "2026-03-13"
    content = {"version": "2026-11-24", "models": [model(periods=periods)]}
    path.write_bytes(msgspec.json.encode(content))
    assert PriceBook.load(path).canonical_name("claude-test") == "claude-test"


def test_the_price_is_that_of_the_utc_day_on_which_the_request_started() -> None:
    # Given Opus 4.6, whose tier above 200,000 tokens ended on 2026-03-13.
    usage = Usage(input_tokens=200_001)
    for when, price in ((at("2026-03-12T23:59:59.999999"), 10), (at("2026-03-13"), 5)):
        # When requests start just before and at that moment, then each has its day's price.
        cost = cost_picos(BOOK, usage, "claude-opus-4-6", when).cost
        assert cost is not None
        assert cost.total == 200_001 * price * 1_000_000


def test_a_day_outside_all_periods_is_unpriced() -> None:
    # Given a price that begins on a day, when a request is older, then it has no price.
    book = load(model(periods=[period(valid_from="2026-03-13", valid_to="2026-03-20")]))
    for day in (12, 20):
        assert book.price_for("claude-test", at(f"2026-03-{day}")) is None
        rates = book.rates_for("claude-test", at(f"2026-03-{day}"), LIST)
        assert rates == f"the model 'claude-test' has no price on 2026-03-{day}"
    assert book.price_for("claude-test", at("2026-03-19")) is not None


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("claude-opus-4-8", "claude-opus-4-8"),
        ("claude-opus-4-8[1m]", "claude-opus-4-8"),
        ("anthropic/claude-opus-4-8", "claude-opus-4-8"),
        ("anthropic/claude-haiku-4-5-20251001[1m]", "claude-haiku-4-5"),
        ("claude-sonnet-4-20250514", "claude-sonnet-4-0"),
        ("claude-opus-4-8-20260501", None),
        ("claude-opus-4-8-latest", None),
        ("openai/claude-opus-4-8", None),
        ("Claude-Opus-4-8", None),
        ("", None),
    ],
)
def test_names_are_found_exactly_or_by_alias_prefix_and_suffix(
    name: str, canonical: str | None
) -> None:
    # Given a name, when it is looked up, then only what the book says is the same model is.
    assert BOOK.canonical_name(name) == canonical


def test_names_from_outside_cannot_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a limit of three resolved rates, when more names come, then no more are kept.
    monkeypatch.setattr(price_book, "RATES_CACHED_MAX", 3)
    book = load(model())
    for number in range(20):
        book.rates_for(f"unknown-{number}", 0, LIST)
        book.rates_for("claude-test", 0, LIST)
        assert len(book._rates) <= 3
