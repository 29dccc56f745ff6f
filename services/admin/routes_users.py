"""The routes under /user: LiteLLM's names, shapes and errors, written as events."""

from collections import Counter
from math import ceil
from typing import Any

import msgspec
from litestar import Request, Response, get, post

from schemas.errors import BadRequest, Forbidden, NotFound
from schemas.events import KeyCreated, KeyDeleted, UserCreated, UserUpdated, time_from_us
from schemas.keys import new_key, new_key_id
from schemas.registry import KeyRecord, TeamMember, UserRecord
from services.admin.bodies import GenerateKey
from services.admin.bodies_owners import (
    DeletedUsers,
    DeleteUsers,
    ListedUser,
    NewUser,
    NewUserAnswer,
    TeamRow,
    UpdatedUser,
    UpdateUser,
    UserInfo,
    UserInfoQuery,
    UserList,
    UserListQuery,
    UserRow,
)
from services.admin.describing import Description, described
from services.admin.directory import alias_holders, live_keys, sequence_of
from services.admin.fields import OWNER_FIELDS_WITHOUT_MEANING
from services.admin.guard import caller_of
from services.admin.guardrail_names import check_guardrails
from services.admin.members import change_team, found_team, with_members
from services.admin.memberships import memberships, places_of
from services.admin.owner_changes import (
    delete_with_keys,
    id_taken,
    keys_of,
    rows_of_keys,
    spend_of_owners,
)
from services.admin.owners import changed_owner, new_owner_id, own_fields, team_row, user_row
from services.admin.preconditions import etag_header
from services.admin.principal import Principal
from services.admin.reading import answer_json, read_body, read_query
from services.admin.records import Issue, created_record
from services.admin.state import AdminState, now_us
from services.admin.writer import alias_taken
from services.runtime.registry import RegistrySnapshot

__all__ = ["USER_ROUTES"]

_TAG = "users"
_Request = Request[Any, Any, Any]


@post(
    "/user/new",
    status_code=200,
    opt=described(
        Description(
            summary="Make a user",
            description=(
                "Keys belong to a user by their `user_id`. With `auto_create_key`, the default, "
                "a first key is made too; the answer shows it this once."
            ),
            tag=_TAG,
            body=NewUser,
            answer=NewUserAnswer,
            versioned=True,
            example_body={"user_id": "alice@example.com", "user_role": "internal_user"},
            errors=(400, 409),
        )
    ),
)
async def new_user(request: _Request, admin: AdminState) -> Response[bytes]:
    """Make a user, and a key of the user's."""
    body = await read_body(request, NewUser, OWNER_FIELDS_WITHOUT_MEANING)
    check_guardrails(body.guardrails, admin.guardrail_names)
    snapshot = await admin.registry()
    issue = Issue(now_us=now_us(), by=caller_of(request).name)
    user_id = body.user_id or new_owner_id()
    if user_id in snapshot.users:
        raise id_taken("user")
    for team_id in body.teams or ():
        found_team(snapshot, team_id)
    bare = UserRecord(user_id=user_id, created_at_us=issue.now_us, created_by=issue.by)
    record = changed_owner(bare, body, issue)
    secret = new_key() if body.auto_create_key else None
    key = _first_key(snapshot, body, secret, user_id, issue) if secret is not None else None
    sequence = await admin.writer.write(UserCreated, record, expected_sequence=0)
    member = TeamMember(user_id=user_id)
    for team_id in dict.fromkeys(body.teams or ()):
        await change_team(
            admin, team_id, lambda team: with_members(team, [member]), issue, is_consequence=True
        )
    if key is not None:
        await admin.writer.write(KeyCreated, key, expected_sequence=0)
        await admin.writer.claim_alias(KeyDeleted, key, msgspec.structs.replace(key, deleted=True))
    (spend,) = await spend_of_owners(admin, [record])
    answer = NewUserAnswer(
        user_id=user_id,
        user_alias=record.user_alias,
        user_email=record.user_email,
        user_role=record.user_role,
        teams=body.teams or (),
        key=secret,
        token=key.key_hash if key is not None else None,
        key_id=key.key_id if key is not None else None,
        key_alias=key.key_alias if key is not None else None,
        expires=time_from_us(key.expires_at_us) if key is not None and key.expires_at_us else None,
        **own_fields(record, spend, issue.now_us, admin.timezone),
    )
    return answer_json(answer, headers=etag_header(sequence))


@post(
    "/user/update",
    status_code=200,
    opt=described(
        Description(
            summary="Change a user",
            description=(
                "Fields that are absent stay as they are; null takes a setting away. While "
                "`blocked` is true all keys of the user are refused."
            ),
            tag=_TAG,
            body=UpdateUser,
            answer=UpdatedUser,
            versioned=True,
            example_body={"user_id": "alice@example.com", "blocked": True},
            errors=(400, 404, 409, 412),
        )
    ),
)
async def update_user(request: _Request, admin: AdminState) -> Response[bytes]:
    """Change some settings of a user."""
    body = await read_body(request, UpdateUser, OWNER_FIELDS_WITHOUT_MEANING)
    check_guardrails(body.guardrails, admin.guardrail_names)
    snapshot = await admin.registry()
    before = _found(snapshot, body.user_id)
    record = changed_owner(before, body, Issue(now_us=now_us(), by=caller_of(request).name))
    sequence = await admin.writer.write(
        UserUpdated, record, expected_sequence=sequence_of(snapshot, before)
    )
    answer = UpdatedUser(user_id=record.user_id, data=await _row(admin, record))
    return answer_json(answer, headers=etag_header(sequence))


