"""The outbox: every event is in the journal before its answer ends, and leaves when it is stored.

Each life of a proxy worker is one producer with an id of its own and a sequence that counts its
events from 1: the event's CloudEvents source and id. A number can so never be used twice, whatever
was lost with the machine (docs/adr/0002).

One message is in flight at a time; it holds everything that was waiting (up to a size). A message
that was not acknowledged is sent again until it is: the ledger recognises repeats by the sequence.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict

import msgspec

from schemas.errors import Unavailable
from schemas.events import (
    EVENT_BYTES_MAX,
    GuardrailHit,
    GuardrailTriggered,
    Rejection,
    RequestFacts,
    RequestRejected,
    RequestStarted,
    UsageRecord,
    UsageRecorded,
    decode_usage_event,
    encode_event,
)
from schemas.streams import USAGE_BATCH_BYTES_MAX, USAGE_BATCH_EVENTS_MAX, usage_subject
from schemas.usage import Usage
from services.proxy.counts import Counts
from services.proxy.journal import Journal, Position, Record
from services.runtime.bus import Bus, BusError
from services.runtime.metrics import Sample, sample

__all__ = ["Outbox"]

log = logging.getLogger(__name__)

STARTED_DELAY_S = 0.1
"""A `request.started` alone waits so long for company before it is published."""
PUBLISH_INTERVAL_S = 0.02
"""Between the beginnings of two messages there is at least so much time, so that a busy proxy sends
few large ones. A message after a pause goes out at once (docs/adr/0007)."""
RETRY_WAIT_S = 0.2
RETRY_WAIT_MAX_S = 1.0
"""Between two tries to publish it waits so long, the first and the later times."""
TROUBLE_LOG_INTERVAL_S = 60.0
"""Trouble that lasts is logged when it begins, so often while it lasts, and when it is over."""
ROOM_WAIT_S = 0.05
"""Events that come in masses look so often whether there is room for more."""
UNWRITTEN_MAX = 10_000
"""Events held in memory while the disk is full; beyond that they are lost, counted and logged."""
_BATCH_OVERHEAD = 2

_EVENT = b"E"
_NOTE = b"N"


class _Note(msgspec.Struct, frozen=True):
    """What is known of a request under way: not published, read after a crash alone."""

    facts: RequestFacts
    usage: Usage | None = None


class _Identity(msgspec.Struct):
    source: str = ""
    id: str = ""


class _Envelope(TypedDict):
    source: str
    id: str
    time: datetime
    subject: str


_note_decoder = msgspec.json.Decoder(_Note)
_identity_decoder = msgspec.json.Decoder(_Identity)


class Outbox:
    """The events of one proxy worker, on their way to JetStream.

    Making one takes over what an earlier life left in the folder: its unpublished events are
    published as they are, and requests that it never ended are closed as failures.
    """

    def __init__(
        self,
        folder: Path,
        *,
        bytes_max: int,
        refuse_when_full: bool,
        now_us: Callable[[], int],
        journal: Journal | None = None,
    ) -> None:
        self._journal = journal or Journal(folder)
        self._bytes_max = bytes_max
        self._refuse_when_full = refuse_when_full
        self._now_us = now_us
        self.producer = secrets.token_hex(8)
        self._source = f"/proxy/{self.producer}"
        self._sequence = 0
        self._open: dict[str, _Note] = {}
        self._unwritten: list[tuple[bytes, bytes]] = []
        self.events_lost = 0
        self.counts = Counts()
        self.on_published: Callable[[int, int], None] = lambda _number, _sequence: None
        """Called with the number of an event and its message's sequence in the stream."""
        self._trouble_told_at_s: float | None = None
        self._due = asyncio.Event()
        self._delayed: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._close_orphans()

    def configure(self, *, bytes_max: int, refuse_when_full: bool) -> None:
        """Take new limits for all requests that come from now on."""
        self._bytes_max = bytes_max
        self._refuse_when_full = refuse_when_full

    # ---------------------------------------------------------------------------- events in

    def check_room(self) -> None:
        """Raise Unavailable where the outbox is full and the setting says refuse."""
        if not self._refuse_when_full:
            return
        if self._journal.bytes_unread > self._bytes_max or self._unwritten:
            raise Unavailable(
                "The gateway cannot record requests at the moment (its outbox is full: NATS is "
                "down or the disk is full), so it takes none. Ask your administrator",
                {"retry-after": "5"},
            )

    async def wait_room(self) -> None:
        """Wait while half of the room is taken, where the setting says refuse.

        For events that come in masses: the other half is left to the requests beside them.
        """
        while self._refuse_when_full and (  # noqa: ASYNC110 - acknowledgements come by the file
            2 * self._journal.bytes_unread > self._bytes_max or self._unwritten
        ):
            await asyncio.sleep(ROOM_WAIT_S)

    def request_started(self, facts: RequestFacts) -> int:
        """Write that a request is about to be sent to its deployment; return the event's number."""
        self._open[facts.request_id] = _Note(facts)
        event = RequestStarted(**self._envelope(facts.request_id), data=facts)
        # A strict budget lets nothing further in until this is counted.
        self._append(encode_event(event), is_urgent=facts.reserved_usd is not None)
        return self._sequence

    def usage_seen(self, request_id: str, usage: Usage) -> None:
        """Note what a running request has used so far, in case this process dies."""
        note = self._open.get(request_id)
        if note is not None:
            note = _Note(note.facts, _without_iterations(usage))
            self._open[request_id] = note
            self._write(_NOTE, msgspec.json.encode(note))

    def usage_recorded(self, record: UsageRecord) -> int:
        """Write that a request is over; return the event's number.

        It is in the journal when this returns.
        """
        self._open.pop(record.request_id, None)
        self.counts.ended(record)
        event = UsageRecorded(**self._envelope(record.request_id), data=record)
        payload = encode_event(event)
        if len(payload) > EVENT_BYTES_MAX:
            payload = encode_event(msgspec.structs.replace(event, data=_shortened(record)))
        self._append(payload)
        return self._sequence

    def request_rejected(self, rejection: Rejection) -> None:
        """Write that the gateway refused a request."""
        event = RequestRejected(**self._envelope(rejection.request_id), data=rejection)
        self._append(encode_event(event))

    def guardrail_triggered(self, hit: GuardrailHit) -> None:
        """Write what a guardrail found in a request, before that is answered or sent on."""
        self.counts.guarded(hit)
        event = GuardrailTriggered(**self._envelope(hit.request_id), data=hit)
        self._append(encode_event(event), is_urgent=False)

    def _envelope(self, subject: str) -> _Envelope:
        self._sequence += 1
        return {
            "source": self._source,
            "id": str(self._sequence),
            "time": datetime.now(UTC),
            "subject": subject,
        }

    def _append(self, payload: bytes, *, is_urgent: bool = True) -> None:
        self._write(_EVENT, payload)
        self._idle.clear()
        if is_urgent:
            self._due.set()
        elif self._delayed is None:
            self._delayed = asyncio.get_running_loop().call_later(STARTED_DELAY_S, self._due.set)

    def _write(self, kind: bytes, payload: bytes) -> None:
        if self._unwritten:
            self._keep(kind, payload)
            self._write_again()
            return
        try:
            self._journal.append(kind, payload)
        except OSError as error:
            log.error("the outbox cannot be written (kept in memory meanwhile): %s", error)
            self._keep(kind, payload)
            return
        self._rotate_when_full()

    def _keep(self, kind: bytes, payload: bytes) -> None:
        """Hold in memory what the disk did not take, in order."""
        if len(self._unwritten) >= UNWRITTEN_MAX:
            self.events_lost += 1
            log.error("an event is lost: the disk is full and so is the memory set aside for it")
            return
        self._unwritten.append((kind, payload))

    def _write_again(self) -> None:
        while self._unwritten:
            try:
                self._journal.append(*self._unwritten[0])
            except OSError:
                return
            del self._unwritten[0]
        self._rotate_when_full()
        log.info("the outbox can be written again")

    def _rotate_when_full(self) -> None:
        """Begin a new segment in time, with what is known of the requests under way at its head.

        Older segments are dropped once published; a crash later must still find these requests.
        """
        if not self._journal.is_segment_full:
            return
        try:
            self._journal.rotate()
        except OSError as error:
            log.error("the outbox cannot begin a new segment: %s", error)
            return
        notes = [(_NOTE, msgspec.json.encode(note)) for note in self._open.values()]
        try:
            while notes:
                self._journal.append(*notes[0])
                del notes[0]
        except OSError as error:
            log.error("the outbox cannot be written (kept in memory meanwhile): %s", error)
            self._unwritten[:0] = notes

    # ----------------------------------------------------------------------------- recovery

    def _close_orphans(self) -> None:
        """Close the requests that an earlier life of this worker did not live to end."""
        orphans: dict[str, _Note] = {}
        for record in self._journal.records():
            try:
                if record.kind == _NOTE:
                    note = _note_decoder.decode(record.payload)
                    orphans[note.facts.request_id] = note
                    continue
                event = decode_usage_event(record.payload)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                # Of another version, perhaps. It is published as it is; only this look-up lacks it.
                log.error("a record of the outbox is not understood")
                continue
            if isinstance(event, RequestStarted):
                orphans.setdefault(event.data.request_id, _Note(event.data))
            elif isinstance(event, UsageRecorded):
                orphans.pop(event.data.request_id, None)
        for note in orphans.values():
            self._close_orphan(note)
        if orphans:
            log.warning("closed %d requests that were under way in a crash", len(orphans))
        self._journal.drop_read_segments()
        if self._journal.bytes_unread:
            self._due.set()

    def _close_orphan(self, note: _Note) -> None:
        facts = msgspec.structs.asdict(note.facts)
        basis = "the proxy died: what had been reported when it did"
        if note.usage is None:
            basis = "the proxy died before the deployment reported anything"
        self.usage_recorded(
            UsageRecord(
                **facts,
                ended_at_us=max(self._now_us(), note.facts.started_at_us),
                status="failure",
                http_status=0,
                error_type="proxy_died",
                usage=note.usage,
                estimated=True,
                estimate_basis=basis,
            )
        )

    # --------------------------------------------------------------------------- events out

    async def publish_for_ever(self, bus: Bus) -> None:
        """Publish what is waiting, batch by batch, for as long as the process lives."""
        wait_s = RETRY_WAIT_S
        loop = asyncio.get_running_loop()
        published_at_s = 0.0
        is_behind = False
        while True:
            early_s = published_at_s + PUBLISH_INTERVAL_S - loop.time()
            if early_s > 0 and not is_behind:
                await asyncio.sleep(early_s)
            if self._unwritten:
                self._write_again()
            records, position = self._journal.read(
                self._journal.read_position, USAGE_BATCH_BYTES_MAX
            )
            if not records:
                if self._unwritten:
                    await asyncio.sleep(RETRY_WAIT_S)
                    continue
                self._idle.set()
                await self._wait_due()
                continue
            published_at_s = loop.time()
            batch, position = _batch(records, position)
            try:
                if batch:
                    message = b"[" + b",".join(batch) + b"]"
                    self._tell_published(batch[-1], await bus.publish(usage_subject(), message))
            except BusError as error:
                self._tell_trouble(error)
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, RETRY_WAIT_MAX_S)
                continue
            wait_s = RETRY_WAIT_S
            self._tell_trouble(None)
            self._journal.acknowledge(position)
            # A backlog waits for nothing.
            is_behind = self._journal.bytes_unread > USAGE_BATCH_BYTES_MAX // 2

    def _tell_published(self, last: bytes, sequence: int) -> None:
        """Say up to which of its numbers this life's events are in the stream."""
        event = _identity_decoder.decode(last)
        if event.source == self._source:
            self.on_published(int(event.id), sequence)

    def _tell_trouble(self, error: BusError | None) -> None:
        """Log that events cannot be published, or that they can be again."""
        now_s = asyncio.get_running_loop().time()
        if error is None:
            if self._trouble_told_at_s is not None:
                log.info("events are published again")
            self._trouble_told_at_s = None
        elif (
            self._trouble_told_at_s is None
            or now_s - self._trouble_told_at_s > TROUBLE_LOG_INTERVAL_S
        ):
            self._trouble_told_at_s = now_s
            log.warning("events wait in the outbox (%d bytes): %s", self.bytes_waiting, error)

    async def _wait_due(self) -> None:
        await self._due.wait()
        self._due.clear()
        if self._delayed is not None:
            self._delayed.cancel()
            self._delayed = None

    async def flush(self, timeout_s: float) -> bool:
        """Wait until everything is published; False where that took too long."""
        self._due.set()
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    @property
    def bytes_waiting(self) -> int:
        """How much waits to be published."""
        return self._journal.bytes_unread

    def samples(self) -> list[Sample]:
        """Return the metrics of the outbox, and of what was counted on the way into it."""
        return [
            *self.counts.samples(),
            sample("tallygate_requests_in_flight", len(self._open)),
            sample("tallygate_outbox_bytes", self.bytes_waiting),
            sample("tallygate_outbox_limit_bytes", self._bytes_max),
            sample("tallygate_outbox_events_total", self._sequence),
            sample("tallygate_outbox_unwritten_events", len(self._unwritten)),
            sample("tallygate_outbox_events_lost_total", self.events_lost),
        ]

    def close(self) -> None:
        """Close the journal's files."""
        self._journal.close()


def _without_iterations(usage: Usage) -> Usage:
    return msgspec.structs.replace(usage, iterations=()) if usage.iterations else usage


def _shortened(record: UsageRecord) -> UsageRecord:
    """Return a record without the usage's parts, which alone can be so many."""
    usage = record.usage
    basis = "the list of iterations was too long to be recorded"
    return msgspec.structs.replace(
        record,
        usage=None if usage is None else _without_iterations(usage),
        estimated=True,
        estimate_basis=f"{record.estimate_basis}; {basis}" if record.estimate_basis else basis,
    )


def _batch(records: list[Record], end: Position) -> tuple[list[bytes], Position]:
    """Return the events of one message, and the position behind the last record it covers."""
    events: list[bytes] = []
    size = _BATCH_OVERHEAD
    left = 0
    for index, record in enumerate(records):
        too_large = size + len(record.payload) + 1 > USAGE_BATCH_BYTES_MAX
        if (
            record.kind == _EVENT
            and events
            and (too_large or len(events) >= USAGE_BATCH_EVENTS_MAX)
        ):
            left = sum(r.size for r in records[index:])
            break
        if record.kind == _EVENT:
            events.append(record.payload)
            size += len(record.payload) + 1
    return events, Position(end.segment, end.offset - left)
