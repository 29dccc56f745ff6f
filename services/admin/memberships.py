"""Places of users in teams as they are shown: their budgets, and what was spent of these."""

from collections.abc import Iterable
from decimal import Decimal

from schemas.errors import ApiError
from schemas.events import time_from_us
from schemas.registry import TeamMember, TeamRecord
from services.admin.bodies_memberships import MemberBudget, Membership
from services.admin.money import plain_number
from services.admin.state import AdminState, now_us
from services.runtime.budget_limits import member_id, member_limit
from services.runtime.durations import budget_window
from services.runtime.registry import RegistrySnapshot

__all__ = ["memberships", "places_of"]

Place = tuple[TeamRecord, TeamMember]


def places_of(snapshot: RegistrySnapshot, user_id: str) -> list[Place]:
    """Return a user's places in teams, by team id."""
    places = snapshot.memberships(user_id)
    return [(snapshot.teams[team_id], places[team_id]) for team_id in sorted(places)]


async def memberships(admin: AdminState, places: Iterable[Place]) -> tuple[Membership, ...]:
    """Return places in teams with what was spent there."""
    found = list(places)
    time_us = now_us()
    ends_us: list[int | None] = []
    starts_us: list[int] = []
    for team, member in found:
        limit = member_limit(team, member)
        start_us, end_us = 0, None
        if limit is not None and limit.budget_duration is not None:
            start_us, end_us = budget_window(limit.budget_duration, time_us, admin.timezone)
        starts_us.append(start_us)
        ends_us.append(end_us)
    spends: list[Decimal] | None = None
    try:
        ids = [member_id(team.team_id, member.user_id) for team, member in found]
        spends = await admin.ledger.spend_of_members(ids, starts_us)
    except ApiError:
        # The budgets are worth an answer without what was spent of them.
        spends = None
    return tuple(
        Membership(
            team_id=team.team_id,
            user_id=member.user_id,
            spend=None if spends is None else plain_number(spends[place]),
            budget_reset_at=None if (end_us := ends_us[place]) is None else time_from_us(end_us),
            litellm_budget_table=_budget(team, member),
        )
        for place, (team, member) in enumerate(found)
    )


def _budget(team: TeamRecord, member: TeamMember) -> MemberBudget | None:
    limit = member_limit(team, member)
    if limit is None or limit.max_budget_usd is None:
        return None
    return MemberBudget(
        max_budget=plain_number(limit.max_budget_usd), budget_duration=limit.budget_duration
    )
