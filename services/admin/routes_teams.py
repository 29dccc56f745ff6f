"""The routes under /team: LiteLLM's names, shapes and errors, written as events."""

from typing import Any

import msgspec
from litestar import Request, Response, get, post

from schemas.errors import Forbidden
from schemas.events import TeamBlocked, TeamCreated, TeamUnblocked, TeamUpdated
from schemas.registry import TeamRecord
from services.admin.bodies_owners import (
    BlockTeam,
    DeletedTeams,
    DeleteTeams,
    NewTeam,
    TeamInfo,
    TeamInfoQuery,
    TeamRow,
    UpdatedTeam,
    UpdateTeam,
)
from services.admin.describing import Description, described
from services.admin.directory import sequence_of
from services.admin.fields import OWNER_FIELDS_WITHOUT_MEANING
from services.admin.guard import caller_of
from services.admin.guardrail_names import check_guardrails
from services.admin.members import found_team, members_of, with_members
from services.admin.memberships import memberships
from services.admin.owner_changes import (
    delete_with_keys,
    id_taken,
    rows_of_keys,
    spend_of_owners,
)
from services.admin.owners import changed_owner, new_owner_id, team_row
from services.admin.preconditions import etag_header
from services.admin.principal import MASTER, Principal
from services.admin.reading import answer_json, read_body, read_query
from services.admin.records import Issue
from services.admin.state import AdminState, now_us

__all__ = ["TEAM_ROUTES"]

_TAG = "teams"
_Request = Request[Any, Any, Any]


@post(
    "/team/new",
    status_code=200,
    opt=described(
        Description(
            summary="Make a team",
            description=(
                "Keys belong to it by their `team_id`. Keys that named it before it was made "
                "belong to it from then on."
            ),
            tag=_TAG,
            body=NewTeam,
            answer=TeamRow,
            versioned=True,
            example_body={"team_id": "blue", "max_budget": 1000.0, "budget_duration": "monthly"},
            errors=(400, 409),
        )
    ),
)
async def new_team(request: _Request, admin: AdminState) -> Response[bytes]:
    """Make a team."""
    body = await read_body(request, NewTeam, OWNER_FIELDS_WITHOUT_MEANING)
    check_guardrails(body.guardrails, admin.guardrail_names)
    snapshot = await admin.registry()
    issue = Issue(now_us=now_us(), by=caller_of(request).name)
    team_id = body.team_id or new_owner_id()
    if team_id in snapshot.teams:
        raise id_taken("team")
    bare = TeamRecord(team_id=team_id, created_at_us=issue.now_us, created_by=issue.by)
    record = changed_owner(bare, body, issue)
    members = await members_of(admin, body.members_with_roles or (), issue)
    record = with_members(record, members)
    sequence = await admin.writer.write(TeamCreated, record, expected_sequence=0)
    return answer_json(await _row(admin, record), headers=etag_header(sequence))


@post(
    "/team/update",
    status_code=200,
    opt=described(
        Description(
            summary="Change a team",
            description="Fields that are absent stay as they are; null takes a setting away.",
            tag=_TAG,
            body=UpdateTeam,
            answer=UpdatedTeam,
            versioned=True,
            example_body={"team_id": "blue", "metadata": {"cost_centre": "4711"}},
            errors=(400, 404, 409, 412),
        )
    ),
)
async def update_team(request: _Request, admin: AdminState) -> Response[bytes]:
    """Change some settings of a team."""
    body = await read_body(request, UpdateTeam, OWNER_FIELDS_WITHOUT_MEANING)
    check_guardrails(body.guardrails, admin.guardrail_names)
    snapshot = await admin.registry()
    before = found_team(snapshot, body.team_id)
    record = changed_owner(before, body, Issue(now_us=now_us(), by=caller_of(request).name))
    sequence = await admin.writer.write(
        TeamUpdated, record, expected_sequence=sequence_of(snapshot, before)
    )
    answer = UpdatedTeam(team_id=record.team_id, data=await _row(admin, record))
    return answer_json(answer, headers=etag_header(sequence))


@post(
    "/team/delete",
    status_code=200,
    opt=described(
        Description(
            summary="Delete teams",
            description=(
                "With all of their keys, which are refused from then on. All teams must exist, "
                "else none is deleted. Their history stays, and their ids are not given again."
            ),
            tag=_TAG,
            body=DeleteTeams,
            answer=DeletedTeams,
            example_body={"team_ids": ["blue"]},
            errors=(400, 404, 409, 412),
        )
    ),
)
async def delete_teams(request: _Request, admin: AdminState) -> Response[bytes]:
    """Delete teams and their keys."""
    body = await read_body(request, DeleteTeams)
    snapshot = await admin.registry()
    teams = {team_id: found_team(snapshot, team_id) for team_id in body.team_ids}
    issue = Issue(now_us=now_us(), by=caller_of(request).name)
    count = await delete_with_keys(admin, teams.values(), issue)
    return answer_json(DeletedTeams(deleted_teams=body.team_ids, deleted_keys=count))


