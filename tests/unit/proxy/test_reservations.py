"""The bound of a budget's overshoot, over any interleaving of workers, the ledger and its word."""

import asyncio
from collections import deque
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.budgets import BudgetId, BudgetState, Marks, MarksTold
from schemas.events import UsageRecord
from schemas.money import usd_from_picos
from schemas.prices import PriceOverlay
from schemas.registry import KeyRecord
from schemas.usage import Usage
from services.proxy import reservations as module
from services.proxy.counted import KNOWN_MAX, Counted
from services.proxy.marks import MarkBook
from services.proxy.reservations import BudgetFull, BudgetOver, Held, Reservations
from services.runtime.price_book import PriceBook

BOOK = PriceBook.shipped()
KEY = KeyRecord(key_id="k", key_hash="0" * 64, key_name="n")
TOKEN = 15_000_000
"""What a token of Sonnet's output costs, in pico-dollars."""
NOW_US = 1_795_500_000_000_000
MAX = 1000 * TOKEN
WORKERS = 3


class Told(msgspec.Struct):
    """An event of a worker: a request's start with what it reserves, or its end and its cost."""

    number: int
    reserved: int
    picos: int = 0


class Worker:
    """A proxy worker: its outbox, its marks on their way, what it has under way."""

    def __init__(self) -> None:
        self.marks = MarkBook()
        self.reservations = Reservations(self.marks)
        self.told: deque[MarksTold] = deque()
        self.outbox: list[Told] = []
        self.under_way: list[tuple[Held, int, int]] = []
        self.number = 0
        self.left_at_last = 0
        self.largest = 0

    def admit(self, tokens: int, bound: int) -> None:
        marks = self.reservations.of(KEY, None)
        try:
            held = self.reservations.take(
                marks,
                key=KEY,
                model_name=None,
                likely_picos=tokens * TOKEN,
                book=BOOK,
                now_us=NOW_US,
            )
        except (BudgetFull, BudgetOver):
            return
        reserved = (tokens + bound) * TOKEN
        self.number += 1
        held.started(self.number)
        self.outbox.append(Told(self.number, reserved))
        self.under_way.append((held, tokens, reserved))
        self.largest = max(self.largest, tokens * TOKEN)
        self.left_at_last = MAX - marks[0].spend_picos

    def end(self, which: int) -> None:
        if not self.under_way:
            return
        held, tokens, reserved = self.under_way.pop(which % len(self.under_way))
        self.number += 1
        held.ended(self.number, ended(tokens))
        held.over()
        self.outbox.append(Told(self.number, -reserved, tokens * TOKEN))

    def hear(self) -> None:
        if self.told:
            self.marks.take_all([self.told.popleft()])


def ended(tokens: int) -> UsageRecord:
    return UsageRecord(
        request_id="r",
        started_at_us=NOW_US,
        ended_at_us=NOW_US,
        model="claude-sonnet-4-5",
        usage=Usage(output_tokens=tokens),
    )


class World:
    """The stream, the ledger that reads it in its own time, and the workers."""

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self.workers = [Worker() for _ in range(WORKERS)]
        self.stream: list[list[Told]] = []
        self.counted = 0
        self.tell()
        for worker in self.workers:
            worker.hear()

    def publish(self, worker: Worker) -> None:
        if worker.outbox:
            self.stream.append(worker.outbox)
            worker.reservations.published(worker.outbox[-1].number, len(self.stream))
            worker.outbox = []

    def count(self, messages: int) -> None:
        self.counted = min(len(self.stream), self.counted + messages)
        self.tell()

    def tell(self) -> None:
        counted = [each for message in self.stream[: self.counted] for each in message]
        state = BudgetState(
            scope="key",
            scope_id="k",
            name="n",
            spend_usd=usd_from_picos(sum(each.picos for each in counted)),
            max_budget_usd=usd_from_picos(MAX),
            strict=self.strict,
            reserved_usd=usd_from_picos(sum(each.reserved for each in counted)),
        )
        told = MarksTold(
            source="/ledger/1",
            id="1",
            time=datetime(2026, 11, 24, tzinfo=UTC),
            data=Marks(usage_sequence=self.counted, marks=(state,)),
        )
        for worker in self.workers:
            worker.told.append(told)

    def settle(self) -> None:
        """End what is under way, and count all of it."""
        for worker in self.workers:
            while worker.under_way:
                worker.end(0)
            self.publish(worker)
        self.count(len(self.stream))
        for worker in self.workers:
            while worker.told:
                worker.hear()

    @property
    def spend(self) -> int:
        return sum(each.picos for message in self.stream for each in message)


