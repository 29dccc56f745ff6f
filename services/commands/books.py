"""`tallygate verify` and `replay`: proving the books, and building them anew beside the old."""

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from schemas.errors import ConfigError
from schemas.proof import ProofRole
from services.commands.books_report import replay_report, verify_report
from services.commands.stream_access import StreamAccess, stream_access
from services.ledger.replay import Progress, Replayed, TellProgress, replay
from services.ledger.verification import Verified, verify
from services.runtime.bus import Bus, BusError

__all__ = ["print_json", "run_on_bus", "run_replay", "run_verify", "teller"]

EXIT_FAULT = 1
PROGRESS_INTERVAL_S = 2.0

T = TypeVar("T")


def run_verify(values: argparse.Namespace) -> int:
    """Prove the books; return 0: proved, 1: a fault was found.

    Raises ConfigError where they cannot be read.
    """
    files: dict[ProofRole, Path] = {
        "writer": values.data / "ledger.duckdb",
        "reader": values.data / "reader" / "reader.duckdb",
    }
    with stream_access(values.nats_url, values.data, "admin", "ledger-reader") as access:

        async def work(bus: Bus) -> Verified:
            return await verify(bus, files, values.data / "archive", ask_roles=not access.is_alone)

        verified = run_on_bus(access, work)
    if values.json:
        print_json({"proved": verified.is_proved, **msgspec.to_builtins(verified)})
    else:
        sys.stdout.write(verify_report(verified))
    return 0 if verified.is_proved else EXIT_FAULT


def run_replay(values: argparse.Namespace) -> int:
    """Build the books anew in a file of their own; return 0. Raises ConfigError."""

    async def work(bus: Bus) -> Replayed:
        return await replay(
            bus, values.into, values.data / "archive", until=values.until, tell=teller()
        )

    with stream_access(values.nats_url, values.data, "ledger-reader", "ledger-reader") as access:
        replayed = run_on_bus(access, work)
    if values.json:
        print_json(msgspec.to_builtins(replayed))
    else:
        sys.stdout.write(replay_report(replayed, values.into))
    return 0


def run_on_bus(access: StreamAccess, work: Callable[[Bus], Awaitable[T]]) -> T:
    """Do some work on a bus of its own. Raises ConfigError where NATS cannot be reached."""
    # What cannot be read in the stream is counted, and told at the end.
    logging.getLogger("services.ledger").setLevel(logging.CRITICAL)

    async def connected() -> T:
        try:
            bus = await Bus.connect(access.url, access.user)
        except BusError as error:
            raise ConfigError(f"{error}: is the NATS server's address right, its user?") from None
        try:
            return await work(bus)
        finally:
            await bus.close()

    return asyncio.run(connected())


def print_json(answer: object) -> None:
    """Print an answer for programs."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode() + "\n")


def teller() -> TellProgress:
    """Return what tells the progress on standard error, now and then and at the end."""
    began_s = time.monotonic()
    told_at_s = began_s

    def tell(progress: Progress) -> None:
        nonlocal told_at_s
        now_s = time.monotonic()
        is_last = progress.sequence >= progress.last_sequence
        if now_s - told_at_s < PROGRESS_INTERVAL_S and not is_last:
            return
        told_at_s = now_s
        percent = 100 * progress.sequence // progress.last_sequence
        rate = progress.events / max(now_s - began_s, 0.001)
        sys.stderr.write(
            f"message {progress.sequence:,} of {progress.last_sequence:,} ({percent} %), "
            f"{progress.events:,} events, {rate:,.0f} a second\n"
        )

    return tell
