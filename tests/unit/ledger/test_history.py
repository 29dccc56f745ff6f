"""Archive and stream as one sequence, also while one moves into the other."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import cast

import pytest

from schemas.errors import ConfigError
from services.ledger.archive import Archive
from services.ledger.history import follow_history
from services.runtime.bus import Bus, StreamBatch, StreamMessage, StreamState

STATE = StreamState(1, 7, 7, "2026-11-25T00:00:00Z")


def messages(*sequences: int) -> tuple[StreamMessage, ...]:
    return tuple(StreamMessage(each, "usage.0", b"[%d]" % each, each) for each in sequences)


class Overtaken:
    """Stands for a bus whose stream loses messages 3 and 4 to the archive while it is read."""

    def __init__(self, archive: Archive, archived: tuple[int, ...]) -> None:
        self._archive = archive
        self._archived = archived

    async def follow(self, _: str, start: int) -> AsyncGenerator[StreamBatch, None]:
        if start == 1:
            yield StreamBatch(messages(1, 2), 3)
            if self._archived:
                self._archive.write(messages(*self._archived))
        yield StreamBatch(messages(*(each for each in (5, 6) if each >= start)), 1)
        yield StreamBatch(messages(7), 0)


def taken(folder: Path, archived: tuple[int, ...]) -> list[int]:
    async def work() -> list[int]:
        bus = cast("Bus", Overtaken(Archive(folder, STATE.created), archived))
        found: list[int] = []
        async for batch in follow_history(bus, folder, STATE, 1):
            found += [each.sequence for each in batch.messages]
            if batch.pending == 0:
                return found
        return found

    return asyncio.run(work())


@pytest.mark.parametrize("archived", [(1, 2, 3, 4), (3, 4), (1, 2, 3, 4, 5, 6), (4,), (3,), ()])
def test_who_is_overtaken_by_the_archiving_goes_on_in_the_archive(
    tmp_path: Path, archived: tuple[int, ...]
) -> None:
    # Given messages that leave the stream while it is read, then those that the archive has are
    # read there, each once and in order, and one that neither has is an error that names it.
    if {3, 4} <= set(archived):
        assert taken(tmp_path, archived) == [1, 2, 3, 4, 5, 6, 7]
    else:
        first = 4 if archived == (3,) else 3
        with pytest.raises(ConfigError, match=f"has lost its messages {first} to 4"):
            taken(tmp_path, archived)
