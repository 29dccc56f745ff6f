"""The rows of `registry_changes`: what an event of REGISTRY changed, field by field. Pure.

No hash of a key is in a row: whoever may read the ledger need not know by what keys are recognised.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from schemas.events import (
    ConfigChanged,
    KeyEvent,
    ModelEvent,
    TeamEvent,
    UserEvent,
    decode_config_event,
    decode_key_event,
    decode_model_event,
    decode_team_event,
    decode_user_event,
    us_from_time,
)
from schemas.streams import (
    CONFIG_SUBJECT,
    key_subject,
    model_subject,
    team_subject,
    user_subject,
)
from services.runtime.bus import StreamMessage

__all__ = ["Change", "change_row", "read_change"]

RegistryEvent = KeyEvent | TeamEvent | UserEvent | ModelEvent | ConfigChanged

_DECODERS: dict[str, Callable[[bytes], RegistryEvent]] = {
    "key": decode_key_event,
    "team": decode_team_event,
    "user": decode_user_event,
    "model": decode_model_event,
    "config": decode_config_event,
}
_NAMES = {
    "key": "key_alias",
    "team": "team_alias",
    "user": "user_alias",
    "model": "model_name",
    "config": "path",
}
_IDS = {"key": "key_id", "team": "team_id", "user": "user_id", "model": "model_id"}
_SUBJECTS: dict[str, Callable[[str], str]] = {
    "key": key_subject,
    "team": team_subject,
    "user": user_subject,
    "model": model_subject,
}
_CONFIG_ID = "file"
_ALWAYS_ANEW = frozenset({"updated_at_us", "updated_by", "changed_at_us", "changed_by"})
"""They tell of the change itself, and are columns."""
_AS_GIVEN = frozenset({"metadata"})
"""What is inside is the user's own, whatever its names are."""


class Change(NamedTuple):
    """One event of the registry that could be read."""

    sequence: int
    object_type: str
    object_id: str
    action: str
    event: RegistryEvent
    state: dict[str, Any]


def read_change(message: StreamMessage) -> Change | None:
    """Return the change that a message tells; None for a kind that this version does not know.

    Raises msgspec.MsgspecError, UnicodeDecodeError or RecursionError.
    """
    object_type = message.subject.split(".")[1]
    decode = _DECODERS.get(object_type)
    if decode is None:
        return None
    event = decode(message.payload)
    state = _state(event.data)
    object_id = state[_IDS[object_type]] if object_type in _IDS else _CONFIG_ID
    subject = _SUBJECTS[object_type](object_id) if object_type in _IDS else CONFIG_SUBJECT
    if subject != message.subject:
        # The registry passes over it, too.
        raise msgspec.ValidationError("it is about another thing than its subject's")
    action = str(event.__struct_config__.tag).split(".")[1]
    return Change(message.sequence, object_type, object_id, action, event, state)


def change_row(change: Change, before: dict[str, Any] | None) -> tuple[Any, ...]:
    """Return the row, in the order of REGISTRY_CHANGE_COLUMNS. `before` is the state until then."""
    state, event = change.state, change.event
    known = before or {}
    changed = [
        name
        for name, value in state.items()
        # A field that an older version did not know had the value that means nothing.
        if name not in _ALWAYS_ANEW and (known[name] != value if name in known else bool(value))
    ]
    by = state.get("updated_by") or state.get("changed_by")
    old = {name: known.get(name) for name in changed}
    return (
        change.sequence,
        us_from_time(event.time),
        change.object_type,
        change.object_id,
        state.get(_NAMES[change.object_type]),
        change.action,
        by,
        event.clientaddress,
        event.route,
        event.requestid,
        changed,
        None if before is None else _json(old),
        _json({name: state[name] for name in changed}),
        _json(state),
    )


def _state(record: msgspec.Struct) -> dict[str, Any]:
    """Return all fields of a record as JSON values, defaults too, but for hashes of keys."""
    return {
        name: value if name in _AS_GIVEN else _without_hashes(value)
        for name in record.__struct_fields__
        if "hash" not in name
        for value in (msgspec.to_builtins(getattr(record, name)),)
    }


def _without_hashes(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _without_hashes(item) for name, item in value.items() if "hash" not in str(name)
        }
    if isinstance(value, list | tuple):
        return [_without_hashes(item) for item in value]
    return value


def _json(value: dict[str, Any]) -> str:
    return msgspec.json.encode(value).decode()
