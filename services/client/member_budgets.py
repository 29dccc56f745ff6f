"""Budgets of members: what a user's keys in a team may spend, as `tallygate budgets` shows them."""

from typing import Any

import msgspec
import rich_click as click

from services.client.budget_rows import BudgetLine, reckoned
from services.client.gateway import ClientError, Gateway
from services.client.members import Membership
from services.client.output import note

__all__ = [
    "MEMBER_FIELDS",
    "budgets_of_member",
    "budgets_of_members",
    "set_member_budget",
]

TEAMS_MAX = 200
"""So many teams that have members are asked for what these spent."""

MEMBER_FIELDS = {"max_budget": "max_budget_in_team", "budget_duration": "budget_duration"}
"""The fields of a budget that a member's has, and the API's names for them there."""


class _Team(msgspec.Struct):
    team_id: str
    members_with_roles: tuple[dict[str, Any], ...] = ()


class _Info(msgspec.Struct):
    team_memberships: list[Membership]


def budgets_of_members(gateway: Gateway) -> list[BudgetLine]:
    """Return the budgets of all members of all teams. Raises ClientError."""
    found = msgspec.json.decode(gateway.get("/team/list"), type=list[_Team])
    teams = [each.team_id for each in found if each.members_with_roles]
    if len(teams) > TEAMS_MAX:
        note(f"note: the members of {TEAMS_MAX} teams are shown, of {len(teams)}")
    return [line for each in teams[:TEAMS_MAX] for line in _of_team(gateway, each)]


def budgets_of_member(gateway: Gateway, name: str) -> list[BudgetLine]:
    """Return the budget of the member TEAM/USER, if there is one. Raises ClientError."""
    team_id, user_id = _parts(name)
    found = [each for each in _memberships(gateway, team_id) if each.user_id == user_id]
    if not found:
        raise ClientError(f"{user_id!r} is no member of the team {team_id!r}")
    return _lines(found)


def set_member_budget(gateway: Gateway, name: str, body: dict[str, Any]) -> None:
    """Change the budget of the member TEAM/USER; `body` has fields of budgets of keys.

    Raises click.UsageError where a member has none of these, ClientError where it is refused.
    """
    other = next((each for each in body if each not in MEMBER_FIELDS), None)
    if other is not None:
        raise click.UsageError(
            f"a member's budget has a --max-budget and a --budget-duration alone, no {other}"
        )
    team_id, user_id = _parts(name)
    given = {MEMBER_FIELDS[field]: value for field, value in body.items()}
    gateway.post("/team/member_update", {"team_id": team_id, "user_id": user_id, **given})


def _parts(name: str) -> tuple[str, str]:
    team_id, slash, user_id = name.partition("/")
    if not slash or not user_id:
        raise click.UsageError("a member is named TEAM/USER, such as blue/alice@example.com")
    return team_id, user_id


def _memberships(gateway: Gateway, team_id: str) -> list[Membership]:
    content = gateway.get("/team/info", team_id=team_id)
    return msgspec.json.decode(content, type=_Info).team_memberships


def _of_team(gateway: Gateway, team_id: str) -> list[BudgetLine]:
    return _lines(_memberships(gateway, team_id))


def _lines(found: list[Membership]) -> list[BudgetLine]:
    return [
        reckoned(
            BudgetLine(
                scope="member",
                scope_id=f"{each.team_id}/{each.user_id}",
                name=f"{each.user_id} in {each.team_id}",
                window=each.litellm_budget_table.budget_duration,
                limit_usd=each.litellm_budget_table.max_budget,
                spent_usd=each.spend,
                resets_at=each.budget_reset_at,
            )
        )
        for each in found
        if each.litellm_budget_table is not None
    ]
