"""The history: the archive and the stream USAGE as one sequence, without a gap or an overlap.

Whoever reads events from the beginning, or from a checkpoint that the stream no longer reaches back
to, reads them here. A message is taken from the archive where the archive has it, and from the
stream otherwise; one that neither has is a loud error that names it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

from schemas.errors import ConfigError
from schemas.streams import USAGE
from services.ledger.archive import Archive
from services.runtime.bus import Bus, StreamBatch, StreamMessage, StreamState

__all__ = ["check_history", "follow_history", "is_whole"]

_PROBE_TIMEOUT_S = 15.0


async def follow_history(
    bus: Bus, archives: Path, state: StreamState, start: int
) -> AsyncIterator[StreamBatch]:
    """Yield the messages of USAGE from `start` on, in order, for ever; see Bus.follow.

    `archives` is the folder of the archive, which another process may be adding to; `state` tells
    which stream it is. Raises ConfigError where messages are neither here nor there.
    """
    archive = Archive(archives, state.created)
    expected = start
    while True:
        async for messages in _archived(archive, expected):
            expected = messages[-1].sequence + 1
            # Not yet caught up: the stream is asked next, even if it holds nothing more.
            yield StreamBatch(messages, 1)
        async with aclosing(bus.follow(USAGE.name, expected)) as batches:
            async for batch in batches:
                if batch.messages and batch.messages[0].sequence != expected:
                    missing_to = batch.messages[0].sequence - 1
                    if await asyncio.to_thread(archive.covered, expected - 1) < expected:
                        raise _lost(archive, expected, missing_to)
                    # They were archived, and left the stream, after the archive was looked at.
                    break
                whole = _without_gap(batch.messages)
                if whole:
                    expected = whole[-1].sequence + 1
                if len(whole) < len(batch.messages):
                    yield StreamBatch(whole, 1)
                    if await asyncio.to_thread(archive.covered, expected - 1) < expected:
                        raise _lost(archive, expected, batch.messages[len(whole)].sequence - 1)
                    break
                yield batch


async def _archived(archive: Archive, start: int) -> AsyncIterator[tuple[StreamMessage, ...]]:
    reading = archive.read(start)
    while (messages := await asyncio.to_thread(next, reading, None)) is not None:
        yield messages


def _without_gap(messages: tuple[StreamMessage, ...]) -> tuple[StreamMessage, ...]:
    """Return the messages up to the first gap among them."""
    for number, message in enumerate(messages):
        if message.sequence != messages[0].sequence + number:
            return messages[:number]
    return messages


def check_history(archives: Path, state: StreamState, sequence: int) -> None:
    """Check what can be told at once: whether everything after message `sequence` is there.

    Raises ConfigError where the stream begins later and the archive does not fill the gap, or where
    the archive holds what the stream has not had yet: a stream that was restored from a backup
    which is older than the archive would give its numbers to other messages.
    """
    archive = Archive(archives, state.created)
    last = archive.last()
    if last > state.last_sequence:
        raise ConfigError(
            f"the archive {archive.folder} ends at message {last}, the stream USAGE already at "
            f"{state.last_sequence}: it was restored from an older backup. Restore a newer one; "
            "to go on without it, let NATS make the stream anew and move the ledger's files away"
        )
    covered = archive.covered(sequence)
    if state.first_sequence > covered + 1:
        raise _lost(archive, covered + 1, state.first_sequence - 1)


async def is_whole(bus: Bus, archives: Path, state: StreamState, created: str | None) -> bool:
    """Tell whether archive and stream hold all that the stream made at `created` ever held.

    `created` None: any stream will do. The stream's own price changes stay in it, so where it
    begins tells too little: the first message after the archive's last is asked for.
    """
    if created not in {None, state.created}:
        return False
    covered = await asyncio.to_thread(Archive(archives, state.created).covered, 0)
    if covered >= state.last_sequence:
        return covered == state.last_sequence
    following = bus.follow(USAGE.name, covered + 1)
    async with asyncio.timeout(_PROBE_TIMEOUT_S), aclosing(following) as batches:
        async for batch in batches:
            if batch.messages:
                return batch.messages[0].sequence == covered + 1
            if batch.pending == 0:
                return False
    return False


def _lost(archive: Archive, first: int, last: int) -> ConfigError:
    return ConfigError(
        f"the stream USAGE has lost its messages {first} to {last}, which the ledger has not taken "
        f"in, and which the archive {archive.folder} does not hold. Restore it from a backup; "
        "to go on without them, move the ledger's files away"
    )
