"""A repricing's dry run: which rows change and to what, checked by fractions and by recompute."""

from collections.abc import Iterator
from datetime import date
from fractions import Fraction
from pathlib import Path

import pytest

from schemas.events import UsageRecord
from schemas.prices import PriceOverlay, Repricing, SomeTokenPrices
from schemas.usage import Usage
from services.ledger.projection import Projection
from services.ledger.repricing import TOO_DEAR_UNPRICED, NewCost, laid_over, new_costs
from services.ledger.store import Store
from services.runtime.bus import StreamMessage
from services.runtime.price_book import PriceBook
from tests.support.ledger import Producer, batch

DAY_US = 86_400 * 1_000_000
START_US = 1_764_028_800_000_000
USD = 10**12
USAGE = Usage(input_tokens=500, output_tokens=1000)
NEW = "claude-of-tomorrow"
WHOLE = PriceOverlay(
    model=NEW,
    usd_per_mtok=SomeTokenPrices(
        input="2",
        output="7",
        cache_read="1",
        cache_write_5m="1",
        cache_write_1h="1",
    ),
    batch_multiplier="0.5",
    usd_per_1000_web_searches="10",
)


class Books:
    """Books of five requests: messages 1 to 5, each on a day of its own."""

    def __init__(self, path: Path) -> None:
        self.store = Store(path)
        self.book = PriceBook.load()
        producer = Producer()
        records = [
            self._record(producer, 0),
            self._record(producer, 1),
            self._record(producer, 2, model=NEW),
            self._record(producer, 3, endpoint="pass_through"),
            self._record(producer, 4, usage=None, status="failure"),
        ]
        state = self.store.projection_state("USAGE")
        projection = Projection(self.book, state, self.store.booked_results)
        messages = [
            StreamMessage(number, "usage.0", batch(producer.recorded(record)))
            for number, record in enumerate(records, 1)
        ]
        self.store.commit("USAGE", "now", projection.project(messages))

    @staticmethod
    def _record(producer: Producer, day: int, **fields: object) -> UsageRecord:
        at_us = START_US + day * DAY_US
        values = {"started_at_us": at_us, "ended_at_us": at_us, "usage": USAGE, **fields}
        return producer.record(request_id=f"tg_{day}", **values)

    def changes(self, before: int = 100, **fields: object) -> list[NewCost]:
        """Return what a repricing of all days, unless told otherwise, changes."""
        repricing = Repricing(**({"from_us": 0} | fields))
        book = laid_over(self.book, repricing)
        costs = new_costs(self.store.connection, book, repricing, before)
        return [each for each in costs if each.is_other]


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Books]:
    made = Books(tmp_path_factory.mktemp("books") / "ledger.duckdb")
    yield made
    made.store.close()


def sequences(changes: list[NewCost]) -> list[int]:
    return [each.stream_sequence for each in changes]


def test_under_the_prices_in_force_nothing_that_was_priced_by_them_changes(books: Books) -> None:
    # Given rows that the prices in force made, when they are priced by them anew, then none is
    # another one: an unpriced one stays so, for the same reason.
    assert books.changes() == []


def test_an_entry_prices_what_had_no_price_and_nothing_else(books: Books) -> None:
    # Given a request of a model without a price, when an entry gives it one, then it alone costs
    # what fractions make of it; a pass-through path and a request without usage stay as they are.
    (change,) = books.changes(overlays=(WHOLE,))
    assert (change.stream_sequence, change.old, change.unpriced) == (3, None, None)
    assert change.new is not None
    assert change.new.total == Fraction(500 * 2 + 1000 * 7, 10**6) * USD


def test_range_models_and_place_in_the_stream_say_which_rows_are_meant(books: Books) -> None:
    # Given a discount on everything, when a repricing has bounds, then only rows within them
    # change: from the first moment, before the last, before its own message, of its models.
    half = (PriceOverlay(model="*", multiplier="0.5"),)
    assert sequences(books.changes(overlays=half)) == [1, 2]
    second_day = START_US + DAY_US
    assert sequences(books.changes(overlays=half, from_us=second_day)) == [2]
    assert sequences(books.changes(overlays=half, from_us=second_day + 1)) == []
    assert sequences(books.changes(overlays=half, to_us=second_day)) == [1]
    assert sequences(books.changes(overlays=half, before=2)) == [1]
    assert sequences(books.changes(overlays=half, models=(NEW,))) == []
    for name in ("claude-sonnet-4-0", "anthropic/claude-sonnet-4-20250514[1m]"):
        changes = books.changes(overlays=half, models=(name,))
        assert [(each.old.total, each.new.total) for each in changes if each.old and each.new] == [
            (Fraction(165, 10**4) * USD, Fraction(165, 2 * 10**4) * USD)
        ] * 2


def test_an_entry_of_a_repricing_goes_before_those_in_force_on_its_days(books: Books) -> None:
    # Given an entry for one day, when rows are priced anew, then that day's alone has its price.
    day = date(2025, 11, 26)
    entry = PriceOverlay(
        model="claude-sonnet-4-0",
        valid_from=day,
        valid_to=date(2025, 11, 27),
        multiplier="2",
    )
    (change,) = books.changes(overlays=(entry,))
    assert change.stream_sequence == 2
    assert change.new is not None
    assert change.new.total == Fraction(330, 10**4) * USD


def test_a_cost_that_no_column_holds_leaves_a_row_unpriced_instead_of_stopping(
    books: Books,
) -> None:
    # Given prices under which a request costs more than is believed, when it is priced anew, then
    # it is unpriced and says why.
    most = "999999"
    dear = (
        PriceOverlay(
            model="claude-sonnet-4-0", usd_per_mtok=SomeTokenPrices(input=most), multiplier=most
        ),
    )
    changes = books.changes(overlays=dear)
    assert [(each.new, each.unpriced) for each in changes] == [(None, TOO_DEAR_UNPRICED)] * 2
