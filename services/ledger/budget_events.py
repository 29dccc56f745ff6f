"""What was told of budgets: the stream BUDGET as the table `budget_events`.

It is the writer's own word, which every copy of the books follows and writes down as it was told;
so the table is no fact of the books' own, and not in their digest.
"""

import logging
from typing import Any

import msgspec

from schemas.budgets import BudgetCleared, BudgetExceeded, BudgetWarned, decode_budget_event
from schemas.events import us_from_time
from schemas.streams import BUDGET
from services.ledger.worker import Worker, wait_for_stream
from services.runtime.bus import Bus, StreamMessage

__all__ = ["budget_event_row", "follow_budget_events"]

_NAMES = {BudgetExceeded: "exceeded", BudgetCleared: "cleared", BudgetWarned: "warned"}

log = logging.getLogger(__name__)


async def follow_budget_events(bus: Bus, worker: Worker) -> None:
    """Write down what is told of budgets, for ever, from what the books have on."""
    state = await wait_for_stream(bus, BUDGET.name)
    last = await worker.in_books(lambda: worker.books.budget_events_of(state.created))
    async for batch in bus.follow(BUDGET.name, last + 1):
        found = [row for message in batch.messages if (row := budget_event_row(message))]
        if found:
            await worker.in_books(lambda found=found: worker.books.put_budget_events(found))  # type: ignore[misc]


def budget_event_row(message: StreamMessage) -> tuple[Any, ...] | None:
    """Return the row of one message, for BUDGET_EVENT_COLUMNS; None: it cannot be read."""
    try:
        event = decode_budget_event(message.payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        log.error("a budget event cannot be read: %s", error)
        return None
    state = event.data
    return (
        message.sequence,
        _NAMES[type(event)],
        us_from_time(event.time),
        state.scope,
        state.scope_id,
        state.name,
        state.spend_usd,
        state.max_budget_usd,
        state.budget_duration,
        state.window_start_us,
        state.resets_at_us,
        state.limit,
        state.model,
        state.soft_budget_usd,
        state.threshold,
    )
