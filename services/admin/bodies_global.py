"""What the routes /global/spend/… and /global/activity take and answer: LiteLLM's shapes.

LiteLLM's pages ask them; sums of any period, as tables too, are those of /spend/keys and the like.
"""

from datetime import date
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from services.admin.bodies import Day, KeyText

__all__ = [
    "ROWS_MAX",
    "Activity",
    "ActivityDays",
    "ActivityPeriod",
    "KeyTotal",
    "ModelActivity",
    "ModelTotal",
    "SpendOfDay",
    "SpendOfDaysQuery",
    "TagNames",
    "TagTotal",
    "TagTotals",
    "TagTotalsQuery",
    "TeamTotal",
    "TeamTotals",
    "TopQuery",
    "activity_of",
]

ROWS_MAX = 10_000
"""So many keys or models are listed at most."""


class TopQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /global/spend/keys and /global/spend/models: how many, the dearest first."""

    limit: Annotated[int, Meta(ge=1, le=ROWS_MAX)] = ROWS_MAX


class KeyTotal(msgspec.Struct, frozen=True, kw_only=True):
    """What one key spent in the last 30 days. `api_key` is its SHA-256."""

    api_key: str | None
    key_alias: str | None
    key_name: str | None
    total_spend: Decimal


class ModelTotal(msgspec.Struct, frozen=True, kw_only=True):
    """What was spent with one model in the last 30 days."""

    model: str
    total_spend: Decimal


class TeamTotal(msgspec.Struct, frozen=True, kw_only=True):
    """What one team spent in the last 30 days. As LiteLLM has it, `team_id` is its alias."""

    team_id: str
    total_spend: Decimal


class TeamTotals(msgspec.Struct, frozen=True, kw_only=True):
    """The last 30 days by team: each day is `{"date": …, "<alias>": spend, …}`."""

    daily_spend: tuple[dict[str, Any], ...]
    teams: tuple[str, ...]
    total_spend_per_team: tuple[TeamTotal, ...]


class TagTotalsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /global/spend/tags: of these days, or of all; of these tags (with commas), or of all."""

    start_date: Day | None = None
    end_date: Day | None = None
    tags: Annotated[str, Meta(max_length=4096)] | None = None


class TagTotal(msgspec.Struct, frozen=True, kw_only=True):
    """What all keys with one tag spent."""

    name: str
    spend: Decimal
    log_count: int


class TagTotals(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of GET /global/spend/tags, the dearest first."""

    spend_per_tag: tuple[TagTotal, ...]


class TagNames(msgspec.Struct, frozen=True, kw_only=True):
    """The tags that keys have."""

    tag_names: tuple[str, ...]


class SpendOfDaysQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /global/spend/logs: of all keys, or of one."""

    api_key: KeyText | None = None


class SpendOfDay(msgspec.Struct, frozen=True, kw_only=True):
    """What was spent on one day (UTC)."""

    date: str
    spend: Decimal


class ActivityPeriod(msgspec.Struct, frozen=True, kw_only=True):
    """GET /global/activity and /global/activity/model: these days (UTC), both included."""

    start_date: Day
    end_date: Day


class ActivityDays(msgspec.Struct, frozen=True, kw_only=True):
    """One day: its name such as `Nov 24`, requests and tokens."""

    date: str
    api_requests: int
    total_tokens: int


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """Requests and tokens by day."""

    daily_data: tuple[ActivityDays, ...]
    sum_api_requests: int
    sum_total_tokens: int


class ModelActivity(Activity, frozen=True, kw_only=True):
    """Requests and tokens of one model by day."""

    model: str


def activity_of(days: list[tuple[str, int, int]], **others: Any) -> dict[str, Any]:
    """Return the fields of Activity from days (`2026-11-24`), requests and tokens."""
    return {
        "daily_data": tuple(
            ActivityDays(
                date=date.fromisoformat(day).strftime("%b %d"),
                api_requests=requests,
                total_tokens=tokens,
            )
            for day, requests, tokens in days
        ),
        "sum_api_requests": sum(requests for _, requests, _ in days),
        "sum_total_tokens": sum(tokens for _, _, tokens in days),
        **others,
    }
