"""The books of one role, for one thread: store, projection and budgets together."""

from collections.abc import Iterable, Sequence
from typing import Any

from schemas.config import SeatPrice
from schemas.registry import KeyRecord, TeamRecord, UserRecord
from schemas.streams import USAGE
from services.ledger.budgets import Budgets, Standing
from services.ledger.price_history import PriceState
from services.ledger.projection import Counts, Projected, Projection
from services.ledger.spends import Whose
from services.ledger.store import Checkpoint, Store
from services.ledger.unpriced import UnpricedAlarm
from services.runtime.bus import StreamMessage
from services.runtime.price_book import PriceBook

__all__ = ["Books"]


class Books:
    """Takes messages in and answers where the budgets stand. Not thread-safe: one thread owns it.

    `with_budgets` is for the writer; the reader keeps none.
    """

    def __init__(self, store: Store, book: PriceBook, *, timezone: str, with_budgets: bool) -> None:
        self.store = store
        self._projection = Projection(
            book, store.projection_state(USAGE.name), store.booked_results
        )
        store.put_prices(self._projection.book)
        self._budgets = Budgets(timezone, store.spend_picos) if with_budgets else None
        self._alarm = UnpricedAlarm()
        self._waiting: Projected | None = None

    def project(self, messages: Sequence[StreamMessage]) -> Counts:
        """Make rows of messages, which `commit` stores; return what their events were."""
        self._waiting = self._projection.project(messages)
        return self._waiting.counts

    def commit(self, stream: str, stream_created: str) -> set[Whose]:
        """Store what `project` made; return whose budgets changed.

        May be called again after a failure: nothing was stored then.
        """
        assert self._waiting is not None
        book = self._projection.book if self._waiting.price_changes else None
        self.store.commit(stream, stream_created, self._waiting, book)
        projected, self._waiting = self._waiting, None
        if self._budgets is None:
            return set()
        self._alarm.look_at(projected.requests)
        if projected.repricings:
            return self._budgets.count_anew()
        return self._budgets.add(projected.spends)

    def prices(self) -> dict[str, PriceState]:
        """Return the last change of each part of the prices, by kind."""
        return dict(self._projection.prices)

    def put_seats(self, seats: Sequence[SeatPrice]) -> None:
        """Take what subscriptions cost from a configuration."""
        self.store.put_seats(seats)

    def budget_events_of(self, stream_created: str) -> int:
        """Return how far the stream BUDGET is written down; see Store.budget_events_of."""
        return self.store.budget_events_of(stream_created)

    def put_budget_events(self, events: Sequence[tuple[Any, ...]]) -> None:
        """Write down what was told of budgets."""
        self.store.put_budget_events(events)

    def put_keys(self, records: Sequence[KeyRecord]) -> None:
        """Take in the state of some keys."""
        self.store.put_keys(records)
        if self._budgets is not None:
            for record in records:
                self._budgets.put(record)

    def put_owners(self, records: Sequence[TeamRecord | UserRecord]) -> None:
        """Take in the state of some teams and users."""
        self.store.put_owners(records)
        if self._budgets is not None:
            for record in records:
                self._budgets.put(record)

    def set_timezone(self, timezone: str) -> set[Whose]:
        """Let budgets begin at another zone's midnights; return whose budgets changed."""
        return self._budgets.set_timezone(timezone) if self._budgets is not None else set()

    def standings(self, owners: Iterable[Whose], now_us: int) -> dict[Whose, Standing | None]:
        """Return where some budgets stand; None where there is none."""
        assert self._budgets is not None
        return {owner: self._budgets.standing(owner, now_us) for owner in owners}

    def checkpoint(self, stream: str) -> Checkpoint | None:
        """Return how far a stream has been taken in."""
        return self.store.checkpoint(stream)
