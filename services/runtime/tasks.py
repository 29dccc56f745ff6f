"""Background tasks: one that ends by a fault is noticed, and one that is cancelled does end."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["end_tasks", "spawn"]

log = logging.getLogger(__name__)

CANCEL_AGAIN_S = 1.0


def spawn(
    coroutine: Coroutine[Any, Any, None], name: str, on_fault: Callable[[], None]
) -> asyncio.Task[None]:
    """Run a background task that must not end: a fault is logged and `on_fault` is called.

    A service that lost a task is broken in a way that nobody sees; so it ends and is restarted.
    """
    task = asyncio.create_task(coroutine, name=name)

    def ended(done: asyncio.Task[None]) -> None:
        if done.cancelled():
            return
        error = done.exception()
        if error is not None:
            log.error("task %s ended by a fault", name, exc_info=error)
            on_fault()

    task.add_done_callback(ended)
    return task


async def end_tasks(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until they have ended; what they raise is dropped.

    A cancellation can be lost: in Python 3.11 `asyncio.wait_for` drops one that comes in the moment
    in which its wait is over (CPython issue 86296), and libraries call it. So a task that still
    runs after a while is cancelled again.
    """
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        ended, waiting = await asyncio.wait(waiting, timeout=CANCEL_AGAIN_S)
        for task in ended:
            if not task.cancelled():
                task.exception()
