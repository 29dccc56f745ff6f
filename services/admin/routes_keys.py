"""The routes under /key: LiteLLM's names, shapes and errors, written as events."""

from typing import Any

import msgspec
from litestar import Request, Response, get, post
from msgspec import UNSET

from schemas.errors import BadRequest, Conflict, Forbidden, NotFound
from schemas.events import KeyBlocked, KeyCreated, KeyDeleted, KeyUnblocked
from schemas.keys import new_key, new_key_id
from schemas.registry import KeyRecord
from services.admin.bodies import (
    BlockKey,
    DeletedKeys,
    DeleteKeys,
    GeneratedKey,
    GenerateKey,
    KeyInfo,
    KeyInfoQuery,
    KeyList,
    KeyListQuery,
    KeyRow,
    ListedKey,
    UpdatedKey,
    UpdateKey,
    UserOfKey,
)
from services.admin.describing import Description, described
from services.admin.directory import alias_holders, find_key, page_of_keys, sequence_of
from services.admin.fields import KEY_FIELDS_WITHOUT_MEANING
from services.admin.guard import caller_of
from services.admin.guardrail_names import check_guardrails
from services.admin.key_changes import change_key
from services.admin.key_rights import check_managed, for_caller
from services.admin.key_types import check_routes
from services.admin.preconditions import etag_header
from services.admin.reading import answer_json, read_body, read_query
from services.admin.records import Issue, chosen_key_id, created_record
from services.admin.shapes import (
    generated_key,
    key_row,
    key_state,
    listed_key,
    updated_key,
    user_of_key,
)
from services.admin.state import AdminState, now_us
from services.admin.writer import refuse_taken_alias
from services.runtime.registry import RegistrySnapshot

__all__ = ["KEY_ROUTES"]

_TAG = "keys"
_Request = Request[Any, Any, Any]


@post(
    "/key/generate",
    status_code=200,
    opt=described(
        Description(
            summary="Make a virtual key",
            description=(
                "The answer holds the key itself, this once: only its SHA-256 is stored. Every "
                "field is optional; without `models` the key may use every model."
            ),
            tag=_TAG,
            body=GenerateKey,
            answer=GeneratedKey,
            versioned=True,
            example_body={
                "key_alias": "developer-1",
                "models": ["anthropic-claude"],
                "max_budget": 100.00,
                "budget_duration": "monthly",
            },
            errors=(400, 409),
        ),
        access="keys",
    ),
)
async def generate_key(request: _Request, admin: AdminState) -> Response[bytes]:
    """Make a virtual key."""
    body = await read_body(request, GenerateKey, KEY_FIELDS_WITHOUT_MEANING)
    check_guardrails(body.guardrails, admin.guardrail_names)
    check_routes(body.allowed_routes, request.app.route_handler_method_map)
    snapshot = await admin.registry()
    caller = caller_of(request)
    issue = Issue(now_us=now_us(), by=caller.name)
    key = body.key or new_key()
    key_id = new_key_id() if body.key is None else chosen_key_id(key)
    record = for_caller(snapshot, caller, None, created_record(body, key, key_id, issue))
    if snapshot.knew_hash(record.key_hash):
        raise Conflict("this key exists already, or did once: choose another", param="key")
    refuse_taken_alias(snapshot, record)
    sequence = await admin.writer.write(KeyCreated, record, expected_sequence=0)
    await admin.writer.claim_alias(
        KeyDeleted, record, msgspec.structs.replace(record, deleted=True)
    )
    answer = generated_key(record, key, issue.now_us, admin.timezone)
    return answer_json(answer, headers=etag_header(sequence))


