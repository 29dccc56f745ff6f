"""What the requests under way hold of their budgets, so that many at once do not spend one twice.

A worker knows of each budget the ledger's mark (services.proxy.marks), what its own requests cost
that the mark does not count yet, and what its requests under way are likely to cost. A request is
admitted while all three together are below the limit: the one that reaches it is the last.

A strict budget counts requests from their start on, as the bound of their cost: it is part of
`request.started`, and the ledger adds it to the mark until the request's end is known. A worker
admits the next request only when the mark counts its own last start, and is below the limit. So
the spend passes the limit by at most one request for each worker: docs/adr/0031 has the proof.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from schemas.budgets import BudgetId, BudgetState
from schemas.events import UsageRecord
from schemas.money import usd_from_picos
from schemas.prices import PriceOverlay
from schemas.registry import KeyRecord
from services.proxy.counted import Counted
from services.proxy.estimate import Estimator, History
from services.proxy.headers import RawHeaders
from services.proxy.marks import Mark, MarkBook
from services.proxy.standing import Standing, with_standing
from services.runtime.metrics import Sample, sample
from services.runtime.price_book import PriceBook
from services.runtime.price_overlays import Overlays
from services.runtime.pricing import cost_picos, priced_model

__all__ = [
    "ACCOUNTS_MAX",
    "ENDED_MAX",
    "WAITING_MAX",
    "BudgetFull",
    "BudgetOver",
    "Held",
    "Reservations",
]

ENDED_MAX = 1000
"""Of so many requests that no mark counts yet each cost is kept; older ones are put together."""
ACCOUNTS_MAX = 10_000
"""Of so many budgets it is known what this worker's requests hold; then idle ones are forgotten."""
WAITING_MAX = 1000
"""So many requests of a worker wait for room in their budgets; further ones are refused at once."""


class BudgetFull(Exception):
    """What is left of a budget may be taken by the requests under way: it may be free again."""

    def __init__(self, state: BudgetState) -> None:
        super().__init__(state.budget_id)
        self.state = state


class BudgetOver(Exception):
    """A budget is spent, by what this worker knows. `state` has the spend."""

    def __init__(self, state: BudgetState) -> None:
        super().__init__(state.budget_id)
        self.state = state


class _Ended(NamedTuple):
    """What a request cost that is over, by the number of its event and the time of its start."""

    number: int
    started_at_us: int
    picos: int


class _Account:
    """What this worker's requests hold and spent of one budget, beyond the mark."""

    __slots__ = ("ended", "ended_picos", "held_picos", "last_start", "since_us", "starting")

    def __init__(self) -> None:
        self.held_picos = 0
        self.ended: deque[_Ended] = deque()
        self.ended_picos = 0
        self.since_us = 0
        self.starting = 0
        """Requests that are admitted and whose start has no number yet."""
        self.last_start = 0

    def is_idle(self, counted: int) -> bool:
        """Tell whether the mark says all that there is to know."""
        is_counted = self.last_start <= counted and not self.uncounted(counted, self.since_us)
        return is_counted and not self.starting and not self.held_picos

    def add(self, ended: _Ended) -> None:
        self.ended.append(ended)
        self.ended_picos += ended.picos
        if len(self.ended) > ENDED_MAX:
            one, other = self.ended.popleft(), self.ended.popleft()
            together = _Ended(
                other.number,
                max(one.started_at_us, other.started_at_us),
                one.picos + other.picos,
            )
            self.ended.appendleft(together)

    def uncounted(self, counted: int, since_us: int) -> int:
        """Return what was spent in a window by requests that the mark does not count."""
        ended = self.ended
        if since_us > self.since_us:
            self.since_us = since_us
            self.ended = ended = deque(each for each in ended if each.started_at_us >= since_us)
            self.ended_picos = sum(each.picos for each in ended)
        while ended and ended[0].number <= counted:
            self.ended_picos -= ended.popleft().picos
        return self.ended_picos


