"""GET /global/activity and /global/activity/model: requests and tokens by day."""

from typing import Any

from litestar import Request, Response, get

from services.admin.bodies_global import Activity, ActivityPeriod, ModelActivity, activity_of
from services.admin.by_days import query_by_days
from services.admin.describing import Description, described
from services.admin.reading import answer_json, read_query
from services.admin.sql_where import Conditions
from services.admin.state import AdminState

__all__ = ["GLOBAL_ACTIVITY_ROUTES"]

_Request = Request[Any, Any, Any]
_TOKENS = (
    "sum(input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens"
    " + output_tokens)::BIGINT"
)
_MODEL = "coalesce(model, model_name)"


def _route(summary: str, description: str, answer: Any) -> dict[str, Any]:
    return described(
        Description(
            summary=summary,
            description=description,
            tag="spend",
            query=ActivityPeriod,
            answer=answer,
            example_query="start_date=2026-11-01&end_date=2026-11-30",
            errors=(400, 408),
        ),
        access="read",
    )


@get(
    "/global/activity",
    opt=_route(
        "Show requests and tokens by day",
        "Of all keys. `/user/daily/activity` has spend and parts, too.",
        Activity,
    ),
)
async def activity(request: _Request, admin: AdminState) -> Response[bytes]:
    """Show requests and tokens by day."""
    rows = await _by_model(admin, read_query(request, ActivityPeriod))
    days: dict[str, tuple[int, int]] = {}
    for day, _, requests, tokens in rows:
        before = days.get(day, (0, 0))
        days[day] = (before[0] + requests, before[1] + tokens)
    return answer_json(Activity(**activity_of([(day, *sums) for day, sums in days.items()])))


@get(
    "/global/activity/model",
    opt=_route(
        "Show requests and tokens by model and day",
        "The models with most requests first.",
        list[ModelActivity],
    ),
)
async def activity_by_model(request: _Request, admin: AdminState) -> Response[bytes]:
    """Show requests and tokens by model and day."""
    rows = await _by_model(admin, read_query(request, ActivityPeriod))
    models: dict[str, list[tuple[str, int, int]]] = {}
    for day, model, requests, tokens in rows:
        models.setdefault(model or "unknown", []).append((day, requests, tokens))
    found = [ModelActivity(**activity_of(days, model=model)) for model, days in models.items()]
    found.sort(key=lambda each: each.sum_api_requests, reverse=True)
    return answer_json(found)


async def _by_model(
    admin: AdminState, period: ActivityPeriod
) -> tuple[tuple[str, str | None, int, int], ...]:
    """Return day, model, requests and tokens, the oldest day first. Raises BadRequest."""

    def sql(where: str) -> str:
        return f"""
SELECT strftime(day, '%Y-%m-%d'), {_MODEL} AS model, sum(requests)::BIGINT, {_TOKENS}
FROM spend_parts {where}
GROUP BY day, {_MODEL} HAVING sum(requests) <> 0 ORDER BY day, model
"""  # noqa: S608 - constants only

    reply = await query_by_days(admin.ledger, sql, Conditions(), period.start_date, period.end_date)
    rows: Any = reply.rows
    return tuple(rows)


GLOBAL_ACTIVITY_ROUTES = (activity, activity_by_model)
