"""What the routes about spend take and answer: LiteLLM's names, exact sums.

Every query has a `format`: JSON is LiteLLM's shape, CSV and Arrow are the same figures as a table.
"""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from services.admin.bodies import Day, KeyText, Name

__all__ = [
    "LOGS_PAGE_MAX",
    "LOGS_PAGE_SIZE_MAX",
    "CustomerReport",
    "DayReportLine",
    "Format",
    "GlobalSpend",
    "GroupReport",
    "KeySpendRow",
    "LogFilters",
    "ModelCost",
    "Moment",
    "ReportDay",
    "ReportQuery",
    "SpendDay",
    "SpendLog",
    "SpendLogsPage",
    "SpendLogsPageQuery",
    "SpendLogsQuery",
    "SpendPeriodQuery",
    "TagSpend",
    "TeamReport",
    "UserSpendQuery",
    "UserSpendRow",
]

LOGS_PAGE_SIZE_MAX = 100
"""LiteLLM's own bound of a page of logs."""
LOGS_PAGE_MAX = 100_000

Format = Literal["json", "csv", "arrow"]
Status = Literal["success", "failure", "refused", "client_closed"]
Moment = Annotated[str, Meta(max_length=32)]


class LogFilters(msgspec.Struct, frozen=True, kw_only=True):
    """Which requests are meant: those that match all that is given.

    `model` is the name that was asked for, or that of the model that answers it. `status_filter`
    `failure` means all that are no success, as rows tell it; `refused` and `client_closed` are
    parts of them. Dates are `YYYY-MM-DD` in UTC, both included.
    """

    api_key: KeyText | None = None
    user_id: Name | None = None
    team_id: Name | None = None
    request_id: Name | None = None
    session_id: Name | None = None
    end_user: Name | None = None
    model: Name | None = None
    status_filter: Status | None = None
    format: Format | None = None


class SpendLogsQuery(LogFilters, frozen=True, kw_only=True):
    """GET /spend/logs. With both dates `summarize` (the default) gives one row a day.

    A `request_id`, `session_id` or `end_user` asks for rows of requests all the same.
    """

    start_date: Day | None = None
    end_date: Day | None = None
    summarize: bool = True


class SpendLogsPageQuery(LogFilters, frozen=True, kw_only=True):
    """GET /spend/logs/v2: one page. Times are `YYYY-MM-DD` or `YYYY-MM-DD HH:MM:SS` in UTC."""

    start_date: Moment | None = None
    end_date: Moment | None = None
    min_spend: Decimal | None = None
    max_spend: Decimal | None = None
    page: Annotated[int, Meta(ge=1, le=LOGS_PAGE_MAX)] = 1
    page_size: Annotated[int, Meta(ge=1, le=LOGS_PAGE_SIZE_MAX)] = 50
    sort_by: Literal[
        "startTime",
        "endTime",
        "spend",
        "total_tokens",
        "prompt_tokens",
        "completion_tokens",
        "request_duration_ms",
    ] = "startTime"
    sort_order: Literal["asc", "desc"] = "desc"


class SpendLog(msgspec.Struct, frozen=True, kw_only=True):
    """One request, in LiteLLM's row. `spend` is null where the model had no known price.

    `model_id` is the deployment. The fields at the end have no meaning here and are always empty.
    """

    request_id: str
    call_type: str
    api_key: str | None
    spend: Decimal | None
    total_tokens: int
    prompt_tokens: int
    completion_tokens: int
    start_time: str = msgspec.field(name="startTime")
    end_time: str = msgspec.field(name="endTime")
    completion_start_time: str | None = msgspec.field(name="completionStartTime")
    request_duration_ms: int | None
    model: str | None
    model_id: str | None
    model_group: str | None
    custom_llm_provider: str
    user: str | None
    team_id: str | None
    end_user: str | None
    agent_id: str | None
    session_id: str | None
    status: Literal["success", "failure"]
    cache_hit: str
    request_tags: tuple[str, ...]
    metadata: dict[str, Any]
    api_base: str = ""
    cache_key: str = ""
    organization_id: None = None
    requester_ip_address: None = None
    messages: dict[str, Any] = {}
    response: dict[str, Any] = {}
    proxy_server_request: dict[str, Any] = {}


class SpendLogsPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of requests, and how many there are altogether."""

    data: tuple[SpendLog, ...]
    total: int
    page: int
    page_size: int
    total_pages: int


class SpendDay(msgspec.Struct, frozen=True, kw_only=True):
    """The spend of one day (UTC), and its parts by user and by model.

    `unpriced_requests` of its `requests` are in no sum: they have no known price.
    """

    start_time: str = msgspec.field(name="startTime")
    spend: Decimal
    users: dict[str, Decimal]
    models: dict[str, Decimal]
    requests: int
    unpriced_requests: int


class GlobalSpend(msgspec.Struct, frozen=True, kw_only=True):
    """All spend in the ledger, and the budget of all together that the configuration sets.

    `budget_spend` is what counts for that budget in its current window.
    """

    spend: Decimal
    max_budget: Decimal | None = None
    budget_duration: str | None = None
    budget_spend: Decimal | None = None
    budget_reset_at: datetime | None = None


class SpendPeriodQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /spend/keys and /spend/tags: of these days (UTC, both included), or of all."""

    start_date: Day | None = None
    end_date: Day | None = None
    format: Format | None = None


class UserSpendQuery(SpendPeriodQuery, frozen=True, kw_only=True):
    """GET /spend/users: of all users, or of one."""

    user_id: Name | None = None


class _Spent(msgspec.Struct, frozen=True, kw_only=True):
    spend: Decimal
    requests: int
    total_tokens: int
    unpriced_requests: int
    deleted: bool | None


class KeySpendRow(_Spent, frozen=True, kw_only=True):
    """What one key spent. `deleted` is null where the registry knows no such key."""

    token: str | None
    key_id: str
    key_name: str | None
    key_alias: str | None
    user_id: str | None
    team_id: str | None


class UserSpendRow(_Spent, frozen=True, kw_only=True):
    """What all keys of one user spent. `deleted` is null where no such user was made."""

    user_id: str
    user_alias: str | None
    user_email: str | None


class TagSpend(msgspec.Struct, frozen=True, kw_only=True):
    """What all keys with one tag spent; the tags are those that keys have now."""

    individual_request_tag: str
    log_count: int
    total_spend: Decimal


class ReportQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /global/spend/report. Days are those of UTC, both included.

    With `api_key` or `internal_user_id` and no `group_by` it is by key.
    """

    start_date: Day
    end_date: Day
    group_by: Literal["team", "customer", "api_key", "user"] | None = None
    api_key: KeyText | None = None
    internal_user_id: Name | None = None
    team_id: Name | None = None
    customer_id: Name | None = None
    format: Format | None = None


class DayReportLine(msgspec.Struct, frozen=True, kw_only=True):
    """What one key spent with one model on one day."""

    model: str | None
    spend: Decimal
    total_tokens: int
    api_key: str | None
    key_alias: str | None
    unpriced_requests: int


class TeamReport(msgspec.Struct, frozen=True, kw_only=True):
    """One team on one day; without a team the name is `Unassigned`."""

    team_id: str | None
    team_name: str
    total_spend: Decimal
    metadata: tuple[DayReportLine, ...]


class CustomerReport(msgspec.Struct, frozen=True, kw_only=True):
    """One end user on one day."""

    customer: str
    total_spend: Decimal
    metadata: tuple[DayReportLine, ...]


class ReportDay(msgspec.Struct, frozen=True, kw_only=True):
    """All teams, or all end users, of one day."""

    group_by_day: str
    teams: tuple[TeamReport, ...] | UnsetType = UNSET
    customers: tuple[CustomerReport, ...] | UnsetType = UNSET


class ModelCost(msgspec.Struct, frozen=True, kw_only=True):
    """What one model cost a key or user in the whole period."""

    model: str | None
    total_cost: Decimal
    total_input_tokens: int
    total_output_tokens: int
    unpriced_requests: int


class GroupReport(msgspec.Struct, frozen=True, kw_only=True):
    """One key (`api_key` is its SHA-256), or one user, in the whole period."""

    api_key: str | None
    key_alias: str | None
    user_id: str | None
    total_cost: Decimal
    total_input_tokens: int
    total_output_tokens: int
    model_details: tuple[ModelCost, ...]
