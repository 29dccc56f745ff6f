"""How fast the ledger takes in a backlog, and whether a replay is the same: by hand, or `--smoke`.

`python -m bench.ledger_ingest --requests 1000000` stores made-up requests (each a start and an end,
as the proxies send them) on a real nats-server whose every write is synced, then has

- a ledger's writer take the backlog in, as a process of its own, from its start until it is ready;
- `tallygate replay` build the books again, into another file;
- `tallygate verify` prove them, with nothing else running.

The run fails unless the books are proved and the replay has their digest. CPU is that of the
process that took the events in; a busy machine leaves it trustworthy, and wall time it does not.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from schemas.streams import USAGE_BATCH_BYTES_MAX
from services.runtime.bus import Bus
from services.runtime.folder import DataFolder
from services.runtime.nats_server import EmbeddedNats
from tests.support.ledger import LedgerProcess, run
from tests.support.made_up import made_up_messages

READY_TIMEOUT_S = 600.0
SMOKE_REQUESTS = 2_000


class Figures(msgspec.Struct, kw_only=True):
    """What one run measured."""

    requests: int
    events: int
    messages: int
    bytes_per_event: float
    writer_s: float
    writer_cpu_us_per_event: float
    verify_s: float
    replay_s: float
    replay_cpu_us_per_event: float
    bytes_per_row: float
    digest: str


@contextmanager
def nats(folder: DataFolder) -> Iterator[EmbeddedNats]:
    """Run the embedded nats-server of a data folder."""
    server = EmbeddedNats(folder)
    process = subprocess.Popen(server.command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    try:
        while not run_probe(server):
            time.sleep(0.05)
        yield server
    finally:
        process.terminate()
        process.wait(20)


def run_probe(server: EmbeddedNats) -> bool:
    """Tell whether the server answers."""
    import asyncio

    return asyncio.run(server.answers())


def store(server: EmbeddedNats, requests: int, events_per_message: int) -> tuple[int, int]:
    """Put the requests on the stream; return how many messages and bytes they are."""
    sizes: list[int] = []

    async def streams(bus: Bus) -> None:
        await bus.ensure_streams()

    async def feed(bus: Bus) -> None:
        for payload in made_up_messages(
            requests, plain=True, events_per_message=events_per_message
        ):
            assert len(payload) <= USAGE_BATCH_BYTES_MAX
            await bus.publish("usage.0", payload)
            sizes.append(len(payload))

    run(streams, server.url("ledger-writer"), "ledger-writer")
    run(feed, server.url("proxy"), "proxy")
    return len(sizes), sum(sizes)


def take_in(folder: Path, url: str) -> tuple[float, float]:
    """Have a writer take the backlog in; return the seconds and the CPU seconds of the process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ledger = LedgerProcess(folder, url)
    began_s = time.monotonic()
    ledger.start()
    while '"message":"ready"' not in ledger.log():
        assert time.monotonic() - began_s < READY_TIMEOUT_S, ledger.log()
        time.sleep(0.05)
    took_s = time.monotonic() - began_s
    assert ledger.stop() == 0
    return took_s, _cpu_s(before)


def _cpu_s(before: resource.struct_rusage) -> float:
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def tallygate(*arguments: object) -> Any:
    """Run a command of tallygate that prints JSON; it must succeed."""
    command = [sys.executable, "-m", "services.cli", *map(str, arguments), "--json"]
    environment = {key: os.environ[key] for key in os.environ if not key.startswith("TALLYGATE_")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def measure(folder: Path, requests: int, events_per_message: int) -> Figures:
    """Run all of it once. Raises AssertionError where the books are not proved, or not the same."""
    data = DataFolder(folder / "data")
    with nats(data) as server:
        messages, stored_bytes = store(server, requests, events_per_message)
        writer_s, writer_cpu_s = take_in(folder, server.url("ledger-writer"))
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        replayed = tallygate("replay", "--into", folder / "again.duckdb", "--data", data.path)
        replay_cpu_s = _cpu_s(before)
    began_s = time.monotonic()
    proof = tallygate("verify", "--data", data.path)
    verify_s = time.monotonic() - began_s
    assert proof["proved"]
    assert proof["proofs"][0]["rows"] == requests
    assert replayed["digest"] == proof["digests"]["writer"]
    events = 2 * requests
    return Figures(
        requests=requests,
        events=events,
        messages=messages,
        bytes_per_event=stored_bytes / events,
        writer_s=writer_s,
        writer_cpu_us_per_event=1e6 * writer_cpu_s / events,
        verify_s=verify_s,
        replay_s=replayed["duration_s"],
        replay_cpu_us_per_event=1e6 * replay_cpu_s / events,
        bytes_per_row=data.ledger_database.stat().st_size / requests,
        digest=replayed["digest"],
    )


def main() -> None:
    """Measure, and print a table of it."""
    parser = argparse.ArgumentParser(prog="python -m bench.ledger_ingest")
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--events-per-message", type=int, nargs="+", default=[500])
    parser.add_argument("--smoke", action="store_true", help="few requests: only see that it works")
    values = parser.parse_args()
    requests = SMOKE_REQUESTS if values.smoke else values.requests
    for events_per_message in values.events_per_message:
        with tempfile.TemporaryDirectory(prefix="tallygate-ingest-") as folder:
            found = measure(Path(folder), requests, events_per_message)
        print(
            f"{found.requests:,} requests, {found.events:,} events of {found.bytes_per_event:.0f} "
            f"bytes in {found.messages:,} messages; {found.bytes_per_row:.0f} bytes a row\n"
            f"  writer  {found.writer_s:7.1f} s  {found.events / found.writer_s:8,.0f} events/s  "
            f"{found.writer_cpu_us_per_event:5.1f} µs of CPU an event (start included)\n"
            f"  replay  {found.replay_s:7.1f} s  {found.events / found.replay_s:8,.0f} events/s  "
            f"{found.replay_cpu_us_per_event:5.1f} µs of CPU an event\n"
            f"  verify  {found.verify_s:7.1f} s  {found.requests / found.verify_s:8,.0f} rows/s\n"
            f"  digest  {found.digest}, the same in both",
            flush=True,
        )


if __name__ == "__main__":
    main()
