"""What the management API takes and answers: LiteLLM's names, exact types, named limits.

Money is `Decimal`, read from and written as JSON numbers without a float in between.
"""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from schemas.guardrails import GUARDRAILS_MAX
from schemas.keys import KEY_LENGTH_MAX
from schemas.registry import OnQuotaExhausted
from schemas.rpc import QUERY_PARTS_ROWS_MAX, QUERY_SQL_BYTES_MAX, Column
from services.admin.bodies_budgets import BudgetSettings, BudgetsShown

__all__ = [
    "KEYS_DELETED_MAX",
    "KEY_LENGTH_MIN",
    "METADATA_BYTES_MAX",
    "PAGE_SIZE_MAX",
    "BlockKey",
    "DeleteKeys",
    "DeletedKeys",
    "GenerateKey",
    "GeneratedKey",
    "KeyInfo",
    "KeyInfoQuery",
    "KeyList",
    "KeyListQuery",
    "KeyRow",
    "KeySettings",
    "KeyState",
    "ListedKey",
    "Readiness",
    "SqlAnswer",
    "SqlQuery",
    "UpdateKey",
    "UpdatedKey",
    "UserOfKey",
]

KEY_LENGTH_MIN = 20
"""A virtual key of one's own choice is at least this long: a short one can be guessed."""
METADATA_BYTES_MAX = 16 * 1024
KEYS_DELETED_MAX = 100
"""One request deletes at most so many keys."""
PAGE_SIZE_MAX = 100
"""LiteLLM's own bound of a page of keys."""
PAGE_MAX = 1_000_000

Name = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+\Z")]
Tag = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+\Z")]
Models = Annotated[tuple[Name, ...], Meta(max_length=1000)]
GuardrailNames = Annotated[tuple[Tag, ...], Meta(max_length=GUARDRAILS_MAX)]
Routes = Annotated[tuple[Tag, ...], Meta(max_length=100)]
Aliases = Annotated[dict[Name, Name], Meta(max_length=100)]
Tags = Annotated[tuple[Tag, ...], Meta(max_length=100)]
Duration = Annotated[str, Meta(min_length=1, max_length=32)]
Day = Annotated[str, Meta(max_length=32, extra_json_schema={"format": "date"})]
KeyText = Annotated[str, Meta(min_length=1, max_length=KEY_LENGTH_MAX)]
"""A virtual key, its SHA-256 or its key id."""


class KeySettings(BudgetSettings, frozen=True, kw_only=True):
    """What can be set on a virtual key. An absent field leaves it as it is; null takes it away."""

    key_alias: Name | UnsetType | None = UNSET
    models: Models | UnsetType | None = UNSET
    duration: Duration | UnsetType | None = UNSET
    user_id: Name | UnsetType | None = UNSET
    team_id: Name | UnsetType | None = UNSET
    metadata: dict[str, Any] | UnsetType | None = UNSET
    tags: Tags | UnsetType | None = UNSET
    blocked: bool | UnsetType | None = UNSET
    analyst: Literal["team", "all"] | bool | UnsetType | None = UNSET
    names_end_users: bool | UnsetType | None = UNSET
    store_prompts: bool | UnsetType | None = UNSET
    on_quota_exhausted: OnQuotaExhausted | UnsetType | None = UNSET
    guardrails: GuardrailNames | UnsetType | None = UNSET
    allowed_routes: Routes | UnsetType | None = UNSET
    aliases: Aliases | UnsetType | None = UNSET


class GenerateKey(KeySettings, frozen=True, kw_only=True):
    """POST /key/generate. `key` is a key of one's own choice; without it a random one is made."""

    key: KeyText | None = None
    key_type: Literal["default", "llm_api", "management", "read_only", "analyst"] | None = None


class UpdateKey(KeySettings, frozen=True, kw_only=True):
    """POST /key/update: the key (raw, its SHA-256, or its key id) and what changes."""

    key: KeyText


class BlockKey(msgspec.Struct, frozen=True, kw_only=True):
    """POST /key/block and /key/unblock."""

    key: KeyText


class DeleteKeys(msgspec.Struct, frozen=True, kw_only=True):
    """POST /key/delete: the keys (raw, SHA-256 or key id) or their aliases."""

    keys: Annotated[tuple[KeyText, ...], Meta(max_length=KEYS_DELETED_MAX)] | None = None
    key_aliases: Annotated[tuple[Name, ...], Meta(max_length=KEYS_DELETED_MAX)] | None = None


class DeletedKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The keys or aliases that were deleted, as they were given."""

    deleted_keys: tuple[str, ...]


class KeyState(BudgetsShown, msgspec.Struct, frozen=True, kw_only=True):
    """A virtual key as LiteLLM shows it, without its hash.

    `spend` is that of the current budget window, `total_spend` that of the key's whole life; both
    are null where the ledger could not be asked (`spend_error` says why). `status` is `active`,
    `expired`, `revoked` (blocked) or `deleted`. The fields at the end have no meaning here and are
    always empty; scripts that read them find them. `former_key_until` is when the key that was
    replaced ends, where it was given a grace period.
    """

    key_id: str
    key_name: str
    key_alias: str | None
    status: Literal["active", "expired", "revoked", "deleted"]
    blocked: bool
    spend: Decimal | None
    total_spend: Decimal | None
    spend_error: str | None
    expires: datetime | None
    former_key_until: datetime | None
    last_active: datetime | None
    models: tuple[str, ...]
    user_id: str | None
    team_id: str | None
    metadata: dict[str, Any]
    tags: tuple[str, ...]
    analyst: Literal["team", "all"] | None
    names_end_users: bool
    store_prompts: bool | None
    on_quota_exhausted: OnQuotaExhausted | None
    guardrails: tuple[str, ...]
    allowed_routes: tuple[str, ...]
    aliases: dict[str, str]
    created_at: datetime
    created_by: str | None
    updated_at: datetime
    updated_by: str | None
    config: dict[str, Any] = {}
    permissions: dict[str, Any] = {}
    model_spend: dict[str, Any] = {}
    organization_id: None = None
    project_id: None = None
    agent_id: None = None
    budget_id: None = None
    litellm_budget_table: None = None
    object_permission: None = None
    allowed_cache_controls: tuple[str, ...] = ()
    auto_rotate: bool = False
    rotation_interval: None = None


class KeyRow(KeyState, frozen=True, kw_only=True):
    """A virtual key with `token`: its SHA-256, by which the other routes know it too."""

    token: str


class GeneratedKey(KeyRow, frozen=True, kw_only=True):
    """The answer of POST /key/generate, the only one that ever holds the key itself."""

    key: str
    token_id: str


class UpdatedKey(KeyRow, frozen=True, kw_only=True):
    """The answer of POST /key/update: the key as it was given, and its whole new state."""

    key: str


class KeyInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of GET /key/info: the key as it was given (or its SHA-256), and its state."""

    key: str
    info: KeyState


class KeyInfoQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /key/info: without `key` it shows the key that the request is made with."""

    key: KeyText | None = None


class KeyListQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /key/list. Deleted keys are shown with `status=deleted` alone.

    `search` and, with `substring_matching`, `key_alias` and `user_id` match parts of the text.
    """

    page: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = 1
    size: Annotated[int, Meta(ge=1, le=PAGE_SIZE_MAX)] = 10
    key_alias: Name | None = None
    key_hash: KeyText | None = None
    user_id: Name | None = None
    team_id: Name | None = None
    search: Name | None = None
    status: Literal["active", "expired", "revoked", "deleted"] | None = None
    sort_by: Literal["created_at", "updated_at", "key_alias", "expires", "max_budget"] = (
        "created_at"
    )
    sort_order: Literal["asc", "desc"] = "desc"
    substring_matching: bool = False
    return_full_object: bool = False
    expand: Literal["user"] | None = None
    include_team_keys: bool = False
    include_created_by_keys: bool = False


class UserOfKey(msgspec.Struct, frozen=True, kw_only=True):
    """The user whose a key is, in a list that asks for it."""

    user_id: str
    user_alias: str | None
    user_email: str | None
    user_role: str | None


class ListedKey(KeyRow, frozen=True, kw_only=True):
    """A virtual key; with `expand=user` its user, null where nobody made one with that id."""

    user: UserOfKey | UnsetType | None = UNSET


class KeyList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of keys: their SHA-256s, or whole rows with `return_full_object`."""

    keys: tuple[str | ListedKey, ...]
    total_count: int
    current_page: int
    total_pages: int


class PromptQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /prompt/info: which request, by the gateway's own id (x-tallygate-request-id)."""

    request_id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]


class PromptInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What one request asked and was answered: `request` as the deployment was sent it.

    `status` is that of the answer, null where there was none. A stream's `response` are its events
    as they came. What is cut was longer than what is kept of one body.
    """

    request_id: str
    started_at_us: int
    key_id: str | None
    request: str
    is_request_cut: bool
    status: int | None
    response_type: str | None
    response: str
    is_response_cut: bool


class SqlQuery(msgspec.Struct, frozen=True, kw_only=True):
    """POST /ledger/sql: one SELECT; `parameters` fill its `$1`, `$2`, … (or `?`) marks.

    Without `format` the header Accept decides.
    """

    query: Annotated[str, Meta(min_length=1, max_length=QUERY_SQL_BYTES_MAX)]
    parameters: Annotated[tuple[Any, ...], Meta(max_length=1000)] = ()
    rows_max: Annotated[int, Meta(ge=1, le=QUERY_PARTS_ROWS_MAX)] | None = None
    format: Literal["json", "csv", "arrow"] | None = None


class SqlAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Columns and rows. DECIMAL and large integers come as strings, so that they stay exact.

    `truncated` says that `rows_max` cut the answer; `stream_sequence` is the position in the
    stream of events up to which the ledger had counted.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    truncated: bool
    duration_ms: float
    stream_sequence: int


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """GET /health/readiness: 200 when the admin service can do its work, else 503."""

    status: Literal["healthy", "unhealthy"]
    nats: Literal["connected", "disconnected"]
    registry: Literal["loaded", "loading"]