def play(world: World, steps: list[tuple[str, int, int]]) -> None:
    for kind, which, amount in steps:
        worker = world.workers[which]
        if kind == "admit":
            worker.admit(amount, amount % 7 * 50)
        elif kind == "end":
            worker.end(amount)
        elif kind == "publish":
            world.publish(worker)
        elif kind == "count":
            world.count(1 + amount % 3)
        elif kind == "hear":
            worker.hear()
        else:
            # All that is told and heard between two requests of one worker.
            worker.admit(amount, amount % 7 * 50)
            world.publish(worker)
            world.count(len(world.stream))
            while worker.told:
                worker.hear()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["admit", "admit", "admit", "end", "end", "publish", "count", "hear", "all", "all"]
        ),
        st.integers(0, WORKERS - 1),
        st.integers(1, 400),
    ),
    min_size=10,
    max_size=120,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_the_overshoot_is_one_request_a_worker_and_what_older_marks_left(
    steps: list[tuple[str, int, int]],
) -> None:
    # given three workers and a ledger whose word comes late, when requests come and go in any order
    world = World()
    play(world, steps)
    world.settle()
    # then what is spent is within the stated bound
    further = sorted(worker.left_at_last for worker in world.workers)[1:]
    one_each = sum(worker.largest for worker in world.workers)
    assert world.spend <= MAX + one_each + sum(further)
    # and once all is counted, a worker knows of nothing beyond the marks
    for worker in world.workers:
        (standing,) = worker.reservations.standings(KEY, None, NOW_US)
        assert standing.spend_usd == usd_from_picos(world.spend)
        (account,) = worker.reservations._accounts.values() or [module._Account()]
        assert (account.held_picos, account.starting) == (0, 0)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_a_strict_budget_is_passed_by_one_request_a_worker_whatever_is_late(
    steps: list[tuple[str, int, int]],
) -> None:
    # given a strict budget, when requests come and go in any order, some of whose ends and marks
    # come late or, until all is over, not at all
    world = World(strict=True)
    play(world, steps)
    world.settle()
    # then no worker has passed it by more than a request
    assert world.spend < MAX + sum(worker.largest for worker in world.workers) or not world.spend
    # and a request is always let in once nothing is under way and money is left
    worker = world.workers[0]
    if world.spend < MAX:
        worker.admit(1, 0)
        assert len(worker.under_way) == 1
        # the next only when the ledger counts its start
        worker.admit(1, 0)
        assert len(worker.under_way) == 1
        world.publish(worker)
        world.count(1)
        worker.hear()
        worker.admit(1, 0)
        assert len(worker.under_way) == 2 or world.spend + TOKEN >= MAX


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_one_worker_alone_passes_a_budget_by_one_request(steps: list[tuple[str, int, int]]) -> None:
    # given a single worker, when requests come and go in any order
    world = World()
    play(world, [(kind, 0, amount) for kind, _, amount in steps])
    world.settle()
    # then only the last one can have passed the limit
    assert world.spend <= MAX + max(0, world.workers[0].largest - 1)


def mark(**fields: object) -> MarkBook:
    given_fields = {
        "scope": "key",
        "scope_id": "k",
        "name": "n",
        "spend_usd": Decimal(0),
        "max_budget_usd": usd_from_picos(MAX),
        **fields,
    }
    book = MarkBook()
    state = BudgetState(**given_fields)  # type: ignore[arg-type]
    data = Marks(usage_sequence=5, marks=(state,))
    book.take_all(
        [MarksTold(source="s", id="1", time=datetime(2026, 11, 24, tzinfo=UTC), data=data)]
    )
    return book


def take(reservations: Reservations, tokens: int, now_us: int = NOW_US) -> Held:
    return reservations.take(
        reservations.of(KEY, None),
        key=KEY,
        model_name=None,
        likely_picos=tokens * TOKEN,
        book=BOOK,
        now_us=now_us,
    )


def test_what_was_spent_in_an_earlier_window_is_no_part_of_the_next() -> None:
    # given a budget whose window ends soon, spent by a request that no mark counts yet
    reservations = Reservations(mark(resets_at_us=NOW_US + 10, window_start_us=NOW_US - 10))
    held = take(reservations, 1000)
    held.started(1)
    held.ended(2, ended(1000))
    held.over()
    with pytest.raises(BudgetOver) as over:
        take(reservations, 1)
    assert over.value.state.spend_usd == usd_from_picos(MAX)
    # when the window is over by this clock, then requests are let in again, and nothing is spent
    take(reservations, 1, NOW_US + 10).over()
    (standing,) = reservations.standings(KEY, None, NOW_US + 10)
    assert (standing.spend_usd, standing.resets_at_us) == (Decimal(0), None)


