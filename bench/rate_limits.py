"""What rate limits cost: CPU time a request, and a message among workers; `--smoke` for a glance.

`python -m bench.rate_limits` lets requests begin and end in one process, without any network. A
figure is the median over rounds. "and its headers" adds what an answer is told.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

from schemas.config import Deployment
from schemas.errors import RateLimited
from schemas.registry import KeyRecord, TeamRecord, UserRecord
from schemas.usage import Usage
from services.proxy.rate_sharing import Sharing
from services.proxy.rates import Rates
from services.proxy.routing import Router
from services.runtime.registry import RegistrySnapshot

ROUNDS, SMOKE_ROUNDS = 9, 1
REQUESTS, SMOKE_REQUESTS = 20_000, 500
KEYS = 1_000
"""So many limits change between two messages."""
MANY = 10**9

_USAGE = Usage(input_tokens=1_200, output_tokens=300, cache_read_tokens=45_000)
_ROUTER = Router([Deployment(deployment_id="m", model_name="m", model="m")])
_KINDS: dict[str, dict[str, Any]] = {
    "no limit": {},
    "rpm_limit": {"rpm_limit": MANY},
    "rpm, tpm and parallel": {
        "rpm_limit": MANY,
        "tpm_limit": MANY**2,
        "max_parallel_requests": MANY,
    },
    "the same of key, team and user": {
        "rpm_limit": MANY,
        "tpm_limit": MANY**2,
        "max_parallel_requests": MANY,
        "team_id": "t",
        "user_id": "u",
    },
    "a refusal": {"rpm_limit": 1},
}


def _rates(workers: int) -> Rates:
    registry = RegistrySnapshot()
    limits = {"rpm_limit": MANY, "tpm_limit": MANY**2, "max_parallel_requests": MANY}
    registry.put_owner(TeamRecord(team_id="t", **limits))
    registry.put_owner(UserRecord(user_id="u", **limits))
    rates = Rates(registry, time.monotonic)
    rates.workers = workers
    return rates


def _key(name: str, **fields: Any) -> KeyRecord:
    return KeyRecord(key_id=name, key_hash=name, key_name=name, **fields)


def _cpu_us(work: Callable[[], None], count: int) -> float:
    started = time.process_time_ns()
    for _ in range(count):
        work()
    return (time.process_time_ns() - started) / 1000 / count


def _request(rates: Rates, key: KeyRecord, *, told: bool) -> Callable[[], None]:
    def work() -> None:
        try:
            permit = rates.admit(key, "m", _ROUTER, 100_000)
        except RateLimited:
            return
        if permit is not None:
            if told:
                permit.headers()
            permit.ended(_USAGE)

    return work


def _message(count: int) -> tuple[float, float, int]:
    """Return µs to say and to hear a message with KEYS standings, and its bytes."""
    first, second = _rates(1), _rates(1)
    speaker, hearer = Sharing(first), Sharing(second)
    for payload in hearer.messages():
        speaker.hear(payload)
    keys = [_key(f"key_{number:024}", rpm_limit=MANY) for number in range(KEYS)]
    said = heard = 0.0
    payload = b""
    for _ in range(count):
        for key in keys:
            first.admit(key, "m", _ROUTER, 100_000)
        started = time.process_time_ns()
        (payload,) = speaker.messages()
        between = time.process_time_ns()
        hearer.hear(payload)
        said += between - started
        heard += time.process_time_ns() - between
    return said / count / 1000, heard / count / 1000, len(payload)


def main() -> None:
    """Measure, and print it."""
    parser = argparse.ArgumentParser(prog="python -m bench.rate_limits", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="few rounds: only see that it works")
    smoke: bool = parser.parse_args().smoke
    rounds, requests = (SMOKE_ROUNDS, SMOKE_REQUESTS) if smoke else (ROUNDS, REQUESTS)
    print("| CPU a request, µs | one worker | and its headers | one of three |")
    print("|---|---|---|---|")
    for kind, fields in _KINDS.items():
        cells = []
        for workers, told in ((1, False), (1, True), (3, False)):
            work = _request(_rates(workers), _key("key_1", **fields), told=told)
            cells.append(statistics.median(_cpu_us(work, requests) for _ in range(rounds)))
        print(f"| {kind} | {' | '.join(f'{cell:.1f}' for cell in cells)} |")
    said_us, heard_us, size = _message(rounds)
    print(
        f"a message about {KEYS} limits: {size} bytes, {said_us / KEYS:.1f} µs a limit to say, "
        f"{heard_us / KEYS:.1f} µs to hear"
    )


if __name__ == "__main__":
    main()
