"""What is said of budgets: each once, and a spent one before all that can wait."""

import asyncio
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from schemas.budgets import BudgetId, BudgetState, decode_budget_event
from services.ledger.books import BudgetChanges
from services.ledger.budgets import Standing
from services.ledger.publisher import BudgetPublisher
from services.runtime.bus import BusError, StreamBatch
from services.runtime.tasks import end_tasks

TIMEOUT_S = 60


def standing(budget_id: BudgetId, spend: int) -> Standing:
    state = BudgetState(
        **budget_id._asdict(), name="n", spend_usd=Decimal(spend), max_budget_usd=Decimal(10)
    )
    return Standing(is_exceeded=spend >= 10, state=state)


class Stage:
    """Stands for NATS, the books and their thread: spends are set, statements are seen."""

    def __init__(self) -> None:
        self.spends: dict[BudgetId, int] = {}
        self.changed: set[BudgetId] = set()
        self.said: list[tuple[str, str]] = []
        self.on_said: Callable[[], None] = lambda: None
        self.failing = 0

    def set(self, name: str, spend: int) -> None:
        self.spends[BudgetId("key", name)] = spend
        self.changed.add(BudgetId("key", name))

    async def follow(self, *_: Any, **__: Any) -> Any:
        yield StreamBatch((), 0)

    async def tell(self, *_: Any) -> None:
        pass

    async def publish(self, _: str, payload: bytes, **__: Any) -> int:
        await asyncio.sleep(0)
        if self.failing:
            self.failing -= 1
            raise BusError("away")
        event = decode_budget_event(payload)
        self.said.append((type(event).__name__, event.data.scope_id))
        self.on_said()
        return len(self.said)

    async def caught_up(self) -> None:
        pass

    async def in_books(self, work: Callable[[], Any]) -> Any:
        return work()

    def budget_changes(self, due: Iterable[BudgetId], _: int) -> BudgetChanges:
        some, self.changed = self.changed | set(due), set()
        found = {each: standing(each, self.spends[each]) for each in some}
        return BudgetChanges(sequence=1, standings=found, next_end_us=None, prices=())


def run(stage: Stage, count: int, meanwhile: Callable[[BudgetPublisher], None]) -> None:
    """Publish until so much is said."""

    async def publish() -> None:
        parts: Any = stage
        publisher = BudgetPublisher(parts, parts, parts)
        await publisher.follow_published()
        task = asyncio.create_task(publisher.publish_for_ever())
        meanwhile(publisher)
        async with asyncio.timeout(TIMEOUT_S):
            while len(stage.said) < count and not task.done():  # noqa: ASYNC110 - a list grows
                await asyncio.sleep(0.001)
        await end_tasks(task)

    asyncio.run(publish())


def test_a_spent_budget_is_told_before_hundreds_of_others_and_so_is_one_that_comes_meanwhile() -> (
    None
):
    # Given 300 warnings and one spent budget at once, and another spent one while they are said,
    # then both come among the first, each statement once, though NATS fails in between.
    stage = Stage()
    for n in range(300):
        stage.set(f"near-{n}", 8)
    stage.set("spent", 10)

    def meanwhile(publisher: BudgetPublisher) -> None:
        def on_said() -> None:
            if len(stage.said) == 10:
                stage.set("later", 11)
                publisher.look()
            if len(stage.said) == 150:
                stage.failing = 3

        stage.on_said = on_said

    run(stage, 302, meanwhile)
    assert stage.said[0] == ("BudgetExceeded", "spent")
    assert stage.said.index(("BudgetExceeded", "later")) < 100
    assert len(stage.said) == len(set(stage.said)) == 302
