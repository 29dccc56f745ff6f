"""From a host's name to a connected socket, whichever of its addresses answers first.

The addresses are tried in turn, IPv6 and IPv4 alternating, each a little after the one before it,
without waiting for that one to fail ("Happy Eyeballs", RFC 8305): a host with one dead address
costs a quarter of a second instead of a time-out. uvloop has no such option of its own.
"""

import asyncio
import os
import socket
from collections import deque
from itertools import chain, zip_longest
from typing import Any, TypeAlias

__all__ = ["ADDRESSES_MAX", "ATTEMPT_DELAY_S", "dial"]

ATTEMPT_DELAY_S = 0.25
"""An address that has not answered within this gets company (RFC 8305 section 5)."""
ADDRESSES_MAX = 8
"""So many addresses of one name are tried."""

_AddressInfo: TypeAlias = tuple[Any, Any, int, str, tuple[Any, ...]]


async def resolve(host: str, port: int) -> list[_AddressInfo]:
    """Return the addresses of a host in the order in which they are tried.

    The system's order is kept within each family (RFC 6724). Raises socket.gaierror.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    first = [each for each in found if each[0] == found[0][0]]
    others = [each for each in found if each[0] != found[0][0]]
    mixed = chain.from_iterable(zip_longest(first, others))
    return [each for each in mixed if each is not None][:ADDRESSES_MAX]


async def dial(addresses: list[_AddressInfo]) -> socket.socket:
    """Return a socket that is connected to one of the addresses.

    Raises OSError with the reasons of all, where none can be reached. Has no time-out of its own:
    when it is cancelled, all attempts are given up.
    """
    rest = deque(addresses)
    attempts: set[asyncio.Task[socket.socket]] = set()
    reasons: dict[str, int | None] = {}
    try:
        while rest or attempts:
            if rest:
                attempts.add(asyncio.create_task(_attempt(rest.popleft())))
            done, _ = await asyncio.wait(
                attempts,
                timeout=ATTEMPT_DELAY_S if rest else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for attempt in done:
                error = attempt.exception()
                if error is None:
                    attempts.discard(attempt)
                    return attempt.result()
                attempts.discard(attempt)
                if not isinstance(error, OSError):
                    raise error
                # The event loop's own text would name the address.
                reason = os.strerror(error.errno) if error.errno else str(error)
                reasons[reason] = error.errno
    finally:
        await _give_up(attempts)
    raise OSError(next(iter(reasons.values())), "; ".join(reasons))


async def _attempt(address: _AddressInfo) -> socket.socket:
    family, kind, protocol, _, target = address
    connection = socket.socket(family, kind, protocol)
    try:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(connection, target)
    except BaseException:
        connection.close()
        raise
    return connection


async def _give_up(attempts: set[asyncio.Task[socket.socket]]) -> None:
    """Stop the attempts that lost; close what one of them may have reached all the same."""
    for attempt in attempts:
        attempt.cancel()
    for outcome in await asyncio.gather(*attempts, return_exceptions=True):
        if isinstance(outcome, socket.socket):
            outcome.close()