@get(
    "/key/info",
    opt=described(
        Description(
            summary="Show a virtual key",
            description=(
                "With the master key, `key` names the key (raw, its SHA-256, or its key id), "
                "deleted ones too. With a virtual key it shows that key itself."
            ),
            tag=_TAG,
            query=KeyInfoQuery,
            answer=KeyInfo,
            versioned=True,
            example_query="key=sk-...",
            errors=(400, 404),
        ),
        access="own_key",
    ),
)
async def key_info(request: _Request, admin: AdminState) -> Response[bytes]:
    """Show a virtual key, its spend and when its budget begins anew."""
    query = read_query(request, KeyInfoQuery)
    snapshot = await admin.registry()
    caller = caller_of(request)
    own = caller.key
    if query.key is None:
        if own is None:
            raise BadRequest(
                "name a key (?key=…), or send the request with the virtual key itself: the master "
                "key is none",
                param="key",
            )
        record, given = snapshot.keys.get(own.key_id, own), own.key_hash
    else:
        found = find_key(snapshot, query.key, with_deleted=True)
        if not caller.sees_all and (found is None or not caller.sees_key(found)):
            raise Forbidden("a virtual key may see its own keys alone", param="key")
        record, given = _found(found), query.key
    sequence = sequence_of(snapshot, record)
    time_us = now_us()
    spend = await admin.ledger.spend_of([record], time_us)
    state = key_state(record, spend[record.key_id], time_us, admin.timezone)
    return answer_json(KeyInfo(key=given, info=state), headers=etag_header(sequence))


@get(
    "/key/list",
    opt=described(
        Description(
            summary="List virtual keys",
            description="One page of keys, as SHA-256s or, with `return_full_object`, as rows.",
            tag=_TAG,
            query=KeyListQuery,
            answer=KeyList,
            example_query="page=1&size=10&return_full_object=true",
            errors=(400,),
        ),
        access="own",
    ),
)
async def list_keys(request: _Request, admin: AdminState) -> Response[bytes]:
    """List virtual keys, page by page."""
    query = read_query(request, KeyListQuery)
    snapshot = await admin.registry()
    time_us = now_us()
    records, total, pages = page_of_keys(snapshot, query, time_us, caller_of(request))
    keys: tuple[str | ListedKey, ...] = tuple(record.key_hash for record in records)
    if query.return_full_object:
        spends = await admin.ledger.spend_of(records, time_us)
        users: dict[str, UserOfKey | None] = {}
        if query.expand == "user":
            users = {
                record.key_id: user_of_key(snapshot.users.get(record.user_id or ""))
                for record in records
            }
        keys = tuple(
            listed_key(
                record,
                spends[record.key_id],
                time_us,
                admin.timezone,
                users.get(record.key_id, UNSET),
            )
            for record in records
        )
    return answer_json(
        KeyList(keys=keys, total_count=total, current_page=query.page, total_pages=pages)
    )


@post(
    "/key/delete",
    status_code=200,
    opt=described(
        Description(
            summary="Delete virtual keys",
            description=(
                "They are refused from then on. All must exist, else none is deleted. Their "
                "history stays: /key/info and /spend/logs still know them."
            ),
            tag=_TAG,
            body=DeleteKeys,
            answer=DeletedKeys,
            example_body={"key_aliases": ["developer-1"]},
            errors=(400, 404, 409, 412),
        ),
        access="keys",
    ),
)
async def delete_keys(request: _Request, admin: AdminState) -> Response[bytes]:
    """Delete virtual keys by themselves or by their aliases."""
    body = await read_body(request, DeleteKeys)
    if bool(body.keys) == bool(body.key_aliases):
        raise BadRequest("send either keys or key_aliases, with at least one entry", param="keys")
    snapshot = await admin.registry()
    given = body.keys or body.key_aliases or ()
    caller = caller_of(request)
    records: dict[str, KeyRecord] = {}
    for position, text in enumerate(given, start=1):
        record = _by_alias(snapshot, text) if body.key_aliases else find_key(snapshot, text)
        if record is None or not caller.sees_key(record):
            # The text is not repeated: it may be a key.
            raise NotFound(
                f"entry {position} of {len(given)} is no live key; nothing was deleted",
                param="key_aliases" if body.key_aliases else "keys",
            )
        records[record.key_id] = check_managed(caller, record)
    sequences = {key_id: sequence_of(snapshot, record) for key_id, record in records.items()}
    issue = Issue(now_us=now_us(), by=caller.name)
    for key_id, record in records.items():
        admin.writer.check(record, sequences[key_id])
    for key_id, record in records.items():
        deleted = _touched(record, issue, deleted=True)
        await admin.writer.write(KeyDeleted, deleted, expected_sequence=sequences[key_id])
    return answer_json(DeletedKeys(deleted_keys=given))


