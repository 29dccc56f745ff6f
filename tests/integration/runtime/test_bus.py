"""The bus against a real nats-server that is killed, restarted, and given much to do."""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from schemas.events import KeyCreated, KeyUpdated, encode_event
from schemas.registry import KeyRecord
from schemas.streams import REGISTRY, USAGE, StreamDefinition, key_subject
from services.runtime import link
from services.runtime.bus import (
    Bus,
    BusError,
    BusUnavailable,
    StreamMessage,
    WrongLastSequence,
)
from services.runtime.registry import RegistrySnapshot, follow_registry
from tests.support.nats import MAX_PAYLOAD_BYTES, NatsServer, running_nats

TIMEOUT_S = 60


@contextlib.asynccontextmanager
async def connected(server: NatsServer, name: str = "test") -> AsyncIterator[Bus]:
    bus = await Bus.connect(server.url, name)
    try:
        await bus.ensure_streams()
        yield bus
    finally:
        await bus.close()


async def publish_surely(bus: Bus, subject: str, payload: bytes) -> int:
    """Publish until it is acknowledged, as the outbox does."""
    while True:
        try:
            return await bus.publish(subject, payload, timeout_s=2)
        except BusUnavailable:
            await asyncio.sleep(0.05)


async def follow_until(
    bus: Bus, last: int, *, stream: str = USAGE.name, start: int = 1, slow_s: float = 0
) -> list[StreamMessage]:
    """Return the messages of a stream from a sequence to another one."""
    found: list[StreamMessage] = []
    async with asyncio.timeout(TIMEOUT_S):
        async for batch in bus.follow(stream, start):
            found += batch.messages
            if slow_s:
                await asyncio.sleep(slow_s)
            if found and found[-1].sequence >= last:
                break
    return found


def test_follower_sees_every_message_once_in_order_through_kills(tmp_path: Path) -> None:
    """Given kill -9 of the server while it is written to, then nothing is missed or repeated."""

    async def run() -> None:
        with running_nats(tmp_path) as server:
            async with connected(server) as writer, connected(server) as reader:
                done = asyncio.Event()
                found: list[StreamMessage] = []

                async def read() -> None:
                    async for batch in reader.follow(USAGE.name):
                        found.extend(batch.messages)
                        if done.is_set() and batch.pending == 0:
                            return

                reading = asyncio.create_task(read())
                stored = []
                for number in range(300):
                    if number in {50, 120, 121, 250}:
                        server.kill()
                        server.start()
                    if number == 200:
                        server.restart()
                    stored.append(await publish_surely(writer, "usage.0", b"%d" % number))
                done.set()
                await publish_surely(writer, "usage.0", b"end")
                await asyncio.wait_for(reading, TIMEOUT_S)
                sequences = [message.sequence for message in found]
                assert sequences == list(range(1, sequences[-1] + 1))
                payloads = {message.sequence: message.payload for message in found}
                assert [payloads[s] for s in stored] == [b"%d" % n for n in range(300)]

    asyncio.run(run())


def test_slow_follower_gets_all_of_many_and_large_messages(tmp_path: Path) -> None:
    """Given 3000 messages, some as large as the server takes, then each arrives whole."""

    async def run() -> None:
        with running_nats(tmp_path) as server:
            async with connected(server) as writer, connected(server) as reader:
                digests = []
                large = {7, 500, 501, 502, 1500}

                async def store(number: int) -> None:
                    size = MAX_PAYLOAD_BYTES if number in large else 100 + number % 900
                    payload = os.urandom(16) + b"x" * (size - 16)
                    digests.append(hashlib.sha256(payload).digest())
                    await publish_surely(writer, "usage.0", payload)

                for number in range(3000):
                    await store(number)
                found = await follow_until(reader, 3000, slow_s=0.01)
                assert [message.sequence for message in found] == list(range(1, 3001))
                assert [hashlib.sha256(m.payload).digest() for m in found] == digests

    asyncio.run(run())


