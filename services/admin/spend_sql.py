"""The SQL that the admin service asks the ledger's reader, and the rows it makes of the answers.

Values are parameters, never text: no request can change a query (threat model, SQL injection).
A request counts in the budget window in which it started, as the ledger's budgets count it.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from schemas.rpc import QueryReply
from services.admin.bodies_spend import SpendDay, SpendLog
from services.admin.money import plain_number

__all__ = [
    "all_logs",
    "days_from",
    "global_spend_sql",
    "logs_count",
    "logs_from",
    "money",
    "spend_by_day",
    "spend_logs",
]

_LOG_COLUMNS = (
    "request_id",
    "key_id",
    "user_id",
    "team_id",
    "model_name",
    "model",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "web_search_requests",
    "cost_usd",
    "billing",
    "status",
    "http_status",
    "error_type",
    "estimated",
    "unpriced",
    "endpoint",
    "end_user_id",
    "agent_id",
    "session_id",
    "duration_ms",
    "started_at",
    "first_byte_at",
    "ended_at",
    "key_alias",
    "deployment",
    "tags",
)

_CALL_TYPES = {"messages": "anthropic_messages"}
"""LiteLLM's words for endpoints, where it has one."""

_SORTED_BY = {
    "startTime": "started_at",
    "endTime": "ended_at",
    "spend": "cost_usd",
    "total_tokens": "total_tokens",
    "prompt_tokens": "prompt_tokens",
    "completion_tokens": "output_tokens",
    "request_duration_ms": "duration_ms",
}


def spend_logs(where: str, sort_by: str = "startTime", sort_order: str = "desc") -> str:
    """Return the SQL for rows of requests, in this order; unpriced ones come last by spend."""
    order = "ASC" if sort_order == "asc" else "DESC"
    return (
        f"SELECT {', '.join(_LOG_COLUMNS)} FROM requests {where} "  # noqa: S608 - constants only
        f"ORDER BY {_SORTED_BY[sort_by]} {order} NULLS LAST, request_id {order}"
    )


def all_logs(where: str) -> str:
    """Return the SQL for rows of requests in the order in which the ledger has them.

    Nothing is sorted, so however many there are they need no memory.
    """
    return f"SELECT {', '.join(_LOG_COLUMNS)} FROM requests {where}"  # noqa: S608 - constants only


def logs_count(where: str) -> str:
    """Return the SQL for the number of requests."""
    return f"SELECT count(*) AS requests FROM requests {where}"  # noqa: S608 - constants only


def global_spend_sql(where: str) -> str:
    """Return the SQL for the sum of all spend."""
    return f"SELECT sum(cost_usd) AS spend FROM spend_parts {where}"  # noqa: S608 - constants only


def spend_by_day(where: str) -> str:
    """Return the SQL for the spend of each day (UTC), user and model, from `spend_parts`."""
    return f"""
SELECT strftime(day, '%Y-%m-%d') AS day,
       coalesce(user_id, '') AS user_id,
       coalesce(model, model_name, '') AS model,
       sum(cost_usd) AS spend,
       sum(requests)::BIGINT AS requests,
       sum(unpriced_requests)::BIGINT AS unpriced_requests
FROM spend_parts {where}
GROUP BY ALL HAVING sum(requests) <> 0 ORDER BY ALL
"""  # noqa: S608 - constants only


def money(cell: Any) -> Decimal | None:
    """Return a DECIMAL cell (a string in the reader's answers) exactly; None stays None."""
    return None if cell is None else plain_number(Decimal(str(cell)))


def logs_from(reply: QueryReply, hash_of: Callable[[str], str | None]) -> list[SpendLog]:
    """Return LiteLLM's rows from an answer to `spend_logs`. `hash_of` knows a key id's SHA-256."""
    return [_log(dict(zip(_LOG_COLUMNS, row, strict=True)), hash_of) for row in reply.rows]


def _log(cells: dict[str, Any], hash_of: Callable[[str], str | None]) -> SpendLog:
    reads, writes_5m, writes_1h = (
        cells[name] or 0
        for name in ("cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
    )
    prompt_tokens = (cells["input_tokens"] or 0) + reads + writes_5m + writes_1h
    completion_tokens = cells["output_tokens"] or 0
    duration_ms = cells["duration_ms"]
    return SpendLog(
        request_id=cells["request_id"],
        call_type=_CALL_TYPES.get(cells["endpoint"], cells["endpoint"]),
        api_key=None if cells["key_id"] is None else hash_of(cells["key_id"]),
        spend=money(cells["cost_usd"]),
        total_tokens=prompt_tokens + completion_tokens,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        start_time=cells["started_at"],
        end_time=cells["ended_at"],
        completion_start_time=cells["first_byte_at"],
        request_duration_ms=None if duration_ms is None else round(float(duration_ms)),
        model=cells["model"],
        model_id=cells["deployment"],
        model_group=cells["model_name"],
        custom_llm_provider="anthropic",
        user=cells["user_id"],
        team_id=cells["team_id"],
        end_user=cells["end_user_id"],
        agent_id=cells["agent_id"],
        session_id=cells["session_id"],
        status="success" if cells["status"] == "success" else "failure",
        cache_hit="False",
        request_tags=tuple(cells["tags"].split(",")) if cells["tags"] else (),
        metadata={
            "user_api_key_alias": cells["key_alias"],
            "user_api_key_user_id": cells["user_id"],
            "user_api_key_team_id": cells["team_id"],
            "usage_object": {
                "input_tokens": cells["input_tokens"] or 0,
                "output_tokens": completion_tokens,
                "cache_read_input_tokens": reads,
                "cache_creation_input_tokens": writes_5m + writes_1h,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": writes_5m,
                    "ephemeral_1h_input_tokens": writes_1h,
                },
                "server_tool_use": {"web_search_requests": cells["web_search_requests"] or 0},
            },
            "tallygate_status": cells["status"],
            "http_status": cells["http_status"],
            "error_type": cells["error_type"],
            "billing": cells["billing"],
            "estimated": bool(cells["estimated"]),
            "unpriced": bool(cells["unpriced"]),
        },
    )


def days_from(rows: Sequence[Sequence[Any]]) -> list[SpendDay]:
    """Return LiteLLM's daily summary from the rows of `spend_by_day`."""
    users: dict[str, dict[str, Decimal]] = {}
    models: dict[str, dict[str, Decimal]] = {}
    counts: dict[str, list[int]] = {}
    for day, user_id, model, cell, requests, unpriced in rows:
        count = counts.setdefault(day, [0, 0])
        count[0] += int(requests)
        count[1] += int(unpriced)
        spend = Decimal(str(cell or 0))
        by_user, by_model = users.setdefault(day, {}), models.setdefault(day, {})
        by_user[user_id] = by_user.get(user_id, Decimal(0)) + spend
        by_model[model] = by_model.get(model, Decimal(0)) + spend
    return [
        SpendDay(
            start_time=day,
            spend=plain_number(sum(users[day].values(), Decimal(0))),
            users={name: plain_number(spend) for name, spend in users[day].items()},
            models={name: plain_number(spend) for name, spend in models[day].items()},
            requests=counts[day][0],
            unpriced_requests=counts[day][1],
        )
        for day in sorted(users)
    ]
