"""The rows of keys, teams and users. Pure."""

from typing import Any

from schemas.registry import KeyRecord, LimitedRecord, OwnerRecord, TeamRecord, UserRecord

__all__ = ["key_row", "team_row", "user_row"]


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
    return (record.team_id, record.team_alias, *_owner_cells(record))


def user_row(record: UserRecord) -> tuple[Any, ...]:
    """Return a user in the order of USER_COLUMNS."""
    return (record.user_id, record.user_alias, record.user_email, *_owner_cells(record))


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
