"""What the routes about daily activity and computed costs take and answer, as LiteLLM does."""

from decimal import Decimal
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from services.admin.bodies import Day, KeyText, Name
from services.admin.bodies_spend import Format

__all__ = [
    "ActivityBreakdown",
    "ActivityDay",
    "ActivityMetadata",
    "ActivityMetrics",
    "ActivityPage",
    "ActivityPart",
    "ActivityQuery",
    "CalculateSpend",
    "CalculatedSpend",
    "CostParts",
    "TeamActivityQuery",
    "UserActivityQuery",
]

DAYS_PAGE_MAX = 1000
"""LiteLLM's own bound of a page of activity."""


class ActivityQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which days (UTC, both included) and requests are meant, and which page of days.

    `timezone` is LiteLLM's offset in minutes: days are those of UTC, so it can only be 0.
    """

    start_date: Day
    end_date: Day
    model: Name | None = None
    api_key: KeyText | None = None
    page: Annotated[int, Meta(ge=1, le=100_000)] = 1
    page_size: Annotated[int, Meta(ge=1, le=DAYS_PAGE_MAX)] = 50
    timezone: int = 0
    format: Format | None = None


class UserActivityQuery(ActivityQuery, frozen=True, kw_only=True):
    """GET /user/daily/activity: of all users, or of one."""

    user_id: Name | None = None


class TeamActivityQuery(ActivityQuery, frozen=True, kw_only=True):
    """GET /team/daily/activity: of all teams, of some, or of all but some (ids with commas)."""

    team_ids: Annotated[str, Meta(max_length=4096)] | None = None
    exclude_team_ids: Annotated[str, Meta(max_length=4096)] | None = None


class ActivityMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """Sums of some requests. `prompt_tokens` are whole prompts, what the cache gave included."""

    spend: Decimal = Decimal(0)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    total_tokens: int = 0
    successful_requests: int = 0
    failed_requests: int = 0
    api_requests: int = 0
    total_response_time_ms: int = 0
    unpriced_requests: int = 0


class ActivityPart(msgspec.Struct, frozen=True, kw_only=True):
    """The sums of one model, key, user, …; `metadata` says more of it."""

    metrics: ActivityMetrics
    metadata: dict[str, Any] = {}
    api_key_breakdown: dict[str, Any] = {}


class ActivityBreakdown(msgspec.Struct, frozen=True, kw_only=True):
    """A day by model, model name, key, …, of each kind the dearest 50. There are no MCP servers."""

    models: dict[str, ActivityPart]
    model_groups: dict[str, ActivityPart]
    api_keys: dict[str, ActivityPart]
    providers: dict[str, ActivityPart]
    endpoints: dict[str, ActivityPart]
    entities: dict[str, ActivityPart]
    mcp_servers: dict[str, ActivityPart] = {}


class ActivityDay(msgspec.Struct, frozen=True, kw_only=True):
    """One day (UTC)."""

    date: str
    metrics: ActivityMetrics
    breakdown: ActivityBreakdown


class ActivityMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """The sums of the days on this page, as LiteLLM has them, and which page it is."""

    total_spend: Decimal
    total_prompt_tokens: int
    total_completion_tokens: int
    total_tokens: int
    total_api_requests: int
    total_successful_requests: int
    total_failed_requests: int
    total_cache_read_input_tokens: int
    total_cache_creation_input_tokens: int
    total_response_time_ms: int
    total_unpriced_requests: int
    page: int
    total_pages: int
    has_more: bool
    api_key_limit: int
    total_api_keys: int


class ActivityPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of days, the newest first."""

    results: tuple[ActivityDay, ...]
    metadata: ActivityMetadata


class CalculateSpend(msgspec.Struct, frozen=True, kw_only=True):
    """POST /spend/calculate: what an answer cost (`completion_response`), or messages would.

    `completion_response` needs `usage`, in Anthropic's shape or in OpenAI's, and `model` unless
    the body has it.
    """

    model: Name | None = None
    messages: tuple[Any, ...] | None = None
    completion_response: dict[str, Any] | None = None


class CostParts(msgspec.Struct, frozen=True, kw_only=True):
    """What a cost is the sum of, in US dollars."""

    input: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal
    web_search: Decimal


class CalculatedSpend(msgspec.Struct, frozen=True, kw_only=True):
    """A cost in US dollars, by the prices in force: exact for a usage object.

    `model` is the one by whose prices it is. `estimated`: `estimate_basis` says how it was made.
    """

    cost: Decimal
    model: str
    components: CostParts
    estimated: bool
    estimate_basis: str | None
