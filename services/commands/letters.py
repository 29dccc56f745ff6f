"""`tallygate ledger retry-dead-letters`: count the events that an older version could not read."""

import argparse
import sys
from pathlib import Path

import msgspec

from services.commands.books import print_json, run_on_bus, teller
from services.commands.stream_access import StreamAccess, stream_access
from services.ledger.letters import (
    Judged,
    judge,
    letters_of_file,
    letters_of_running,
    rebuild_with_letters,
)
from services.ledger.replay import Replayed
from services.ledger.store import DeadLetter
from services.runtime.bus import Bus, BusUnavailable
from services.runtime.price_book import PriceBook

__all__ = ["run_retry_dead_letters"]

LETTERS_TOLD_MAX = 50
"""So many letters are told for people; --json tells all."""


def run_retry_dead_letters(values: argparse.Namespace) -> int:
    """Tell which dead letters can be read, and count them where no ledger runs; return 0.

    Raises ConfigError where the books or the stream cannot be read.
    """
    database: Path = values.data / "ledger.duckdb"
    book = PriceBook.load()
    built: tuple[Replayed, Path] | None = None
    with stream_access(values.nats_url, values.data, "admin", "ledger-reader") as access:
        if access.is_alone:
            judged = judge(letters_of_file(database), book)
        else:
            judged = judge(_running(access, database), book)
        if access.is_alone and any(each.unreadable is None for each in judged):

            async def rebuild(bus: Bus) -> tuple[Replayed, Path]:
                return await rebuild_with_letters(bus, database, values.data / "archive", teller())

            built = run_on_bus(access, rebuild)
    if values.json:
        print_json(
            {
                "letters": msgspec.to_builtins(judged),
                "counted": built is not None,
                "digest": built[0].digest if built is not None else None,
            }
        )
    else:
        sys.stdout.write(_report(judged, built))
    return 0


def _running(access: StreamAccess, database: Path) -> list[DeadLetter]:
    """Return the letters of a ledger that runs; those of the file, where only NATS does."""
    try:
        return run_on_bus(access, letters_of_running)
    except BusUnavailable:
        return letters_of_file(database)


def _report(judged: list[Judged], built: tuple[Replayed, Path] | None) -> str:
    readable = sum(each.unreadable is None for each in judged)
    lines = [
        f"message {each.stream_sequence:,}, event {each.position}: "
        f"{each.unreadable or 'can be read by this version'} ({each.payload_bytes:,} bytes)"
        for each in judged[:LETTERS_TOLD_MAX]
    ]
    if len(judged) > LETTERS_TOLD_MAX:
        lines.append(f"and {len(judged) - LETTERS_TOLD_MAX:,} more (--json tells them all)")
    lines.append(f"{len(judged):,} dead letters, of which this version can read {readable:,}")
    if built is not None:
        replayed, aside = built
        lines.append(
            f"the books were built anew, up to message {replayed.sequence:,}: "
            f"{replayed.requests:,} requests, {replayed.dead_letters:,} dead letters, "
            f"digest {replayed.digest}; the old file is {aside}"
        )
    elif readable:
        lines.append("they are counted when the ledger starts with this version: restart it")
    return "\n".join(lines) + "\n"
