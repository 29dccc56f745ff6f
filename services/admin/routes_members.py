"""The routes about members of teams: LiteLLM's names, shapes and errors, written as events."""

from typing import Any

import msgspec
from litestar import Request, Response, post
from msgspec import UNSET

from schemas.errors import Forbidden
from schemas.registry import KeyRecord, TeamMember, TeamRecord
from services.admin.bodies_members import (
    AddedMembers,
    AddMembers,
    DeletedMember,
    DeleteMember,
    UpdatedMember,
    UpdateMember,
)
from services.admin.bodies_owners import GivenMember
from services.admin.budgets import amount_from, duration_from
from services.admin.cascade import delete_keys_that_follow
from services.admin.describing import Description, described
from services.admin.directory import live_keys, sequence_of
from services.admin.fields import MEMBER_FIELDS_WITHOUT_MEANING
from services.admin.guard import caller_of
from services.admin.members import (
    change_team,
    found_team,
    members_of,
    place_of,
    with_members,
    without,
)
from services.admin.memberships import memberships
from services.admin.owner_changes import spend_of_owners
from services.admin.owners import team_fields, user_row
from services.admin.preconditions import etag_header
from services.admin.principal import Principal
from services.admin.reading import answer_json, read_body
from services.admin.records import Issue
from services.admin.state import AdminState, now_us

__all__ = ["MEMBER_ROUTES"]

_TAG = "teams"
_Request = Request[Any, Any, Any]


@post(
    "/team/member_add",
    status_code=200,
    opt=described(
        Description(
            summary="Add members to a team",
            description=(
                "Each is named by `user_id` or `user_email`; who is no user yet is made one, "
                "without a role and without a key. An `admin` manages the team's members and keys."
            ),
            tag=_TAG,
            body=AddMembers,
            answer=AddedMembers,
            versioned=True,
            example_body={
                "team_id": "blue",
                "member": [{"user_id": "alice@example.com", "role": "admin"}],
                "max_budget_in_team": 20.0,
            },
            errors=(400, 404, 409, 412),
        ),
        access="team",
    ),
)
async def add_members(request: _Request, admin: AdminState) -> Response[bytes]:
    """Add members to a team."""
    body = await read_body(request, AddMembers, MEMBER_FIELDS_WITHOUT_MEANING)
    given = (body.member,) if isinstance(body.member, GivenMember) else body.member
    issue = await _issue(request, admin, body.team_id)
    named = [each for each in given if each.user_id is not None]
    before = found_team(admin.snapshot, body.team_id)
    with_members(before, [TeamMember(user_id=each.user_id or "") for each in named])
    budget = {
        "max_budget_usd": amount_from("max_budget_in_team", body.max_budget_in_team),
        "budget_duration": duration_from("budget_duration", body.budget_duration),
    }
    members = [
        msgspec.structs.replace(each, **budget) for each in await members_of(admin, given, issue)
    ]
    record, sequence = await change_team(
        admin, body.team_id, lambda team: with_members(team, members), issue
    )
    snapshot = admin.snapshot
    users = [snapshot.users[each.user_id] for each in members]
    spends = await spend_of_owners(admin, users)
    time_us = now_us()
    answer = AddedMembers(
        updated_users=tuple(
            user_row(snapshot, *pair, time_us, admin.timezone)
            for pair in zip(users, spends, strict=True)
        ),
        updated_team_memberships=await memberships(admin, ((record, each) for each in members)),
        **await _team(admin, record, caller_of(request)),
    )
    return answer_json(answer, headers=etag_header(sequence))


@post(
    "/team/member_update",
    status_code=200,
    opt=described(
        Description(
            summary="Change a member of a team",
            description="Fields that are absent stay as they are.",
            tag=_TAG,
            body=UpdateMember,
            answer=UpdatedMember,
            versioned=True,
            example_body={
                "team_id": "blue",
                "user_id": "alice@example.com",
                "max_budget_in_team": 50.0,
            },
            errors=(400, 404, 409, 412),
        ),
        access="team",
    ),
)
async def update_member(request: _Request, admin: AdminState) -> Response[bytes]:
    """Change a member's role in a team."""
    body = await read_body(request, UpdateMember, MEMBER_FIELDS_WITHOUT_MEANING)
    issue = await _issue(request, admin, body.team_id)
    budget: dict[str, Any] = {}
    if body.max_budget_in_team is not UNSET:
        amount = amount_from("max_budget_in_team", body.max_budget_in_team)
        budget["max_budget_usd"] = amount
    if body.budget_duration is not UNSET:
        budget["budget_duration"] = duration_from("budget_duration", body.budget_duration)

    def changed(team: TeamRecord) -> TeamRecord:
        place = place_of(admin.snapshot, team, body.user_id, body.user_email)
        new = msgspec.structs.replace(place, role=body.role or place.role, **budget)
        members = tuple(new if each is place else each for each in team.members_with_roles)
        return msgspec.structs.replace(team, members_with_roles=members)

    record, sequence = await change_team(admin, body.team_id, changed, issue)
    place = place_of(admin.snapshot, record, body.user_id, body.user_email)
    user = admin.snapshot.users.get(place.user_id)
    answer = UpdatedMember(
        team_id=record.team_id,
        user_id=place.user_id,
        user_email=user.user_email if user is not None else None,
        role=place.role,
        max_budget_in_team=place.max_budget_usd,
        budget_duration=place.budget_duration,
    )
    return answer_json(answer, headers=etag_header(sequence))


@post(
    "/team/member_delete",
    status_code=200,
    opt=described(
        Description(
            summary="Remove a member from a team",
            description="The member's keys that belong to the team are deleted.",
            tag=_TAG,
            body=DeleteMember,
            answer=DeletedMember,
            versioned=True,
            example_body={"team_id": "blue", "user_id": "alice@example.com"},
            errors=(400, 404, 409, 412),
        ),
        access="team",
    ),
)
async def delete_member(request: _Request, admin: AdminState) -> Response[bytes]:
    """Remove a member from a team, with the member's keys in it."""
    body = await read_body(request, DeleteMember)
    issue = await _issue(request, admin, body.team_id)
    caller = caller_of(request)
    before = found_team(admin.snapshot, body.team_id)
    user_id = place_of(admin.snapshot, before, body.user_id, body.user_email).user_id
    record, sequence = await change_team(
        admin, body.team_id, lambda team: without(team, user_id), issue
    )

    def keys() -> list[KeyRecord]:
        return [
            key
            for key in live_keys(admin.snapshot)
            if key.team_id == record.team_id and key.user_id == user_id
        ]

    count = await delete_keys_that_follow(admin, keys, issue)
    answer = DeletedMember(deleted_keys=count, **await _team(admin, record, caller))
    return answer_json(answer, headers=etag_header(sequence))


async def _issue(request: _Request, admin: AdminState, team_id: str) -> Issue:
    """Return who changes a team's members. Raises Forbidden, or NotFound for whom it is none."""
    caller = caller_of(request)
    snapshot = await admin.registry()
    if not caller.manages_all and not caller.manages_team(team_id):
        raise Forbidden("you do not manage this team", param="team_id")
    record = found_team(snapshot, team_id)
    admin.writer.check(record, sequence_of(snapshot, record))
    return Issue(now_us=now_us(), by=caller.name)


async def _team(admin: AdminState, record: TeamRecord, caller: Principal) -> dict[str, Any]:
    (spend,) = await spend_of_owners(admin, [record], caller)
    return team_fields(admin.snapshot, record, spend, now_us(), admin.timezone)


MEMBER_ROUTES = (add_members, update_member, delete_member)
