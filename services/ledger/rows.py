"""The rows that the ledger stores: their columns, and how they become Arrow tables.

The names here are the columns of services/ledger/sql/schema.sql; a test compares them.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

__all__ = [
    "BUDGET_COLUMNS",
    "BUDGET_EVENT_COLUMNS",
    "COMPONENT_COSTS",
    "COST_COLUMNS",
    "DEAD_LETTER_COLUMNS",
    "GAP_COLUMNS",
    "GUARDRAIL_COLUMNS",
    "KEY_COLUMNS",
    "OPEN_REQUEST_COLUMNS",
    "PRICE_CHANGE_COLUMNS",
    "PRICE_COLUMNS",
    "PRODUCER_COLUMNS",
    "QUOTA_COLUMNS",
    "REGISTRY_CHANGE_COLUMNS",
    "REPRICING_COLUMNS",
    "REQUEST_COLUMNS",
    "SEAT_COLUMNS",
    "TEAM_COLUMNS",
    "USER_COLUMNS",
    "VALUE_COLUMNS",
    "Columns",
    "table",
]

Columns = tuple[tuple[str, pa.DataType], ...]

_TEXT = pa.string()
_COUNT = pa.int64()
_TIME = pa.timestamp("us")
_MONEY = pa.decimal128(18, 12)
_BUDGET = pa.decimal128(22, 12)
_PRICE = pa.decimal128(12, 6)
_SHARE = pa.decimal128(10, 6)

COMPONENT_COSTS = (
    "input_cost_usd",
    "output_cost_usd",
    "cache_read_cost_usd",
    "cache_write_5m_cost_usd",
    "cache_write_1h_cost_usd",
    "web_search_cost_usd",
)
"""What a request's cost is the sum of, in the order of `pricing.Cost`."""
COST_COLUMNS = ("cost_usd", *COMPONENT_COSTS)

REQUEST_COLUMNS: Columns = (
    ("request_id", _TEXT),
    ("started_at", _TIME),
    ("first_byte_at", _TIME),
    ("ended_at", _TIME),
    ("duration_ms", _COUNT),
    ("ttfb_ms", _COUNT),
    ("endpoint", _TEXT),
    ("key_id", _TEXT),
    ("key_alias", _TEXT),
    ("user_id", _TEXT),
    ("team_id", _TEXT),
    ("model_name", _TEXT),
    ("model", _TEXT),
    ("response_model", _TEXT),
    ("deployment", _TEXT),
    ("billing", _TEXT),
    ("stream", pa.bool_()),
    ("status", _TEXT),
    ("http_status", pa.int16()),
    ("error_type", _TEXT),
    ("reason", _TEXT),
    ("input_tokens", _COUNT),
    ("output_tokens", _COUNT),
    ("cache_read_tokens", _COUNT),
    ("cache_write_5m_tokens", _COUNT),
    ("cache_write_1h_tokens", _COUNT),
    ("prompt_tokens", _COUNT),
    ("total_tokens", _COUNT),
    ("web_search_requests", _COUNT),
    ("web_fetch_requests", _COUNT),
    ("service_tier", _TEXT),
    ("speed", _TEXT),
    ("inference_geo", _TEXT),
    ("iterations", _TEXT),
    ("cost_usd", _MONEY),
    ("input_cost_usd", _MONEY),
    ("output_cost_usd", _MONEY),
    ("cache_read_cost_usd", _MONEY),
    ("cache_write_5m_cost_usd", _MONEY),
    ("cache_write_1h_cost_usd", _MONEY),
    ("web_search_cost_usd", _MONEY),
    ("unpriced", pa.bool_()),
    ("unpriced_reason", _TEXT),
    ("estimated", pa.bool_()),
    ("estimate_basis", _TEXT),
    ("session_id", _TEXT),
    ("user_agent", _TEXT),
    ("stop_reason", _TEXT),
    ("upstream_request_id", _TEXT),
    ("message_id", _TEXT),
    ("request_bytes", _COUNT),
    ("response_bytes", _COUNT),
    ("producer", _TEXT),
    ("producer_sequence", _COUNT),
    ("stream_sequence", _COUNT),
    ("priced_sequence", _COUNT),
    ("path", _TEXT),
    ("batch_id", _TEXT),
    ("custom_id", _TEXT),
    ("attempt_of", _TEXT),
    ("client_name", _TEXT),
    ("client_version", _TEXT),
    ("entrypoint", _TEXT),
    ("purpose", _TEXT),
    ("agent_id", _TEXT),
    ("parent_agent_id", _TEXT),
    ("device_hash", _TEXT),
    ("account_hash", _TEXT),
    ("effort", _TEXT),
    ("thinking", _TEXT),
    ("betas", _TEXT),
    ("tool_count", _COUNT),
    ("message_count", _COUNT),
    ("max_tokens", _COUNT),
    ("end_user_id", _TEXT),
    ("end_user_email", _TEXT),
    ("tags", _TEXT),
    ("route_reason", _TEXT),
    ("alias_of", _TEXT),
)