def test_follower_begins_where_it_is_told_and_says_when_it_is_up_to_date(tmp_path: Path) -> None:
    async def run() -> None:
        with running_nats(tmp_path) as server:
            async with connected(server) as bus:
                empty = bus.follow(USAGE.name)
                batch = await asyncio.wait_for(anext(empty), TIMEOUT_S)
                assert (batch.messages, batch.pending) == ((), 0)
                for number in range(20):
                    await bus.publish("usage.0", b"%d" % number)
                found = await follow_until(bus, 20, start=15)
                assert [message.payload for message in found] == [b"%d" % n for n in range(14, 20)]
                at_the_end = bus.follow(USAGE.name, 21)
                batch = await asyncio.wait_for(anext(at_the_end), TIMEOUT_S)
                assert (batch.messages, batch.pending) == ((), 0)
                waiting = asyncio.create_task(anext(at_the_end))  # type: ignore[arg-type]
                await bus.publish("usage.0", b"new")
                batch = await asyncio.wait_for(waiting, TIMEOUT_S)
                assert [message.sequence for message in batch.messages] == [21]

    asyncio.run(run())


def test_last_per_subject_gives_each_state_once_and_then_all_changes(tmp_path: Path) -> None:
    async def run() -> None:
        with running_nats(tmp_path) as server:
            async with connected(server) as bus:
                for number in range(1200):
                    await bus.publish(f"registry.key.k{number % 40}", b"%d" % number)
                state: dict[str, bytes] = {}
                count = 0
                follower = bus.follow(REGISTRY.name, last_per_subject=True)
                async with asyncio.timeout(TIMEOUT_S):
                    async for batch in follower:
                        count += len(batch.messages)
                        state.update((m.subject, m.payload) for m in batch.messages)
                        if batch.pending == 0:
                            break
                    assert count == 40
                    assert state == {
                        f"registry.key.k{n % 40}": b"%d" % n for n in range(1160, 1200)
                    }
                follower = bus.follow(REGISTRY.name, last_per_subject=True)
                async with asyncio.timeout(TIMEOUT_S):
                    async for batch in follower:
                        if batch.pending == 0:
                            break
                    server.kill()
                    server.start()
                    for value in (b"a", b"b", b"c"):
                        await publish_surely(bus, "registry.key.k7", value)
                    changes: list[bytes] = []
                    while b"c" not in changes:
                        batch = await anext(follower)
                        changes += [message.payload for message in batch.messages]
                    # A kill before the acknowledgement may have made a repeat, never a hole.
                    assert list(dict.fromkeys(changes)) == [b"a", b"b", b"c"]

    asyncio.run(run())


def test_follower_waits_for_a_stream_and_for_a_server(tmp_path: Path) -> None:
    async def run() -> None:
        with running_nats(tmp_path) as server:
            server.stop()
            reader = await Bus.connect(server.url, "reader", wait=False)
            assert not reader.is_connected
            reading = asyncio.create_task(follow_until(reader, 1))
            await asyncio.sleep(0.5)
            server.start()
            await reader.wait_connected(TIMEOUT_S)
            await asyncio.sleep(0.5)
            async with connected(server) as writer:
                await writer.publish("usage.0", b"at last")
                found = await reading
            assert [message.payload for message in found] == [b"at last"]
            await reader.close()

    asyncio.run(run())


def test_publish_says_what_went_wrong(tmp_path: Path) -> None:
    async def run() -> None:
        with running_nats(tmp_path) as server:
            async with connected(server) as bus:
                subject = key_subject("k")
                first = await bus.publish(subject, b"1", expected_last_subject_sequence=0)
                with pytest.raises(WrongLastSequence):
                    await bus.publish(subject, b"2", expected_last_subject_sequence=0)
                second = await bus.publish(subject, b"2", expected_last_subject_sequence=first)
                assert second == first + 1
                once = await bus.publish("usage.0", b"x", message_id="m1")
                assert await bus.publish("usage.0", b"x", message_id="m1") == once
                with pytest.raises(BusError):
                    await bus.publish("nobody.listens", b"x", timeout_s=1)
                with pytest.raises(BusError):
                    await bus.publish("usage.0", b"x" * (MAX_PAYLOAD_BYTES + 1))
                server.kill()
                with pytest.raises(BusUnavailable):
                    await bus.publish("usage.0", b"x", timeout_s=1)
                server.start()
                await publish_surely(bus, "usage.0", b"y")

    asyncio.run(run())


