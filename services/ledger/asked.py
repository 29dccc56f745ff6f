"""What a role of the ledger is asked for on NATS, and what takes longer than NATS waits."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

from services.runtime.bus import Bus
from services.runtime.tasks import end_tasks

__all__ = ["ANSWER_WITHIN_S", "REQUESTS_AT_ONCE_MAX", "OneAtATime", "answer_until_cancelled"]

T = TypeVar("T")

ANSWER_WITHIN_S = 10.0
"""A request is answered by then: with what was asked for, or that it is on its way."""
REQUESTS_AT_ONCE_MAX = 4


async def answer_until_cancelled(
    bus: Bus,
    subject: str,
    answer: Callable[[bytes], Awaitable[bytes]],
    *,
    parallel_max: int = REQUESTS_AT_ONCE_MAX,
) -> None:
    """Answer what is asked on a subject, once NATS is there, until cancelled."""
    await bus.wait_connected()
    stop = await bus.serve(subject, answer, parallel_max=parallel_max)
    try:
        await asyncio.Event().wait()
    finally:
        await stop()


class OneAtATime(Generic[T]):
    """Work of which one at a time is done; the latest is kept until the next is asked for.

    Whoever wants one asks for it again and again under one id, until it is there.
    """

    def __init__(self) -> None:
        self._id = ""
        self._task: asyncio.Task[T] | None = None

    async def ask(
        self, request_id: str, make: Callable[[], Coroutine[Any, Any, T]]
    ) -> "asyncio.Task[T] | None":
        """Begin it, or wait for it; None after ANSWER_WITHIN_S, where it is still on its way."""
        if request_id != self._id:
            if self._task is not None and not self._task.done():
                # Somebody else's; this one's turn comes when it is asked for again.
                await asyncio.wait({self._task}, timeout=ANSWER_WITHIN_S)
                return None
            self._id = request_id
            self._task = asyncio.create_task(make())
        assert self._task is not None
        await asyncio.wait({self._task}, timeout=ANSWER_WITHIN_S)
        return self._task if self._task.done() else None

    async def close(self, interrupt: Callable[[], object] = lambda: None) -> None:
        """Stop what runs; `interrupt` makes it end."""
        if self._task is not None and not self._task.done():
            interrupt()
            await end_tasks(self._task)
