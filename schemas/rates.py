"""What the workers of all proxies tell one another about rate limits, over core NATS.

Nothing of it is kept: each message says how things stand, so one that is lost delays and loses
nothing (services.proxy.rate_sharing has the rules).
"""

from typing import Annotated, Literal

import msgspec

__all__ = ["RATE_STANDINGS_MAX", "RateNews", "RateStanding", "RateWhat"]

RateWhat = Literal["requests", "tokens", "parallel"]
RATE_STANDINGS_MAX = 2000
"""A message holds at most so many standings: some 200 KiB of 1 MiB that NATS takes."""

_Count = Annotated[int, msgspec.Meta(ge=0)]


class RateStanding(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one worker has used of one limit.

    `scope`, `scope_id`, `what` and `model` name the limit ("" as `model`: that of all models).
    `counted` is all that was ever counted there, which only grows; `recent` the part of it that is
    of the last minute; `held` what is under way.
    """

    scope: str
    scope_id: str
    what: RateWhat
    model: str
    counted: _Count
    recent: _Count
    held: _Count


class RateNews(msgspec.Struct, frozen=True, array_like=True):
    """What one life of one worker says: its standings that changed since its last message.

    `sequence` counts its messages from 1. Where `whole_from` is not 0, its messages from that one
    to this one hold all of its standings. `heard` tells of each other worker up to which message
    all of its are known here; those in `asked_anew` are asked for all of their standings, since
    messages of theirs were missed. `is_urgent` asks for the others' word at once.
    """

    worker: str
    sequence: _Count
    heard: dict[str, int] = {}
    standings: Annotated[tuple[RateStanding, ...], msgspec.Meta(max_length=RATE_STANDINGS_MAX)] = ()
    whole_from: _Count = 0
    is_urgent: bool = False
    asked_anew: tuple[str, ...] = ()
