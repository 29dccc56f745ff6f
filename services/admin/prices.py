"""Setting prices: checked by the file's own rules, stored as one event, seen by the ledger.

What is in force is asked of the ledger's reader, which knows by the stream. A change is stored
only if the last one is that which was read before: two admins cannot overwrite each other unseen.
"""

import asyncio
import logging
import time
import uuid
from datetime import UTC, datetime

import msgspec

from schemas.errors import BadRequest, Conflict, Unavailable
from schemas.events import EVENT_BYTES_MAX, PriceChanged, encode_event
from schemas.prices import PriceChange, PriceOverlay
from schemas.streams import price_subject
from services.admin.bodies_prices import PriceChangeMade, PricesInForce, PricesSet
from services.admin.ledger_client import LedgerClient
from services.admin.origin import current_origin
from services.runtime.bus import Bus, BusError, BusUnavailable, WrongLastSequence
from services.runtime.config_prices import read_overlays, read_prices
from services.runtime.config_reader import ConfigReader
from services.runtime.registry_models import json_node

__all__ = ["Prices"]

log = logging.getLogger(__name__)

SEEN_WAIT_S = 2.0
"""An answer waits so long for the ledger to have taken a change in; then it goes."""
SEEN_POLL_S = 0.05
SOURCE = "/admin"
SUBJECT = price_subject("api")
_LATEST = (
    "SELECT stream_sequence, content FROM price_changes WHERE kind = 'api' "
    "ORDER BY stream_sequence DESC LIMIT 1"
)
_CHANGES = (
    "SELECT kind, stream_sequence, changed_at, changed_by FROM price_changes "
    "ORDER BY stream_sequence DESC"
)
_IN_FORCE = (
    "SELECT * FROM prices WHERE $1::VARCHAR IS NULL OR list_contains(names, $1::VARCHAR) "
    "ORDER BY model, valid_from NULLS FIRST, above_prompt_tokens"
)
_NOT_STORED = "NATS cannot be reached, so nothing was changed. Try again when it is back"
_UNKNOWN = (
    "NATS did not confirm the change in time: it may be stored or not. Look with GET /prices "
    "before you try again"
)
_CHANGED_MEANWHILE = (
    "the prices were changed by somebody else meanwhile, so nothing was changed. Read them with "
    "GET /prices and try again"
)


class Prices:
    """Reads and sets the entries of the API."""

    def __init__(self, bus: Bus, ledger: LedgerClient) -> None:
        self._bus = bus
        self._ledger = ledger

    async def in_force(self, model: str | None) -> PricesInForce:
        """Return what models cost, all of them or one. Raises Unavailable."""
        sequence, api = await self._latest()
        rows = await self._ledger.query(_IN_FORCE, (model,))
        changes = await self._ledger.query(_CHANGES)
        names = [column.name for column in rows.columns]
        return PricesInForce(
            sequence=sequence,
            api=api,
            prices=tuple(dict(zip(names, row, strict=True)) for row in rows.rows),
            changes=tuple(
                PriceChangeMade(kind=kind, sequence=number, changed_at=at, changed_by=by)
                for kind, number, at, by in changes.rows
            ),
        )

    async def set(self, content: msgspec.Raw, sequence: int | None, by: str) -> PricesSet:
        """Have these entries and no others from now on.

        `sequence` is that of the entries which the caller believes to be there. Raises BadRequest,
        Conflict, Unavailable.
        """
        entries = checked_entries(content)
        last, _ = await self._latest()
        if sequence is not None and sequence != last:
            raise Conflict(_CHANGED_MEANWHILE, param="sequence")
        change = PriceChange(
            kind="api",
            overlays=entries,
            changed_at_us=time.time_ns() // 1000,
            changed_by=by,
            **msgspec.structs.asdict(current_origin()),
        )
        stored = await self._store(change, last)
        log.info("prices are set", extra={"by": by, "sequence": stored, "entries": len(entries)})
        # Another process takes it in: it can only be asked.
        deadline_s = time.monotonic() + SEEN_WAIT_S
        while (await self._latest())[0] < stored and time.monotonic() < deadline_s:  # noqa: ASYNC110
            await asyncio.sleep(SEEN_POLL_S)
        return PricesSet(sequence=stored, prices=entries)

    async def _latest(self) -> tuple[int, tuple[PriceOverlay, ...]]:
        """Return the API's entries that the ledger knows, and their message of the stream."""
        reply = await self._ledger.query(_LATEST)
        if not reply.rows:
            return 0, ()
        sequence, content = reply.rows[0]
        return sequence, msgspec.json.decode(content, type=tuple[PriceOverlay, ...])

    async def _store(self, change: PriceChange, last: int) -> int:
        event = PriceChanged(
            source=SOURCE,
            id=str(uuid.uuid4()),
            time=datetime.now(UTC),
            subject=SUBJECT,
            data=change,
        )
        payload = encode_event(event)
        if len(payload) > EVENT_BYTES_MAX:
            raise BadRequest(f"the entries are longer than {EVENT_BYTES_MAX} bytes", param="prices")
        if not self._bus.is_connected:
            raise Unavailable(_NOT_STORED)
        try:
            return await self._bus.publish(
                SUBJECT, payload, message_id=event.id, expected_last_subject_sequence=last
            )
        except WrongLastSequence:
            raise Conflict(_CHANGED_MEANWHILE, param="prices") from None
        except BusUnavailable:
            raise Unavailable(_UNKNOWN) from None
        except BusError as error:
            log.error("NATS refused a change of prices: %s", error)
            raise Unavailable(
                "NATS refused to store the change, so nothing was changed; the log of the admin "
                "service says why"
            ) from None


def checked_entries(content: msgspec.Raw) -> tuple[PriceOverlay, ...]:
    """Return the entries of a body. Raises BadRequest, which lists every problem."""
    # Numbers keep their digits: no float comes between.
    value = msgspec.json.Decoder(float_hook=str).decode(content)
    reader = ConfigReader("", {})
    node = json_node(value)
    read_overlays(reader, node, "prices")
    if not reader.problem_texts:
        entries = read_prices(reader, node, [])
        if not reader.problem_texts:
            return entries
    raise BadRequest("; ".join(reader.problem_texts), param="prices")
