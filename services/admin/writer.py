"""Changing the registry: one event per change, guarded against a change made meanwhile.

A change is over when its event is stored in REGISTRY and this service's own snapshot holds it, so
that whoever reads after the answer sees the change.
"""

import asyncio
import logging
import time
import uuid
from datetime import UTC, datetime
from typing import Any, TypeAlias

from schemas.errors import BadRequest, Conflict, Unavailable
from schemas.events import (
    EVENT_BYTES_MAX,
    Event,
    KeyBlocked,
    KeyCreated,
    KeyDeleted,
    KeyRotated,
    KeyUnblocked,
    KeyUpdated,
    ModelCreated,
    ModelDeleted,
    ModelUpdated,
    TeamBlocked,
    TeamCreated,
    TeamDeleted,
    TeamUnblocked,
    TeamUpdated,
    UserCreated,
    UserDeleted,
    UserUpdated,
    encode_event,
)
from schemas.registry import KeyRecord, ModelRecord, TeamRecord, UserRecord
from services.admin.directory import alias_holders, sequence_of
from services.admin.origin import current_origin
from services.admin.preconditions import PreconditionFailed, current_condition
from services.runtime.bus import Bus, BusError, BusUnavailable, WrongLastSequence
from services.runtime.registry import RegistrySnapshot, subject_of

__all__ = ["Change", "RegistryWriter", "alias_taken", "refuse_taken_alias"]

log = logging.getLogger(__name__)

Changed: TypeAlias = KeyRecord | TeamRecord | UserRecord | ModelRecord
KeyChange = (
    type[KeyCreated]
    | type[KeyUpdated]
    | type[KeyBlocked]
    | type[KeyUnblocked]
    | type[KeyRotated]
    | type[KeyDeleted]
)
Change = (
    KeyChange
    | type[TeamCreated]
    | type[TeamUpdated]
    | type[TeamBlocked]
    | type[TeamUnblocked]
    | type[TeamDeleted]
    | type[UserCreated]
    | type[UserUpdated]
    | type[UserDeleted]
    | type[ModelCreated]
    | type[ModelUpdated]
    | type[ModelDeleted]
)

SOURCE = "/admin"
OWN_WRITE_WAIT_S = 2.0
"""An answer waits so long for this service's snapshot to hold what was stored; then it goes."""
RECONNECT_WAIT_S = 2.0
"""A change whose acknowledgement was lost is sent once more if NATS is back within this time."""

_NOT_CONNECTED = "NATS cannot be reached, so nothing was changed. Try again when it is back"
_UNKNOWN = (
    "NATS did not confirm the change in time: it may be stored or not. Look with {look} "
    "before you try again"
)
_CHANGED_MEANWHILE = (
    "the {kind} was changed by somebody else at the same moment, so nothing was changed. Read it "
    "with GET /{kind}/info and try again"
)


