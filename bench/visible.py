"""How soon a request is a row that SQL shows, at light load: by hand, or `--smoke`.

`python -m bench.visible` runs the whole gateway over a mock of the API and sends one request at a
time, with a pause of a matter of chance before each. From the last byte of the answer on, the
admin service is asked by `POST /ledger/sql` for its row, again and again, until it is there, with
pauses of 5 ms; the time to the answer that has it is the figure, the asking included.
"""

import argparse
import random
import statistics
import tempfile
import time
from pathlib import Path

from tests.support.gateway import Gateway, wait_until
from tests.support.mock import MockAnthropic

PAUSE_S_MAX = 0.3
ASK_INTERVAL_S = 0.005
TIMEOUT_S = 30.0


def measure(folder: Path, requests: int) -> list[float]:
    """Return the milliseconds from the end of each answer to its row."""
    chance = random.Random(1)
    times: list[float] = []
    with MockAnthropic.started(folder) as mock, Gateway.started(folder, mock) as gateway:
        key = gateway.new_key()
        wait_until(lambda: gateway.ask(key).is_success, TIMEOUT_S, "the proxy knows the key")
        for _ in range(requests):
            time.sleep(chance.uniform(0.0, PAUSE_S_MAX))
            answer = gateway.ask(key, stream=True)
            ended_s = time.monotonic()
            request_id = answer.headers["x-tallygate-request-id"]
            while not gateway.sql(f"SELECT 1 FROM requests WHERE request_id = '{request_id}'"):
                assert time.monotonic() - ended_s < TIMEOUT_S, request_id
                time.sleep(ASK_INTERVAL_S)
            times.append(1000 * (time.monotonic() - ended_s))
    return times


def main() -> None:
    """Measure, and print it."""
    parser = argparse.ArgumentParser(prog="python -m bench.visible")
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--smoke", action="store_true", help="few requests: only see that it works")
    values = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tallygate-visible-") as folder:
        times = sorted(measure(Path(folder), 5 if values.smoke else values.requests))
    print(
        f"{len(times)} requests; from the end of the answer to its row: "
        f"p50 {statistics.median(times):.0f} ms, p90 {times[len(times) * 9 // 10]:.0f} ms, "
        f"p99 {times[len(times) * 99 // 100]:.0f} ms, max {times[-1]:.0f} ms"
    )


if __name__ == "__main__":
    main()
