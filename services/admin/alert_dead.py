"""The alerts that could not be delivered, as the stream ALERT holds them."""

import asyncio
from collections import deque

import msgspec

from schemas.alerts import AlertUndelivered, decode_alert_event
from schemas.streams import ALERT, dead_alert_subject
from services.admin.alert_text import alert_title
from services.admin.bodies_alerts import UndeliveredRow
from services.runtime.bus import Bus, BusError, BusUnavailable, StreamMessage

__all__ = ["LISTED_MAX", "READ_TIMEOUT_S", "undelivered"]

LISTED_MAX = 100
READ_TIMEOUT_S = 5.0
_DEAD = dead_alert_subject("")


async def undelivered(bus: Bus) -> tuple[UndeliveredRow, ...]:
    """Return the last alerts that were given up, the newest first.

    Raises BusUnavailable, TimeoutError.
    """
    async with asyncio.timeout(READ_TIMEOUT_S):
        try:
            state = await bus.stream_state(ALERT.name)
        except BusUnavailable:
            raise
        except BusError:
            return ()  # No destination was ever configured.
        found: deque[UndeliveredRow] = deque(maxlen=LISTED_MAX)
        if state.messages:
            async for batch in bus.follow(ALERT.name):
                found.extend(row for each in batch.messages if (row := _row(each)) is not None)
                if not batch.pending:
                    break
    return tuple(reversed(found))


def _row(message: StreamMessage) -> UndeliveredRow | None:
    if not message.subject.startswith(_DEAD):
        return None
    try:
        event = decode_alert_event(message.payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(event, AlertUndelivered):
        return None
    kind = str(event.data.alert.get("type", "")).rpartition(".")[0]
    data = event.data.alert.get("data")
    return UndeliveredRow(
        given_up_at=event.time,
        destination=event.data.destination,
        reason=event.data.reason,
        attempts=event.data.attempts,
        title=alert_title(kind, data if isinstance(data, dict) else {}) or kind,
        alert=event.data.alert,
    )
