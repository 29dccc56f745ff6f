"""Building books anew from the stream, beside those that a running ledger keeps.

The same projection and the same store as the writer's make them, so their digest is the writer's
at the same message of the stream; if not, one of the two is wrong.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from schemas.errors import ConfigError
from schemas.registry import KeyRecord, TeamRecord, UserRecord
from schemas.streams import REGISTRY, USAGE
from services.ledger.books import Books
from services.ledger.history import check_history, follow_history
from services.ledger.rebuild import files_of
from services.ledger.store import Store, digest
from services.runtime.bus import Bus, StreamBatch, StreamMessage, StreamState
from services.runtime.price_book import PriceBook
from services.runtime.registry import RegistrySnapshot

__all__ = ["Progress", "Replayed", "TellProgress", "replay"]

KEYS_PER_COMMIT_MAX = 5000


class Progress(msgspec.Struct, frozen=True):
    """How far a replay has come: messages of the stream, and events in them that counted."""

    sequence: int
    last_sequence: int
    events: int


TellProgress = Callable[[Progress], None]
"""Is told after every commit."""


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay made: books up to a message, with the digest of their facts."""

    sequence: int
    digest: str
    requests: int
    events: int
    dead_letters: int
    keys: int
    duration_s: float


async def replay(
    bus: Bus,
    path: Path,
    archives: Path,
    *,
    until: int | None,
    tell: TellProgress,
) -> Replayed:
    """Build the books in a new file, up to message `until` (None: the last that there is now).

    What has left the stream is read from the archive in the folder `archives`.
    The file gets its name when it is whole. Raises ConfigError where the stream cannot give it.
    """
    _check_path(path)
    state = await bus.stream_state(USAGE.name)
    last = state.last_sequence if until is None else until
    if last > state.last_sequence:
        raise ConfigError(
            f"the stream USAGE ends at message {state.last_sequence}: "
            f"--until cannot be {until}, after its end"
        )
    await asyncio.to_thread(check_history, archives, state, 0)
    began_s = time.monotonic()
    partial = path.with_name(path.name + ".partial")
    for file in files_of(partial):
        file.unlink(missing_ok=True)
    store = Store(partial)
    try:
        books = Books(store, PriceBook.load(), timezone="UTC", with_budgets=False)
        await _take_usage(bus, books, archives, state, last, tell)
        keys = await _take_keys(bus, books)
        replayed = await asyncio.to_thread(_result, store, last, keys, began_s)
    except BaseException:
        store.close()
        for file in files_of(partial):
            file.unlink(missing_ok=True)
        raise
    store.close()
    partial.rename(path)
    return replayed


def _check_path(path: Path) -> None:
    if path.exists():
        raise ConfigError(f"{path} exists: name a file that does not, it is made")
    if not path.parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent}: make it first")


async def _take_usage(
    bus: Bus, books: Books, archives: Path, state: StreamState, last: int, tell: TellProgress
) -> None:
    sequence = events = 0
    if last == 0:
        return
    async for batch in follow_history(bus, archives, state, 1):
        messages = [message for message in batch.messages if message.sequence <= last]
        if messages:
            events += await asyncio.to_thread(_take, books, messages, state.created)
            sequence = messages[-1].sequence
            tell(Progress(sequence, last, events))
        if sequence >= last:
            return


def _take(books: Books, messages: list[StreamMessage], created: str) -> int:
    counts = books.project(messages)
    books.commit(USAGE.name, created)
    return counts.events


async def _take_keys(bus: Bus, books: Books) -> int:
    """Take in the state of every key, team and user; return how many keys there are."""
    snapshot = RegistrySnapshot()
    keys: dict[str, KeyRecord] = {}
    owners: dict[str, TeamRecord | UserRecord] = {}
    batch: StreamBatch
    async for batch in bus.follow(REGISTRY.name, last_per_subject=True):
        for message in batch.messages:
            record = snapshot.apply(message)
            if isinstance(record, KeyRecord):
                keys[record.key_id] = record
            elif isinstance(record, TeamRecord | UserRecord):
                owners[message.subject] = record
        if batch.pending == 0:
            break
    records = list(keys.values())
    for start in range(0, len(records), KEYS_PER_COMMIT_MAX):
        await asyncio.to_thread(books.put_keys, records[start : start + KEYS_PER_COMMIT_MAX])
    await asyncio.to_thread(books.put_owners, list(owners.values()))
    return len(records)


def _result(store: Store, sequence: int, keys: int, began_s: float) -> Replayed:
    checkpoint = store.checkpoint(USAGE.name)
    ask = store.connection.execute
    letters = ask("SELECT count(*) FROM dead_letters").fetchall()[0][0]
    found = digest(store.connection)
    return Replayed(
        sequence=sequence,
        digest=found,
        requests=int(found.split(":")[0]),
        events=checkpoint.counts.events if checkpoint is not None else 0,
        dead_letters=letters,
        keys=keys,
        duration_s=round(time.monotonic() - began_s, 3),
    )