class Held:
    """What one request holds of its budgets, until it is over.

    Each of its attempts is a request in the books: `started` and `ended` come once for each.
    """

    __slots__ = (
        "_accounts",
        "_book",
        "_is_admitted",
        "_is_held",
        "_key",
        "_likely",
        "_model_name",
        "_of",
    )

    def __init__(
        self,
        of: "Reservations",
        accounts: list[_Account],
        *,
        key: KeyRecord,
        model_name: str | None,
        likely_picos: int,
        book: PriceBook,
    ) -> None:
        self._of = of
        self._key = key
        self._model_name = model_name
        self._accounts = accounts
        self._likely = likely_picos
        self._book = book
        self._is_admitted = True
        self._is_held = True
        for account in accounts:
            account.starting += 1
            account.held_picos += likely_picos

    def started(self, number: int) -> None:
        """Note that an attempt's start is in the outbox, under this number."""
        for account in self._accounts:
            account.last_start = number
            if self._is_admitted:
                account.starting -= 1
            if not self._is_held:
                account.held_picos += self._likely
        self._is_admitted = False
        self._is_held = True

    def ended(self, number: int, record: UsageRecord) -> None:
        """Note what an attempt cost: its end is in the outbox, under this number."""
        self._release()
        usage = record.usage
        if usage is not None:
            model = priced_model(self._book, record.response_model, record.model)
            cost = cost_picos(self._book, usage, model, record.started_at_us).cost
            if cost is not None and (total := cost.total):
                ended = _Ended(number, record.started_at_us, total)
                for account in self._accounts:
                    account.add(ended)
            self._of.history.saw(self._key.key_id, usage.output_tokens)
        self._of.changed()

    def over(self) -> None:
        """Give back what is still held. Harmless when repeated."""
        if self._is_admitted:
            self._is_admitted = False
            for account in self._accounts:
                account.starting -= 1
        self._release()
        self._of.changed()

    def _release(self) -> None:
        if self._is_held:
            self._is_held = False
            for account in self._accounts:
                account.held_picos -= self._likely

    def told(self, headers: RawHeaders, now_us: int) -> RawHeaders:
        """Return a successful answer's headers with what the budgets say now."""
        return with_standing(headers, self._of.standings(self._key, self._model_name, now_us))


