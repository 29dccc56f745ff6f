"""Many workers and a network that delays and loses: what they let in together, and each in turn."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.config import Deployment
from schemas.errors import RateLimited
from schemas.rates import RATE_STANDINGS_MAX, RateNews
from schemas.registry import KeyRecord
from services.proxy.rate_permit import Permit
from services.proxy.rate_sharing import SENT_MAX, SILENT_TICKS, Sharing, share_for_ever
from services.proxy.rates import Rates
from services.proxy.routing import Router
from services.runtime.registry import RegistrySnapshot
from services.runtime.tasks import end_tasks

ROUTER = Router([Deployment(deployment_id="m", model_name="m", model="m")])


class Worker:
    """One proxy's limits, and what waits for it on the network from each other one."""

    def __init__(self, network: "Network", **fields: Any) -> None:
        self.network = network
        self.key = KeyRecord(key_id="key_1", key_hash="h", key_name="alice", **fields)
        self.rates = Rates(RegistrySnapshot(), lambda: network.now_s)
        self.sharing = Sharing(self.rates)
        self.coming: dict[str, deque[bytes]] = {}

    def ask(self, *, request_bytes: int = 400) -> Permit | None:
        return self.rates.admit(self.key, "m", ROUTER, request_bytes)

    def begins(self) -> bool:
        with contextlib.suppress(RateLimited):
            return self.ask() is not None
        return False

    def tick(self, *, is_connected: bool = True) -> None:
        self.say(self.sharing.tick(is_connected=is_connected))

    def say(self, payloads: list[bytes]) -> None:
        for other in self.network.workers:
            other.coming.setdefault(self.sharing.worker, deque()).extend(payloads)

    def hear(self, place: int) -> None:
        queues = [queue for queue in self.coming.values() if queue]
        if queues and self.sharing.hear(queues[place % len(queues)].popleft()):
            self.say(self.sharing.messages())

    def hear_all(self) -> None:
        while any(self.coming.values()):
            self.hear(0)


class Network:
    """Some workers, that have met unless they are told not to."""

    def __init__(self, count: int, *, have_met: bool = True, **fields: Any) -> None:
        self.now_s = 1000.0
        self.workers = [Worker(self, **fields) for _ in range(count)]
        if have_met:
            self.settle()
            assert [each.rates.workers for each in self.workers] == [count] * count

    def settle(self, ticks: int = 4) -> None:
        """Let everybody hear everything."""
        for _ in range(ticks):
            for worker in self.workers:
                worker.tick()
            while any(queue for each in self.workers for queue in each.coming.values()):
                for worker in self.workers:
                    worker.hear(0)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "tick", "hear", "hear", "urgent"]), st.integers(0, 79)
    ),
    max_size=120,
)


