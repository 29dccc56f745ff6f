"""Which prices were in force at which message of the stream, as the books know it."""

from collections.abc import Iterator
from typing import NamedTuple

import duckdb
import msgspec

from schemas.prices import BookContent, PriceChange, PriceKind, PriceOverlay, Repricing
from services.ledger.repricing import laid_over, read_repricings
from services.runtime.price_book import PriceBook, book_with

__all__ = ["PriceEra", "PriceState", "book_in_force", "price_eras", "read_price_changes"]

NO_END = 2**62


class PriceState(NamedTuple):
    """The last change of one part of the prices, and its message of the stream."""

    sequence: int
    change: PriceChange


class PriceEra(NamedTuple):
    """The prices of some rows.

    Without `repriced`, of those that were priced when they came, between two messages of the stream
    which are not of it themselves; else of those that the repricing of this message means.
    """

    after: int
    before: int
    book: PriceBook
    repriced: int | None = None
    repricing: Repricing | None = None

    @property
    def rows(self) -> str:
        """SQL that chooses them."""
        if self.repriced is not None:
            return f"priced_sequence = {self.repriced} AND stream_sequence < {self.repriced}"
        return (
            f"stream_sequence > {self.after} AND stream_sequence < {self.before} "
            "AND priced_sequence = stream_sequence"
        )


def book_in_force(shipped: PriceBook, prices: dict[str, PriceState]) -> PriceBook:
    """Return the book of the stream, or the shipped one, with the entries of the stream.

    `prices` are the last changes, by kind.
    """
    book, file, api = (prices.get(kind) for kind in ("book", "file", "api"))
    return book_with(
        shipped,
        None if book is None else book.change.book,
        () if file is None else file.change.overlays,
        () if api is None else api.change.overlays,
    )


def price_eras(connection: duckdb.DuckDBPyConnection, shipped: PriceBook) -> Iterator[PriceEra]:
    """Yield the prices of the whole stream, in its order. `shipped` counts before any change."""
    prices: dict[str, PriceState] = {}
    after = 0
    repricings = read_repricings(connection)
    for state in [*read_price_changes(connection), None]:
        before = NO_END if state is None else state.sequence
        book = book_in_force(shipped, prices)
        yield PriceEra(after, before, book)
        for sequence, repricing in repricings:
            if after < sequence < before:
                yield PriceEra(after, before, laid_over(book, repricing), sequence, repricing)
        if state is not None:
            prices[state.change.kind] = state
            after = state.sequence


def read_price_changes(connection: duckdb.DuckDBPyConnection) -> list[PriceState]:
    """Return every change of prices that the books hold, in the order of the stream."""
    found = connection.execute(
        "SELECT stream_sequence, kind, epoch_us(changed_at), changed_by, content "
        "FROM price_changes ORDER BY stream_sequence"
    ).fetchall()
    return [PriceState(sequence, _price_change(*rest)) for sequence, *rest in found]


def _price_change(
    kind: PriceKind, changed_at_us: int, changed_by: str | None, content: str
) -> PriceChange:
    book: BookContent | None = None
    overlays: tuple[PriceOverlay, ...] = ()
    if kind == "book":
        book = msgspec.json.decode(content, type=BookContent)
    else:
        overlays = msgspec.json.decode(content, type=tuple[PriceOverlay, ...])
    return PriceChange(
        kind=kind,
        book=book,
        overlays=overlays,
        changed_at_us=changed_at_us,
        changed_by=changed_by,
    )
