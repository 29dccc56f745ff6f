"""Virtual keys as the API shows them: their table, and how an alias becomes an id."""

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from services.client.gateway import ClientError, Gateway
from services.client.output import dollars, note, print_table

__all__ = ["KeyPage", "KeyRow", "note_spend_error", "print_keys", "resolve_key"]

_AS_IT_IS = re.compile(r"sk-.+|key_[0-9a-f]{24}|[0-9a-f]{64}", re.DOTALL)
_COLUMNS = ["alias", "key", "status", "spend", "budget", "period", "models", "user", "team", "id"]
_MONEY_COLUMNS = frozenset((3, 4))


class KeyRow(msgspec.Struct):
    """What a table shows of a key."""

    key_id: str
    key_name: str
    status: str
    key_alias: str | None = None
    spend: Decimal | None = None
    total_spend: Decimal | None = None
    spend_error: str | None = None
    max_budget: Decimal | None = None
    budget_duration: str | None = None
    budget_reset_at: str | None = None
    soft_budget: Decimal | None = None
    budget_limits: list[dict[str, Any]] = []
    model_max_budget: dict[str, dict[str, Any]] = {}
    temp_budget_increase: Decimal | None = None
    temp_budget_expiry: str | None = None
    strict_budget: bool = False
    expires: str | None = None
    former_key_until: str | None = None
    created_at: str | None = None
    models: list[str] = []
    user_id: str | None = None
    team_id: str | None = None
    token: str | None = None
    metadata: dict[str, Any] = {}
    tags: list[str] = []
    analyst: str | None = None
    names_end_users: bool = False
    store_prompts: bool | None = None
    on_quota_exhausted: str | None = None
    guardrails: list[str] = []
    rpm_limit: int | None = None
    tpm_limit: int | None = None
    max_parallel_requests: int | None = None
    model_rpm_limit: dict[str, int] = {}
    model_tpm_limit: dict[str, int] = {}


class KeyPage(msgspec.Struct):
    """One page of keys."""

    keys: list[KeyRow]
    total_count: int
    current_page: int
    total_pages: int


class _Spending(Protocol):
    @property
    def spend_error(self) -> str | None: ...


def print_keys(rows: Sequence[KeyRow]) -> None:
    """Print keys as a table, and a note where their spend is not known."""
    cells = [
        [
            row.key_alias,
            row.key_name,
            row.status,
            dollars(row.spend),
            dollars(row.max_budget),
            row.budget_duration,
            ", ".join(row.models) or "all",
            row.user_id,
            row.team_id,
            row.key_id,
        ]
        for row in rows
    ]
    print_table(_COLUMNS, cells, right=_MONEY_COLUMNS)
    note_spend_error(rows)


def resolve_key(gateway: Gateway, key: str) -> str:
    """Return what the API knows a key by: an alias is looked up, all else stays as it is.

    Raises ClientError where no live key has the alias.
    """
    if _AS_IT_IS.fullmatch(key):
        return key
    content = gateway.get("/key/list", key_alias=key, return_full_object="true")
    found = msgspec.json.decode(content, type=KeyPage).keys
    if not found:
        raise ClientError(f"no key has the alias {key!r}; `tallygate keys list` shows them all")
    return found[0].key_id


def note_spend_error(rows: Sequence[_Spending]) -> None:
    """Say why spend is not shown, where it is not."""
    problem = next((row.spend_error for row in rows if row.spend_error), None)
    if problem:
        note(f"note: spend is not shown: {problem}")
