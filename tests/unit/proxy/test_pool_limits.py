"""The pool's limit of requests under way, raised and lowered while requests run."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.proxy.connector import ConnectSettings
from services.proxy.pool import PoolSettings, UpstreamPool
from services.proxy.upstream import PoolFull


def settings(connections_max: int) -> PoolSettings:
    return PoolSettings(
        connections_max=connections_max,
        keepalive_s=20.0,
        connect=ConnectSettings(timeout_s=0.001),
    )


async def free_slots(pool: UpstreamPool) -> int:
    """Return how many requests may begin now, and let them end again."""
    taken = 0
    while True:
        try:
            await pool._take_slot()
        except PoolFull:
            break
        taken += 1
    for _ in range(taken):
        pool._free_slot()
    return taken


@given(st.lists(st.integers(min_value=1, max_value=6), min_size=1, max_size=5), st.integers(0, 6))
def test_after_any_changes_the_limit_is_the_last_one_once_answers_have_ended(
    limits: list[int], under_way: int
) -> None:
    # Given requests under way, when the limit is raised and lowered and they end, then as many as
    # the last limit says may begin, and never more.
    async def run() -> None:
        pool = UpstreamPool(settings(limits[0]))
        running = min(under_way, limits[0])
        for _ in range(running):
            await pool._take_slot()
        for limit in limits[1:]:
            pool.configure(settings(limit), frozenset())
        for _ in range(running):
            pool._free_slot()
        assert await free_slots(pool) == limits[-1]
        await pool.aclose()

    asyncio.run(run())


def test_lower_limit_holds_back_new_requests_while_old_ones_end() -> None:
    # Given three requests under way, when the limit is lowered to one, then their ends let no other
    # begin until one is left to begin.
    async def run() -> None:
        pool = UpstreamPool(settings(3))
        for _ in range(3):
            await pool._take_slot()
        pool.configure(settings(1), frozenset())
        for _ in range(2):
            pool._free_slot()
            with pytest.raises(PoolFull):
                await pool._take_slot()
        pool._free_slot()
        await pool._take_slot()

    asyncio.run(run())
