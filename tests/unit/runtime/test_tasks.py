"""Tests of background tasks: faults are told, cancellations arrive."""

import asyncio

import pytest

from services.runtime import tasks


def test_a_task_that_swallows_its_cancellation_is_cancelled_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a task that drops the first cancellation, when it is ended, then it does end.
    monkeypatch.setattr(tasks, "CANCEL_AGAIN_S", 0.01)
    drops = 0

    async def deaf_once() -> None:
        nonlocal drops
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if drops:
                    raise
                drops += 1

    async def scenario() -> None:
        task = asyncio.create_task(deaf_once())
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await tasks.end_tasks(task)
        assert task.cancelled()

    asyncio.run(scenario())
    assert drops == 1


def test_ending_a_task_that_failed_or_is_over_raises_nothing() -> None:
    # Given a task that fails and one that is over, when both are ended, then nothing is raised.
    async def fails() -> None:
        raise RuntimeError("broken")

    async def is_over() -> None:
        return

    async def scenario() -> None:
        await tasks.end_tasks(asyncio.create_task(fails()), asyncio.create_task(is_over()))

    asyncio.run(scenario())


def test_a_background_task_that_ends_by_a_fault_is_told() -> None:
    # Given a task that fails, when it does, then whoever depends on it hears so; a cancelled one
    # is no fault.
    told: list[str] = []

    async def fails() -> None:
        raise RuntimeError("broken")

    async def waits() -> None:
        await asyncio.Event().wait()

    async def scenario() -> None:
        failed = tasks.spawn(fails(), "fails", lambda: told.append("fails"))
        waiting = tasks.spawn(waits(), "waits", lambda: told.append("waits"))
        await asyncio.wait({failed})
        await tasks.end_tasks(failed, waiting)

    asyncio.run(scenario())
    assert told == ["fails"]
