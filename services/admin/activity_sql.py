"""The SQL of daily activity, from the sums that the ledger keeps by day, and its shape. Pure."""

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Literal

from schemas.rpc import QueryReply
from services.admin.bodies_activity import (
    ActivityBreakdown,
    ActivityDay,
    ActivityMetadata,
    ActivityMetrics,
    ActivityPart,
)
from services.admin.spend_sql import money

__all__ = [
    "DAYS_AT_ONCE_MAX",
    "PARTS_SHOWN_MAX",
    "Entity",
    "activity_days",
    "activity_keys",
    "activity_parts",
    "activity_table",
    "days_from_parts",
    "page_metadata",
]

PARTS_SHOWN_MAX = 50
"""Of each kind a day shows the dearest so many; its own sums are those of all."""
DAYS_AT_ONCE_MAX = 40
"""One query is about so many days, so that its rows are fewer than an answer may have."""

Entity = Literal["user_id", "team_id"]
Named = Callable[[str, str], tuple[str, dict[str, Any]]]
"""Returns the name under which a part is shown, and what is known of it: by its kind and id."""

_KINDS = ("models", "model_groups", "api_keys", "endpoints", "entities")
_SUMS = """sum(cost_usd) AS spend_usd,
           sum(input_tokens + cache_read_tokens + cache_write_5m_tokens
               + cache_write_1h_tokens)::BIGINT AS prompt_tokens,
           sum(output_tokens)::BIGINT AS completion_tokens,
           sum(cache_read_tokens)::BIGINT AS cache_read_input_tokens,
           sum(cache_write_5m_tokens + cache_write_1h_tokens)::BIGINT
               AS cache_creation_input_tokens,
           coalesce(sum(requests) FILTER (status = 'success'), 0)::BIGINT AS successful_requests,
           sum(requests)::BIGINT AS api_requests,
           sum(duration_ms)::BIGINT AS total_response_time_ms,
           sum(unpriced_requests)::BIGINT AS unpriced_requests"""
_SUM_NAMES = (
    "spend_usd",
    "prompt_tokens",
    "completion_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "successful_requests",
    "api_requests",
    "total_response_time_ms",
    "unpriced_requests",
)
_COUNTS = tuple(
    name for name in ActivityMetrics.__struct_fields__ if name not in {"spend", "api_requests"}
)


def activity_days(where: str) -> str:
    """Return the SQL for the days that had requests, the newest first."""
    return (
        f"SELECT strftime(day, '%Y-%m-%d') AS day FROM spend_parts {where} "  # noqa: S608
        "GROUP BY day HAVING sum(requests) <> 0 ORDER BY day DESC"
    )


def activity_keys(where: str) -> str:
    """Return the SQL for the number of keys that made requests."""
    return f"SELECT count(DISTINCT key_id) AS keys FROM spend_parts {where}"  # noqa: S608


def activity_parts(where: str, entity: Entity) -> str:
    """Return the SQL for each day's sums, altogether and by each kind of part."""
    totals = ", ".join(f"sum({name}) AS {name}" for name in _SUM_NAMES)
    columns = {
        "models": "model",
        "model_groups": "model_name",
        "api_keys": "key_id",
        "endpoints": "endpoint",
        "entities": entity,
    }
    by_kind = " UNION ALL ".join(
        f"SELECT day, '{kind}' AS kind, {column} AS name, {totals} FROM sums "  # noqa: S608
        f"WHERE {column} IS NOT NULL GROUP BY day, {column}"
        for kind, column in columns.items()
    )
    # Materialised: all six kinds of parts are made of one reading.
    return f"""
WITH sums AS MATERIALIZED (
    SELECT day, model, model_name, key_id, endpoint, {entity},
           {_SUMS}
    FROM spend_parts {where}
    GROUP BY day, model, model_name, key_id, endpoint, {entity}
    HAVING sum(requests) <> 0),
parts AS (
    SELECT day, 'day' AS kind, '' AS name, {totals} FROM sums GROUP BY day
    UNION ALL {by_kind})
SELECT strftime(day, '%Y-%m-%d') AS day, kind, name, {", ".join(_SUM_NAMES)}
FROM parts
QUALIFY row_number() OVER (PARTITION BY day, kind ORDER BY spend_usd DESC, api_requests DESC, name)
    <= {PARTS_SHOWN_MAX}
ORDER BY day DESC, kind, spend_usd DESC, api_requests DESC, name
"""  # noqa: S608 - constants only


def activity_table(where: str, entity: Entity) -> str:
    """Return the SQL for all sums as one table, for CSV and Arrow."""
    return f"""
SELECT day, {entity}, key_id, arg_max(key_alias, requests) AS key_alias,
           model, model_name, endpoint,
           {_SUMS}
FROM spend_parts {where}
GROUP BY day, {entity}, key_id, model, model_name, endpoint HAVING sum(requests) <> 0
ORDER BY day DESC, spend_usd DESC, {entity}, key_id, model, model_name, endpoint
"""  # noqa: S608 - constants only


def days_from_parts(reply: QueryReply, named: Named) -> list[ActivityDay]:
    """Return the days of `activity_parts`, in the order of its rows."""
    names = [column.name for column in reply.columns]
    totals: dict[str, ActivityMetrics] = {}
    parts: dict[str, dict[str, dict[str, ActivityPart]]] = {}
    for row in reply.rows:
        cells = dict(zip(names, row, strict=True))
        day, kind = cells["day"], cells["kind"]
        kinds = parts.setdefault(day, {each: {} for each in _KINDS})
        if kind == "day":
            totals[day] = _metrics(cells)
            continue
        shown, metadata = named(kind, cells["name"])
        kinds[kind][shown] = ActivityPart(metrics=_metrics(cells), metadata=metadata)
    return [
        ActivityDay(
            date=day,
            metrics=totals[day],
            breakdown=ActivityBreakdown(
                providers={"anthropic": ActivityPart(metrics=totals[day])}, **kinds
            ),
        )
        for day, kinds in parts.items()
    ]


def page_metadata(
    days: Iterable[ActivityDay], *, page: int, total_pages: int, total_api_keys: int
) -> ActivityMetadata:
    """Return what LiteLLM tells of a page: the sums of its days, and where it stands."""
    metrics = [day.metrics for day in days]
    sums = {name: sum(getattr(each, name) for each in metrics) for name in _COUNTS}
    spend = sum((each.spend for each in metrics), Decimal(0))
    return ActivityMetadata(
        total_spend=money(spend) or Decimal(0),
        total_api_requests=sum(each.api_requests for each in metrics),
        page=page,
        total_pages=total_pages,
        has_more=page < total_pages,
        api_key_limit=PARTS_SHOWN_MAX,
        total_api_keys=total_api_keys,
        **{name if name.startswith("total_") else f"total_{name}": n for name, n in sums.items()},
    )


def _metrics(cells: dict[str, Any]) -> ActivityMetrics:
    counts = {name: int(cells[name]) for name in _SUM_NAMES if name != "spend_usd"}
    return ActivityMetrics(
        spend=money(cells["spend_usd"]) or Decimal(0),
        total_tokens=counts["prompt_tokens"] + counts["completion_tokens"],
        failed_requests=counts["api_requests"] - counts["successful_requests"],
        **counts,
    )
