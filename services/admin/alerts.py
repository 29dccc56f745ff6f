"""Alerts: the destinations of the configuration, told by one admin service at a time."""

import asyncio
import contextlib
import logging
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

import httpx
import msgspec

from schemas.alerts import AlertDestination, AlertTested, AlertTrial
from schemas.events import encode_event
from schemas.streams import ALERT, raised_alert_subject
from services.admin.alert_delivery import AlertCounts, Delivery
from services.admin.alert_progress import RENEW_S, AlertProgress, holder_name
from services.admin.alert_senders import SEND_TIMEOUT_S, sender_for
from services.admin.alert_watch import AlertWatch
from services.admin.ledger_client import LedgerClient
from services.runtime.bus import Bus, BusError
from services.runtime.metrics import Sample, sample
from services.runtime.registry import RegistrySnapshot
from services.runtime.tasks import end_tasks

__all__ = ["DEAD_DAYS", "Alerts"]

log = logging.getLogger(__name__)

DEAD_DAYS = 30
"""What could not be delivered is kept so long."""
_DEAD_S = DEAD_DAYS * 86_400
RETRY_S = 2.0
RELEASE_TIMEOUT_S = 2.0
LOADED_POLL_S = 0.1
KEPT_MAX = 10_000
"""The stream holds at most about so many messages; the oldest are dropped."""
_KEPT_SHARE = 0.9


def _now_us() -> int:
    return time.time_ns() // 1000


class Alerts:
    """Tells the destinations that the configuration names; `take` exchanges them."""

    def __init__(
        self,
        bus: Bus,
        folder: Path,
        destinations: tuple[AlertDestination, ...],
        snapshot: RegistrySnapshot,
        ledger: LedgerClient,
    ) -> None:
        self._bus = bus
        self.destinations = destinations
        self._snapshot = snapshot
        self._ledger = ledger
        self._progress = AlertProgress(bus, holder_name(folder), _now_us)
        self._changed = asyncio.Event()
        self._counts = AlertCounts()

    def take(self, destinations: tuple[AlertDestination, ...]) -> None:
        """Have other destinations from now on."""
        if destinations != self.destinations:
            self.destinations = destinations
            self._changed.set()

    async def test(self, asked_by: str) -> str:
        """Raise an alert that is a test; return its id. Raises BusError."""
        await self._bus.ensure_expiring(ALERT, age_s_max=_DEAD_S)
        event_id = uuid.uuid4().hex
        data = AlertTrial(asked_by=asked_by)
        event = AlertTested(source="/admin", id=event_id, time=datetime.now(UTC), data=data)
        subject = raised_alert_subject(event_id)
        await self._bus.publish(subject, encode_event(event), message_id=event_id)
        return event_id

    async def metrics(self) -> list[Sample]:
        """Return what is counted."""
        return [
            sample("tallygate_alerts_sent_total", self._counts.sent),
            sample("tallygate_alert_failed_attempts_total", self._counts.failed_attempts),
            sample("tallygate_alerts_undelivered_total", self._counts.undelivered),
        ]

    async def run(self) -> None:
        """Tell them for ever: as long as no other admin service does."""
        is_told = False
        while True:
            self._changed.clear()
            if not self.destinations:
                await self._changed.wait()
                continue
            if not self._snapshot.loaded:
                # Whose a key is decides who is told of it.
                await asyncio.sleep(LOADED_POLL_S)
                continue
            wait_s = RETRY_S
            try:
                await self._bus.wait_connected()
                await self._bus.ensure_expiring(ALERT, age_s_max=_DEAD_S)
                wait_s = await self._progress.claim()
                if not wait_s:
                    is_told = False
                    await self._tell()
                    continue
            except (BusError, msgspec.MsgspecError) as error:
                # Once: it may last for long.
                report = log.debug if is_told else log.warning
                report("alerts wait: %s", error)
                is_told = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(wait_s, RENEW_S)):
                    await self._changed.wait()

    async def _tell(self) -> None:
        """Tell all of them until the destinations change, or another service tells them.

        Raises BusError.
        """
        known = {destination.name for destination in self.destinations}
        positions = self._progress.now.positions
        self._progress.now.positions = {name: positions[name] for name in positions.keys() & known}
        # No redirect is followed: an alert goes where the configuration says.
        async with httpx.AsyncClient(timeout=SEND_TIMEOUT_S, follow_redirects=False) as client:
            deliveries = [self._delivery(each, client) for each in self.destinations]
            for delivery in deliveries:
                # Before anything is raised that they are to hear of.
                await delivery.find_place()
            watch = AlertWatch(self._bus, self._ledger, self._progress)
            parts = [self._hold(), self._wait_changed(), watch.run()]
            parts += [part for delivery in deliveries for part in delivery.parts()]
            tasks = [asyncio.create_task(part) for part in parts]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await end_tasks(*tasks)
                with contextlib.suppress(BusError, TimeoutError):
                    async with asyncio.timeout(RELEASE_TIMEOUT_S):
                        await self._progress.release()
        for task in done:
            task.result()

    async def _wait_changed(self) -> None:
        await self._changed.wait()

    async def _hold(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            await self._progress.save()
            if (await self._bus.stream_state(ALERT.name)).messages > KEPT_MAX:
                await self._bus.drop_oldest(ALERT.name, int(KEPT_MAX * _KEPT_SHARE))

    def _delivery(self, destination: AlertDestination, client: httpx.AsyncClient) -> Delivery:
        return Delivery(
            destination,
            sender_for(destination, client),
            bus=self._bus,
            progress=self._progress,
            keys=lambda: self._snapshot.keys,
            counts=self._counts,
            now_us=_now_us,
        )