class RegistryWriter:
    """Publishes changes of the registry, and waits until the own snapshot holds them."""

    def __init__(self, bus: Bus, snapshot: RegistrySnapshot) -> None:
        self._bus = bus
        self._snapshot = snapshot
        self._progress = asyncio.Event()

    def progressed(self) -> None:
        """Wake those who wait for the snapshot: it has taken in another batch."""
        self._progress.set()
        self._progress = asyncio.Event()

    async def write(
        self,
        change: Change,
        record: Changed,
        *,
        expected_sequence: int,
        is_consequence: bool = False,
    ) -> int:
        """Store a record's new state, if its last event is still the one at `expected_sequence`.

        Return the sequence of the new event. Raises Conflict where another came between, or
        PreconditionFailed where the request named the state in `If-Match`; Unavailable where NATS
        cannot store it (the message says whether it is certain that nothing was stored),
        BadRequest where the record is too large. `If-Match` is about the records that a request
        names: a change that only follows from theirs `is_consequence`.
        """
        if not is_consequence:
            self.check(record, expected_sequence)
        event = _event(change, record)
        payload = encode_event(event)
        if len(payload) > EVENT_BYTES_MAX:
            raise BadRequest(
                f"the {_kind(record)}'s settings are longer than {EVENT_BYTES_MAX} bytes altogether"
            )
        condition = current_condition()
        is_demanded = (
            condition is not None and condition.sequences is not None and not is_consequence
        )
        try:
            sequence = await self._store(record, event, payload, expected_sequence)
        except Conflict:
            if is_demanded:
                raise PreconditionFailed(_kind(record)) from None
            raise
        await self.seen(sequence)
        return sequence

    def check(self, record: Changed, sequence: int) -> None:
        """Raise PreconditionFailed unless the request's `If-Match` fits a record's state.

        `write` does so for each record; a request that changes several asks for all of them first,
        and one that finds nothing to change asks, too.
        """
        condition = current_condition()
        if condition is not None and not condition.admits(sequence):
            raise PreconditionFailed(_kind(record))

    async def claim_alias(self, change: KeyChange, record: KeyRecord, before: KeyRecord) -> None:
        """Give a written key's alias back if another key got it at the same moment.

        Aliases of different keys are different subjects, so the stream cannot refuse the second.
        It orders them instead: of two keys with one alias the later event loses, and the admin
        that wrote it undoes it. `before` is the state to go back to (a created key's: deleted).
        """
        if record.key_alias is None:
            return
        holders = alias_holders(self._snapshot, record.key_alias)
        mine = sequence_of(self._snapshot, record)
        if not any(
            sequence_of(self._snapshot, holder) < mine
            for holder in holders
            if holder.key_id != record.key_id
        ):
            return
        await self.write(change, before, expected_sequence=mine, is_consequence=True)
        raise alias_taken(record.key_alias)

    async def _store(
        self, record: Changed, event: Event, payload: bytes, expected_sequence: int
    ) -> int:
        if not self._bus.is_connected:
            raise Unavailable(_NOT_CONNECTED)
        subject = subject_of(record)
        kind = _kind(record)
        look = "GET /model/info" if kind == "model" else f"GET /{kind}/list"
        unknown = _UNKNOWN.format(look=look)
        for attempt in (1, 2):
            try:
                return await self._bus.publish(
                    subject,
                    payload,
                    message_id=event.id,
                    expected_last_subject_sequence=expected_sequence,
                )
            except WrongLastSequence:
                if attempt == 2 and await self._is_stored(record):  # noqa: PLR2004
                    return self._snapshot.sequence_of(subject)
                param = "key" if kind == "key" else f"{kind}_id"
                raise Conflict(_CHANGED_MEANWHILE.format(kind=kind), param=param) from None
            except BusUnavailable:
                if attempt == 2:  # noqa: PLR2004
                    raise Unavailable(unknown) from None
                try:
                    await self._bus.wait_connected(RECONNECT_WAIT_S)
                except BusUnavailable:
                    raise Unavailable(unknown) from None
            except BusError as error:
                log.error("NATS refused an event of the registry: %s", error)
                raise Unavailable(
                    "NATS refused to store the change, so nothing was changed; the log of the "
                    "admin service says why"
                ) from None
        raise AssertionError("the second attempt returns or raises")

    async def _is_stored(self, record: Changed) -> bool:
        """Tell whether the first attempt, whose acknowledgement was lost, is the stored state."""
        deadline_s = time.monotonic() + OWN_WRITE_WAIT_S
        while not self._snapshot.holds(record):
            if not await self._next_progress(deadline_s):
                return False
        return True

    async def seen(self, sequence: int) -> None:
        """Wait until the snapshot stands at a sequence, for OWN_WRITE_WAIT_S at most."""
        deadline_s = time.monotonic() + OWN_WRITE_WAIT_S
        while self._snapshot.sequence < sequence:
            if not await self._next_progress(deadline_s):
                log.warning("the snapshot is behind", extra={"sequence": sequence})
                return

    async def _next_progress(self, deadline_s: float) -> bool:
        progress = self._progress
        try:
            async with asyncio.timeout(max(0.0, deadline_s - time.monotonic())):
                await progress.wait()
        except TimeoutError:
            return False
        return True


def refuse_taken_alias(snapshot: RegistrySnapshot, record: KeyRecord) -> None:
    """Raise Conflict where another live key has the alias of this one."""
    if record.key_alias is None:
        return
    if any(holder.key_id != record.key_id for holder in alias_holders(snapshot, record.key_alias)):
        raise alias_taken(record.key_alias)


def alias_taken(key_alias: str) -> Conflict:
    """Return the error for an alias that another live key has."""
    return Conflict(
        f"another key has the alias {key_alias!r}: choose another, or delete that key",
        param="key_alias",
    )


def _kind(record: Changed) -> str:
    if isinstance(record, KeyRecord):
        return "key"
    if isinstance(record, ModelRecord):
        return "model"
    return "team" if isinstance(record, TeamRecord) else "user"


def _event(change: Change, record: Changed) -> Event:
    # Each of a change's routes pairs it with its own record: the types cannot say so.
    make: Any = change
    origin = current_origin()
    event: Event = make(
        source=SOURCE,
        id=str(uuid.uuid4()),
        time=datetime.now(UTC),
        subject=_subject(record),
        clientaddress=origin.client_address,
        route=origin.route,
        requestid=origin.request_id,
        data=record,
    )
    return event


def _subject(record: Changed) -> str:
    if isinstance(record, KeyRecord):
        return record.key_id
    if isinstance(record, ModelRecord):
        return record.model_id
    return record.team_id if isinstance(record, TeamRecord) else record.user_id
