"""Hearing what is told on a subject: nothing is kept by the server, so a listener may miss some."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import nats.errors
from nats.aio.msg import Msg

from services.runtime.link import Link

__all__ = ["HEARD_WAITING_MAX", "hear"]

HEARD_WAITING_MAX = 1000
"""So many messages may wait for a listener; beyond it all of them count as missed."""


async def hear(link: Link, subject: str) -> AsyncGenerator[bytes | None, None]:
    """Yield what is told, for ever. None: something may have been missed.

    That is so at the beginning, after each new connection, and where too much has waited.
    """
    waiting: asyncio.Queue[bytes | None] = asyncio.Queue()

    def missed() -> None:
        while not waiting.empty():
            waiting.get_nowait()
        waiting.put_nowait(None)

    async def on_message(message: Msg) -> None:
        if waiting.qsize() >= HEARD_WAITING_MAX:
            missed()
        waiting.put_nowait(message.data)

    await link.wait_connected()
    # The client subscribes anew by itself where it connects anew.
    subscription = await link.client.subscribe(subject, cb=on_message)
    link.listeners.add(missed)
    missed()
    try:
        while True:
            yield await waiting.get()
    finally:
        link.listeners.discard(missed)
        with contextlib.suppress(nats.errors.Error, OSError):
            await subscription.unsubscribe()
