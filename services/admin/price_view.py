"""The prices in force, as the ledger knows them by the stream, for what the API computes itself."""

from decimal import Decimal

import msgspec

from schemas.money import PICOS_PER_USD
from schemas.prices import BookContent, PriceOverlay
from services.admin.ledger_client import LedgerClient
from services.runtime.price_book import Conditions, PriceBook, TokenRates, book_with

__all__ = ["PriceView", "token_prices"]

_IN_FORCE = (
    "SELECT kind, stream_sequence, content FROM price_changes "
    "QUALIFY row_number() OVER (PARTITION BY kind ORDER BY stream_sequence DESC) = 1 ORDER BY kind"
)


class PriceView:
    """Asks the ledger which prices are in force, and remembers the last book that it made."""

    def __init__(self, ledger: LedgerClient) -> None:
        self._ledger = ledger
        self._known: tuple[tuple[str, int], ...] | None = None
        self._book = PriceBook.shipped()

    async def book(self) -> PriceBook:
        """Return the book by which a request that ends now is priced. Raises Unavailable."""
        reply = await self._ledger.query(_IN_FORCE)
        sequences = tuple((kind, sequence) for kind, sequence, _ in reply.rows)
        if sequences != self._known:
            contents = {kind: content for kind, _, content in reply.rows}
            book = contents.get("book")
            self._book = book_with(
                PriceBook.shipped(),
                None if book is None else msgspec.json.decode(book, type=BookContent),
                _entries(contents.get("file")),
                _entries(contents.get("api")),
            )
            self._known = sequences
        return self._book


def token_prices(book: PriceBook, model: str, at_us: int) -> dict[str, Decimal]:
    """Return a model's prices in US dollars for one token, by LiteLLM's names; {}: none known.

    They are those of short prompts, without any surcharge.
    """
    rates = book.rates_for(model, at_us, Conditions())
    if isinstance(rates, str):
        return {}
    tier: TokenRates = rates.tiers[-1]
    return {
        name: Decimal(rate) / (rates.scale * PICOS_PER_USD)
        for name, rate in (
            ("input_cost_per_token", tier.input),
            ("output_cost_per_token", tier.output),
            ("cache_read_input_token_cost", tier.cache_read),
            ("cache_creation_input_token_cost", tier.cache_write_5m),
            ("cache_creation_input_token_cost_above_1hr", tier.cache_write_1h),
        )
    }


def _entries(content: str | None) -> tuple[PriceOverlay, ...]:
    if content is None:
        return ()
    return msgspec.json.decode(content, type=tuple[PriceOverlay, ...])
