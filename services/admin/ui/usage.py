"""Usage: cost, requests and tokens by day, and by whom or what they were."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from litestar import Request, Response, get
from litestar.response import Stream

from services.admin.sql_answers import answer_table
from services.admin.sql_where import Conditions
from services.admin.state import AdminState
from services.admin.ui.access import viewer_of
from services.admin.ui.asking import Row, ask
from services.admin.ui.charting import cells_of, day_chart
from services.admin.ui.formats import share
from services.admin.ui.pages import page
from services.admin.ui.periods import CHOICES, Period, period_of
from services.admin.ui.sheets import as_sheet
from services.admin.ui.viewer import Viewer

__all__ = ["USAGE_ROUTES"]

ROWS_MAX = 500
"""A page lists so many names; the file of it has all."""
_Request = Request[Any, Any, Any]

BY = {
    "model": ("Model", "coalesce(model, model_name, 'unknown')"),
    "team": ("Team", "coalesce(team_id, 'no team')"),
    "user": ("User", "coalesce(user_id, 'no user')"),
    "key": ("Key", "coalesce(key_alias, key_id, 'no key')"),
    "billing": ("Paid by", "billing"),
    "endpoint": ("Endpoint", "endpoint"),
}
"""What usage can be split by: its title, and the SQL of the name."""
_PROMPT = "input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens"
METRICS = {
    "cost": ("Cost", "sum(cost_usd)", "usd"),
    "requests": ("Requests", "sum(requests)::BIGINT", "whole"),
    "prompt": ("Prompt tokens", f"sum({_PROMPT})::BIGINT", "whole"),
    "output": ("Completion tokens", "sum(output_tokens)::BIGINT", "whole"),
}
"""What the chart shows: its title, its SQL and its unit."""
SORTS = {
    "name": "name",
    "requests": "requests",
    "prompt": "prompt_tokens",
    "cached": "cached_share",
    "output": "output_tokens",
    "cost": "cost_usd",
    "each": "each_usd",
}


@get("/usage")
async def usage(request: _Request, admin: AdminState) -> Response[bytes]:
    """Show usage by day, split by one of BY."""
    viewer = viewer_of(request)
    query = request.query_params
    period = period_of(query, datetime.now(UTC).date())
    by = query.get("by", "model")
    by = by if by in BY else "model"
    metric = query.get("metric", "cost")
    metric = metric if metric in METRICS else "cost"
    sort_by, order = query.get("sort", "cost"), query.get("order", "desc")
    sort_by = sort_by if sort_by in SORTS else "cost"
    order = order if order in ("asc", "desc") else "desc"
    rows = await _names(admin, viewer, period, by, f"{SORTS[sort_by]} {order}, name")
    title, _, unit = METRICS[metric]
    chart = await _chart(admin, viewer, period, by, metric)
    state = {**period.query, "by": by, "metric": metric, "sort": sort_by, "order": order}

    def address(**changed: object) -> str:
        return f"/ui/usage?{urlencode({**state, **changed})}"

    def sorted_by(name: str) -> str:
        turned = "asc" if name == sort_by and order == "desc" else "desc"
        return address(sort=name, order=turned)

    return page(
        request,
        "usage.html",
        period=period,
        choices=CHOICES,
        by=by,
        bys={name: title for name, (title, _) in BY.items()},
        metric=metric,
        metrics={name: title for name, (title, _, _) in METRICS.items()},
        metric_title=title,
        unit=unit,
        chart=chart,
        rows=rows,
        rows_max=ROWS_MAX,
        total=_total(rows),
        address=address,
        sort={"by": sort_by, "order": order, "url": sorted_by},
        csv=f"/ui/usage.csv?{urlencode(period.query | {'by': by})}",
    )


@get("/usage.csv")
async def usage_csv(request: _Request, admin: AdminState) -> Response[bytes] | Stream:
    """Return all days and names of the period as CSV."""
    query = request.query_params
    period = period_of(query, datetime.now(UTC).date())
    by = query.get("by", "model")
    by = by if by in BY else "model"
    conditions = _conditions(viewer_of(request), period)
    sql = f"""
SELECT day, {BY[by][1]} AS {by}, sum(requests)::BIGINT AS requests,
       sum(input_tokens)::BIGINT AS input_tokens,
       sum(cache_read_tokens)::BIGINT AS cache_read_tokens,
       sum(cache_write_5m_tokens)::BIGINT AS cache_write_5m_tokens,
       sum(cache_write_1h_tokens)::BIGINT AS cache_write_1h_tokens,
       sum(output_tokens)::BIGINT AS output_tokens, sum(cost_usd) AS cost_usd,
       sum(unpriced_requests)::BIGINT AS unpriced_requests
FROM spend_parts {conditions.where} GROUP BY ALL HAVING sum(requests) <> 0 ORDER BY ALL
"""
    answer = await answer_table(request, admin.ledger, sql, conditions.parameters, "csv")
    return as_sheet(answer, f"usage-by-{by}-{period.first}-{period.last}.csv")


USAGE_ROUTES = (usage, usage_csv)


def _conditions(viewer: Viewer, period: Period) -> Conditions:
    conditions = viewer.conditions()
    conditions.add("day >= {0}::DATE", period.first.isoformat())
    conditions.add("day <= {0}::DATE", period.last.isoformat())
    return conditions


async def _names(
    admin: AdminState, viewer: Viewer, period: Period, by: str, order: str
) -> list[Row]:
    conditions = _conditions(viewer, period)
    return await ask(
        admin,
        f"""
SELECT {BY[by][1]} AS name, sum(requests)::BIGINT AS requests,
       sum({_PROMPT})::BIGINT AS prompt_tokens, sum(output_tokens)::BIGINT AS output_tokens,
       100 * sum(cache_read_tokens)::DOUBLE / nullif(sum({_PROMPT}), 0)::DOUBLE AS cached_share,
       sum(cost_usd) AS cost_usd,
       (sum(cost_usd) / nullif(sum(requests), 0))::DECIMAL(18, 6) AS each_usd,
       sum(unpriced_requests)::BIGINT AS unpriced_requests
FROM spend_parts {conditions.where} GROUP BY ALL HAVING sum(requests) <> 0
ORDER BY {order} LIMIT {ROWS_MAX}
""",
        conditions.parameters,
    )


async def _chart(admin: AdminState, viewer: Viewer, period: Period, by: str, metric: str) -> Any:
    conditions = _conditions(viewer, period)
    _, value, unit = METRICS[metric]
    rows = await ask(
        admin,
        f"SELECT day, {BY[by][1]} AS name, {value} AS value FROM spend_parts {conditions.where} "
        "GROUP BY ALL HAVING sum(requests) <> 0",
        conditions.parameters,
    )
    return day_chart(cells_of(rows), period.first, period.last, "usd" if unit == "usd" else "whole")


def _total(rows: list[Row]) -> Row:
    """Return the sums of all names that are shown."""
    total: Row = {
        name: sum((row[name] or 0) for row in rows)
        for name in ("requests", "prompt_tokens", "output_tokens", "unpriced_requests")
    }
    total["cost_usd"] = sum((row["cost_usd"] for row in rows), Decimal(0))
    for row in rows:
        row["share"] = share(row["cost_usd"], total["cost_usd"])
    return total
