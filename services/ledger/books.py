"""The books of one role, for one thread: store, projection and budgets together."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from schemas.budgets import BudgetId
from schemas.config import GatewayConfig, SeatPrice
from schemas.prices import PriceOverlay
from schemas.registry import KeyRecord, TeamRecord, UserRecord
from schemas.streams import USAGE
from services.ledger.budgets import Budgets, Standing
from services.ledger.price_history import PriceState
from services.ledger.projection import Counts, Projected, Projection
from services.ledger.spends import SpendQuestion
from services.ledger.spent import spends_since
from services.ledger.store import Checkpoint, Store
from services.ledger.unpriced import UnpricedAlarm
from services.runtime.budget_limits import EVERYBODY, global_limits
from services.runtime.bus import StreamMessage
from services.runtime.price_book import PriceBook

__all__ = ["Books", "BudgetChanges"]


class BudgetChanges(msgspec.Struct, frozen=True):
    """Where some budgets stand, all of them counted up to the message `sequence` of USAGE.

    `next_end_us`: when a budget next changes by itself. `prices` are the API's entries in force.
    """

    sequence: int
    standings: dict[BudgetId, Standing | None]
    next_end_us: int | None
    prices: tuple[PriceOverlay, ...]


class Books:
    """Takes messages in and answers where the budgets stand. Not thread-safe: one thread owns it.

    `with_budgets` is for the writer; the reader keeps none.
    """

    def __init__(self, store: Store, book: PriceBook, *, timezone: str, with_budgets: bool) -> None:
        self.store = store
        state = store.projection_state(USAGE.name)
        self._projection = Projection(book, state, store.booked_results)
        store.put_prices(self._projection.book)
        self._budgets: Budgets | None = None
        if with_budgets:

            def spends(questions: Sequence[SpendQuestion], with_subscriptions: bool) -> list[int]:  # noqa: FBT001 - as Budgets asks
                return spends_since(
                    store.connection, questions, with_subscriptions=with_subscriptions
                )

            self._budgets = Budgets(timezone, spends)
            self._budgets.reserve((each.facts for each in state.open_requests), ())
        checkpoint = store.checkpoint(USAGE.name)
        self._sequence = checkpoint.sequence if checkpoint is not None else 0
        self._alarm = UnpricedAlarm()
        self._waiting: Projected | None = None

    def project(self, messages: Sequence[StreamMessage]) -> Counts:
        """Make rows of messages, which `commit` stores; return what their events were."""
        self._waiting = self._projection.project(messages)
        return self._waiting.counts

    def commit(self, stream: str, stream_created: str) -> None:
        """Store what `project` made. May be called again after a failure: nothing was stored."""
        assert self._waiting is not None
        book = self._projection.book if self._waiting.price_changes else None
        self.store.commit(stream, stream_created, self._waiting, book)
        projected, self._waiting = self._waiting, None
        self._sequence = projected.sequence
        if self._budgets is None:
            return
        self._budgets.reserve((each.facts for each in projected.opened.values()), projected.closed)
        self._alarm.look_at(projected.requests)
        if projected.repricings:
            self._budgets.count_anew()
        else:
            self._budgets.add(projected.spends)

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

    def take_budgets(self, config: GatewayConfig) -> None:
        """Take what a configuration says of budgets: the zone, everybody's, what counts."""
        limits = global_limits(config.budget)
        self.store.put_budgets(EVERYBODY, limits)
        if self._budgets is not None:
            self._budgets.put_limits(EVERYBODY, limits)
            self._budgets.set_timezone(config.timezone)
            self._budgets.count_subscriptions(
                with_subscriptions=config.settings.budgets_count_subscriptions
            )

    def budget_changes(self, due: Iterable[BudgetId], now_us: int) -> BudgetChanges:
        """Return where the budgets stand that changed since this was asked last, and those `due`.

        None is the standing of a budget that is no more.
        """
        assert self._budgets is not None
        standings = self._budgets.changes(due, now_us)
        api = self._projection.prices.get("api")
        prices = () if api is None else api.change.overlays
        return BudgetChanges(self._sequence, standings, self._budgets.next_end_us, prices)

    def checkpoint(self, stream: str) -> Checkpoint | None:
        """Return how far a stream has been taken in."""
        return self.store.checkpoint(stream)
