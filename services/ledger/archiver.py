"""Archiving: the writer moves what is old from the stream into the archive.

JetStream is told no age and no size at which to drop messages by itself. The writer takes them out,
one chunk after the other, each in these steps, and a kill between any two of them loses nothing:

1. Only what the books have committed is read, from the message after the archive's last one.
2. A file is written under another name, synced, renamed, and its folder synced (services.ledger.
   archive). Killed here, the chunk is still in the stream and is written anew.
3. The file is read back and its digest compared.
4. The stream is told to drop the usage up to the file's last message. Killed before it, the next
   life does this first; messages that are in both are read from the archive.

Price changes are archived with the rest but stay in the stream too: whoever publishes the next one
names the last one's sequence (docs/adr/0015). Where the disk takes no file, nothing is dropped.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import aclosing, suppress
from pathlib import Path

from schemas.config import Settings
from schemas.errors import TallygateError
from schemas.streams import USAGE
from services.ledger.archive import (
    CHUNK_BYTES_MAX,
    CHUNK_MESSAGES_MAX,
    Archive,
    chunk_bytes,
)
from services.ledger.worker import Worker
from services.runtime.bus import Bus, StreamMessage

__all__ = ["ARCHIVED_SUBJECTS", "ARCHIVE_INTERVAL_S", "Archiver"]

log = logging.getLogger(__name__)

ARCHIVE_INTERVAL_S = 30.0
"""So often it is looked whether something is due."""
ARCHIVED_SUBJECTS = "usage.*"
"""What leaves the stream once it is archived."""
_DAY_US = 24 * 3600 * 1_000_000


class Archiver:
    """Keeps the stream as short as the settings want it. `folder` is where the archive is."""

    def __init__(
        self,
        bus: Bus,
        worker: Worker,
        folder: Path,
        settings: Settings,
        *,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._bus = bus
        self._worker = worker
        self._folder = folder
        self._settings = settings
        self._now_us = now_us
        self._due = asyncio.Event()
        self._dropped_to = 0
        self._oldest_us: int | None = None
        """When the oldest message that is not archived was stored, as far as it is known."""

    @property
    def archived_to(self) -> int:
        """The last message that is in the archive and no more in the stream, as far as known."""
        return self._dropped_to

    def take(self, settings: Settings) -> None:
        """Go by other settings from now on."""
        self._settings = settings
        self._due.set()

    async def run(self) -> None:
        """Archive what is due, again and again; a failure is told, and tried again."""
        await self._worker.caught_up()
        while True:
            self._due.clear()
            try:
                await self.archive_due()
            except (TallygateError, OSError) as error:
                log.error(
                    "usage is not archived, and stays in the stream until it is: %s; trying again",
                    error,
                )
            with suppress(TimeoutError):
                await asyncio.wait_for(self._due.wait(), ARCHIVE_INTERVAL_S)

    async def archive_due(self) -> int:
        """Archive, and drop from the stream, all that is due; return how many messages that was.

        Due are whole days (UTC) that ended `usage_retention_days` or longer ago, and, where the
        stream is larger than `usage_stream_bytes_max`, the oldest until it is half of that.
        """
        state = await self._bus.stream_state(USAGE.name)
        archive = Archive(self._folder, state.created)
        await asyncio.to_thread(archive.remove_partial)
        files = await asyncio.to_thread(archive.files)
        archived = files[-1].last if files else 0
        if archived > self._dropped_to:
            # The last life may have been killed between a file and what follows from it.
            await asyncio.to_thread(archive.verify_file, files[-1])
            await self._drop(archived)
            state = await self._bus.stream_state(USAGE.name)
        is_too_large = state.bytes > self._settings.usage_stream_bytes_max
        moved = 0
        while True:
            is_too_large = is_too_large and state.bytes > self._settings.usage_stream_bytes_max // 2
            before_us = None if is_too_large else self._cut_us()
            if before_us is not None and (self._oldest_us or 0) >= before_us:
                return moved
            chunk = await self._chunk(archived + 1, before_us)
            if not chunk:
                return moved
            file = await asyncio.to_thread(archive.write, chunk)
            await asyncio.to_thread(archive.verify_file, file)
            await self._drop(file.last)
            archived, moved, self._oldest_us = file.last, moved + len(chunk), None
            log.info("usage is archived", extra={"first": file.first, "last": file.last})
            state = await self._bus.stream_state(USAGE.name)

    def _cut_us(self) -> int:
        """Return the midnight (UTC) before which everything is due."""
        kept_us = self._settings.usage_retention_days * _DAY_US
        return (self._now_us() - kept_us) // _DAY_US * _DAY_US

    async def _chunk(self, start: int, before_us: int | None) -> list[StreamMessage]:
        """Return the next messages to archive, without a gap; none where nothing is due."""
        chunk: list[StreamMessage] = []
        size_bytes = 0
        committed = self._worker.sequence
        if start > committed:
            return chunk
        async with aclosing(self._bus.follow(USAGE.name, start)) as batches:
            async for batch in batches:
                for message in batch.messages:
                    if message.sequence > committed:
                        return chunk
                    if before_us is not None and message.stored_at_us >= before_us:
                        self._oldest_us = self._oldest_us or message.stored_at_us
                        return chunk
                    expected = chunk[-1].sequence + 1 if chunk else start
                    if message.sequence != expected:
                        if chunk:
                            return chunk
                        log.error(
                            "messages %d to %d of the stream USAGE are neither in it nor in the "
                            "archive (was the archive's folder lost?): the books have them, but "
                            "cannot be built anew. Restore the archive from a backup",
                            expected,
                            message.sequence - 1,
                        )
                    size_bytes += chunk_bytes(message)
                    if chunk and size_bytes > CHUNK_BYTES_MAX:
                        return chunk
                    chunk.append(message)
                    if len(chunk) >= CHUNK_MESSAGES_MAX:
                        return chunk
                if batch.pending == 0:
                    return chunk
        return chunk

    async def _drop(self, last: int) -> None:
        await self._bus.drop(USAGE.name, ARCHIVED_SUBJECTS, last)
        self._dropped_to = last
