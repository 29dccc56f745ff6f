"""`tallygate doctor`: NATS, what each service's user may do there, and its clock."""

import asyncio
import contextlib
import time
from datetime import datetime
from urllib.parse import urlsplit

import msgspec

from schemas.errors import ConfigError
from schemas.streams import STREAMS, USAGE
from services.commands.doctor_check import Check, Place, failed, fine, warned
from services.runtime.bus import Bus, BusError, StreamState
from services.runtime.nats_permissions import NATS_USERS, NatsUser
from services.runtime.nats_server import running_nats_url

__all__ = ["NatsFindings", "check_nats"]

ASK_TIMEOUT_S = 2.0
SKEW_S_WANTED = 2.0
SKEW_S_MAX = 60.0
"""A clock that differs more from the NATS server's is worth a warning, or is a fault."""


class NatsFindings(msgspec.Struct, frozen=True):
    """What was found, and the stream USAGE where a user that may see it could be asked."""

    checks: list[Check]
    usage: StreamState | None = None


class _Asked(msgspec.Struct):
    """What one user could see: streams by name, or in words why not."""

    user: str
    trouble: str | None = None
    streams: dict[str, StreamState | str] = {}
    skew_s: float | None = None


async def check_nats(place: Place) -> NatsFindings:
    """Connect as each user whose password is known, and see what it may see."""
    try:
        urls = await asyncio.to_thread(_urls, place)
    except ConfigError as error:
        return NatsFindings([failed("NATS", str(error), "see the check of permissions")])
    if not urls:
        return NatsFindings(
            [
                failed(
                    "NATS",
                    "no nats-server of this data folder answers, and no other one is named",
                    "start the gateway; where NATS is a server of its own name it with --nats-url "
                    "URL (with the user admin), or $TALLYGATE_NATS_URL",
                )
            ]
        )
    asked = await asyncio.gather(*(_ask(url, user) for user, url in urls.items()))
    return NatsFindings([*_reached(asked), *_clock(asked)], _usage(asked))


def _urls(place: Place) -> dict[str, str]:
    """Return the URL of each user that can be asked as, by its name."""
    external = place.nats_url or (place.config.settings.nats_url if place.config else None)
    if external:
        return {urlsplit(external).username or "admin": external}
    found: dict[str, str] = {}
    for user in NATS_USERS:
        url = running_nats_url(place.data, user.name)
        if url is None:
            break  # It would not answer for the next user either.
        found[user.name] = url
    return found


async def _ask(url: str, name: str) -> _Asked:
    asked = _Asked(name)
    try:
        bus = await Bus.connect(url, name)
    except BusError as error:
        asked.trouble = str(error)
        return asked
    try:
        for stream in _may_see(name):
            began_s = time.time()
            try:
                async with asyncio.timeout(ASK_TIMEOUT_S):
                    state = await bus.stream_state(stream)
            except (BusError, TimeoutError) as error:
                asked.streams[stream] = bus.trouble or str(error) or "no answer"
                continue
            asked.streams[stream] = state
            with contextlib.suppress(ValueError):
                server_s = datetime.fromisoformat(_micros(state.server_time)).timestamp()
                asked.skew_s = (began_s + time.time()) / 2 - server_s
    finally:
        await bus.close()
    return asked


def _may_see(name: str) -> list[str]:
    user = next((each for each in NATS_USERS if each.name == name), None)
    return [each.name for each in STREAMS if user is None or _sees(user, each.name)]


def _sees(user: NatsUser, stream: str) -> bool:
    return f"$JS.API.STREAM.INFO.{stream}" in user.publish


def _micros(text: str) -> str:
    """Return a time without what Python cannot read: more than six digits of a second."""
    head, dot, rest = text.partition(".")
    digits = rest.rstrip("Z")
    return f"{head}.{digits[:6]:0<6}+00:00" if dot else f"{head.rstrip('Z')}+00:00"


def _reached(asked: list[_Asked]) -> list[Check]:
    checks = []
    for each in asked:
        if each.trouble is not None:
            checks.append(
                failed(
                    "NATS",
                    f"the user {each.user} cannot connect: {each.trouble}",
                    "is the address right, the server up, the password the one of its "
                    "configuration? The embedded server's are in secrets/nats.json",
                )
            )
        refused = {name: why for name, why in each.streams.items() if isinstance(why, str)}
        for stream, why in refused.items():
            is_missing = "does not exist" in why
            checks.append(
                failed(
                    "NATS permissions" if not is_missing else "NATS streams",
                    f"the user {each.user} cannot see the stream {stream}: {why}",
                    "start the ledger's writer, which makes the streams"
                    if is_missing
                    else f"give {each.user} what containers/nats/nats.conf of this version gives "
                    f"it ($JS.API.STREAM.INFO.{stream}); does the server run with JetStream?",
                )
            )
    if checks:
        return checks
    users = ", ".join(each.user for each in asked)
    return [fine("NATS", f"answers; {users} may see their streams")]


def _clock(asked: list[_Asked]) -> list[Check]:
    skews = [each.skew_s for each in asked if each.skew_s is not None]
    if not skews:
        return []
    skew_s = min(skews, key=abs)
    side = "ahead of" if skew_s > 0 else "behind"
    detail = f"this machine's clock is {abs(skew_s):.1f} s {side} the NATS server's"
    remedy = (
        "let both keep time by NTP: days of prices and windows of budgets go by the proxies' "
        "clocks, the archive and the closing of lost requests by the server's"
    )
    if abs(skew_s) > SKEW_S_MAX:
        return [failed("clock", detail, remedy)]
    if abs(skew_s) > SKEW_S_WANTED:
        return [warned("clock", detail, remedy)]
    return [fine("clock", detail)]


def _usage(asked: list[_Asked]) -> StreamState | None:
    for each in asked:
        state = each.streams.get(USAGE.name)
        if isinstance(state, StreamState):
            return state
    return None