def test_server_that_is_not_there_is_said_within_the_time_to_connect(tmp_path: Path) -> None:
    async def run() -> None:
        with running_nats(tmp_path) as server:
            server.stop()
            with pytest.raises(BusUnavailable):
                await asyncio.wait_for(Bus.connect(server.url, "test"), 20)

    asyncio.run(run())


@pytest.mark.parametrize("why", ["nobody listens", "wrong password"])
def test_server_that_is_waited_for_is_told_of_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, why: str
) -> None:
    """Given a wrong address or password, then the log says which server, and why, in time."""
    monkeypatch.setattr(link, "TOLD_AFTER_S", 0.3)
    monkeypatch.setattr(link, "TOLD_EVERY_S", 0.3)
    expected = "Connect call failed" if why == "nobody listens" else "Authorization"
    extra = "authorization { user: a, password: right }"

    async def run() -> None:
        with running_nats(tmp_path, extra_config=extra) as server:
            address = server.url.split("://")[1].split("@")[-1]
            if why == "nobody listens":
                server.stop()
            bus = await Bus.connect(f"nats://a:hunter2@{address}", "test", wait=False)
            try:
                async with asyncio.timeout(20):
                    # A server that refuses a password may reset the connection before that is read.
                    while expected not in caplog.text:  # noqa: ASYNC110 - a log has no event
                        await asyncio.sleep(0.02)
            finally:
                await bus.close()
            assert f"NATS at {address} cannot be reached" in caplog.text
            assert expected in caplog.text
            assert "hunter2" not in caplog.text

    asyncio.run(run())


def test_streams_of_somebody_else_are_not_used(tmp_path: Path) -> None:
    async def run() -> None:
        with running_nats(tmp_path) as server:
            async with connected(server) as bus:
                await bus.ensure_streams()
                foreign = StreamDefinition(name="USAGE", subjects=("other.*",), purpose="x")
                with pytest.raises(BusError, match="right server"):
                    await bus.ensure_streams((foreign,))
                state = await bus.stream_state(USAGE.name)
                assert (state.messages, state.last_sequence) == (0, 0)
                with pytest.raises(BusError, match="does not exist"):
                    await bus.stream_state("NONE")

    asyncio.run(run())


def test_streams_of_an_older_version_get_new_subjects_and_keep_the_rest(tmp_path: Path) -> None:
    # Given a store whose REGISTRY was made before there were models, when this version ensures its
    # streams, then the subjects are added, the messages and all other settings stay; and a store
    # of a newer version, with more subjects, is used as it is.
    async def config(bus: Bus) -> dict[str, object]:
        found = await bus._stream_api(f"$JS.API.STREAM.INFO.{REGISTRY.name}", b"")
        return dict(found["config"])

    async def run() -> None:
        with running_nats(tmp_path) as server:
            bus = await Bus.connect(server.url, "test")
            older = msgspec.structs.replace(
                REGISTRY, subjects=("registry.key.*", "registry.team.*", "registry.user.*")
            )
            await bus.ensure_streams((older, USAGE))
            await bus.publish(*key_message(1))
            with pytest.raises(BusError):
                await bus.publish("registry.model.m", b"{}")
            before = await config(bus)

            await bus.ensure_streams()

            await bus.publish("registry.model.m", b"{}")
            after = await config(bus)
            assert after == {**before, "subjects": list(REGISTRY.subjects)}
            state = await bus.stream_state(REGISTRY.name)
            assert (state.first_sequence, state.last_sequence) == (1, 2)
            await bus.ensure_streams((older,))
            assert await config(bus) == after
            await bus.close()

    asyncio.run(run())