@post(
    "/team/block",
    status_code=200,
    opt=described(
        Description(
            summary="Block a team",
            description="All of its keys are refused until it is unblocked.",
            tag=_TAG,
            body=BlockTeam,
            answer=TeamRow,
            versioned=True,
            example_body={"team_id": "blue"},
            errors=(400, 404, 409, 412),
        )
    ),
)
async def block_team(request: _Request, admin: AdminState) -> Response[bytes]:
    """Block a team."""
    return await _set_blocked(request, admin, blocked=True)


@post(
    "/team/unblock",
    status_code=200,
    opt=described(
        Description(
            summary="Unblock a team",
            description="Its keys may be used again, but for those that are blocked themselves.",
            tag=_TAG,
            body=BlockTeam,
            answer=TeamRow,
            versioned=True,
            example_body={"team_id": "blue"},
            errors=(400, 404, 409, 412),
        )
    ),
)
async def unblock_team(request: _Request, admin: AdminState) -> Response[bytes]:
    """Let a blocked team's keys be used again."""
    return await _set_blocked(request, admin, blocked=False)


@get(
    "/team/info",
    opt=described(
        Description(
            summary="Show a team",
            description="Its settings, its spend and its keys.",
            tag=_TAG,
            query=TeamInfoQuery,
            answer=TeamInfo,
            versioned=True,
            example_query="team_id=blue",
            errors=(400, 404),
        ),
        access="part",
    ),
)
async def team_info(request: _Request, admin: AdminState) -> Response[bytes]:
    """Show a team and its keys."""
    query = read_query(request, TeamInfoQuery)
    caller = caller_of(request)
    snapshot = await admin.registry()
    record = found_team(snapshot, query.team_id)
    if not caller.sees_team(record.team_id):
        raise Forbidden("you are no member of this team", param="team_id")
    sequence = sequence_of(snapshot, record)
    keys = await rows_of_keys(admin, record, caller)
    team = await _row(admin, record, caller)
    shown = [
        (record, each)
        for each in record.members_with_roles
        if caller.sees_member(record.team_id, each.user_id)
    ]
    places = await memberships(admin, shown)
    answer = TeamInfo(team_id=record.team_id, team_info=team, keys=keys, team_memberships=places)
    return answer_json(answer, headers=etag_header(sequence))


@get(
    "/team/list",
    opt=described(
        Description(
            summary="List teams",
            description=(
                "All teams that were not deleted, the newest first; for a user those that the user "
                "is a member of."
            ),
            tag=_TAG,
            answer=tuple[TeamRow, ...],
        ),
        access="part",
    ),
)
async def list_teams(request: _Request, admin: AdminState) -> Response[bytes]:
    """List the teams."""
    caller = caller_of(request)
    snapshot = await admin.registry()
    teams = [
        team
        for team in snapshot.teams.values()
        if not team.deleted and caller.sees_team(team.team_id)
    ]
    teams.sort(key=lambda team: team.created_at_us, reverse=True)
    spends = await spend_of_owners(admin, teams, caller)
    return answer_json(
        [
            team_row(snapshot, *pair, now_us(), admin.timezone)
            for pair in zip(teams, spends, strict=True)
        ]
    )


async def _set_blocked(request: _Request, admin: AdminState, *, blocked: bool) -> Response[bytes]:
    body = await read_body(request, BlockTeam)
    snapshot = await admin.registry()
    record = found_team(snapshot, body.team_id)
    sequence = sequence_of(snapshot, record)
    admin.writer.check(record, sequence)
    if record.blocked != blocked:
        record = msgspec.structs.replace(
            record, blocked=blocked, updated_at_us=now_us(), updated_by=caller_of(request).name
        )
        change = TeamBlocked if blocked else TeamUnblocked
        sequence = await admin.writer.write(change, record, expected_sequence=sequence)
    return answer_json(await _row(admin, record), headers=etag_header(sequence))


async def _row(admin: AdminState, record: TeamRecord, caller: Principal = MASTER) -> TeamRow:
    (spend,) = await spend_of_owners(admin, [record], caller)
    return team_row(admin.snapshot, record, spend, now_us(), admin.timezone)


TEAM_ROUTES = (
    new_team,
    update_team,
    delete_teams,
    block_team,
    unblock_team,
    team_info,
    list_teams,
)
