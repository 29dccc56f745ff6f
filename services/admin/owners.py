"""Records of teams and users from what a request asks for, and what is shown of them. Pure."""

import secrets
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET

from schemas.errors import BadRequest
from schemas.events import time_from_us
from schemas.registry import OwnerRecord, TeamRecord, UserRecord
from services.admin.bodies import METADATA_BYTES_MAX
from services.admin.bodies_owners import MemberRow, OwnerSettings, TeamRow, TeamSettings, UserRow
from services.admin.bodies_rates import rate_changes, rates_shown
from services.admin.budgets import amount_from, budget_changes, budgets_shown, duration_from
from services.admin.money import plain_number
from services.admin.records import Issue, models_from
from services.admin.shapes import KeySpend
from services.runtime.registry import RegistrySnapshot

__all__ = [
    "changed_owner",
    "deleted_owner",
    "new_owner_id",
    "own_fields",
    "team_fields",
    "team_row",
    "user_row",
]

Owner = TypeVar("Owner", bound=OwnerRecord)

_TAKEN_AS_GIVEN = ("team_alias", "user_alias", "user_email", "user_role", "on_quota_exhausted")


def new_owner_id() -> str:
    """Return a fresh id of a team or user."""
    return secrets.token_hex(12)


def changed_owner(record: Owner, settings: OwnerSettings, issue: Issue) -> Owner:
    """Return the record with the given settings changed. Raises BadRequest, naming the field."""
    changes: dict[str, Any] = {
        name: value
        for name in _TAKEN_AS_GIVEN
        if (value := getattr(settings, name, UNSET)) is not UNSET
    }
    changes |= budget_changes(settings, record, issue.now_us) | rate_changes(settings)
    if isinstance(settings, TeamSettings):
        changes |= _member_budget(settings)
    if settings.models is not UNSET:
        changes["models"] = models_from(settings.models or ())
    if settings.blocked is not UNSET:
        changes["blocked"] = bool(settings.blocked)
    if settings.guardrails is not UNSET:
        changes["guardrails"] = tuple(dict.fromkeys(settings.guardrails or ()))
    if settings.metadata is not UNSET:
        metadata = settings.metadata or {}
        if len(msgspec.json.encode(metadata)) > METADATA_BYTES_MAX:
            raise BadRequest(
                f"metadata is longer than {METADATA_BYTES_MAX} bytes", param="metadata"
            )
        changes["metadata"] = metadata
    return msgspec.structs.replace(
        record, **changes, updated_at_us=issue.now_us, updated_by=issue.by
    )


def _member_budget(settings: TeamSettings) -> dict[str, Any]:
    """Return the fields of the budget that each member has who has no other."""
    changes: dict[str, Any] = {}
    if settings.team_member_budget is not UNSET:
        name = "team_member_budget"
        changes["team_member_budget_usd"] = amount_from(name, settings.team_member_budget)
    if settings.team_member_budget_duration is not UNSET:
        name = "team_member_budget_duration"
        changes[name] = duration_from(name, settings.team_member_budget_duration)
    return changes


def deleted_owner(record: Owner, issue: Issue) -> Owner:
    """Return the last record of a team or user."""
    return msgspec.structs.replace(
        record, deleted=True, updated_at_us=issue.now_us, updated_by=issue.by
    )


def team_row(
    snapshot: RegistrySnapshot, record: TeamRecord, spend: KeySpend, now_us: int, timezone: str
) -> TeamRow:
    """Return a team as LiteLLM shows it."""
    return TeamRow(**team_fields(snapshot, record, spend, now_us, timezone))


def team_fields(
    snapshot: RegistrySnapshot, record: TeamRecord, spend: KeySpend, now_us: int, timezone: str
) -> dict[str, Any]:
    """Return the fields of TeamRow."""
    return {
        "team_id": record.team_id,
        "team_alias": record.team_alias,
        "on_quota_exhausted": record.on_quota_exhausted,
        "members_with_roles": _members(snapshot, record),
        "team_member_budget": _number(record.team_member_budget_usd),
        "team_member_budget_duration": record.team_member_budget_duration,
        **own_fields(record, spend, now_us, timezone),
    }


def _members(snapshot: RegistrySnapshot, record: TeamRecord) -> tuple[MemberRow, ...]:
    users = snapshot.users
    return tuple(
        MemberRow(
            user_id=each.user_id,
            user_email=users[each.user_id].user_email if each.user_id in users else None,
            role=each.role,
        )
        for each in record.members_with_roles
    )


def user_row(
    snapshot: RegistrySnapshot, record: UserRecord, spend: KeySpend, now_us: int, timezone: str
) -> UserRow:
    """Return a user as LiteLLM shows it."""
    return UserRow(
        user_id=record.user_id,
        user_alias=record.user_alias,
        user_email=record.user_email,
        user_role=record.user_role,
        teams=tuple(sorted(snapshot.memberships(record.user_id))),
        **own_fields(record, spend, now_us, timezone),
    )


def own_fields(record: OwnerRecord, spend: KeySpend, now_us: int, timezone: str) -> dict[str, Any]:
    """Return the fields of OwnerRow."""
    return {
        "blocked": record.blocked,
        "spend": _number(spend.window_usd),
        "total_spend": _number(spend.total_usd),
        **budgets_shown(record, spend.budgets, now_us, timezone),
        "spend_error": spend.error,
        "metadata": record.metadata,
        "models": record.models,
        **rates_shown(record),
        "guardrails": record.guardrails,
        "created_at": time_from_us(record.created_at_us),
        "created_by": record.created_by,
        "updated_at": time_from_us(record.updated_at_us),
        "updated_by": record.updated_by,
    }


def _number(amount_usd: Decimal | None) -> Decimal | None:
    return None if amount_usd is None else plain_number(amount_usd)
