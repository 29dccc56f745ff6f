"""How far each destination of alerts has been told, and which admin service tells them.

Both are one message on NATS, written with the sequence of the one before it: of two services that
want to tell, one is refused. Whoever holds it renews it; it is free for others LEASE_S after that,
and for a service of the same machine and data folder at once.
"""

import asyncio
import hashlib
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec

from schemas.streams import ALERT, ALERT_STATE_SUBJECT
from services.runtime.bus import Bus

__all__ = ["LEASE_S", "RENEW_S", "AlertProgress", "Progress", "holder_name"]

LEASE_S = 30.0
RENEW_S = 10.0


class Progress(msgspec.Struct, kw_only=True):
    """The message. `positions`: by destination and stream, up to which message it has been told.

    `told` are the states of the books that were told of and last on, by their names.
    """

    holder: str
    until_us: int
    positions: dict[str, dict[str, int]] = {}
    told: dict[str, str] = {}


def holder_name(folder: Path) -> str:
    """Return what stands for the admin service of a machine and data folder, in all its lives."""
    return hashlib.sha256(f"{socket.gethostname()}\0{folder}".encode()).hexdigest()[:32]


class AlertProgress:
    """Reads, holds and writes the progress. One call at a time writes."""

    def __init__(self, bus: Bus, holder: str, now_us: Callable[[], int]) -> None:
        self._bus = bus
        self._holder = holder
        self._now_us = now_us
        self._sequence = 0
        self._lock = asyncio.Lock()
        self.now = Progress(holder=holder, until_us=0)

    async def claim(self) -> float:
        """Take the progress over; return 0.0, or for how many seconds somebody else has it.

        Raises BusError; WrongLastSequence where somebody else was quicker.
        """
        message = await self._bus.last_message(ALERT.name, ALERT_STATE_SUBJECT)
        self._sequence = 0
        if message is not None:
            self._sequence = message.sequence
            self.now = msgspec.json.decode(message.payload, type=Progress)
            waits_us = self.now.until_us - self._now_us()
            if self.now.holder != self._holder and waits_us > 0:
                return min(waits_us / 1_000_000, LEASE_S)
        self.now.holder = self._holder
        await self.save()
        return 0.0

    async def save(self) -> None:
        """Write the progress, and hold it for LEASE_S more. Raises BusError, WrongLastSequence."""
        await self._save(self._now_us() + int(LEASE_S * 1_000_000))

    async def release(self) -> None:
        """Write the progress and let others have it at once. Raises BusError."""
        await self._save(0)

    async def _save(self, until_us: int) -> None:
        async with self._lock:
            self.now.until_us = until_us
            self._sequence = await self._bus.publish(
                ALERT_STATE_SUBJECT,
                msgspec.json.encode(self.now),
                expected_last_subject_sequence=self._sequence,
            )