def test_room_that_is_given_back_is_told_to_who_waits() -> None:
    # given a budget that one request under way holds all of
    async def run() -> None:
        reservations = Reservations(mark())
        held = take(reservations, 1000)
        with pytest.raises(BudgetFull):
            take(reservations, 1)
        # when others wait for it, and it ends and cost less
        waiting = [asyncio.create_task(reservations.wait(30)) for _ in range(3)]
        await asyncio.sleep(0)
        held.started(1)
        held.ended(2, ended(10))
        held.over()
        # then they may look again, and there is room
        assert await asyncio.gather(*waiting) == [True, True, True]
        take(reservations, 1).over()
        assert await reservations.wait(0) is False
        assert await reservations.wait(0.001) is False

    asyncio.run(run())


def test_costs_that_no_mark_counts_are_kept_in_bounds() -> None:
    # given a ledger that is away for long, when more requests end than are told apart
    reservations = Reservations(mark(max_budget_usd=Decimal(10**6)))
    for number in range(1, module.ENDED_MAX + 50):
        held = take(reservations, 1)
        held.started(2 * number - 1)
        held.ended(2 * number, ended(1))
        held.over()
    # then their sum is known all the same
    (standing,) = reservations.standings(KEY, None, NOW_US)
    assert standing.spend_usd == usd_from_picos((module.ENDED_MAX + 49) * TOKEN)
    (account,) = reservations._accounts.values()
    assert len(account.ended) == module.ENDED_MAX


def test_idle_budgets_are_forgotten_and_those_in_use_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given a worker that knows as many budgets as it may, of which one is held and others are idle
    monkeypatch.setattr(module, "ACCOUNTS_MAX", 3)
    reservations = Reservations(mark())
    held = take(reservations, 7)
    known = {"k"}
    for name in ("a", "b", "c"):
        # when one more comes, then the idle ones make room where there are too many
        reservations._new_account(BudgetId("key", name), 0)
        known = {"k", name} if len(known) == 3 else known | {name}
        assert {each.scope_id for each in reservations._accounts} == known
    # and once the request is over, its own budget is as good as any other
    held.over()
    reservations._new_account(BudgetId("key", "d"), 0)
    reservations._new_account(BudgetId("key", "e"), 0)
    assert "k" not in {each.scope_id for each in reservations._accounts}


def test_requests_are_reckoned_with_by_the_prices_in_force() -> None:
    # given prices of the configuration, and one that the API sets
    book = mark()
    reservations = Reservations(book)
    double = (PriceOverlay(model="claude-sonnet-4-5", multiplier="2"),)
    triple = (PriceOverlay(model="claude-sonnet-4-5", multiplier="3"),)

    def bound(file: tuple[PriceOverlay, ...]) -> int:
        estimator = reservations.estimator(file)
        assert reservations.estimator(file) is estimator
        return estimator.bound_picos("claude-sonnet-4-5", NOW_US, body=b"{}", max_tokens=b"1000")

    plain = bound(())
    assert abs(bound(double) - 2 * plain) < 100
    # when the ledger tells of the API's entry, then that one goes first
    data = Marks(usage_sequence=6, prices=triple)
    time = datetime(2026, 11, 24, tzinfo=UTC)
    assert book.take(MarksTold(source="s", id="2", time=time, data=data))
    assert abs(bound(double) - 3 * plain) < 100
    # and a message that tells nothing of prices changes none
    assert book.take(MarksTold(source="s", id="3", time=time, data=Marks(usage_sequence=7)))
    assert book.prices == triple


def test_events_are_counted_by_the_sequence_of_their_message() -> None:
    # given events that are in messages of the stream, and more of them than are told apart
    counted = Counted()
    for number in range(1, KNOWN_MAX + 100):
        counted.published(10 * number, number)
    # when a mark counts up to a message, then no event is taken for counted that is not
    assert counted.number(0) == 0
    assert 0 <= counted.number(777) <= 7770
    assert counted.number(778) <= 7780
    assert counted.number(KNOWN_MAX + 99) == 10 * (KNOWN_MAX + 99)
