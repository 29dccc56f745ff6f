"""How much hostile queries slow the writer: by hand, or `--smoke`.

`python -m bench.ledger_slowed --requests 200000` stores made-up requests on a real nats-server and
has a reader take them in. Then a writer takes the same backlog in, in turns: alone, and while the
reader is asked for what costs it most (joins of everything with everything, sorts and memory
bombs), as many questions at once as it takes. The figure is the ratio of the writers' times.
"""

import argparse
import asyncio
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from bench.ledger_ingest import nats, store, take_in
from schemas.rpc import QueryReply, QueryRequest
from schemas.streams import QUERY_SUBJECT
from services.runtime.bus import Bus
from services.runtime.folder import DataFolder
from tests.support.ledger import LedgerProcess

ASKED_AT_ONCE = 4
ASK_TIMEOUT_S = 60.0
QUERY_TIMEOUT_S = 2.0
HOSTILE = (
    "SELECT count(*) FROM requests AS a, requests AS b WHERE a.cost_usd < b.cost_usd",
    "SELECT sum(hash(i, j)) FROM range(100000) AS a(i), range(100000) AS b(j)",
    "SELECT request_id, row_number() OVER (ORDER BY md5(request_id)) FROM requests",
    "SELECT list(a.request_id || b.request_id) FROM requests AS a, requests AS b",
)


async def _ask(url: str, end: threading.Event, answered: list[str]) -> None:
    bus = await Bus.connect(url, "admin")

    async def again(number: int) -> None:
        while not end.is_set():
            sql = HOSTILE[number % len(HOSTILE)]
            asked = msgspec.json.encode(QueryRequest(query=sql, timeout_s=QUERY_TIMEOUT_S))
            payload = await bus.request(QUERY_SUBJECT, asked, timeout_s=ASK_TIMEOUT_S)
            reply = msgspec.json.decode(payload, type=QueryReply)
            answered.append(reply.error_kind or "answered")
            # What is refused at once must not become a loop of refusals.
            await asyncio.sleep(0.01)

    try:
        await asyncio.gather(*(again(number) for number in range(ASKED_AT_ONCE)))
    finally:
        await bus.close()


@contextmanager
def hostile_queries(url: str) -> Iterator[list[str]]:
    """Ask the reader all the time; yields how the queries ended."""
    end, answered = threading.Event(), list[str]()
    asking = threading.Thread(target=lambda: asyncio.run(_ask(url, end, answered)))
    asking.start()
    try:
        yield answered
    finally:
        end.set()
        asking.join()


def measure(folder: Path, requests: int, rounds: int) -> tuple[list[float], list[float], list[str]]:
    """Return the writers' seconds, alone and beside queries, and how the queries ended."""
    data = DataFolder(folder / "data")
    alone: list[float] = []
    beside: list[float] = []
    with nats(data) as server:
        store(server, requests, 500)
        with LedgerProcess.started(folder, server.url("ledger-reader"), "reader") as reader:
            began_s = time.monotonic()
            while '"message":"ready"' not in reader.log():
                assert time.monotonic() - began_s < ASK_TIMEOUT_S, reader.log()
                time.sleep(0.1)
            writer_url = server.url("ledger-writer")
            ended: list[str] = []
            for number in range(rounds):
                alone.append(take_in(folder / f"alone-{number}", writer_url)[0])
                with hostile_queries(server.url("admin")) as answered:
                    time.sleep(1.0)
                    beside.append(take_in(folder / f"beside-{number}", writer_url)[0])
                ended += answered
    return alone, beside, ended


def main() -> None:
    """Measure, and print it."""
    parser = argparse.ArgumentParser(prog="python -m bench.ledger_slowed")
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="few requests: only see that it works")
    values = parser.parse_args()
    requests, rounds = (2_000, 1) if values.smoke else (values.requests, values.rounds)
    with tempfile.TemporaryDirectory(prefix="tallygate-slowed-") as folder:
        alone, beside, ended = measure(Path(folder), requests, rounds)
    ratio = statistics.median(beside) / statistics.median(alone)
    ends = ", ".join(f"{ended.count(kind)} {kind}" for kind in sorted(set(ended)))
    print(
        f"{requests:,} requests taken in: alone {statistics.median(alone):.1f} s, beside hostile "
        f"queries {statistics.median(beside):.1f} s, {ratio:.2f} times as long\n"
        f"  the queries: {ends}"
    )


if __name__ == "__main__":
    main()