OPEN_REQUEST_COLUMNS: Columns = (
    ("request_id", _TEXT),
    ("started_at", _TIME),
    ("key_id", _TEXT),
    ("model_name", _TEXT),
    ("producer", _TEXT),
    ("producer_sequence", _COUNT),
    ("stream_sequence", _COUNT),
    ("opened_at", _TIME),
    ("facts", _TEXT),
)

GAP_COLUMNS: Columns = (
    ("producer", _TEXT),
    ("first_missing", _COUNT),
    ("last_missing", _COUNT),
    ("stream_sequence", _COUNT),
)

DEAD_LETTER_COLUMNS: Columns = (
    ("stream_sequence", _COUNT),
    ("position", pa.int32()),
    ("reason", _TEXT),
    ("payload", pa.binary()),
    ("payload_bytes", _COUNT),
    ("producer", _TEXT),
    ("producer_sequence", _COUNT),
)

VALUE_COLUMNS: Columns = (("value", _TEXT),)

BUDGET_EVENT_COLUMNS: Columns = (
    ("stream_sequence", _COUNT),
    ("event", _TEXT),
    ("told_at", _TIME),
    ("scope", _TEXT),
    ("scope_id", _TEXT),
    ("name", _TEXT),
    ("spend_usd", pa.decimal128(38, 12)),
    ("max_budget_usd", _BUDGET),
    ("budget_duration", _TEXT),
    ("window_start", _TIME),
    ("resets_at", _TIME),
    ("budget", _TEXT),
    ("model", _TEXT),
    ("soft_budget_usd", _BUDGET),
    ("threshold", _TEXT),
)

BUDGET_COLUMNS: Columns = (
    ("scope", _TEXT),
    ("scope_id", _TEXT),
    ("budget", _TEXT),
    ("name", _TEXT),
    ("max_budget_usd", _BUDGET),
    ("soft_budget_usd", _BUDGET),
    ("budget_duration", _TEXT),
    ("model", _TEXT),
    ("increase_usd", _BUDGET),
    ("increase_until", _TIME),
    ("strict", pa.bool_()),
    ("spend_reset_at", _TIME),
    ("spend_reset_to_usd", _BUDGET),
)

REPRICING_COLUMNS: Columns = (
    ("stream_sequence", _COUNT),
    ("repriced_at", _TIME),
    ("repriced_by", _TEXT),
    ("reason", _TEXT),
    ("requests_from", _TIME),
    ("requests_to", _TIME),
    ("models", pa.list_(_TEXT)),
    ("content", _TEXT),
    ("applied", pa.bool_()),
    ("requests", _COUNT),
    ("changed_requests", _COUNT),
    ("cost_before_usd", pa.decimal128(38, 12)),
    ("cost_after_usd", pa.decimal128(38, 12)),
    ("unpriced_before", _COUNT),
    ("unpriced_after", _COUNT),
    ("client_address", _TEXT),
    ("route", _TEXT),
    ("request_id", _TEXT),
)

GUARDRAIL_COLUMNS: Columns = (
    ("found_at", _TIME),
    ("request_id", _TEXT),
    ("guardrail", _TEXT),
    ("kind", _TEXT),
    ("mode", _TEXT),
    ("action", _TEXT),
    ("rule", _TEXT),
    ("category", _TEXT),
    ("place", _TEXT),
    ("hits", _COUNT),
    ("endpoint", _TEXT),
    ("key_id", _TEXT),
    ("key_alias", _TEXT),
    ("user_id", _TEXT),
    ("team_id", _TEXT),
    ("model_name", _TEXT),
    ("session_id", _TEXT),
    ("producer", _TEXT),
    ("producer_sequence", _COUNT),
    ("stream_sequence", _COUNT),
)

PRICE_CHANGE_COLUMNS: Columns = (
    ("stream_sequence", _COUNT),
    ("kind", _TEXT),
    ("changed_at", _TIME),
    ("changed_by", _TEXT),
    ("content", _TEXT),
    ("client_address", _TEXT),
    ("route", _TEXT),
    ("request_id", _TEXT),
)

REGISTRY_CHANGE_COLUMNS: Columns = (
    ("stream_sequence", _COUNT),
    ("changed_at", _TIME),
    ("object_type", _TEXT),
    ("object_id", _TEXT),
    ("object_name", _TEXT),
    ("action", _TEXT),
    ("changed_by", _TEXT),
    ("client_address", _TEXT),
    ("route", _TEXT),
    ("request_id", _TEXT),
    ("changed_fields", pa.list_(_TEXT)),
    ("before", _TEXT),
    ("after", _TEXT),
    ("state", _TEXT),
)

PRICE_COLUMNS: Columns = (
    ("model", _TEXT),
    ("names", pa.list_(_TEXT)),
    ("valid_from", pa.date32()),
    ("valid_to", pa.date32()),
    ("above_prompt_tokens", _COUNT),
    ("up_to_prompt_tokens", _COUNT),
    ("input_usd_per_mtok", _PRICE),
    ("output_usd_per_mtok", _PRICE),
    ("cache_read_usd_per_mtok", _PRICE),
    ("cache_write_5m_usd_per_mtok", _PRICE),
    ("cache_write_1h_usd_per_mtok", _PRICE),
    ("usd_per_1000_web_searches", _PRICE),
    ("batch_multiplier", _PRICE),
    ("fast_multiplier", _PRICE),
    ("inference_geo_multipliers", pa.map_(_TEXT, _PRICE)),
    ("multiplier", _PRICE),
    ("origin", _TEXT),
    ("source", _TEXT),
)

