"""The route that changes many virtual keys, each by itself: LiteLLM's shape, all settings."""

from typing import Annotated, Any

import msgspec
from litestar import Request, Response, post
from msgspec import Meta

from schemas.errors import ApiError, Unavailable
from schemas.keys import KEY_LENGTH_MAX
from schemas.registry import KeyRecord
from services.admin.bodies import KeyRow, UpdateKey
from services.admin.describing import Description, described
from services.admin.directory import find_key
from services.admin.fields import KEY_FIELDS_WITHOUT_MEANING
from services.admin.guard import caller_of
from services.admin.key_changes import change_key
from services.admin.reading import answer_json, decode_body, read_body
from services.admin.records import Issue
from services.admin.shapes import key_row
from services.admin.state import AdminState, now_us

__all__ = ["BULK_ROUTES", "KEYS_CHANGED_MAX"]

KEYS_CHANGED_MAX = 500
"""One request changes at most so many keys, as with LiteLLM."""
_Request = Request[Any, Any, Any]


class UpdateKeys(msgspec.Struct, frozen=True, kw_only=True):
    """POST /key/bulk_update: changes as POST /key/update takes them, each of one key."""

    keys: Annotated[tuple[UpdateKey, ...], Meta(min_length=1, max_length=KEYS_CHANGED_MAX)]


class _Given(msgspec.Struct, frozen=True, kw_only=True):
    """The same, in which each change is still to be read: one that is wrong stops no other."""

    keys: Annotated[tuple[msgspec.Raw, ...], Meta(min_length=1, max_length=KEYS_CHANGED_MAX)]


class _Named(msgspec.Struct):
    key: Annotated[str, Meta(max_length=KEY_LENGTH_MAX)] = ""


class ChangedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that was changed, as it was given, and its new state."""

    key: str
    key_info: KeyRow


class UnchangedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that was not changed, as it was given; why, and its state where the caller sees it."""

    key: str
    key_info: KeyRow | None
    failed_reason: str


class UpdatedKeys(msgspec.Struct, frozen=True, kw_only=True):
    """What became of each change; both lists are in the order of the request."""

    total_requested: int
    successful_updates: tuple[ChangedKey, ...]
    failed_updates: tuple[UnchangedKey, ...]


@post(
    "/key/bulk_update",
    status_code=200,
    opt=described(
        Description(
            summary="Change many virtual keys",
            description=(
                "Each is changed by itself, as by POST /key/update, and told of by itself. "
                "Where NATS cannot be reached any more, the rest is not tried."
            ),
            tag="keys",
            body=UpdateKeys,
            answer=UpdatedKeys,
            example_body={"keys": [{"key": "sk-...", "max_budget": 50}]},
            errors=(400,),
        ),
        access="keys",
    ),
)
async def update_keys(request: _Request, admin: AdminState) -> Response[bytes]:
    """Change many virtual keys, each by itself."""
    body = await read_body(request, _Given)
    caller = caller_of(request)
    issue = Issue(now_us=now_us(), by=caller.name)
    changed: list[tuple[str, KeyRecord]] = []
    failed: list[tuple[str, KeyRecord | None, str]] = []
    lost: Unavailable | None = None
    for given in body.keys:
        try:
            if lost is not None:
                raise lost
            change = decode_body(bytes(given), UpdateKey, KEY_FIELDS_WITHOUT_MEANING)
            record, _ = await change_key(request, admin, change, issue)
        except ApiError as error:
            lost = error if isinstance(error, Unavailable) else None
            name = _name(given)
            seen = find_key(admin.snapshot, name)
            is_seen = seen is not None and caller.sees_key(seen)
            failed.append((name, seen if is_seen else None, error.message))
        else:
            changed.append((change.key, record))
    records = [record for _, record in changed]
    records += [record for _, record, _ in failed if record is not None]
    spends = await admin.ledger.spend_of(records, issue.now_us)

    def shown(record: KeyRecord) -> KeyRow:
        return key_row(record, spends[record.key_id], issue.now_us, admin.timezone)

    return answer_json(
        UpdatedKeys(
            total_requested=len(body.keys),
            successful_updates=tuple(
                ChangedKey(key=key, key_info=shown(record)) for key, record in changed
            ),
            failed_updates=tuple(
                UnchangedKey(
                    key=key,
                    key_info=None if record is None else shown(record),
                    failed_reason=reason,
                )
                for key, record, reason in failed
            ),
        )
    )


def _name(given: msgspec.Raw) -> str:
    """Return the key that a change names, an empty text where it names none."""
    try:
        return msgspec.json.decode(bytes(given), type=_Named).key
    except msgspec.MsgspecError:
        return ""


BULK_ROUTES = (update_keys,)
