"""No event is lost, changed, doubled or reordered on its way to the stream."""

import asyncio
import random
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from schemas.errors import Unavailable
from schemas.events import (
    EVENT_BYTES_MAX,
    Rejection,
    RequestFacts,
    RequestRejected,
    RequestStarted,
    UsageEvent,
    UsageRecord,
    UsageRecorded,
    decode_usage_event,
)
from schemas.streams import USAGE_BATCH_BYTES_MAX, USAGE_BATCH_EVENTS_MAX
from schemas.usage import IterationUsage, Usage
from services.proxy import outbox as module
from services.proxy.journal import Journal
from services.proxy.outbox import Outbox
from services.runtime.bus import BusUnavailable

START_US = 1_795_500_000_000_000


class Stream:
    """Stands for the bus: stores what is published, or fails as it is told."""

    def __init__(self, fails: Callable[[int], str | None] = lambda _: None) -> None:
        self.messages: list[bytes] = []
        self.tries = 0
        self._fails = fails

    async def publish(self, subject: str, payload: bytes) -> int:
        self.tries += 1
        assert subject == "usage.0"
        assert len(payload) <= USAGE_BATCH_BYTES_MAX
        await asyncio.sleep(0)
        how = self._fails(self.tries)
        if how != "lost":
            self.messages.append(payload)
        if how is not None:
            raise BusUnavailable(how)
        return len(self.messages)

    def events(self) -> list[UsageEvent]:
        """Everything stored, repeats left out, in the order in which it came first."""
        events: dict[tuple[str, str], UsageEvent] = {}
        for message in self.messages:
            raws = msgspec.json.decode(message, type=list[msgspec.Raw])
            assert 0 < len(raws) <= USAGE_BATCH_EVENTS_MAX
            for raw in raws:
                event = decode_usage_event(raw)
                assert events.setdefault((event.source, event.id), event) == event
        return list(events.values())


def make(folder: Path, *, segment_bytes_max: int = 1_000_000, bytes_max: int = 10**9) -> Outbox:
    return Outbox(
        folder,
        bytes_max=bytes_max,
        refuse_when_full=True,
        now_us=lambda: START_US + 5,
        journal=Journal(folder, segment_bytes_max=segment_bytes_max),
    )


def facts(number: int) -> RequestFacts:
    return RequestFacts(request_id=f"tg_{number:032x}", started_at_us=START_US, key_alias="a" * 50)


def record(number: int, usage: Usage | None = None) -> UsageRecord:
    known = msgspec.structs.asdict(facts(number))
    return UsageRecord(**known, ended_at_us=START_US + 9, usage=usage or Usage(input_tokens=number))


def segments(folder: Path) -> int:
    return len(list(folder.glob("*.journal")))


async def publish_all(outbox: Outbox, stream: Stream) -> None:
    task = asyncio.create_task(outbox.publish_for_ever(stream))  # type: ignore[arg-type]
    try:
        assert await outbox.flush(20)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(autouse=True)
def _fast_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_WAIT_S", 0.001)
    monkeypatch.setattr(module, "RETRY_WAIT_MAX_S", 0.002)


def test_events_arrive_once_each_in_order_with_a_contiguous_sequence(tmp_path: Path) -> None:
    async def run() -> None:
        outbox, stream = make(tmp_path, segment_bytes_max=5000), Stream()
        for number in range(300):
            outbox.request_started(facts(number))
            outbox.usage_seen(facts(number).request_id, Usage(input_tokens=1))
            if number % 7 == 0:
                outbox.request_rejected(
                    Rejection(
                        **msgspec.structs.asdict(facts(1000 + number)),
                        ended_at_us=START_US,
                        http_status=403,
                        error_type="permission_error",
                        reason="no",
                    )
                )
            outbox.usage_recorded(record(number))
        await publish_all(outbox, stream)
        events = stream.events()
        assert [event.id for event in events] == [str(n + 1) for n in range(len(events))]
        assert {event.source for event in events} == {f"/proxy/{outbox.producer}"}
        recorded = [event.data for event in events if isinstance(event, UsageRecorded)]
        assert recorded == [record(number) for number in range(300)]
        assert sum(isinstance(event, RequestRejected) for event in events) == 43
        assert outbox.bytes_waiting == 0
        assert segments(tmp_path) == 1
        outbox.close()

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(5))
def test_failures_of_publishing_lose_and_reorder_nothing(tmp_path: Path, seed: int) -> None:
    """Given publishes that are lost, or stored without an answer, then all arrive in order."""
    draw = random.Random(seed)

    async def run() -> None:
        stream = Stream(lambda _: draw.choice([None, "lost", "unanswered"]))
        outbox = make(tmp_path, segment_bytes_max=2000)
        task = asyncio.create_task(outbox.publish_for_ever(stream))  # type: ignore[arg-type]
        for number in range(100):
            outbox.request_started(facts(number))
            await asyncio.sleep(draw.random() * 0.001)
            outbox.usage_recorded(record(number))
        assert await outbox.flush(20)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        outbox.close()
        ids = [int(event.id) for event in stream.events()]
        assert ids == list(range(1, 201))

    asyncio.run(run())


