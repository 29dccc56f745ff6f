"""From a message of a stream to an alert, and whether a destination is to be told of it. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from schemas.alerts import ALERT_TYPES, AlertDestination
from schemas.events import us_from_time
from schemas.registry import KeyRecord
from services.admin.alert_text import alert_lines, alert_title
from services.runtime.budget_limits import member_of

__all__ = ["Alert", "alert_of", "is_asked_for", "is_for"]

_KNOWN = frozenset(ALERT_TYPES)
_SCOPES = ("team", "user", "key")
_LEFT_OUT = ("key_hash", "former_key_hash")
"""What leaves the house with no alert. A hash is not the key, but nobody needs it to read one."""


class _Envelope(msgspec.Struct):
    type: str
    id: str
    source: str
    time: datetime
    data: dict[str, Any]
    subject: str | None = None


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One event as it is told.

    `kind` is the type without its version, `event` the CloudEvent to send, `owners` the ids of the
    team, user and key that it is about, as far as it is about any.
    """

    kind: str
    event_id: str
    time_us: int
    title: str
    lines: tuple[str, ...]
    event: dict[str, Any]
    owners: Mapping[str, str]
    destination: str | None = None


_decoder = msgspec.json.Decoder(_Envelope)


def alert_of(payload: bytes, keys: Mapping[str, KeyRecord]) -> Alert | None:
    """Return what an event has to tell; None where it is no alert, or cannot be read.

    `keys` are those of the registry by id: what is about a key is about its team and user, too.
    """
    try:
        event = _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None  # Whoever owns the stream complains of it.
    kind, _, version = event.type.rpartition(".")
    if kind not in _KNOWN or not version.startswith("v"):
        return None
    data = {name: value for name, value in event.data.items() if name not in _LEFT_OUT}
    return Alert(
        kind=kind,
        event_id=event.id,
        time_us=us_from_time(event.time) if event.time.tzinfo else 0,
        title=alert_title(kind, data),
        lines=tuple(alert_lines(kind, data)),
        event={
            "specversion": "1.0",
            "type": event.type,
            "source": event.source,
            "id": event.id,
            "time": event.time,
            "subject": event.subject,
            "datacontenttype": "application/json",
            "data": data,
        },
        owners=_owners(data, keys),
        destination=data.get("destination") if kind == "alert.undelivered" else None,
    )


def _owners(data: Mapping[str, Any], keys: Mapping[str, KeyRecord]) -> dict[str, str]:
    found = {scope: data.get(f"{scope}_id") for scope in _SCOPES}
    if data.get("scope") in _SCOPES:  # A budget's.
        found[data["scope"]] = data.get("scope_id")
    elif data.get("scope") == "member":
        found["team"], found["user"] = member_of(str(data.get("scope_id")))
    key = keys.get(str(found["key"]))
    if key is not None:
        found["team"] = found["team"] or key.team_id
        found["user"] = found["user"] or key.user_id
    return {scope: value for scope, value in found.items() if isinstance(value, str)}


def is_asked_for(kind: str, destination: AlertDestination) -> bool:
    """Tell whether a destination is told of a type of events at all."""
    family = kind.partition(".")[0] + ".*"
    return any(each in destination.events for each in (kind, family, "*"))


def is_for(alert: Alert, destination: AlertDestination) -> bool:
    """Tell whether a destination is to be told of an alert.

    What could not be delivered to a destination is told to the others alone.
    """
    if alert.destination == destination.name or not is_asked_for(alert.kind, destination):
        return False
    scopes = {"team": destination.teams, "user": destination.users, "key": destination.keys}
    if not any(scopes.values()) or alert.kind == "alert.tested":
        return True
    return any(alert.owners.get(scope) in ids for scope, ids in scopes.items())
