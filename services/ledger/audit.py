"""The history of the registry as the table `registry_changes`, which every copy of the books keeps.

REGISTRY keeps every message for ever, so the table follows from it alone: it is written down once,
in the stream's order, and a file that is built anew has it again. Like what was told of budgets it
is no fact of the books' own, and not in their digest.
"""

import logging
from collections.abc import Sequence
from typing import Any

import duckdb
import msgspec

from schemas.streams import REGISTRY
from services.ledger.audit_rows import Change, change_row, read_change
from services.ledger.store import Store
from services.ledger.worker import Worker, wait_for_stream
from services.runtime.bus import Bus, StreamMessage

__all__ = ["AuditTable", "follow_audit"]

log = logging.getLogger(__name__)

CHANGES_AT_ONCE_MAX = 500
"""So many changes are one transaction, for which usage waits 35 ms (measured with 100,000 keys)."""
_STREAM = "registry_stream_created"


async def follow_audit(bus: Bus, worker: Worker) -> None:
    """Write down every change of the registry, for ever, from what the books have on."""
    state = await wait_for_stream(bus, REGISTRY.name)
    table = AuditTable(worker.books.store)
    last = await worker.in_books(lambda: table.last_of(state.created))
    async for batch in bus.follow(REGISTRY.name, last + 1):
        for start in range(0, len(batch.messages), CHANGES_AT_ONCE_MAX):
            some = batch.messages[start : start + CHANGES_AT_ONCE_MAX]
            await worker.in_books(lambda some=some: table.take(some))  # type: ignore[misc]


class AuditTable:
    """Writes the table, in the books' thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._connection: duckdb.DuckDBPyConnection = store.connection

    def last_of(self, stream_created: str) -> int:
        """Return the last message in the table; it is emptied where it is of another stream."""
        if self._store.meta(_STREAM) != stream_created:
            self._connection.execute("DELETE FROM registry_changes")
            self._store.set_meta(_STREAM, stream_created)
        found = self._connection.execute(
            "SELECT max(stream_sequence) FROM registry_changes"
        ).fetchall()
        return int(found[0][0] or 0)

    def take(self, messages: Sequence[StreamMessage]) -> None:
        """Write some messages down. What cannot be read is logged and left out."""
        changes = [change for message in messages if (change := _read(message)) is not None]
        if not changes:
            return
        states = self._states_before(changes)
        found: list[tuple[Any, ...]] = []
        for change in changes:
            which = (change.object_type, change.object_id)
            found.append(change_row(change, states.get(which)))
            states[which] = change.state
        self._store.put_registry_changes(found)

    def _states_before(self, changes: Sequence[Change]) -> dict[tuple[str, str], dict[str, Any]]:
        """Return the last states in the table of what some changes are about, by type and id."""
        # What was just made had no state before.
        wanted = list({each.object_id for each in changes if each.action != "created"})
        if not wanted:
            return {}
        found = self._connection.execute(
            "SELECT object_type, object_id, arg_max(state, stream_sequence) FROM registry_changes "
            "WHERE object_id IN (SELECT unnest(?::VARCHAR[])) GROUP BY ALL",
            [wanted],
        ).fetchall()
        return {(kind, object_id): msgspec.json.decode(state) for kind, object_id, state in found}


def _read(message: StreamMessage) -> Change | None:
    try:
        return read_change(message)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        log.error(
            "a registry event cannot be read and is left out of the audit: %s",
            error,
            extra={"subject": message.subject, "sequence": message.sequence},
        )
        return None