@post(
    "/user/delete",
    status_code=200,
    opt=described(
        Description(
            summary="Delete users",
            description=(
                "With all of their keys, which are refused from then on. All users must exist, "
                "else none is deleted. Their history stays, and their ids are not given again."
            ),
            tag=_TAG,
            body=DeleteUsers,
            answer=DeletedUsers,
            example_body={"user_ids": ["alice@example.com"]},
            errors=(400, 404, 409, 412),
        )
    ),
)
async def delete_users(request: _Request, admin: AdminState) -> Response[bytes]:
    """Delete users and their keys."""
    body = await read_body(request, DeleteUsers)
    snapshot = await admin.registry()
    users = {user_id: _found(snapshot, user_id) for user_id in body.user_ids}
    issue = Issue(now_us=now_us(), by=caller_of(request).name)
    count = await delete_with_keys(admin, users.values(), issue)
    return answer_json(DeletedUsers(deleted_users=body.user_ids, deleted_keys=count))


@get(
    "/user/info",
    opt=described(
        Description(
            summary="Show a user",
            description="The settings, the spend, the keys, and the teams of both.",
            tag=_TAG,
            query=UserInfoQuery,
            answer=UserInfo,
            versioned=True,
            example_query="user_id=alice@example.com",
            errors=(400, 404),
        ),
        access="part",
    ),
)
async def user_info(request: _Request, admin: AdminState) -> Response[bytes]:
    """Show a user and the user's keys."""
    query = read_query(request, UserInfoQuery)
    caller = caller_of(request)
    user_id = query.user_id or caller.user_id
    if user_id is None:
        raise BadRequest("name a user (?user_id=…): the master key is none", param="user_id")
    if not caller.sees_all and user_id != caller.user_id:
        raise Forbidden("a user may see itself alone", param="user_id")
    snapshot = await admin.registry()
    record = _found(snapshot, user_id)
    sequence = sequence_of(snapshot, record)
    answer = UserInfo(
        user_id=record.user_id,
        user_info=await _row(admin, record),
        keys=await rows_of_keys(admin, record, caller),
        teams=await _teams_of(admin, record, caller),
        team_memberships=await memberships(admin, places_of(snapshot, user_id)),
    )
    return answer_json(answer, headers=etag_header(sequence))


@get(
    "/user/list",
    opt=described(
        Description(
            summary="List users",
            description="One page of the users that were not deleted, the newest first.",
            tag=_TAG,
            query=UserListQuery,
            answer=UserList,
            example_query="page=1&page_size=25",
            errors=(400,),
        ),
        access="read",
    ),
)
async def list_users(request: _Request, admin: AdminState) -> Response[bytes]:
    """List users, page by page."""
    query = read_query(request, UserListQuery)
    wanted = (query.user_email or "").lower()
    snapshot = await admin.registry()
    found = [
        user
        for user in snapshot.users.values()
        if not user.deleted and wanted in (user.user_email or "").lower()
    ]
    found.sort(key=lambda user: user.created_at_us, reverse=True)
    first = (query.page - 1) * query.page_size
    users = found[first : first + query.page_size]
    spends = await spend_of_owners(admin, users)
    counts = Counter(key.user_id for key in live_keys(snapshot) if key.user_id is not None)
    answer = UserList(
        users=tuple(
            ListedUser(
                **msgspec.structs.asdict(user_row(snapshot, *pair, now_us(), admin.timezone)),
                key_count=counts[pair[0].user_id],
            )
            for pair in zip(users, spends, strict=True)
        ),
        total=len(found),
        page=query.page,
        page_size=query.page_size,
        total_pages=ceil(len(found) / query.page_size),
    )
    return answer_json(answer)


def _first_key(
    snapshot: RegistrySnapshot, body: NewUser, secret: str, user_id: str, issue: Issue
) -> KeyRecord:
    wanted = GenerateKey(user_id=user_id, key_alias=body.key_alias, duration=body.duration)
    if body.key_alias is not None and alias_holders(snapshot, body.key_alias):
        raise alias_taken(body.key_alias)
    return created_record(wanted, secret, new_key_id(), issue)


async def _teams_of(
    admin: AdminState, record: UserRecord, caller: Principal
) -> tuple[TeamRow, ...]:
    """Return the teams of a user and of the user's keys, as far as the caller may see them."""
    snapshot = admin.snapshot
    names = dict.fromkeys(sorted(snapshot.memberships(record.user_id)))
    names |= dict.fromkeys(key.team_id for key in keys_of(snapshot, record) if key.team_id)
    teams = [
        snapshot.teams[name]
        for name in names
        if name in snapshot.teams and not snapshot.teams[name].deleted and caller.sees_team(name)
    ]
    spends = await spend_of_owners(admin, teams, caller)
    time_us = now_us()
    return tuple(
        team_row(snapshot, *pair, time_us, admin.timezone)
        for pair in zip(teams, spends, strict=True)
    )


async def _row(admin: AdminState, record: UserRecord) -> UserRow:
    (spend,) = await spend_of_owners(admin, [record])
    return user_row(admin.snapshot, record, spend, now_us(), admin.timezone)


def _found(snapshot: RegistrySnapshot, user_id: str) -> UserRecord:
    record = snapshot.users.get(user_id)
    if record is None or record.deleted:
        raise NotFound(f"there is no user {user_id!r}", param="user_id")
    return record


USER_ROUTES = (new_user, update_user, delete_users, user_info, list_users)