class Reservations:
    """What all requests of this worker hold of all budgets."""

    def __init__(self, marks: MarkBook) -> None:
        self._marks = marks
        self._accounts: dict[BudgetId, _Account] = {}
        self._counted = Counted()
        self._waiting: dict[asyncio.Future[None], None] = {}
        self._estimator = Estimator(PriceBook.shipped())
        self._priced_by = Overlays()
        self.history = History()
        self.waits = 0
        self.refusals = 0
        marks.on_told = self.changed

    def of(self, key: KeyRecord, model_name: str | None) -> Sequence[Mark]:
        """Return the marks of the budgets that a request counts for."""
        return self._marks.of(key, model_name)

    def estimator(self, file_prices: tuple[PriceOverlay, ...]) -> Estimator:
        """Return what knows the prices in force: the book, the configuration's and the API's."""
        if file_prices is not self._priced_by.file or self._marks.prices is not self._priced_by.api:
            self._priced_by = Overlays(file_prices, self._marks.prices)
            self._estimator = Estimator(PriceBook.shipped().with_overlays(self._priced_by))
        return self._estimator

    def is_strict(self, budget_id: BudgetId) -> bool:
        """Tell whether the ledger counts a budget strictly: a new one it knows in a moment."""
        mark = self._marks.find(budget_id)
        return mark is not None and mark.state.strict

    @property
    def is_deaf(self) -> bool:
        """Whether the ledger has told nothing of any budget yet."""
        return self._marks.heard_at_s is None

    def published(self, number: int, sequence: int) -> None:
        """Note that this worker's events up to a number are in USAGE up to a sequence."""
        self._counted.published(number, sequence)

    def take(
        self,
        marks: Sequence[Mark],
        *,
        key: KeyRecord,
        model_name: str | None,
        likely_picos: int,
        book: PriceBook,
        now_us: int,
    ) -> Held:
        """Return what a request holds from now on. Raises BudgetOver, BudgetFull."""
        counted = self._counted.number(self._marks.usage_sequence)
        accounts = []
        for mark in marks:
            if mark.max_picos is None:
                continue
            budget_id = mark.state.budget_id
            account = self._accounts.get(budget_id)
            if account is None:
                account = self._new_account(budget_id, counted)
            _check(mark, account, counted, now_us)
            accounts.append(account)
        return Held(
            self,
            accounts,
            key=key,
            model_name=model_name,
            likely_picos=likely_picos,
            book=book,
        )

    def _new_account(self, budget_id: BudgetId, counted: int) -> _Account:
        """Return a new account, in the place of those that are idle where there are many."""
        if len(self._accounts) >= ACCOUNTS_MAX:
            self._accounts = {
                known: account
                for known, account in self._accounts.items()
                if not account.is_idle(counted)
            }
        account = self._accounts[budget_id] = _Account()
        return account

    def standings(self, key: KeyRecord, model_name: str | None, now_us: int) -> list[Standing]:
        """Return how the budgets of a request stand now, this worker's own spend included."""
        counted = self._counted.number(self._marks.usage_sequence)
        found = []
        for mark in self.of(key, model_name):
            state = mark.state
            if state.max_budget_usd is None:
                continue
            spend, _, since_us = _in_window(mark, now_us)
            account = self._accounts.get(state.budget_id)
            own = 0 if account is None else account.uncounted(counted, since_us)
            is_past = state.resets_at_us is not None and since_us >= state.resets_at_us
            found.append(
                Standing(
                    state.scope,
                    usd_from_picos(spend + own),
                    state.max_budget_usd,
                    None if is_past else state.resets_at_us,
                )
            )
        return found

    def samples(self) -> list[Sample]:
        """Return the metrics of those that found no room."""
        return [
            sample("tallygate_budget_waits_total", self.waits),
            sample("tallygate_budget_no_room_total", self.refusals),
        ]

    def changed(self) -> None:
        """Let the requests that wait look again."""
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        self._waiting.clear()

    async def wait(self, timeout_s: float) -> bool:
        """Wait until something changed; False where that took too long, or too many wait."""
        if timeout_s <= 0 or len(self._waiting) >= WAITING_MAX:
            return False
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = None
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except TimeoutError:
            return False
        finally:
            self._waiting.pop(waiter, None)
        return True


def _in_window(mark: Mark, now_us: int) -> tuple[int, int, int]:
    """Return the spend and what is reserved in the present window, and since when that is.

    A mark whose window is over tells that nothing of the next one was counted yet.
    """
    state = mark.state
    if state.resets_at_us is not None and now_us >= state.resets_at_us:
        return 0, 0, state.resets_at_us
    return mark.spend_picos, mark.reserved_picos, state.window_start_us or 0


def _check(mark: Mark, account: _Account, counted: int, now_us: int) -> None:
    """Raise where a budget has no room for one more request."""
    assert mark.max_picos is not None
    spend, reserved, since_us = _in_window(mark, now_us)
    known = spend + account.uncounted(counted, since_us)
    if known >= mark.max_picos:
        raise BudgetOver(msgspec.structs.replace(mark.state, spend_usd=usd_from_picos(known)))
    if mark.state.strict:
        is_seen = not account.starting and account.last_start <= counted
        if not is_seen or spend + reserved >= mark.max_picos:
            raise BudgetFull(mark.state)
    elif known + account.held_picos >= mark.max_picos:
        raise BudgetFull(mark.state)
