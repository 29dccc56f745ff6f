"""What the events of a request cost the proxy: `python -m bench.event_path`.

CPU time of this process for each request whose start and usage are written to a real journal and
published to a real nats-server, in the same rhythm as a proxy that serves RATE requests a second.
"""

import asyncio
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import uvloop

from schemas.events import RequestFacts, UsageRecord, us_from_time
from schemas.usage import Usage
from services.proxy.outbox import Outbox
from services.runtime.bus import Bus
from services.runtime.tasks import end_tasks
from tests.support.nats import running_nats

RATE = 3_000
SECONDS = 4
TURN_S = 0.001


def now_us() -> int:
    """Return the time in microseconds since the epoch."""
    return us_from_time(datetime.now(UTC))


def facts(number: int) -> RequestFacts:
    """Return the facts of a request as Claude Code makes them."""
    return RequestFacts(
        request_id=f"tg_{number:032x}",
        started_at_us=now_us(),
        key_id="key_0123456789abcdef",
        key_alias="developer-1",
        user_id="alice",
        team_id="blue",
        model_name="anthropic-claude",
        model="claude-sonnet-4-20250514",
        deployment="anthropic-claude#1",
        billing="subscription",
        session_id="5f3c8a52-8f3f-4c64-9d2e-6a1f6c1f3a11",
        user_agent="claude-cli/2.1.330 (external, sdk-cli)",
        request_bytes=1000,
    )


async def drive(outbox: Outbox) -> tuple[int, float]:
    """Write the events of requests at RATE; return how many, and the CPU time used."""
    began, used = time.perf_counter(), time.process_time()
    count = 0
    while (elapsed := time.perf_counter() - began) < SECONDS:
        while count < elapsed * RATE:
            known = facts(count)
            outbox.request_started(known)
            usage = Usage(input_tokens=10, output_tokens=400, cache_read_tokens=20_000)
            fields = msgspec.structs.asdict(known)
            outbox.usage_recorded(UsageRecord(**fields, ended_at_us=now_us(), usage=usage))
            count += 1
        await asyncio.sleep(TURN_S)
    assert await outbox.flush(10)
    return count, time.process_time() - used


async def idle() -> float:
    """Return the CPU time that the loop's own turns use in SECONDS."""
    began, used = time.perf_counter(), time.process_time()
    while time.perf_counter() - began < SECONDS:  # noqa: ASYNC110
        await asyncio.sleep(TURN_S)
    return time.process_time() - used


async def measure(folder: Path, nats_url: str) -> None:
    """Measure once and print."""
    bus = await Bus.connect(nats_url, "proxy")
    await bus.ensure_streams()
    outbox = Outbox(folder, bytes_max=10**9, refuse_when_full=True, now_us=now_us)
    publishing = asyncio.create_task(outbox.publish_for_ever(bus))
    try:
        count, used_s = await drive(outbox)
        turns_s = await idle()
        messages = (await bus.stream_state("USAGE")).messages
    finally:
        await end_tasks(publishing)
        await bus.close()
        outbox.close()
    print(f"requests: {count}, messages: {messages}")
    print(f"CPU a request: {(used_s - turns_s) / count * 1e6:.1f} us")


def main() -> None:
    """Run a nats-server and measure against it."""
    with tempfile.TemporaryDirectory(prefix="tallygate-bench-") as folder:
        path = Path(folder)
        (path / "outbox").mkdir()
        with running_nats(path / "nats") as server:
            uvloop.run(measure(path / "outbox", server.url))


if __name__ == "__main__":
    main()
