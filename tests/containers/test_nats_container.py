"""The bus on a NATS that is somebody else's: in a container where an engine is at hand."""

import asyncio

import msgspec
import pytest

from schemas.streams import USAGE, usage_subject
from services.runtime.bus import Bus, StreamMessage
from tests.support.containers import NatsContainerServer
from tests.support.nats import NatsServer

MESSAGES = 40
DEADLINE_S = 60.0

pytestmark = pytest.mark.timeout(120)


async def _read(bus: Bus, count: int) -> list[StreamMessage]:
    """Return the first `count` messages of USAGE."""
    found: list[StreamMessage] = []
    async for batch in bus.follow(USAGE.name):
        found.extend(batch.messages)
        if len(found) >= count:
            break
    return found


async def _publish_until_stored(bus: Bus, number: int) -> int:
    """Publish one message under its own id until the server says that it is stored."""
    payload = msgspec.json.encode({"number": number})
    while True:
        try:
            return await bus.publish(usage_subject(), payload, message_id=f"m{number}")
        except Exception as error:  # noqa: BLE001 - whatever it was, the message is tried again
            print(f"message {number}: {error}")  # noqa: T201 - pytest shows it at a failure
            await asyncio.sleep(0.1)


def test_bus_stores_and_reads_back_in_order(nats_server: NatsServer | NatsContainerServer) -> None:
    """Given an empty NATS, when messages are published, then a follower reads them in order."""

    async def run() -> None:
        bus = await Bus.connect(nats_server.url, "test")
        await bus.ensure_streams()
        sequences = [await _publish_until_stored(bus, number) for number in range(MESSAGES)]
        messages = await _read(bus, MESSAGES)
        await bus.close()
        assert sequences == list(range(1, MESSAGES + 1))
        assert [message.sequence for message in messages] == sequences
        assert [msgspec.json.decode(message.payload)["number"] for message in messages] == list(
            range(MESSAGES)
        )

    asyncio.run(asyncio.wait_for(run(), DEADLINE_S))


def test_killed_nats_keeps_every_acknowledged_message(
    nats_server: NatsServer | NatsContainerServer,
) -> None:
    """Given acknowledged messages, when NATS is killed, then the next one has them all."""

    async def run() -> None:
        bus = await Bus.connect(nats_server.url, "test")
        await bus.ensure_streams()
        stored = [await _publish_until_stored(bus, number) for number in range(MESSAGES)]
        nats_server.kill()
        nats_server.restart()
        stored.append(await _publish_until_stored(bus, MESSAGES))
        messages = await _read(bus, MESSAGES + 1)
        await bus.close()
        assert [message.sequence for message in messages] == stored

    asyncio.run(asyncio.wait_for(run(), DEADLINE_S))
