"""The marks: where every budget stands by the ledger's last word, in the proxy's memory."""

import logging
import time
from collections.abc import Callable, Sequence

import msgspec

from schemas.budgets import BudgetId, BudgetState, MarksQuestion, MarksTold, decode_marks
from schemas.money import picos_from_usd
from schemas.prices import PriceOverlay
from schemas.registry import KeyRecord
from schemas.streams import MARKS_ASK_SUBJECT, MARKS_SUBJECT
from services.runtime.budget_limits import AliasOf, Whose, is_for, no_alias, owners_of
from services.runtime.bus import Bus, BusUnavailable

__all__ = ["Mark", "MarkBook"]

log = logging.getLogger(__name__)

ASK_TIMEOUT_S = 5.0


class Mark(msgspec.Struct, frozen=True, gc=False):
    """Where one budget stands. `max_picos` None: it has no limit (a soft budget alone).

    `reserved_picos` is what requests under way may cost at most, where the budget is strict.
    """

    state: BudgetState
    spend_picos: int
    max_picos: int | None
    reserved_picos: int = 0


class MarkBook:
    """Every budget's mark, kept current by what the ledger tells.

    `usage_sequence`: the spend of all marks counts the messages of USAGE up to this one, and may
    for a moment count some more. While the ledger or NATS is away the last word stands;
    `heard_at_s` (of time.monotonic) says when that was, None: nothing was heard yet.
    """

    def __init__(self, alias_of: AliasOf = no_alias) -> None:
        self._alias_of = alias_of
        self.usage_sequence = 0
        self.heard_at_s: float | None = None
        self.prices: tuple[PriceOverlay, ...] = ()
        """The entries of prices that were set through the management API."""
        self.on_told: Callable[[], None] = lambda: None
        """Called when marks were told."""
        self._marks: dict[Whose, dict[BudgetId, Mark]] = {}
        self._source = ""
        self._number = 0

    def of(self, key: KeyRecord, model_name: str | None = None) -> Sequence[Mark]:
        """Return the marks of all budgets that a key's request for a model name counts for."""
        marks = self._marks
        if not marks:
            return ()
        return [
            mark
            for owner in owners_of(key)
            if owner in marks
            for mark in marks[owner].values()
            if mark.state.model is None
            or is_for(mark.state.model, model_name, self._alias_of(model_name))
        ]

    def find(self, budget_id: BudgetId) -> Mark | None:
        """Return the mark of one budget, None: the ledger has told nothing of it."""
        return self._marks.get(Whose(*budget_id[:2]), {}).get(budget_id)

    def take(self, told: MarksTold) -> bool:
        """Take in what was told; False where something before it was missed."""
        number = int(told.id)
        if told.source != self._source or number > self._number + 1:
            return False
        if number == self._number + 1:
            self._number = number
            self._put(told)
            self.on_told()
        return True

    def take_all(self, pages: Sequence[MarksTold]) -> None:
        """Take in all marks. What was told after the first page is taken in after that."""
        self._marks = {}
        for page in pages:
            self._put(page)
        first = pages[0]
        self._source, self._number = first.source, int(first.id)
        self.usage_sequence = first.data.usage_sequence
        self.on_told()

    def _put(self, told: MarksTold) -> None:
        for state in told.data.marks:
            owner = Whose(state.scope, state.scope_id)
            maximum = state.max_budget_usd
            self._marks.setdefault(owner, {})[state.budget_id] = Mark(
                state,
                picos_from_usd(state.spend_usd),
                None if maximum is None else picos_from_usd(maximum),
                picos_from_usd(state.reserved_usd),
            )
        if told.data.prices is not None:
            self.prices = told.data.prices
        for budget_id in told.data.gone:
            owner = Whose(budget_id.scope, budget_id.scope_id)
            marks = self._marks.get(owner, {})
            marks.pop(budget_id, None)
            if not marks:
                self._marks.pop(owner, None)
        self.usage_sequence = told.data.usage_sequence
        self.heard_at_s = time.monotonic()

    async def follow(self, bus: Bus) -> None:
        """Keep the marks current for ever."""
        async for payload in bus.hear(MARKS_SUBJECT):
            if payload is None:
                await self._ask_all(bus)
                continue
            try:
                told = decode_marks(payload)
                is_next = self.take(told)
            except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
                log.error("marks cannot be read: %s", error)
                continue
            if not is_next:
                await self._ask_all(bus)

    async def _ask_all(self, bus: Bus) -> None:
        """Ask for all marks. Where nobody answers, the next that is told is the occasion."""
        pages: list[MarksTold] = []
        after: BudgetId | None = None
        try:
            while not pages or pages[-1].data.more:
                question = msgspec.json.encode(MarksQuestion(after=after))
                reply = await bus.request(MARKS_ASK_SUBJECT, question, timeout_s=ASK_TIMEOUT_S)
                pages.append(decode_marks(reply))
                if pages[-1].source != pages[0].source:
                    return
                if pages[-1].data.marks:
                    after = pages[-1].data.marks[-1].budget_id
            self.take_all(pages)
        except BusUnavailable as error:
            log.debug("all marks are asked for later: %s", error)
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
            log.error("marks cannot be read: %s", error)
