"""The budgets that are spent: the BUDGET stream's state in memory."""

import logging

import msgspec

from schemas.events import BudgetExceeded, BudgetState, decode_budget_event
from schemas.streams import BUDGET, budget_subject
from services.runtime.bus import Bus, StreamMessage

__all__ = ["SpentBudgets"]

log = logging.getLogger(__name__)


class SpentBudgets:
    """Which budgets the ledger has declared exceeded, by scope and id.

    The ledger decides from the events; this is only its word, kept current by the stream. While
    NATS is away the last word stands, and a window's end is seen by this process's own clock.
    """

    def __init__(self) -> None:
        self._exceeded: dict[str, BudgetState] = {}

    def of_key(self, key_id: str) -> BudgetState | None:
        """Return the state of a key's budget where it was exceeded."""
        return self._exceeded.get(budget_subject("key", key_id))

    def apply(self, message: StreamMessage) -> None:
        """Take one message of BUDGET in; one that cannot be read is logged and changes nothing."""
        try:
            event = decode_budget_event(message.payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            log.error("a budget event cannot be read: %s", error)
            return
        if message.subject != budget_subject(event.data.scope, event.data.scope_id):
            log.error("a budget event about another budget than its subject's is skipped")
            return
        if isinstance(event, BudgetExceeded):
            self._exceeded[message.subject] = event.data
        else:
            self._exceeded.pop(message.subject, None)

    async def follow(self, bus: Bus) -> None:
        """Keep the state current for ever."""
        async for batch in bus.follow(BUDGET.name, last_per_subject=True):
            for message in batch.messages:
                self.apply(message)