def test_what_waits_is_sent_as_one_message(tmp_path: Path) -> None:
    async def run() -> None:
        outbox, stream = make(tmp_path), Stream()
        for number in range(200):
            outbox.usage_recorded(record(number))
        await publish_all(outbox, stream)
        assert len(stream.messages) == 1
        for number in range(3000):
            outbox.usage_recorded(record(number))
        await publish_all(outbox, stream)
        assert 1 + 3 <= len(stream.messages) <= 1 + 8
        outbox.close()

    asyncio.run(run())


def test_next_life_publishes_what_the_last_one_left_under_its_own_name(tmp_path: Path) -> None:
    async def run() -> None:
        first = make(tmp_path)
        for number in range(20):
            first.usage_recorded(record(number))
        first.close()
        second, stream = make(tmp_path), Stream()
        second.usage_recorded(record(99))
        await publish_all(second, stream)
        second.close()
        events = stream.events()
        assert [(e.source, e.id) for e in events] == [
            *((f"/proxy/{first.producer}", str(n + 1)) for n in range(20)),
            (f"/proxy/{second.producer}", "1"),
        ]

    asyncio.run(run())


def recorded_by_id(stream: Stream) -> dict[str, list[UsageRecord]]:
    found: dict[str, list[UsageRecord]] = {}
    for event in stream.events():
        if isinstance(event, UsageRecorded):
            found.setdefault(event.data.request_id, []).append(event.data)
    return found


@pytest.mark.parametrize("published", [True, False])
def test_requests_that_a_crash_cut_are_closed_once_with_what_was_seen(
    tmp_path: Path, *, published: bool
) -> None:
    """Given requests in three stages, and a second crash, then each has one record."""
    seen = Usage(input_tokens=1213, output_tokens=3, cache_read_tokens=9)

    async def run() -> None:
        stream, first = Stream(), make(tmp_path)
        for number in range(3):
            first.request_started(facts(number))
        first.usage_seen(facts(1).request_id, seen)
        first.usage_seen(facts(2).request_id, seen)
        first.usage_recorded(record(2))
        if published:
            await publish_all(first, stream)
        first.close()
        for _ in range(3):
            # Lives that end before they have published anything.
            make(tmp_path).close()
        last = make(tmp_path)
        await publish_all(last, stream)
        last.close()
        found = recorded_by_id(stream)
        assert {request_id: len(records) for request_id, records in found.items()} == {
            facts(number).request_id: 1 for number in range(3)
        }
        (unseen,) = found[facts(0).request_id]
        (cut,) = found[facts(1).request_id]
        assert (unseen.status, unseen.error_type, unseen.usage) == ("failure", "proxy_died", None)
        assert (cut.usage, cut.estimated, cut.http_status) == (seen, True, 0)
        assert found[facts(2).request_id] == [record(2)]

    asyncio.run(run())


def test_note_of_a_running_request_outlives_the_segments_that_are_dropped(tmp_path: Path) -> None:
    """Given a long request and many short ones, all published, then a crash still closes it."""
    seen = Usage(input_tokens=77)

    async def run() -> None:
        stream, first = Stream(), make(tmp_path, segment_bytes_max=3000)
        first.request_started(facts(0))
        first.usage_seen(facts(0).request_id, seen)
        for number in range(1, 200):
            first.request_started(facts(number))
            first.usage_recorded(record(number))
            if number % 50 == 0:
                await publish_all(first, stream)
        await publish_all(first, stream)
        assert segments(tmp_path) <= 2
        first.close()
        last = make(tmp_path)
        await publish_all(last, stream)
        last.close()
        found = recorded_by_id(stream)
        assert len(found) == 200
        assert [record.usage for record in found[facts(0).request_id]] == [seen]

    asyncio.run(run())


