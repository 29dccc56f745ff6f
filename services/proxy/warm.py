"""Opens connections ahead, so that a request need not wait for a handshake.

So many as `upstream_connections_warm` says are kept open to each deployment's host after the start
and for a while after each use. A host that cannot be reached is asked ever more rarely.
"""

import asyncio
import logging

import msgspec

from schemas.errors import UpstreamError
from services.proxy.pool import UpstreamPool
from services.proxy.upstream import Origin
from services.runtime.tasks import end_tasks

__all__ = ["BACKOFF_S_MAX", "BACKOFF_S_MIN", "WARM_FOR_S", "keep_warm"]

WARM_FOR_S = 300.0
"""A host that no request went to for so long is left alone."""
BACKOFF_S_MIN = 1.0
BACKOFF_S_MAX = 60.0
"""The pause after a failure, which doubles with each until it is this long."""

_LOOK_S = 1.0

log = logging.getLogger(__name__)


class _Outage(msgspec.Struct):
    """A host that could not be reached: when it is tried again, and the pause after that."""

    retry_at_s: float
    pause_s: float


async def keep_warm(pool: UpstreamPool, *, look_s: float = _LOOK_S) -> None:
    """Open what is missing, until cancelled."""
    loop = asyncio.get_running_loop()
    outages: dict[Origin, _Outage] = {}
    # One at a time for each host: a slow host does not hold up the others.
    opening: dict[Origin, asyncio.Task[None]] = {}
    try:
        while True:
            now_s = loop.time()
            for origin in pool.lacking(WARM_FOR_S):
                outage = outages.get(origin)
                is_due = outage is None or now_s >= outage.retry_at_s
                if is_due and (origin not in opening or opening[origin].done()):
                    opening[origin] = asyncio.create_task(_open(pool, origin, outages))
            await asyncio.sleep(look_s)
    finally:
        await end_tasks(*opening.values())


async def _open(pool: UpstreamPool, origin: Origin, outages: dict[Origin, _Outage]) -> None:
    try:
        while await pool.open_ahead(origin):
            pass
    except UpstreamError as error:
        outage = outages.get(origin)
        if outage is None:
            log.info("no connection ahead: %s", error.message, extra={"kind": error.kind})
        pause_s = BACKOFF_S_MIN if outage is None else min(outage.pause_s * 2, BACKOFF_S_MAX)
        outages[origin] = _Outage(asyncio.get_running_loop().time() + pause_s, pause_s)
    else:
        if outages.pop(origin, None) is not None:
            log.info("%s can be reached again", origin.authority)
