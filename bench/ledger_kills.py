"""The ledger is killed again and again under load, and nothing shows: by hand.

`python -m bench.ledger_kills --kills 50 --seed 7`: while requests keep coming, the writer is killed
(SIGKILL) at random moments, mostly while it takes events in, and started again. In the end its
books must be proved, hold every request once, and have the digest of a ledger that was never killed
and of a replay. The seed is printed, so that the moments of a run can be had again.
"""

import argparse
import random
import secrets
import tempfile
import threading
import time
from pathlib import Path

from bench.ledger_ingest import nats, tallygate
from services.runtime.bus import Bus
from services.runtime.folder import DataFolder
from tests.support.ledger import LedgerProcess, run
from tests.support.made_up import made_up_messages

KILLS = 50
LIFE_S = (0.3, 1.5)
"""A life of the writer is as long as this; it is ready after some 0.4 s."""
PAUSE_S = 0.01
"""Between two messages, each of which holds REQUESTS_PER_MESSAGE."""
REQUESTS_PER_MESSAGE = 20
ENOUGH = 10_000_000


def feed(url: str, stop: threading.Event, sent: list[int]) -> None:
    """Publish requests until it is told to stop; `sent` holds how many."""

    async def work(bus: Bus) -> None:
        messages = made_up_messages(ENOUGH, plain=True, events_per_message=2 * REQUESTS_PER_MESSAGE)
        for payload in messages:
            await bus.publish("usage.0", payload)
            sent[0] += REQUESTS_PER_MESSAGE
            if stop.wait(PAUSE_S):
                return

    run(work, url, "proxy")


def kill_again_and_again(folder: Path, kills: int, seed: int) -> dict[str, object]:
    """Do it all; return the figures. Raises AssertionError where something shows."""
    moments = random.Random(seed)
    data = DataFolder(folder / "data")
    stop, sent = threading.Event(), [0]
    began_s = time.monotonic()
    with nats(data) as server:
        writer = LedgerProcess(folder, server.url("ledger-writer"))
        reader = LedgerProcess(folder, server.url("ledger-reader"), "reader")
        # It makes the streams.
        writer.start()
        writer.wait_ready()
        writer.kill()
        reader.start()
        feeder = threading.Thread(target=feed, args=(server.url("proxy"), stop, sent))
        feeder.start()
        ready = 0
        for _ in range(kills):
            writer.start()
            time.sleep(moments.uniform(*LIFE_S))
            ready += '"message":"ready"' in writer.log()
            writer.kill()
        stop.set()
        feeder.join()
        writer.start()
        writer.wait_ready()
        reader.wait_ready()
        proof = tallygate("verify", "--data", data.path)
        replayed = tallygate("replay", "--into", folder / "again.duckdb", "--data", data.path)
        assert writer.stop() == 0
        assert reader.stop() == 0
    digests = {*proof["digests"].values(), replayed["digest"]}
    assert proof["proved"]
    assert len(proof["digests"]) == 2
    assert len(digests) == 1, digests
    assert [each["rows"] for each in proof["proofs"]] == [sent[0], sent[0]]
    assert [each["open"] for each in proof["proofs"]] == [0, 0]
    return {
        "seed": seed,
        "kills": kills,
        "killed_after_ready": ready,
        "requests": sent[0],
        "lost": 0,
        "doubled": 0,
        "digest": replayed["digest"],
        "seconds": round(time.monotonic() - began_s, 1),
    }


def main() -> None:
    """Kill, and print what it came to."""
    parser = argparse.ArgumentParser(prog="python -m bench.ledger_kills")
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    values = parser.parse_args()
    print(f"seed {values.seed}, {values.kills} kills", flush=True)
    with tempfile.TemporaryDirectory(prefix="tallygate-kills-") as folder:
        found = kill_again_and_again(Path(folder), values.kills, values.seed)
    print(", ".join(f"{name}: {value}" for name, value in found.items()))


if __name__ == "__main__":
    main()
