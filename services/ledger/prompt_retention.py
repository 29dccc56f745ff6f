"""Keeps the stream PROMPTS within the limits that the configuration says."""

import asyncio
import logging

from schemas.config import Settings
from schemas.streams import PROMPTS
from services.runtime.bus import Bus, BusError

__all__ = ["PromptRetention"]

log = logging.getLogger(__name__)

RETRY_WAIT_S = 5.0
_DAY_S = 86_400


class PromptRetention:
    """Gives the stream its limits at the start and whenever they change; NATS drops by them."""

    def __init__(self, bus: Bus, settings: Settings) -> None:
        self._bus = bus
        self._settings = settings
        self._changed = asyncio.Event()

    def take(self, settings: Settings) -> None:
        """Have other limits from now on."""
        self._settings = settings
        self._changed.set()

    async def keep(self) -> None:
        """Do that for as long as the process lives."""
        while True:
            self._changed.clear()
            try:
                await self._bus.wait_connected()
                await self._bus.ensure_expiring(
                    PROMPTS,
                    age_s_max=self._settings.prompt_retention_days * _DAY_S,
                    bytes_max=self._settings.prompt_stream_bytes_max,
                )
            except BusError as error:
                log.warning("the limits of the stored prompts are not set: %s", error)
                await asyncio.sleep(RETRY_WAIT_S)
                continue
            await self._changed.wait()
