"""The budgets that are spent: the BUDGET stream's state in memory."""

import logging
from collections.abc import Sequence

import msgspec

from schemas.budgets import BudgetExceeded, BudgetId, BudgetState, decode_budget_event
from schemas.registry import KeyRecord
from schemas.streams import BUDGET, budget_subject
from services.runtime.budget_limits import AliasOf, Whose, is_for, no_alias, owners_of
from services.runtime.bus import Bus, StreamMessage

__all__ = ["SpentBudgets"]

log = logging.getLogger(__name__)


class SpentBudgets:
    """Which budgets the ledger has declared exceeded, by scope and id.

    The ledger decides from the events; this is only its word, kept current by the stream. While
    NATS is away the last word stands, and a window's end is seen by this process's own clock.
    """

    def __init__(self, alias_of: AliasOf = no_alias) -> None:
        self._alias_of = alias_of
        self._exceeded: dict[Whose, dict[BudgetId, BudgetState]] = {}

    def of(self, key: KeyRecord, model_name: str | None) -> Sequence[BudgetState]:
        """Return the exceeded budgets of a key, of its user and of its team, and everybody's.

        Those of models are among them where they are for this model name.
        """
        if not self._exceeded:
            return ()
        return [
            state
            for owner in owners_of(key)
            if owner in self._exceeded
            for state in self._exceeded[owner].values()
            if state.model is None or is_for(state.model, model_name, self._alias_of(model_name))
        ]

    def apply(self, message: StreamMessage) -> None:
        """Take one message of BUDGET in; one that cannot be read is logged and changes nothing."""
        try:
            event = decode_budget_event(message.payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            log.error("a budget event cannot be read: %s", error)
            return
        state = event.data
        if message.subject != budget_subject(*state.budget_id):
            log.error("a budget event about another budget than its subject's is skipped")
            return
        owner = Whose(state.scope, state.scope_id)
        exceeded = self._exceeded.setdefault(owner, {})
        if isinstance(event, BudgetExceeded):
            exceeded[state.budget_id] = state
        else:
            exceeded.pop(state.budget_id, None)
        if not exceeded:
            del self._exceeded[owner]

    async def follow(self, bus: Bus) -> None:
        """Keep the state current for ever."""
        async for batch in bus.follow(BUDGET.name, last_per_subject=True):
            for message in batch.messages:
                self.apply(message)
