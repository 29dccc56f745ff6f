"""Telling one destination: each alert at least once, in order, and never for ever.

The destination's place in each stream moves on when an alert is delivered or given up, so that
one that was under way when the process died is sent again, with the same id.
"""

import asyncio
import logging
import random
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from schemas.alerts import AlertDestination, AlertUndelivered, Undelivered
from schemas.events import encode_event
from schemas.registry import KeyRecord
from schemas.streams import ALERT, BUDGET, REGISTRY, dead_alert_subject
from services.admin.alert_progress import AlertProgress
from services.admin.alert_rules import Alert, alert_of, is_for
from services.admin.alert_senders import Failed, Sender
from services.runtime.bus import Bus, BusUnavailable

__all__ = ["GIVE_UP_S", "AlertCounts", "Delivery"]

log = logging.getLogger(__name__)

GIVE_UP_S = 3600.0
"""An alert that is older than this has had its last attempt; each has one."""
RETRY_S_FIRST = 1.0
RETRY_S_MAX = 60.0
"""The wait before the next attempt doubles from the first value up to this one."""
WAITING_MAX = 200
"""So many messages wait in memory for a destination; the rest waits in the streams."""
STORE_RETRY_S = 1.0
_STREAMS = (REGISTRY.name, BUDGET.name, ALERT.name)
_UNDELIVERED = "alert.undelivered"


class AlertCounts(msgspec.Struct):
    """What the metrics tell: alerts delivered, attempts that failed, alerts given up."""

    sent: int = 0
    failed_attempts: int = 0
    undelivered: int = 0


class _Item(msgspec.Struct, frozen=True):
    """A place in a stream, and the alert that stands there, if there is one to tell."""

    stream: str
    sequence: int
    alert: Alert | None


class Delivery:
    """Follows the streams for one destination."""

    def __init__(
        self,
        destination: AlertDestination,
        sender: Sender,
        *,
        bus: Bus,
        progress: AlertProgress,
        keys: Callable[[], Mapping[str, KeyRecord]],
        counts: AlertCounts,
        now_us: Callable[[], int],
    ) -> None:
        self._destination = destination
        self._sender = sender
        self._bus = bus
        self._progress = progress
        self._keys = keys
        self._counts = counts
        self._now_us = now_us
        self._waiting: asyncio.Queue[_Item] = asyncio.Queue(WAITING_MAX)

    def parts(self) -> list[Coroutine[Any, Any, None]]:
        """Return what tells it of everything from its place on, to be run beside one another.

        None of them ends. They raise BusError.
        """
        # Not in a group of their own: a task of a group that has lost its cancellation is never
        # cancelled again (see end_tasks).
        positions = dict(self._progress.now.positions[self._destination.name])
        following = [self._follow(stream, positions[stream] + 1) for stream in _STREAMS]
        return [*following, self._deliver()]

    async def find_place(self) -> None:
        """Note where a new destination begins: it is told of what comes from now on.

        Raises BusError.
        """
        positions = self._progress.now.positions.setdefault(self._destination.name, {})
        for stream in _STREAMS:
            last = (await self._bus.stream_state(stream)).last_sequence
            # A place beyond the end is one in a stream that has been made anew since.
            if positions.get(stream, last + 1) > last:
                positions[stream] = last
        await self._progress.save()

    async def _follow(self, stream: str, start_sequence: int) -> None:
        async for batch in self._bus.follow(stream, start_sequence):
            passed = 0
            for message in batch.messages:
                alert = alert_of(message.payload, self._keys())
                if alert is not None and is_for(alert, self._destination):
                    await self._waiting.put(_Item(stream, message.sequence, alert))
                    passed = 0
                else:
                    passed = message.sequence
            if passed:
                await self._waiting.put(_Item(stream, passed, None))

    async def _deliver(self) -> None:
        while True:
            items = [await self._waiting.get()]
            alerts = [item.alert for item in items if item.alert is not None]
            while len(alerts) < self._sender.alerts_max and not self._waiting.empty():
                item = self._waiting.get_nowait()
                items.append(item)
                if item.alert is not None:
                    alerts.append(item.alert)
            if alerts:
                await self._tell(alerts)
            for item in items:
                self._progress.now.positions[self._destination.name][item.stream] = item.sequence
            if alerts:
                # Other places move with the next one that is told, or with the renewal.
                await _until_stored(self._progress.save)

    async def _tell(self, alerts: list[Alert]) -> None:
        """Send alerts until they have arrived or are given up."""
        attempts = 0
        while True:
            attempts += 1
            try:
                await self._sender.send(alerts)
            except Failed as failed:
                self._counts.failed_attempts += 1
                age_s = (self._now_us() - alerts[-1].time_us) / 1_000_000
                if failed.is_final or age_s > GIVE_UP_S:
                    await self._give_up(alerts, str(failed), attempts)
                    return
                wait_s = min(RETRY_S_MAX, RETRY_S_FIRST * 2 ** min(attempts - 1, 10))
                wait_s = max(wait_s, failed.retry_after_s or 0.0)
                log.warning(
                    "alerts cannot be sent to %s: %s; the next attempt is in %.0f s",
                    self._destination.name,
                    failed,
                    wait_s,
                )
                await asyncio.sleep(wait_s * random.uniform(1.0, 1.1))  # noqa: S311 - no secret
            except Exception:
                # Nothing that one alert holds may keep all others back.
                log.exception("an alert cannot be sent to %s", self._destination.name)
                await self._give_up(alerts, "a fault of the gateway; its log says which", attempts)
                return
            else:
                self._counts.sent += len(alerts)
                return

    async def _give_up(self, alerts: list[Alert], reason: str, attempts: int) -> None:
        for alert in alerts:
            self._counts.undelivered += 1
            log.error(
                "the alert %s (%s) is not delivered to %s after %d attempts: %s",
                alert.event_id,
                alert.kind,
                self._destination.name,
                attempts,
                reason,
            )
            if alert.kind == _UNDELIVERED:
                continue  # One destination must not go on about another for ever.
            event_id = uuid.uuid4().hex
            event = AlertUndelivered(
                source="/admin",
                id=event_id,
                time=datetime.now(UTC),
                subject=self._destination.name,
                data=Undelivered(
                    destination=self._destination.name,
                    reason=reason,
                    attempts=attempts,
                    alert=alert.event,
                ),
            )
            payload = encode_event(event)

            async def store(event_id: str = event_id, payload: bytes = payload) -> None:
                await self._bus.publish(dead_alert_subject(event_id), payload, message_id=event_id)

            await _until_stored(store)


async def _until_stored(store: Callable[[], Awaitable[None]]) -> None:
    """Store something, however long NATS is away. Raises BusError where it is refused."""
    while True:
        try:
            await store()
        except BusUnavailable:
            await asyncio.sleep(STORE_RETRY_S)
        else:
            return
