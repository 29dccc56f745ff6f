"""Whether the ledger holds every request of the benchmark, once, with the right figures."""

import time
from collections.abc import Iterable
from pathlib import Path

import duckdb

from bench.answers import INPUT_TOKENS, OUTPUT_TOKENS
from tests.support.gateway import Gateway

__all__ = ["Expected", "check_file", "wait_for_rows"]

ROWS_TIMEOUT_S = 60.0


class Expected:
    """What the load generator sent through the gateway and got whole answers to."""

    def __init__(self, ids_path: Path) -> None:
        self.ids_path = ids_path
        self.requests = 0
        self.response_bytes = 0

    def add(self, requests: int, body_bytes: int) -> None:
        """Count the requests of one round of a cell."""
        self.requests += requests
        self.response_bytes += requests * body_bytes

    def ids(self) -> Iterable[str]:
        """Return the gateway's ids of all requests, as their clients were told them."""
        return self.ids_path.read_text().split() if self.ids_path.exists() else []


def wait_for_rows(gateway: Gateway, expected: Expected) -> float:
    """Wait until the reader shows all requests; return the seconds that took.

    Raises RuntimeError where they do not come, or where there are too many.
    """
    began = time.monotonic()
    while True:
        rows = int(gateway.sql("SELECT count(*) FROM requests")[0][0])
        if rows == expected.requests:
            return time.monotonic() - began
        if rows > expected.requests or time.monotonic() - began > ROWS_TIMEOUT_S:
            raise RuntimeError(f"the ledger has {rows} rows for {expected.requests} requests")
        time.sleep(0.2)


def check_file(path: Path, expected: Expected) -> list[str]:
    """Return what is wrong in the books of a gateway that has ended."""
    with duckdb.connect(str(path), read_only=True) as books:
        booked = [row[0] for row in books.execute("SELECT request_id FROM requests").fetchall()]
        sums = books.execute(
            "SELECT sum(input_tokens), sum(output_tokens), sum(response_bytes),"
            " count(*) FILTER (status <> 'success' OR estimated OR unpriced) FROM requests"
        ).fetchone()
    seen = list(expected.ids())
    faults = []
    if len(seen) != expected.requests or len(set(seen)) != len(seen):
        faults.append(f"{len(seen)} ids, {len(set(seen))} different, {expected.requests} requests")
    if len(booked) != len(set(booked)):
        faults.append(f"{len(booked) - len(set(booked))} requests are booked more than once")
    if set(booked) != set(seen):
        missing, extra = len(set(seen) - set(booked)), len(set(booked) - set(seen))
        faults.append(f"{missing} requests are not booked, {extra} are booked that nobody sent")
    count = expected.requests
    right = (count * INPUT_TOKENS, count * OUTPUT_TOKENS, expected.response_bytes, 0)
    if sums != right:
        faults.append(f"the sums are {sums}, not {right}")
    return faults
