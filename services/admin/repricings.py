"""Repricing: what it would change is asked of the reader, and applying it is one event."""

import asyncio
import logging
import time
import uuid
from datetime import UTC, datetime

import msgspec

from schemas.errors import BadRequest, Conflict, Unavailable
from schemas.events import EVENT_BYTES_MAX, RequestsRepriced, encode_event
from schemas.prices import Repricing
from schemas.reprice import RepriceReply, RepriceSums
from schemas.streams import REPRICE_ASK_SUBJECT, REPRICE_SUBJECT
from services.admin.bodies_reprice import GivenReprice, Repriced
from services.admin.days import midnight_us
from services.admin.ledger_client import LedgerClient
from services.admin.origin import current_origin
from services.admin.prices import checked_entries
from services.runtime.bus import Bus, BusError, BusUnavailable, WrongLastSequence

__all__ = ["Repricings"]

log = logging.getLogger(__name__)

ASK_TIMEOUT_S = 55.0
"""The reader may take so long: 300,000 requests take it some seconds (docs/performance.md)."""
SEEN_WAIT_S = 60.0
SEEN_POLL_S = 0.1
SOURCE = "/admin"
_LAST = "SELECT coalesce(max(stream_sequence), 0) FROM repricings"
_DONE = (
    "SELECT applied, requests, changed_requests, cost_before_usd, cost_after_usd, "
    "cost_after_usd - cost_before_usd AS difference_usd, unpriced_before, unpriced_after "
    "FROM repricings WHERE stream_sequence = ?"
)
_UNKNOWN = (
    "NATS did not confirm the repricing in time: it may be stored or not. Look at the table "
    "repricings before you try again"
)


class Repricings:
    """Asks what repricings would change, and has them applied."""

    def __init__(self, bus: Bus, ledger: LedgerClient) -> None:
        self._bus = bus
        self._ledger = ledger

    async def reprice(self, body: GivenReprice, by: str) -> Repriced:
        """Say what changes, and with `apply` have it changed.

        Raises BadRequest, Conflict (somebody else repriced meanwhile), Unavailable.
        """
        repricing = _repricing(body, by)
        last = int((await self._ledger.query(_LAST)).rows[0][0])
        reply = await self._ask(repricing)
        assert reply.total is not None
        if not body.apply:
            return Repriced(applied=False, sequence=None, total=reply.total, lines=reply.lines)
        sequence = await self._store(repricing, last)
        log.info("requests are repriced", extra={"by": by, "sequence": sequence})
        total = await self._seen(sequence)
        return Repriced(applied=True, sequence=sequence, total=total, lines=reply.lines)

    async def _ask(self, repricing: Repricing) -> RepriceReply:
        try:
            payload = await self._bus.request(
                REPRICE_ASK_SUBJECT, msgspec.json.encode(repricing), timeout_s=ASK_TIMEOUT_S
            )
        except BusUnavailable:
            raise Unavailable(
                "the ledger's reader did not say what would change; nothing was changed. Try again "
                "when it is there, or with fewer days"
            ) from None
        reply = msgspec.json.decode(payload, type=RepriceReply)
        if reply.error is None:
            return reply
        if reply.too_large:
            raise BadRequest(reply.error, param="from")
        raise Unavailable(reply.error)

    async def _store(self, repricing: Repricing, last: int) -> int:
        event = RequestsRepriced(
            source=SOURCE,
            id=str(uuid.uuid4()),
            time=datetime.now(UTC),
            subject=REPRICE_SUBJECT,
            data=repricing,
        )
        payload = encode_event(event)
        if len(payload) > EVENT_BYTES_MAX:
            raise BadRequest(f"the prices are longer than {EVENT_BYTES_MAX} bytes", param="prices")
        try:
            return await self._bus.publish(
                REPRICE_SUBJECT, payload, message_id=event.id, expected_last_subject_sequence=last
            )
        except WrongLastSequence:
            raise Conflict(
                "somebody else repriced meanwhile, so nothing was changed. Look again at what "
                "changes, and apply that"
            ) from None
        except BusUnavailable:
            raise Unavailable(_UNKNOWN) from None
        except BusError as error:
            log.error("NATS refused a repricing: %s", error)
            raise Unavailable(
                "NATS refused to store the repricing, so nothing was changed; the log of the admin "
                "service says why"
            ) from None

    async def _seen(self, sequence: int) -> RepriceSums:
        """Return what it came to, once it is applied. Raises Unavailable, BadRequest."""
        deadline_s = time.monotonic() + SEEN_WAIT_S
        while True:
            reply = await self._ledger.query(_DONE, (sequence,))
            if reply.rows:
                break
            if time.monotonic() > deadline_s:
                raise Unavailable(
                    f"the repricing is stored (message {sequence}), and the reader has not applied "
                    "it yet: the table repricings says when it has"
                )
            await asyncio.sleep(SEEN_POLL_S)
        applied, *sums = reply.rows[0]
        if not applied:
            raise BadRequest("more requests were meant by then than one repricing may change")
        names = [column.name for column in reply.columns[1:]]
        return msgspec.convert(dict(zip(names, sums, strict=True)), RepriceSums, strict=False)


def _repricing(body: GivenReprice, by: str) -> Repricing:
    from_us = midnight_us("from", body.from_)
    to_us = None if body.to is None else midnight_us("to", body.to)
    if to_us is not None and to_us <= from_us:
        raise BadRequest("to is the first day that is not meant: it must be after from", param="to")
    if body.apply and not body.reason.strip():
        raise BadRequest("say why, in reason: it is kept with the repricing", param="reason")
    return Repricing(
        from_us=from_us,
        to_us=to_us,
        models=body.models,
        overlays=checked_entries(body.prices),
        reason=body.reason,
        repriced_at_us=time.time_ns() // 1000,
        repriced_by=by,
        **msgspec.structs.asdict(current_origin()),
    )
