"""Members of teams: who is meant, and the team's record with them. Users that are new are made.

Changes of the same team at the same moment do not shut each other out: what one asks for is done
to the record that the other left.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence

import msgspec

from schemas.errors import BadRequest, Conflict, NotFound
from schemas.events import TeamUpdated, UserCreated
from schemas.registry import TEAM_MEMBERS_MAX, TeamMember, TeamRecord, UserRecord
from schemas.streams import team_subject
from services.admin.bodies_owners import GivenMember
from services.admin.owners import new_owner_id
from services.admin.records import Issue
from services.admin.state import AdminState
from services.runtime.registry import RegistrySnapshot

__all__ = [
    "change_team",
    "found_team",
    "members_of",
    "place_of",
    "with_members",
    "without",
]

CHANGE_ATTEMPTS = 20
CHANGE_WAIT_S = 0.05
"""A change that met another one looks again after this time, so often at most."""


async def members_of(
    admin: AdminState, given: Iterable[GivenMember], issue: Issue
) -> list[TeamMember]:
    """Return the members that a request names; users that there are not yet are made.

    Raises BadRequest for one that is not named, or twice; Conflict for a deleted user.
    """
    snapshot = await admin.registry()
    members: dict[str, TeamMember] = {}
    new: list[UserRecord] = []
    new_emails: set[str] = set()
    for each in given:
        user = _named(snapshot, each.user_id, each.user_email)
        user_id = each.user_id or (user.user_id if user is not None else new_owner_id())
        email = (each.user_email or "").lower()
        if user_id in members or email in new_emails:
            raise BadRequest("a member is named twice", param="member")
        if user is None:
            if email:
                new_emails.add(email)
            new.append(
                UserRecord(
                    user_id=user_id,
                    user_email=each.user_email,
                    created_at_us=issue.now_us,
                    created_by=issue.by,
                    updated_at_us=issue.now_us,
                    updated_by=issue.by,
                )
            )
        members[user_id] = TeamMember(user_id=user_id, role=each.role)
    for user in new:
        await admin.writer.write(UserCreated, user, expected_sequence=0, is_consequence=True)
    return list(members.values())


def found_team(snapshot: RegistrySnapshot, team_id: str) -> TeamRecord:
    """Return a team that was not deleted. Raises NotFound."""
    record = snapshot.teams.get(team_id)
    if record is None or record.deleted:
        raise NotFound(f"there is no team {team_id!r}", param="team_id")
    return record


def with_members(record: TeamRecord, members: Sequence[TeamMember]) -> TeamRecord:
    """Return a team with more members. Raises BadRequest where one is a member, or too many are."""
    there = {each.user_id for each in record.members_with_roles}
    for each in members:
        if each.user_id in there:
            raise BadRequest(f"{each.user_id!r} is a member of the team already", param="member")
    together = (*record.members_with_roles, *members)
    if len(together) > TEAM_MEMBERS_MAX:
        raise BadRequest(f"a team has {TEAM_MEMBERS_MAX} members at most", param="member")
    return msgspec.structs.replace(record, members_with_roles=together)


def without(record: TeamRecord, user_id: str) -> TeamRecord:
    """Return a team without a member."""
    rest = tuple(each for each in record.members_with_roles if each.user_id != user_id)
    return msgspec.structs.replace(record, members_with_roles=rest)


def place_of(
    snapshot: RegistrySnapshot, record: TeamRecord, user_id: str | None, user_email: str | None
) -> TeamMember:
    """Return the member that a request names. Raises BadRequest, NotFound."""
    if user_id is None:
        user = _named(snapshot, None, user_email)
        user_id = user.user_id if user is not None else ""
    for each in record.members_with_roles:
        if each.user_id == user_id:
            return each
    raise NotFound("there is no such member in the team", param="user_id")


async def change_team(
    admin: AdminState,
    team_id: str,
    change: Callable[[TeamRecord], TeamRecord],
    issue: Issue,
    *,
    is_consequence: bool = False,
) -> tuple[TeamRecord, int]:
    """Change a team as it stands when the change is stored; return it and its event's sequence.

    Raises NotFound, Conflict, and PreconditionFailed unless it `is_consequence` of another change.
    """
    for attempt in range(CHANGE_ATTEMPTS):
        snapshot = await admin.registry()
        before = found_team(snapshot, team_id)
        expected = snapshot.sequence_of(team_subject(team_id))
        record = msgspec.structs.replace(
            change(before), updated_at_us=issue.now_us, updated_by=issue.by
        )
        try:
            sequence = await admin.writer.write(
                TeamUpdated, record, expected_sequence=expected, is_consequence=is_consequence
            )
        except Conflict:
            if attempt + 1 == CHANGE_ATTEMPTS:
                raise
            await asyncio.sleep(CHANGE_WAIT_S)
            continue
        return record, sequence
    raise AssertionError("the last attempt returns or raises")


def _named(
    snapshot: RegistrySnapshot, user_id: str | None, user_email: str | None
) -> UserRecord | None:
    """Return the user that is named, None where there is none yet.

    Raises BadRequest where nobody is named, or several users have the mail address; Conflict for a
    user that was deleted.
    """
    if user_id is not None:
        user = snapshot.users.get(user_id)
        if user is not None and user.deleted:
            raise Conflict(f"the user {user_id!r} was deleted: choose another", param="user_id")
        return user
    if user_email is None:
        raise BadRequest("name the member by user_id or user_email", param="user_id")
    wanted = user_email.lower()
    found = [
        user
        for user in snapshot.users.values()
        if not user.deleted and (user.user_email or "").lower() == wanted
    ]
    if len(found) > 1:
        raise BadRequest("several users have this user_email: use user_id", param="user_email")
    return found[0] if found else None
