"""The routes that replace a virtual key's secret: its id, settings and spend stay."""

from typing import Any

import msgspec
from litestar import Request, Response, post
from msgspec import UNSET

from schemas.errors import BadRequest
from schemas.events import KeyRotated, KeyUpdated
from schemas.keys import hash_key, key_name, new_key
from schemas.registry import KeyRecord
from services.admin.bodies import Duration, GeneratedKey, KeySettings, KeyText
from services.admin.describing import Description, described
from services.admin.directory import find_key, sequence_of
from services.admin.fields import KEY_FIELDS_WITHOUT_MEANING
from services.admin.guard import caller_of
from services.admin.guardrail_names import check_guardrails
from services.admin.key_rights import check_managed, for_caller, regenerated_by
from services.admin.key_types import check_routes
from services.admin.preconditions import etag_header
from services.admin.reading import answer_json, read_body
from services.admin.records import Issue, updated_record
from services.admin.shapes import generated_key
from services.admin.state import AdminState, now_us
from services.admin.writer import refuse_taken_alias
from services.runtime.durations import expiry_from

__all__ = ["REGENERATE_ROUTES", "RegenerateKey", "RegenerateNamedKey", "rotated_record"]

_TAG = "keys"
_Request = Request[Any, Any, Any]
_DESCRIPTION = (
    "The answer holds the new key, this once. The old one is refused from then on or, with "
    "`grace_period`, when that is over. Id, spend and history stay, and all settings but those "
    "that are named."
)


class RegenerateNamedKey(KeySettings, frozen=True, kw_only=True):
    """POST /key/{key}/regenerate: for how long the old key works beside the new one.

    Settings that are named change with it.
    """

    grace_period: Duration | None = None


class RegenerateKey(RegenerateNamedKey, frozen=True, kw_only=True):
    """POST /key/regenerate: which key, and for how long it works beside the new one."""

    key: KeyText


@post(
    "/key/regenerate",
    status_code=200,
    opt=described(
        Description(
            summary="Replace a virtual key's secret",
            description=_DESCRIPTION,
            tag=_TAG,
            body=RegenerateKey,
            answer=GeneratedKey,
            versioned=True,
            example_body={"key": "sk-...", "grace_period": "24h"},
            errors=(400, 404, 409, 412),
        ),
        access="keys",
    ),
)
async def regenerate_key(request: _Request, admin: AdminState) -> Response[bytes]:
    """Replace the secret of the key that the body names."""
    body = await read_body(request, RegenerateKey, KEY_FIELDS_WITHOUT_MEANING)
    return await _regenerate(request, admin, body.key, body)


@post(
    "/key/{key:str}/regenerate",
    status_code=200,
    opt=described(
        Description(
            summary="Replace the secret of the key in the path",
            description=_DESCRIPTION + " Name the key by its id or SHA-256: paths are logged.",
            tag=_TAG,
            body=RegenerateNamedKey,
            answer=GeneratedKey,
            versioned=True,
            example_body={"grace_period": "24h"},
            errors=(400, 404, 409, 412),
        ),
        access="keys",
    ),
)
async def regenerate_named_key(request: _Request, admin: AdminState, key: str) -> Response[bytes]:
    """Replace the secret of the key that the path names."""
    body = await read_body(request, RegenerateNamedKey, KEY_FIELDS_WITHOUT_MEANING)
    return await _regenerate(request, admin, key, body)


async def _regenerate(
    request: _Request, admin: AdminState, given: str, body: RegenerateNamedKey
) -> Response[bytes]:
    check_guardrails(body.guardrails, admin.guardrail_names)
    check_routes(body.allowed_routes, request.app.route_handler_method_map)
    snapshot = await admin.registry()
    caller = caller_of(request)
    before = check_managed(caller, find_key(snapshot, given))
    issue = Issue(now_us=now_us(), by=caller.name)
    key = new_key()
    changed = before
    if any(getattr(body, name) is not UNSET for name in KeySettings.__struct_fields__):
        changed = for_caller(snapshot, caller, before, updated_record(before, body, issue))
    if changed.key_alias != before.key_alias:
        refuse_taken_alias(snapshot, changed)
    record = regenerated_by(caller, rotated_record(changed, key, body.grace_period, issue))
    sequence = await admin.writer.write(
        KeyRotated, record, expected_sequence=sequence_of(snapshot, before)
    )
    if record.key_alias != before.key_alias:
        # Where another key got the alias at the same moment, all is as before: the new secret
        # would be told to nobody.
        await admin.writer.claim_alias(KeyUpdated, record, before)
    spend = await admin.ledger.spend_of([record], issue.now_us)
    answer = generated_key(record, key, issue.now_us, admin.timezone, spend[record.key_id])
    return answer_json(answer, headers=etag_header(sequence))


def rotated_record(
    record: KeyRecord, key: str, grace_period: str | None, issue: Issue
) -> KeyRecord:
    """Return the record with a new secret. Raises BadRequest for what is no grace period.

    Without one no time is noted: a proxy whose clock is behind refuses the old key at once, too.
    """
    until_us = None
    if grace_period is not None:
        try:
            until_us = expiry_from(grace_period, issue.now_us)
        except ValueError as error:
            raise BadRequest(f"grace_period: {error}", param="grace_period") from None
    return msgspec.structs.replace(
        record,
        key_hash=hash_key(key),
        key_name=key_name(key),
        former_key_hash=record.key_hash,
        former_key_until_us=until_us,
        updated_at_us=issue.now_us,
        updated_by=issue.by,
    )


REGENERATE_ROUTES = (regenerate_key, regenerate_named_key)