QUOTA_COLUMNS: Columns = (
    ("observed_at", _TIME),
    ("seat", _TEXT),
    ("billing", _TEXT),
    ("key_id", _TEXT),
    ("key_alias", _TEXT),
    ("user_id", _TEXT),
    ("team_id", _TEXT),
    ("deployment", _TEXT),
    ("request_id", _TEXT),
    ("http_status", pa.int16()),
    ("status", _TEXT),
    ("representative_claim", _TEXT),
    ("resets_at", _TIME),
    ("five_hour_status", _TEXT),
    ("five_hour_utilization", _SHARE),
    ("five_hour_resets_at", _TIME),
    ("seven_day_status", _TEXT),
    ("seven_day_utilization", _SHARE),
    ("seven_day_resets_at", _TIME),
    ("overage_status", _TEXT),
    ("overage_utilization", _SHARE),
    ("overage_resets_at", _TIME),
    ("overage_disabled_reason", _TEXT),
    ("requests_limit", _COUNT),
    ("requests_remaining", _COUNT),
    ("requests_reset_at", _TIME),
    ("tokens_limit", _COUNT),
    ("tokens_remaining", _COUNT),
    ("tokens_reset_at", _TIME),
    ("input_tokens_limit", _COUNT),
    ("input_tokens_remaining", _COUNT),
    ("input_tokens_reset_at", _TIME),
    ("output_tokens_limit", _COUNT),
    ("output_tokens_remaining", _COUNT),
    ("output_tokens_reset_at", _TIME),
    ("headers", _TEXT),
    ("stream_sequence", _COUNT),
)

SEAT_COLUMNS: Columns = (
    ("user_id", _TEXT),
    ("key_alias", _TEXT),
    ("plan", _TEXT),
    ("monthly_usd", _PRICE),
    ("valid_from", pa.date32()),
    ("valid_to", pa.date32()),
)

PRODUCER_COLUMNS: Columns = (("producer", _TEXT), ("last_sequence", _COUNT))

_RATE_COLUMNS: Columns = (
    ("rpm_limit", _COUNT),
    ("tpm_limit", _COUNT),
    ("max_parallel_requests", _COUNT),
)

KEY_COLUMNS: Columns = (
    ("key_id", _TEXT),
    ("key_alias", _TEXT),
    ("key_name", _TEXT),
    ("user_id", _TEXT),
    ("team_id", _TEXT),
    ("models", pa.list_(_TEXT)),
    ("tags", pa.list_(_TEXT)),
    ("max_budget_usd", _BUDGET),
    ("budget_duration", _TEXT),
    *_RATE_COLUMNS,
    ("expires_at", _TIME),
    ("blocked", pa.bool_()),
    ("deleted", pa.bool_()),
    ("created_at", _TIME),
    ("updated_at", _TIME),
)


_OWNER_COLUMNS: Columns = (
    ("max_budget_usd", _BUDGET),
    ("soft_budget_usd", _BUDGET),
    ("budget_duration", _TEXT),
    *_RATE_COLUMNS,
    ("blocked", pa.bool_()),
    ("deleted", pa.bool_()),
    ("created_at", _TIME),
    ("updated_at", _TIME),
)
TEAM_COLUMNS: Columns = (
    ("team_id", _TEXT),
    ("team_alias", _TEXT),
    ("models", pa.list_(_TEXT)),
    *_OWNER_COLUMNS,
)
MEMBER_COLUMNS: Columns = (
    ("team_id", _TEXT),
    ("user_id", _TEXT),
    ("role", _TEXT),
    ("max_budget_usd", _BUDGET),
    ("budget_duration", _TEXT),
)
USER_COLUMNS: Columns = (
    ("user_id", _TEXT),
    ("user_alias", _TEXT),
    ("user_email", _TEXT),
    ("user_role", _TEXT),
    ("models", pa.list_(_TEXT)),
    *_OWNER_COLUMNS,
)


def table(columns: Columns, rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    """Return rows (tuples in the order of the columns) as an Arrow table.

    Times are in microseconds, costs in whole pico-dollars, shares in whole millionths.
    """
    values = list(zip(*rows, strict=True)) if rows else [()] * len(columns)
    return pa.table(
        {
            name: _scaled(column, kind)
            if kind is _MONEY or kind is _SHARE
            else pa.array(column, type=kind)
            for (name, kind), column in zip(columns, values, strict=True)
        }
    )


def _scaled(units: Sequence[int | None], kind: pa.DataType) -> "pa.Array[Any]":
    """Return whole units as decimals, pico-dollars with twelve places: the same integers."""
    whole = pa.array(units, type=pa.int64()).cast(pa.decimal128(19, 0))
    return pa.Array.from_buffers(kind, len(whole), whole.buffers(), whole.null_count)
