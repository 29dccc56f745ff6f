"""Keeps the stream PROMPTS within the limits that the configuration says."""

import asyncio
import contextlib
import logging

from schemas.config import Settings
from schemas.streams import PROMPTS
from services.runtime.bus import Bus, BusError

__all__ = ["PromptRetention"]

log = logging.getLogger(__name__)

RETRY_WAIT_S = 5.0
LOOK_INTERVAL_S = 30.0
"""The size of the stream is looked at so often; it may be larger for as long."""
KEPT_SHARE = 0.9
"""Where it is too large, so much of what it may be is left."""
_DAY_S = 86_400


class PromptRetention:
    """Gives the stream its age at the start and whenever it changes, and looks at its size.

    NATS drops by age. By size this does, every LOOK_INTERVAL_S: a limit of bytes in NATS is room
    that it sets aside from all other streams, of which the numbers' own must never lack any.
    """

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
            wait_s = LOOK_INTERVAL_S
            try:
                await self._bus.wait_connected()
                age_s_max = self._settings.prompt_retention_days * _DAY_S
                await self._bus.ensure_expiring(PROMPTS, age_s_max=age_s_max)
                await self._drop_what_is_too_much()
            except BusError as error:
                log.warning("the limits of the stored prompts are not kept: %s", error)
                wait_s = RETRY_WAIT_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()

    async def _drop_what_is_too_much(self) -> None:
        bytes_max = self._settings.prompt_stream_bytes_max
        state = await self._bus.stream_state(PROMPTS.name)
        # Messages are not of one size, so this takes several goes, of which each leaves fewer.
        while state.bytes > bytes_max and state.messages > 1:
            kept = int(state.messages * KEPT_SHARE * bytes_max / state.bytes)
            await self._bus.drop_oldest(PROMPTS.name, kept)
            log.info("the oldest prompts are dropped", extra={"kept": max(1, kept)})
            state = await self._bus.stream_state(PROMPTS.name)