@given(steps=STEPS, count=st.integers(2, 4), maximum=st.integers(1, 40))
@settings(max_examples=80, deadline=None)
def test_workers_together_begin_the_limit_and_one_for_each_further_worker_at_most(
    steps: list[tuple[str, int]], count: int, maximum: int
) -> None:
    # Given workers that share a limit, when requests and messages come in any order,
    network = Network(count, rpm_limit=maximum)
    begun = 0
    for what, place in steps:
        worker = network.workers[place % count]
        if what == "ask":
            begun += sum(worker.begins() for _ in range(1 + place // 8))
        elif what == "tick":
            worker.tick()
        elif what == "urgent":
            worker.say(worker.sharing.messages(is_urgent=True))
        else:
            for turn in range(1 + place // 20):
                worker.hear(place // count + turn)
        # then never more begin than the limit and one for each further worker;
        assert begun <= maximum + count - 1
    # and when all have heard all, a request begins wherever it comes, as long as there is room.
    for place in range(maximum + count):
        network.settle()
        assert network.workers[place % count].begins() == (begun < maximum)
        begun += begun < maximum


@given(steps=STEPS)
@settings(max_examples=50, deadline=None)
def test_requests_under_way_are_shared_and_end_everywhere(steps: list[tuple[str, int]]) -> None:
    # Given three workers and five requests at a time, when some begin and end in any order,
    network = Network(3, max_parallel_requests=5)
    under_way: list[Permit] = []
    for what, place in steps:
        worker = network.workers[place % 3]
        if what == "ask":
            with contextlib.suppress(RateLimited):
                permit = worker.ask()
                assert permit is not None
                under_way.append(permit)
        elif what == "urgent" and under_way:
            under_way.pop(place % len(under_way)).ended()
        elif what == "tick":
            worker.tick()
        else:
            worker.hear(place // 3)
        assert len(under_way) <= 5 + 2
    # then, when all have heard all, each knows how many there are.
    network.settle()
    for worker in network.workers:
        assert worker.rates.tally(("key", "key_1", "parallel", "")).level(0) == len(under_way)


def test_share_is_renewed_by_who_has_heard_and_not_by_who_only_speaks() -> None:
    # Given a worker that has used its half of the limit and has said so,
    network = Network(2, rpm_limit=10)
    first, second = network.workers
    assert [first.begins() for _ in range(6)] == [True] * 5 + [False]
    first.tick()
    # when the other one speaks that has not heard it yet, then it begins no more;
    second.say(second.sharing.messages())
    first.hear_all()
    assert not first.begins()
    # and when it speaks after it has heard, half of what is left.
    second.hear_all()
    second.say(second.sharing.messages())
    first.hear_all()
    assert [first.begins() for _ in range(3)] == [True, True, False]


def test_lost_messages_are_noticed_and_everything_is_told_anew() -> None:
    # Given two workers of which one lost what the other said, when the next message comes, then it
    # asks for all, and nothing is confirmed before it has it.
    network = Network(2, rpm_limit=10)
    first, second = network.workers
    assert first.begins()
    first.tick()
    second.coming[first.sharing.worker].clear()
    assert first.begins()
    first.rates.tally(("key", "key_1", "requests", "x")).add(network.now_s, 1, 1)
    first.tick()
    second.hear(0)
    second.hear(0)
    network.settle()
    tally = second.rates.tally(("key", "key_1", "requests", ""))
    assert tally.level(network.now_s) == 2
    mine = first.rates.tally(("key", "key_1", "requests", ""))
    assert mine.confirmed == mine.started == 2


def test_worker_that_comes_later_learns_the_minute_that_was() -> None:
    # Given a worker that used up the limit alone, when another one comes, then it begins nothing
    # more once they have met, until the minute is over by its own clock.
    network = Network(1, have_met=False, rpm_limit=3)
    (first,) = network.workers
    assert [first.begins() for _ in range(4)] == [True, True, True, False]
    network.settle(30)
    late = Worker(network, rpm_limit=3)
    network.workers.append(late)
    network.settle()
    assert not late.begins()
    assert late.rates.workers == first.rates.workers == 2
    network.now_s += 60.1
    assert late.begins()


def test_tokens_of_all_workers_count_for_all() -> None:
    # Given two workers, when one counts tokens, then the other has what is left.
    from schemas.usage import Usage

    network = Network(2, tpm_limit=1000)
    first, second = network.workers
    permit = first.ask(request_bytes=800)
    assert permit is not None
    network.settle()
    tally = second.rates.tally(("key", "key_1", "tokens", ""))
    assert tally.level(network.now_s) == 200
    permit.ended(Usage(input_tokens=700, output_tokens=299))
    network.settle()
    assert tally.level(network.now_s) == 999
    assert second.begins()
    network.settle()
    assert not first.begins()


def test_worker_that_is_cut_off_has_its_share_and_the_others_go_on_without_it() -> None:
    # Given three workers of which one hears nothing any more, not even itself,
    network = Network(3, rpm_limit=9)
    alone, *others = network.workers
    for _ in range(SILENT_TICKS + 5):
        alone.tick(is_connected=False)
        for worker in others:
            worker.tick()
        for worker in others:
            worker.hear_all()
    # when many requests come to each, then it begins its third,
    assert [alone.begins() for _ in range(9)].count(True) == 3
    # the others, who take it for gone, share the whole, and when it is back all is known to all.
    begun = 0
    for place in range(20):
        network.workers = others
        network.settle()
        begun += others[place % 2].begins()
    assert begun == 9
    network.workers = [alone, *others]
    alone.coming.clear()
    network.settle(30)
    for worker in network.workers:
        assert worker.rates.tally(("key", "key_1", "requests", "")).level(network.now_s) == 12
        assert (worker.rates.workers, worker.rates.is_cut_off) == (3, False)


def test_what_a_worker_that_died_held_is_free_and_what_it_used_counts_on() -> None:
    network = Network(2, max_parallel_requests=2, rpm_limit=100)
    first, second = network.workers
    assert first.begins()
    network.settle()
    network.workers = [second]
    network.settle(SILENT_TICKS + 2)
    assert second.rates.workers == 1
    assert second.rates.tally(("key", "key_1", "parallel", "")).level(network.now_s) == 0
    assert second.rates.tally(("key", "key_1", "requests", "")).level(network.now_s) == 1


def test_more_than_the_share_waits_for_the_others_word_and_then_begins() -> None:
    # Given two workers and a limit of two, when one gets two requests at once, then the second of
    # them waits until the other worker has heard of the first, and is not refused.
    network = Network(2, rpm_limit=2)
    first, second = network.workers

    async def second_request() -> bool:
        waiting = asyncio.create_task(first.rates.wait_word(first.key, "m", ROUTER))
        async with asyncio.timeout(30):
            await first.rates.word_wanted.wait()
            assert not waiting.done()
            first.say(first.sharing.messages(is_urgent=True))
            # One that is asked answers at once, without a tick.
            while second.coming[first.sharing.worker]:
                second.hear(0)
            while first.coming[second.sharing.worker]:
                first.hear(0)
            await waiting
        return first.begins()

    assert first.begins()
    assert not first.begins()
    assert asyncio.run(second_request())


def test_request_waits_for_nobody_who_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given another worker that says nothing, when a request waits for it, then not for long.
    network = Network(2, rpm_limit=2)
    first, _ = network.workers
    assert first.begins()
    monkeypatch.setattr("services.proxy.rates.WORD_WAIT_S_MAX", 0.01)

    async def wait() -> None:
        async with asyncio.timeout(30):
            await first.rates.wait_word(first.key, "m", ROUTER)

    asyncio.run(wait())
    with pytest.raises(RateLimited, match="Try again in 1 s"):
        first.ask()


def test_messages_and_what_is_remembered_of_them_are_bounded() -> None:
    # Given more tallies than a message holds, when they are told, then in several messages; and
    # to one that never confirms, no more is remembered than SENT_MAX messages.
    network = Network(2, rpm_limit=5)
    first, _ = network.workers
    for number in range(RATE_STANDINGS_MAX + 1):
        first.rates.tally(("key", str(number), "requests", "")).add(network.now_s, 1, 1)
    payloads = first.sharing.messages()
    sizes = [len(msgspec.json.decode(each, type=RateNews).standings) for each in payloads]
    assert sizes == [RATE_STANDINGS_MAX, 1]
    for _ in range(SENT_MAX + 5):
        first.sharing.messages()
    assert len(first.sharing._sent) == SENT_MAX


@pytest.mark.parametrize("payload", [b"", b"[]", b"{", b'["w",-1]', b"\xff"])
def test_word_that_cannot_be_read_changes_nothing(payload: bytes) -> None:
    network = Network(1, have_met=False)
    assert network.workers[0].sharing.hear(payload) is False
    assert network.workers[0].rates.workers == 1


def test_sharing_ends_although_a_library_loses_a_cancellation() -> None:
    # Given a bus that drops the first cancellation, as wait_for may, when sharing is ended, then it
    # does end.
    class Bus:
        is_connected = True
        lost = 0

        async def tell(self, _: str, payload: bytes) -> None:
            pass

        async def hear(self, _: str) -> AsyncIterator[bytes | None]:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.lost += 1
            await asyncio.sleep(60)
            yield None

    async def end(bus: Any) -> None:
        rates = Rates(RegistrySnapshot(), lambda: 0.0)
        task = asyncio.create_task(share_for_ever(Sharing(rates), rates, bus))
        await asyncio.sleep(0.01)
        async with asyncio.timeout(30):
            await end_tasks(task)
        assert bus.lost == 1

    asyncio.run(end(Bus()))