def test_full_outbox_refuses_and_takes_again_when_it_is_emptied(tmp_path: Path) -> None:
    async def run() -> None:
        outbox = make(tmp_path, bytes_max=5000)
        outbox.check_room()
        while outbox.bytes_waiting <= 5000:
            outbox.usage_recorded(record(1))
        with pytest.raises(Unavailable, match="outbox is full") as refused:
            outbox.check_room()
        assert refused.value.http_status == 503
        await publish_all(outbox, Stream())
        outbox.check_room()
        outbox.close()

    asyncio.run(run())


def test_full_disk_refuses_holds_in_memory_and_loses_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        outbox, stream = make(tmp_path, segment_bytes_max=1500), Stream()
        outbox.request_started(facts(0))
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        try:
            for number in range(1, 20):
                outbox.request_started(facts(number))
                outbox.usage_recorded(record(number))
            with pytest.raises(Unavailable):
                outbox.check_room()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
        outbox.usage_recorded(record(0))
        await publish_all(outbox, stream)
        outbox.check_room()
        outbox.close()
        assert [int(event.id) for event in stream.events()] == list(range(1, 41))
        assert outbox.events_lost == 0

    asyncio.run(run())


def test_event_is_never_too_large_for_its_readers(tmp_path: Path) -> None:
    """Given a usage of 256 parts with long names, then the event is cut, said so, and readable."""
    part = IterationUsage(type="\x01" * 200, model="\x02" * 200, input_tokens=10**9)
    usage = Usage(input_tokens=5, iterations=(part,) * 256)

    async def run() -> None:
        outbox, stream = make(tmp_path), Stream()
        outbox.request_started(facts(1))
        outbox.usage_seen(facts(1).request_id, usage)
        outbox.usage_recorded(record(1, usage))
        outbox.usage_recorded(record(2))
        await publish_all(outbox, stream)
        outbox.close()
        assert max(map(len, stream.messages)) < EVENT_BYTES_MAX
        _, cut, whole = (event.data for event in stream.events())
        assert isinstance(cut, UsageRecord)
        assert (cut.usage, cut.estimated) == (Usage(input_tokens=5), True)
        assert whole == record(2)

    asyncio.run(run())


def test_records_of_another_version_do_not_stop_a_start(tmp_path: Path) -> None:
    """Given a record that this version cannot read, then it starts and publishes the rest."""

    async def run() -> None:
        journal = Journal(tmp_path)
        journal.append(b"N", b'{"facts":1}')
        journal.append(b"?", b"unknown kind")
        journal.close()
        outbox, stream = make(tmp_path), Stream()
        outbox.request_started(facts(1))
        outbox.usage_recorded(record(1))
        await publish_all(outbox, stream)
        outbox.close()
        assert [type(event) for event in stream.events()] == [RequestStarted, UsageRecorded]

    asyncio.run(run())


def test_a_busy_outbox_sends_few_messages_and_one_after_a_pause_at_once(tmp_path: Path) -> None:
    # Given events that come one by one, when they are published, then many share a message; one
    # that comes after a pause waits for nothing.
    async def run() -> None:
        outbox, stream = make(tmp_path), Stream()
        task = asyncio.create_task(outbox.publish_for_ever(stream))  # type: ignore[arg-type]
        for number in range(100):
            outbox.usage_recorded(record(number))
            await asyncio.sleep(0)
            await asyncio.sleep(0.0005)
        assert await outbox.flush(5)
        assert len(stream.events()) == 100
        assert len(stream.messages) <= 30
        await asyncio.sleep(2 * module.PUBLISH_INTERVAL_S)
        before = len(stream.messages)
        outbox.usage_recorded(record(100))
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(stream.messages) == before + 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


def test_a_backlog_is_published_without_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given more events than one message holds, when they are published, then no message waits.
    monkeypatch.setattr(module, "PUBLISH_INTERVAL_S", 60)

    async def run() -> None:
        outbox, stream = make(tmp_path), Stream()
        for number in range(5 * USAGE_BATCH_EVENTS_MAX):
            outbox.usage_recorded(record(number))
        task = asyncio.create_task(outbox.publish_for_ever(stream))  # type: ignore[arg-type]
        async with asyncio.timeout(20):
            while len(stream.messages) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
