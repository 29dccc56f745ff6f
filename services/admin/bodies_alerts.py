"""What the routes about alerts take and answer."""

from datetime import datetime
from typing import Any

import msgspec

__all__ = ["AlertDestinations", "AlertTested", "DestinationRow", "UndeliveredRow"]


class DestinationRow(msgspec.Struct, frozen=True, kw_only=True):
    """A destination of the configuration, without where it leads to."""

    name: str
    kind: str
    events: tuple[str, ...]
    teams: tuple[str, ...]
    users: tuple[str, ...]
    keys: tuple[str, ...]


class UndeliveredRow(msgspec.Struct, frozen=True, kw_only=True):
    """An alert that was given up. `alert` is the CloudEvent that was to be sent."""

    given_up_at: datetime
    destination: str
    reason: str
    attempts: int
    title: str
    alert: dict[str, Any]


class AlertDestinations(msgspec.Struct, frozen=True, kw_only=True):
    """Who is told of what, and what could not be delivered lately (the last 100)."""

    destinations: tuple[DestinationRow, ...]
    undelivered: tuple[UndeliveredRow, ...]


class AlertTested(msgspec.Struct, frozen=True, kw_only=True):
    """The event that was raised, and the destinations that are to be told of it."""

    event_id: str
    destinations: tuple[str, ...]
