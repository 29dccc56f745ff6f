"""LiteLLM's shapes of a virtual key, made from its record and its spend. Pure."""

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from schemas.events import time_from_us
from schemas.registry import KeyRecord, OwnerRecord, UserRecord
from services.admin.bodies import GeneratedKey, KeyRow, KeyState, ListedKey, UpdatedKey, UserOfKey
from services.admin.bodies_rates import rates_shown
from services.admin.budgets import budgets_shown
from services.admin.money import plain_number
from services.runtime.budget_limits import reset_of
from services.runtime.budget_windows import Counted, counted_window

__all__ = [
    "KeySpend",
    "generated_key",
    "key_row",
    "key_state",
    "listed_key",
    "status_of",
    "updated_key",
    "user_of_key",
    "window_of",
]


class KeySpend(msgspec.Struct, frozen=True, kw_only=True):
    """What a key spent: in its current window, and ever. None where the ledger was not asked.

    `budgets` are the spends of its other budgets, by the limits of their ids.
    """

    window_usd: Decimal | None = None
    total_usd: Decimal | None = None
    last_active: datetime | None = None
    error: str | None = None
    budgets: dict[str, Decimal] | None = {}


def status_of(record: KeyRecord, now_us: int) -> Literal["active", "expired", "revoked", "deleted"]:
    """Return LiteLLM's word for a key's standing. A blocked key is `revoked`."""
    if record.deleted:
        return "deleted"
    if record.blocked:
        return "revoked"
    if record.expires_at_us is not None and record.expires_at_us <= now_us:
        return "expired"
    return "active"


def window_of(record: KeyRecord | OwnerRecord, now_us: int, timezone: str) -> Counted:
    """Return since when requests count in the current budget window; 0 where it is the only one."""
    return counted_window(record.budget_duration, now_us, timezone, reset_of(record))


def key_state(record: KeyRecord, spend: KeySpend, now_us: int, timezone: str) -> KeyState:
    """Return a key without its hash, as GET /key/info shows it."""
    return KeyState(**_fields(record, spend, now_us, timezone))


def key_row(record: KeyRecord, spend: KeySpend, now_us: int, timezone: str) -> KeyRow:
    """Return a key with its hash, as /key/block and /key/list show it."""
    return KeyRow(token=record.key_hash, **_fields(record, spend, now_us, timezone))


def listed_key(
    record: KeyRecord,
    spend: KeySpend,
    now_us: int,
    timezone: str,
    user: UserOfKey | UnsetType | None = UNSET,
) -> ListedKey:
    """Return a key with its hash and, where that was asked for, its user."""
    fields = _fields(record, spend, now_us, timezone)
    return ListedKey(token=record.key_hash, user=user, **fields)


def user_of_key(user: UserRecord | None) -> UserOfKey | None:
    """Return what a list of keys shows of a user."""
    if user is None:
        return None
    return UserOfKey(
        user_id=user.user_id,
        user_alias=user.user_alias,
        user_email=user.user_email,
        user_role=user.user_role,
    )


def generated_key(
    record: KeyRecord, key: str, now_us: int, timezone: str, spend: KeySpend | None = None
) -> GeneratedKey:
    """Return the answer that shows a new key, this once. Without `spend` it has spent nothing."""
    if spend is None:
        spend = KeySpend(window_usd=Decimal(0), total_usd=Decimal(0))
    return GeneratedKey(
        key=key,
        token=record.key_hash,
        token_id=record.key_hash,
        **_fields(record, spend, now_us, timezone),
    )


def updated_key(
    record: KeyRecord, given: str, spend: KeySpend, now_us: int, timezone: str
) -> UpdatedKey:
    """Return the answer of /key/update: the key as it was given, and its new state."""
    return UpdatedKey(key=given, token=record.key_hash, **_fields(record, spend, now_us, timezone))


def _fields(record: KeyRecord, spend: KeySpend, now_us: int, timezone: str) -> dict[str, Any]:
    return {
        "key_id": record.key_id,
        "key_name": record.key_name,
        "key_alias": record.key_alias,
        "status": status_of(record, now_us),
        "blocked": record.blocked,
        "spend": _number(spend.window_usd),
        "total_spend": _number(spend.total_usd),
        "spend_error": spend.error,
        **budgets_shown(record, spend.budgets, now_us, timezone),
        "expires": _time(record.expires_at_us),
        "former_key_until": _time(record.former_key_until_us),
        "last_active": spend.last_active,
        "models": record.models,
        "user_id": record.user_id,
        "team_id": record.team_id,
        "metadata": record.metadata,
        "tags": record.tags,
        **rates_shown(record),
        "analyst": record.analyst,
        "names_end_users": record.names_end_users,
        "store_prompts": record.store_prompts,
        "on_quota_exhausted": record.on_quota_exhausted,
        "guardrails": record.guardrails,
        "allowed_routes": record.allowed_routes,
        "aliases": record.aliases,
        "created_at": time_from_us(record.created_at_us),
        "created_by": record.created_by,
        "updated_at": time_from_us(record.updated_at_us),
        "updated_by": record.updated_by,
    }


def _number(amount_usd: Decimal | None) -> Decimal | None:
    return None if amount_usd is None else plain_number(amount_usd)


def _time(time_us: int | None) -> datetime | None:
    return None if time_us is None else time_from_us(time_us)
