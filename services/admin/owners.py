"""Records of teams and users from what a request asks for, and what is shown of them. Pure."""

import secrets
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET

from schemas.errors import BadRequest
from schemas.events import time_from_us
from schemas.registry import OwnerRecord, TeamRecord, UserRecord
from services.admin.bodies import METADATA_BYTES_MAX
from services.admin.bodies_owners import OwnerSettings, TeamRow, UserRow
from services.admin.money import plain_number
from services.admin.records import Issue
from services.admin.shapes import KeySpend

__all__ = [
    "changed_owner",
    "deleted_owner",
    "new_owner_id",
    "own_fields",
    "team_row",
    "user_row",
]

Owner = TypeVar("Owner", bound=OwnerRecord)

_TEXTS = ("team_alias", "user_alias", "user_email")


def new_owner_id() -> str:
    """Return a fresh id of a team or user."""
    return secrets.token_hex(12)


def changed_owner(record: Owner, settings: OwnerSettings, issue: Issue) -> Owner:
    """Return the record with the given settings changed. Raises BadRequest, naming the field."""
    changes: dict[str, Any] = {
        name: value for name in _TEXTS if (value := getattr(settings, name, UNSET)) is not UNSET
    }
    if settings.blocked is not UNSET:
        changes["blocked"] = bool(settings.blocked)
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


def deleted_owner(record: Owner, issue: Issue) -> Owner:
    """Return the last record of a team or user."""
    return msgspec.structs.replace(
        record, deleted=True, updated_at_us=issue.now_us, updated_by=issue.by
    )


def team_row(record: TeamRecord, spend: KeySpend) -> TeamRow:
    """Return a team as LiteLLM shows it."""
    return TeamRow(
        team_id=record.team_id, team_alias=record.team_alias, **own_fields(record, spend)
    )


def user_row(record: UserRecord, spend: KeySpend) -> UserRow:
    """Return a user as LiteLLM shows it."""
    return UserRow(
        user_id=record.user_id,
        user_alias=record.user_alias,
        user_email=record.user_email,
        **own_fields(record, spend),
    )


def own_fields(record: OwnerRecord, spend: KeySpend) -> dict[str, Any]:
    """Return the fields of OwnerRow."""
    return {
        "blocked": record.blocked,
        "spend": None if spend.total_usd is None else plain_number(spend.total_usd),
        "spend_error": spend.error,
        "metadata": record.metadata,
        "created_at": time_from_us(record.created_at_us),
        "created_by": record.created_by,
        "updated_at": time_from_us(record.updated_at_us),
        "updated_by": record.updated_by,
    }