@post(
    "/key/block",
    status_code=200,
    opt=described(
        Description(
            summary="Block a virtual key",
            description="It is refused until it is unblocked. Blocking twice changes nothing.",
            tag=_TAG,
            body=BlockKey,
            answer=KeyRow,
            versioned=True,
            example_body={"key": "sk-..."},
            errors=(400, 404, 409, 412),
        ),
        access="team",
    ),
)
async def block_key(request: _Request, admin: AdminState) -> Response[bytes]:
    """Block a virtual key."""
    return await _set_blocked(request, admin, blocked=True)


@post(
    "/key/unblock",
    status_code=200,
    opt=described(
        Description(
            summary="Unblock a virtual key",
            description="It may be used again. Unblocking twice changes nothing.",
            tag=_TAG,
            body=BlockKey,
            answer=KeyRow,
            versioned=True,
            example_body={"key": "sk-..."},
            errors=(400, 404, 409, 412),
        ),
        access="team",
    ),
)
async def unblock_key(request: _Request, admin: AdminState) -> Response[bytes]:
    """Let a blocked virtual key be used again."""
    return await _set_blocked(request, admin, blocked=False)


@post(
    "/key/update",
    status_code=200,
    opt=described(
        Description(
            summary="Change a virtual key",
            description=(
                "Fields that are absent stay as they are; null takes a setting away. `duration` "
                "counts from now; null or -1 lets the key live for ever."
            ),
            tag=_TAG,
            body=UpdateKey,
            answer=UpdatedKey,
            versioned=True,
            example_body={"key": "sk-...", "max_budget": 200.00},
            errors=(400, 404, 409, 412),
        ),
        access="keys",
    ),
)
async def update_key(request: _Request, admin: AdminState) -> Response[bytes]:
    """Change some settings of a virtual key."""
    body = await read_body(request, UpdateKey, KEY_FIELDS_WITHOUT_MEANING)
    issue = Issue(now_us=now_us(), by=caller_of(request).name)
    record, sequence = await change_key(request, admin, body, issue)
    spend = await admin.ledger.spend_of([record], issue.now_us)
    answer = updated_key(record, body.key, spend[record.key_id], issue.now_us, admin.timezone)
    return answer_json(answer, headers=etag_header(sequence))


async def _set_blocked(request: _Request, admin: AdminState, *, blocked: bool) -> Response[bytes]:
    body = await read_body(request, BlockKey)
    snapshot = await admin.registry()
    caller = caller_of(request)
    record = check_managed(caller, find_key(snapshot, body.key))
    issue = Issue(now_us=now_us(), by=caller.name)
    sequence = sequence_of(snapshot, record)
    admin.writer.check(record, sequence)
    if record.blocked != blocked:
        record = _touched(record, issue, blocked=blocked)
        change = KeyBlocked if blocked else KeyUnblocked
        sequence = await admin.writer.write(change, record, expected_sequence=sequence)
    spend = await admin.ledger.spend_of([record], issue.now_us)
    row = key_row(record, spend[record.key_id], issue.now_us, admin.timezone)
    return answer_json(row, headers=etag_header(sequence))


def _touched(record: KeyRecord, issue: Issue, **changes: bool) -> KeyRecord:
    return msgspec.structs.replace(
        record, **changes, updated_at_us=issue.now_us, updated_by=issue.by
    )


def _found(record: KeyRecord | None) -> KeyRecord:
    if record is None:
        raise NotFound("Key not found in the registry", param="key")
    return record


def _by_alias(snapshot: RegistrySnapshot, key_alias: str) -> KeyRecord | None:
    return next(iter(alias_holders(snapshot, key_alias)), None)


KEY_ROUTES = (
    generate_key,
    key_info,
    list_keys,
    delete_keys,
    block_key,
    unblock_key,
    update_key,
)
