"""The budgets that are spent: the BUDGET stream's state in memory."""

import logging
from collections.abc import Sequence

import msgspec

from schemas.events import BudgetExceeded, BudgetState, decode_budget_event
from schemas.registry import KeyRecord
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
        self._exceeded: dict[tuple[str, str], BudgetState] = {}

    def of(self, key: KeyRecord) -> Sequence[BudgetState]:
        """Return the exceeded budgets of a key, of its user and of its team."""
        if not self._exceeded:
            return ()
        wanted = (("key", key.key_id), ("user", key.user_id), ("team", key.team_id))
        return [
            state
            for scope, scope_id in wanted
            if scope_id is not None and (state := self._exceeded.get((scope, scope_id)))
        ]

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
            self._exceeded[event.data.scope, event.data.scope_id] = event.data
        else:
            self._exceeded.pop((event.data.scope, event.data.scope_id), None)

    async def follow(self, bus: Bus) -> None:
        """Keep the state current for ever."""
        async for batch in bus.follow(BUDGET.name, last_per_subject=True):
            for message in batch.messages:
                self.apply(message)
