"""Deleting the keys of what was deleted: all of them, whatever others do to them meanwhile."""

import asyncio
from collections.abc import Callable, Iterable

import msgspec

from schemas.errors import Conflict
from schemas.events import KeyDeleted
from schemas.registry import KeyRecord
from services.admin.directory import sequence_of
from services.admin.members import CHANGE_ATTEMPTS, CHANGE_WAIT_S
from services.admin.records import Issue
from services.admin.state import AdminState

__all__ = ["delete_keys_that_follow"]


async def delete_keys_that_follow(
    admin: AdminState, live: Callable[[], Iterable[KeyRecord]], issue: Issue
) -> int:
    """Delete keys as the consequence of another change; return how many.

    `live` returns those that are still to go, as the registry stands. One that somebody else
    changes at the same moment is looked at again. Raises Conflict where that does not end, and
    Unavailable.
    """
    count = 0
    for attempt in range(CHANGE_ATTEMPTS):
        met = False
        # Each with its sequence of this moment: what is awaited between two may change the next.
        for key, sequence in [(key, sequence_of(admin.snapshot, key)) for key in live()]:
            gone = msgspec.structs.replace(
                key, deleted=True, updated_at_us=issue.now_us, updated_by=issue.by
            )
            try:
                await admin.writer.write(
                    KeyDeleted, gone, expected_sequence=sequence, is_consequence=True
                )
            except Conflict:
                if attempt + 1 == CHANGE_ATTEMPTS:
                    raise
                met = True
            else:
                count += 1
        if not met:
            return count
        await asyncio.sleep(CHANGE_WAIT_S)
    raise AssertionError("the last attempt returns or raises")