def test_everyone_who_serves_a_subject_is_heard_within_the_limits(tmp_path: Path) -> None:
    # Given three who serve a subject, one of them silent, when all are asked, then the two answers
    # come, within the time, within the number, or as soon as they are enough; and where nobody
    # serves it, or NATS is away, that is no answer, or a clear error.
    async def run() -> None:
        never = asyncio.Event()

        async def silent(_: bytes) -> bytes:
            await never.wait()
            return b""

        def saying(text: bytes) -> Callable[[bytes], Awaitable[bytes]]:
            async def answer(question: bytes) -> bytes:
                return question + text

            return answer

        async def ask(
            subject: str = "rpc.all",
            *,
            timeout_s: float = 0.5,
            replies_max: int = 10,
            enough: int = 10,
        ) -> tuple[list[bytes], float]:
            began = asyncio.get_running_loop().time()
            replies = await asker.ask_all(
                subject,
                b"?",
                timeout_s=timeout_s,
                replies_max=replies_max,
                is_enough=lambda found: len(found) >= enough,
            )
            return sorted(replies), asyncio.get_running_loop().time() - began

        with running_nats(tmp_path) as server:
            async with connected(server) as asker, connected(server) as other:
                for handler in (saying(b"a"), saying(b"b"), silent):
                    await other.serve("rpc.all", handler)
                await other.flush()
                replies, took_s = await ask()
                assert replies == [b"?a", b"?b"]
                assert took_s >= 0.5
                replies, took_s = await ask(timeout_s=30, enough=2)
                assert replies == [b"?a", b"?b"]
                assert took_s < 20
                replies, took_s = await ask(timeout_s=30, replies_max=1)
                assert len(replies) == 1
                assert took_s < 20
                assert (await ask("rpc.nobody"))[0] == []
                server.kill()
                await until(lambda: not asker.is_connected)
                with pytest.raises(BusUnavailable):
                    await ask()
                never.set()

    asyncio.run(run())


def test_requests_are_answered_a_few_at_a_time_and_after_a_reconnect(tmp_path: Path) -> None:
    async def run() -> None:
        running = most = 0

        async def handler(payload: bytes) -> bytes:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.02)
            running -= 1
            if payload == b"fault":
                raise ValueError(payload)
            return payload.upper()

        with running_nats(tmp_path) as server:
            async with connected(server) as server_bus, connected(server) as asker:
                with pytest.raises(BusUnavailable, match="nobody serves"):
                    await asker.request("rpc.test", b"x", timeout_s=2)
                await server_bus.serve("rpc.test", handler, parallel_max=3)
                await answered(asker)
                most = 0
                answers = await asyncio.gather(
                    *(asker.request("rpc.test", b"a%d" % n) for n in range(30))
                )
                assert answers == [b"A%d" % n for n in range(30)]
                assert most == 3
                with pytest.raises(BusUnavailable):
                    await asker.request("rpc.test", b"fault", timeout_s=0.5)
                server.kill()
                server.start()
                await answered(asker)

    asyncio.run(run())


async def answered(asker: Bus) -> None:
    """Wait until somebody answers: a subscription takes a moment to reach the server."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            try:
                assert await asker.request("rpc.test", b"b", timeout_s=2) == b"B"
            except BusUnavailable:
                await asyncio.sleep(0.05)
            else:
                return


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():  # noqa: ASYNC110 - the thing waited for has no event of its own
            await asyncio.sleep(0.01)


def key_message(number: int, *, blocked: bool = False) -> tuple[str, bytes]:
    record = KeyRecord(
        key_id=f"key_{number}", key_hash=f"{number:064x}", key_name="sk-...x", blocked=blocked
    )
    make = KeyUpdated if blocked else KeyCreated
    event = make(source="/admin", id=str(number), time=datetime.now(UTC), data=record)
    return key_subject(record.key_id), encode_event(event)


def test_registry_is_followed_through_restarts_and_kept_on_disk(tmp_path: Path) -> None:
    async def run() -> None:
        copy = tmp_path / "registry.json"
        with running_nats(tmp_path) as server:
            async with connected(server, "admin") as writer, connected(server, "proxy") as reader:
                for number in range(100):
                    await writer.publish(*key_message(number))
                snapshot = RegistrySnapshot()
                following = asyncio.create_task(follow_registry(reader, snapshot, cache=copy))
                await until(lambda: snapshot.loaded)
                assert len(snapshot.keys) == 100
                server.kill()
                server.start()
                await publish_surely(writer, *key_message(5, blocked=True))
                await until(lambda: snapshot.keys["key_5"].blocked)
                again = RegistrySnapshot()
                await until(lambda: again.load(copy) and again.keys["key_5"].blocked)
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
                # From the copy on only what is new is read.
                await writer.publish(*key_message(200))
                following = asyncio.create_task(follow_registry(reader, again))
                await until(lambda: again.by_hash(f"{200:064x}") is not None)
                assert len(again.keys) == 101
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)

    asyncio.run(run())
