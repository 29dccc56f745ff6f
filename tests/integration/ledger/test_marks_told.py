"""Marks over a real NATS that is restarted: a proxy's own end as the ledger's, and it says when."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path

from schemas.budgets import BudgetId, BudgetState
from schemas.registry import KeyRecord
from services.ledger.budgets import Standing
from services.ledger.marks import MarkTeller
from services.proxy.marks import MarkBook
from services.runtime.bus import Bus
from services.runtime.tasks import end_tasks
from tests.support.nats import NatsServer, running_nats

TIMEOUT_S = 60
KEY = KeyRecord(key_id="k", key_hash="0" * 64, key_name="n", team_id="t")
ID = BudgetId("team", "t")


def standing(spent: int) -> Standing:
    state = BudgetState(scope="team", scope_id="t", name="n", spend_usd=Decimal(spent))
    return Standing(is_exceeded=False, state=state)


@contextlib.asynccontextmanager
async def running(url: str, teller_of: str) -> AsyncIterator[tuple[Bus, MarkTeller]]:
    bus = await Bus.connect(url, "ledger-writer")
    teller = MarkTeller(bus, teller_of)
    serving = asyncio.create_task(teller.serve())
    try:
        yield bus, teller
    finally:
        await end_tasks(serving)
        await bus.close()


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not check():  # noqa: ASYNC110 - what is waited for is told to somebody else
            await asyncio.sleep(0.01)


async def beaten(teller: MarkTeller, book: MarkBook, sequence: int) -> None:
    """Tell again and again that nothing has changed, as the writer does, until it is heard."""
    async with asyncio.timeout(TIMEOUT_S):
        while book.usage_sequence != sequence:
            await teller.tell(sequence, {})
            await asyncio.sleep(0.05)


def test_a_proxy_has_the_marks_after_a_restart_of_nats_and_of_the_writer(
    tmp_path: Path,
) -> None:
    # Given marks that were told before a proxy listened, then it has them; and those that were
    # told while NATS was away, and those of another life of the writer.
    async def scenario(nats_server: NatsServer) -> None:
        bus = await Bus.connect(nats_server.url, "proxy")
        book = MarkBook()

        def spent() -> list[Decimal]:
            return [mark.state.spend_usd for mark in book.of(KEY)]

        async with running(nats_server.url, "/ledger/a") as (writer, teller):
            await teller.tell(1, {ID: standing(1)})
            following = asyncio.create_task(book.follow(bus))
            # Whoever asks before the answers are served hears of it by the next beat.
            await beaten(teller, book, 1)
            assert spent() == [1]
            await teller.tell(2, {ID: standing(2)})
            await until(lambda: book.usage_sequence == 2)
            assert spent() == [2]
            nats_server.kill()
            await until(lambda: not writer.is_connected)
            await teller.tell(3, {ID: standing(3)})
            nats_server.start()
            # The proxy may be connected again before the writer, which then answers nobody.
            await beaten(teller, book, 3)
            assert spent() == [3]
        async with running(nats_server.url, "/ledger/b") as (_, teller):
            await beaten(teller, book, 4)
            assert spent() == []
        await end_tasks(following)
        await bus.close()

    with running_nats(tmp_path) as nats_server:
        asyncio.run(scenario(nats_server))
