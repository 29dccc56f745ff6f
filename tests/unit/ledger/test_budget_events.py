"""What was told of budgets is written down once, and belongs to one stream."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from schemas.budgets import BudgetCleared, BudgetExceeded, BudgetState
from schemas.events import encode_event
from services.ledger.budget_events import budget_event_row
from services.ledger.store import Store
from services.runtime.bus import StreamMessage

AT = datetime(2026, 11, 24, tzinfo=UTC)
START_US = 1_795_478_400_000_000


def message(sequence: int, *, exceeded: bool) -> StreamMessage:
    state = BudgetState(
        scope="team",
        scope_id="blue",
        name="Blue",
        spend_usd=Decimal("10.000000000001"),
        max_budget_usd=Decimal(10),
        budget_duration="monthly",
        window_start_us=START_US,
        resets_at_us=START_US + 1,
    )
    kind = BudgetExceeded if exceeded else BudgetCleared
    event = kind(source="/ledger/a", id=str(sequence), time=AT, subject="budget.team", data=state)
    return StreamMessage(sequence, "budget.team.blue", encode_event(event))


def test_the_books_hold_what_was_told_and_where_to_go_on() -> None:
    # Given two statements, when they are written down, then the books know both, to the last place,
    # and from where to go on; with another stream they begin anew.
    store = Store(Path(":memory:"))
    assert store.budget_events_of("first") == 0
    rows = [budget_event_row(message(n, exceeded=n == 3)) for n in (3, 7)]
    store.put_budget_events([row for row in rows if row is not None])
    found = store.connection.execute("SELECT * FROM budget_events ORDER BY 1").fetchall()
    at = AT.replace(tzinfo=None)
    whose = ("team", "blue", "Blue", Decimal("10.000000000001"), Decimal(10), "monthly", at)
    assert [row[:10] for row in found] == [
        (3, "exceeded", at, *whose),
        (7, "cleared", at, *whose),
    ]
    assert store.budget_events_of("first") == 7
    assert store.budget_events_of("second") == 0
    assert store.connection.execute("SELECT count(*) FROM budget_events").fetchall() == [(0,)]
    store.close()


def test_what_cannot_be_read_is_left_out() -> None:
    # Given bytes that are no statement about a budget, then there is no row, and no failure.
    assert budget_event_row(StreamMessage(1, "budget.key.a", b"[]")) is None
