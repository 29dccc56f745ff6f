"""The rows of keys, teams and users, and the budgets that these set."""

from collections.abc import Sequence
from typing import Any

import duckdb

from schemas.registry import (
    KeyRecord,
    LimitedRecord,
    OwnerRecord,
    TeamMember,
    TeamRecord,
    UserRecord,
)
from services.runtime.budget_limits import (
    Limit,
    Whose,
    limits_of,
    member_id,
    member_limit,
    member_limits,
    whose,
)

__all__ = ["key_row", "member_rows", "owned_limits", "team_row", "user_row"]

_MEMBERS_OF = """
SELECT DISTINCT scope_id FROM budgets
WHERE scope = 'member' AND list_contains($1::VARCHAR[], split_part(scope_id, '/', 1) || '/')
"""


def _rate_cells(record: LimitedRecord) -> tuple[Any, ...]:
    """Return the rate limits of a key, team or user."""
    return (record.rpm_limit, record.tpm_limit, record.max_parallel_requests)


def key_row(record: KeyRecord) -> tuple[Any, ...]:
    """Return a virtual key in the order of KEY_COLUMNS."""
    return (
        record.key_id,
        record.key_alias,
        record.key_name,
        record.user_id,
        record.team_id,
        list(record.models),
        list(record.tags),
        record.max_budget_usd,
        record.budget_duration,
        *_rate_cells(record),
        record.expires_at_us,
        record.blocked,
        record.deleted,
        record.created_at_us,
        record.updated_at_us,
    )


def team_row(record: TeamRecord) -> tuple[Any, ...]:
    """Return a team in the order of TEAM_COLUMNS."""
    return (record.team_id, record.team_alias, list(record.models), *_owner_cells(record))


def user_row(record: UserRecord) -> tuple[Any, ...]:
    """Return a user in the order of USER_COLUMNS."""
    return (
        record.user_id,
        record.user_alias,
        record.user_email,
        record.user_role,
        list(record.models),
        *_owner_cells(record),
    )


def member_rows(teams: Sequence[TeamRecord]) -> list[tuple[Any, ...]]:
    """Return the members of teams in the order of MEMBER_COLUMNS; of deleted teams none."""
    return [
        (team.team_id, member.user_id, member.role, *_member_budget(team, member))
        for team in teams
        if not team.deleted
        for member in team.members_with_roles
    ]


def _member_budget(team: TeamRecord, member: TeamMember) -> tuple[Any, ...]:
    limit = member_limit(team, member)
    return (None, None) if limit is None else (limit.max_budget_usd, limit.budget_duration)


def owned_limits(
    connection: duckdb.DuckDBPyConnection, records: Sequence[TeamRecord | UserRecord]
) -> dict[Whose, Sequence[Limit]]:
    """Return all budgets that records set, by whose they are; () where one is to have none.

    Members who are in the table `budgets` and are no members any more are among them.
    """
    found: dict[Whose, Sequence[Limit]] = {whose(each): limits_of(each) for each in records}
    teams = [each for each in records if isinstance(each, TeamRecord)]
    if teams:
        known = connection.execute(_MEMBERS_OF, [[member_id(each.team_id, "") for each in teams]])
        found |= {Whose("member", scope_id): () for (scope_id,) in known.fetchall()}
    for team in teams:
        found |= {Whose(*each.budget_id[:2]): (each,) for each in member_limits(team)}
    return found


def _owner_cells(record: OwnerRecord) -> tuple[Any, ...]:
    return (
        record.max_budget_usd,
        record.soft_budget_usd,
        record.budget_duration,
        *_rate_cells(record),
        record.blocked,
        record.deleted,
        record.created_at_us,
        record.updated_at_us,
    )
