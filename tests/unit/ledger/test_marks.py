"""Marks: whatever is lost on the way, a proxy ends with the ledger's own, and knows up to where."""

import asyncio
import random
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.budgets import BudgetId, BudgetState, MarksQuestion, MarksTold, decode_marks
from schemas.prices import PriceOverlay
from schemas.registry import KeyRecord
from services.ledger import marks as told_by
from services.ledger.budgets import Standing
from services.ledger.marks import MarkTeller
from services.proxy.marks import MarkBook

IDS = [BudgetId("key", f"k{n}") for n in range(5)] + [BudgetId("global", "all", "model-a*")]
Changes = dict[BudgetId, Standing | None]


class Wire:
    """Stands for NATS: keeps what was told, for who is to hear it."""

    def __init__(self) -> None:
        self.told: list[MarksTold] = []

    async def tell(self, _: str, payload: bytes) -> None:
        self.told.append(decode_marks(payload))


def standing(budget_id: BudgetId, spent: int) -> Standing:
    model = budget_id.limit.removeprefix("model-") if budget_id.limit != "max_budget" else None
    state = BudgetState(**budget_id._asdict(), name="n", spend_usd=Decimal(spent), model=model)
    return Standing(is_exceeded=False, state=state)


async def pages_of(teller: MarkTeller) -> list[MarksTold]:
    pages: list[MarksTold] = []
    after = None
    while not pages or pages[-1].data.more:
        question = msgspec.json.encode(MarksQuestion(after=after))
        pages.append(decode_marks(await teller.answer(question)))
        after = pages[-1].data.marks[-1].budget_id if pages[-1].data.marks else None
    return pages


def known(book: MarkBook) -> dict[BudgetId, BudgetState]:
    found: dict[BudgetId, BudgetState] = {}
    for n in range(5):
        key = KeyRecord(key_id=f"k{n}", key_hash="0" * 64, key_name="n")
        found |= {mark.state.budget_id: mark.state for mark in book.of(key, "abc")}
    return found


@given(
    st.lists(st.dictionaries(st.sampled_from(IDS), st.none() | st.integers(0, 99)), max_size=12),
    st.integers(0, 2**32),
)
def test_whatever_is_missed_the_book_ends_with_the_marks_of_the_ledger(
    rounds: list[dict[BudgetId, int | None]], seed: int
) -> None:
    # Given changes in messages of two marks each, of which some are lost or come late, when the
    # book asks for all marks whenever it misses one, then it has the ledger's in the end.
    chance = random.Random(seed)
    truth: dict[BudgetId, BudgetState] = {}
    wire = Wire()
    teller = MarkTeller(wire, "/ledger/a")  # type: ignore[arg-type]
    book = MarkBook()

    async def run() -> None:
        for sequence, changed in enumerate([*rounds, {}], start=1):
            some: Changes = {i: None if n is None else standing(i, n) for i, n in changed.items()}
            for each, found in some.items():
                if found is None:
                    truth.pop(each, None)
                else:
                    truth[each] = found.state
            await teller.tell(sequence, some)
            if chance.random() < 0.3:
                continue  # They wait: all marks are asked for meanwhile.
            waiting, wire.told = wire.told, []
            is_last = sequence == len(rounds) + 1
            for message in waiting:
                is_lost = not is_last and chance.random() < 0.3
                if not is_lost and not book.take(message):
                    book.take_all(await pages_of(teller))
        for message in wire.told:
            if not book.take(message):
                book.take_all(await pages_of(teller))
        assert book.usage_sequence == len(rounds) + 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(told_by, "MARKS_AT_ONCE_MAX", 2)
        asyncio.run(run())
    assert known(book) == truth


def test_the_sequence_holds_for_all_marks_and_moves_with_the_last_message_alone() -> None:
    # Given three changes that take two messages, then only the second one says how far all count.
    wire = Wire()
    teller = MarkTeller(wire, "/ledger/a")  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(told_by, "MARKS_AT_ONCE_MAX", 2)
        asyncio.run(teller.tell(7, {each: standing(each, 1) for each in IDS[:3]}))
    assert [(m.id, m.data.usage_sequence, len(m.data.marks)) for m in wire.told] == [
        ("1", 0, 2),
        ("2", 7, 1),
    ]


def test_a_mark_of_a_model_is_for_requests_of_that_model_alone() -> None:
    # Given a mark for models a*, then a request for such a model or for its alias has it, and
    # another has not.
    book = MarkBook({"short": "abc"}.get)
    teller = MarkTeller(Wire(), "/ledger/a")  # type: ignore[arg-type]
    key = KeyRecord(key_id="k0", key_hash="0" * 64, key_name="n")

    async def run() -> None:
        await teller.tell(1, {IDS[-1]: standing(IDS[-1], 1)})
        book.take_all(await pages_of(teller))

    asyncio.run(run())
    assert [mark.spend_picos for mark in book.of(key, "abc")] == [10**12]
    assert [mark.spend_picos for mark in book.of(key, "short")] == [10**12]
    assert list(book.of(key, "b")) == list(book.of(key)) == []


def test_the_prices_that_the_api_set_are_told_once_and_to_who_asks() -> None:
    # Given an entry of the API, when marks are told, then it is told with the first of them alone,
    # and with all marks; and that it is gone, too.
    async def run() -> None:
        wire = Wire()
        teller = MarkTeller(wire, "/ledger/a")  # type: ignore[arg-type]
        prices = (PriceOverlay(model="claude-*", multiplier="2"),)
        changes: Changes = {IDS[0]: standing(IDS[0], 1)}
        for each in (prices, prices, ()):
            await teller.tell(7, changes, each)
        assert [told.data.prices for told in wire.told] == [prices, None, ()]
        await teller.tell(8, {}, prices)
        book = MarkBook()
        book.take_all(await pages_of(teller))
        assert book.prices == prices

    asyncio.run(run())
