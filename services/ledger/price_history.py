"""Which prices were in force at which message of the stream, as the books know it."""

from collections.abc import Iterator
from typing import NamedTuple

import duckdb
import msgspec

from schemas.prices import BookContent, PriceChange, PriceKind, PriceOverlay
from services.runtime.price_book import PriceBook
from services.runtime.price_overlays import Overlays

__all__ = ["PriceEra", "PriceState", "book_in_force", "price_eras", "read_price_changes"]

NO_END = 2**62


class PriceState(NamedTuple):
    """The last change of one part of the prices, and its message of the stream."""

    sequence: int
    change: PriceChange


class PriceEra(NamedTuple):
    """The prices of all messages between two of the stream, which are not of it themselves."""

    after: int
    before: int
    book: PriceBook


def book_in_force(shipped: PriceBook, prices: dict[str, PriceState]) -> PriceBook:
    """Return the book of the stream, or the shipped one, with the entries of the stream.

    `prices` are the last changes, by kind.
    """
    book, file, api = (prices.get(kind) for kind in ("book", "file", "api"))
    if book is not None and book.change.book is not None:
        shipped = shipped.with_content(book.change.book)
    if file is None and api is None:
        return shipped
    return shipped.with_overlays(
        Overlays(
            file.change.overlays if file is not None else (),
            api.change.overlays if api is not None else (),
        )
    )


def price_eras(connection: duckdb.DuckDBPyConnection, shipped: PriceBook) -> Iterator[PriceEra]:
    """Yield the prices of the whole stream, in its order. `shipped` counts before any change."""
    prices: dict[str, PriceState] = {}
    after = 0
    for state in read_price_changes(connection):
        yield PriceEra(after, state.sequence, book_in_force(shipped, prices))
        prices[state.change.kind] = state
        after = state.sequence
    yield PriceEra(after, NO_END, book_in_force(shipped, prices))


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
