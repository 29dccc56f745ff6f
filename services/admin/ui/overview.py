"""The first page: what was spent, by whom and on what, and what goes on now."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from litestar import Request, Response, get

from services.admin.sql_where import Conditions
from services.admin.state import AdminState
from services.admin.ui.access import viewer_of
from services.admin.ui.asking import Row, ask
from services.admin.ui.attention import matters
from services.admin.ui.charting import DayChart, cells_of, day_chart
from services.admin.ui.formats import share, usd, usd_exact
from services.admin.ui.pages import page
from services.admin.ui.viewer import Viewer

__all__ = ["OVERVIEW_ROUTES"]

DAYS = 30
"""The trend shows so many days, today included."""
TOP_MAX = 6
"""So many keys, users, teams and models are shown by name."""
LIVE_MINUTES = 60
LATEST_MAX = 6
_Request = Request[Any, Any, Any]


@get("/")
async def overview(request: _Request, admin: AdminState) -> Response[bytes]:
    """Show the overview."""
    viewer = viewer_of(request)
    today = datetime.now(UTC).date()
    month = today.replace(day=1)
    periods, days, savings, live, look, *tops = await asyncio.gather(
        _periods(admin, viewer, today, month),
        _days(admin, viewer, today),
        _savings(admin, viewer, month),
        _live(admin, viewer),
        matters(admin, viewer, today),
        *(_top(admin, viewer, month, by) for by in _TOPS),
    )
    return page(
        request,
        "overview.html",
        periods=periods,
        savings_usd=savings,
        trend=days,
        tops=[(title, bars) for (title, _, _), bars in zip(_TOPS.values(), tops, strict=True)],
        month=month,
        live=live,
        matters=look,
    )


@get("/live")
async def live_part(request: _Request, admin: AdminState) -> Response[bytes]:
    """Return the part of the overview that changes by itself."""
    return page(request, "overview_live.html", live=await _live(admin, viewer_of(request)))


OVERVIEW_ROUTES = (overview, live_part)


async def _periods(admin: AdminState, viewer: Viewer, today: date, month: date) -> Row:
    conditions = viewer.conditions()
    first = min(month, today - timedelta(days=6))
    conditions.add("day >= {0}::DATE", first.isoformat())
    marks = _marks(conditions, today, today - timedelta(days=6), month)
    rows = await ask(
        admin,
        f"""
SELECT coalesce(sum(cost_usd) FILTER (day = {marks[0]}), 0) AS today_usd,
       coalesce(sum(requests) FILTER (day = {marks[0]}), 0)::BIGINT AS today_requests,
       coalesce(sum(cost_usd) FILTER (day >= {marks[1]}), 0) AS week_usd,
       coalesce(sum(requests) FILTER (day >= {marks[1]}), 0)::BIGINT AS week_requests,
       coalesce(sum(cost_usd) FILTER (day >= {marks[2]}), 0) AS month_usd,
       coalesce(sum(requests) FILTER (day >= {marks[2]}), 0)::BIGINT AS month_requests,
       coalesce(sum(unpriced_requests) FILTER (day >= {marks[2]}), 0)::BIGINT AS unpriced_requests,
       coalesce(sum(cost_usd) FILTER (day >= {marks[2]} AND billing = 'subscription'), 0)
           AS subscription_usd
FROM spend_parts {conditions.where}
""",
        conditions.parameters,
    )
    return rows[0]


def _marks(conditions: Conditions, *days: date) -> list[str]:
    """Return the marks of further parameters, which are days."""
    first = len(conditions.parameters) + 1
    conditions.parameters += [day.isoformat() for day in days]
    return [f"${number}::DATE" for number in range(first, first + len(days))]


async def _days(admin: AdminState, viewer: Viewer, today: date) -> DayChart:
    """Return the spend of each day by model."""
    conditions = viewer.conditions()
    first = today - timedelta(days=DAYS - 1)
    conditions.add("day >= {0}::DATE", first.isoformat())
    rows = await ask(
        admin,
        "SELECT day, coalesce(model, model_name, 'unknown') AS name, sum(cost_usd) AS value "
        f"FROM spend_parts {conditions.where} GROUP BY ALL HAVING sum(requests) <> 0",
        conditions.parameters,
    )
    return day_chart(cells_of(rows), first, today, "usd")


async def _savings(admin: AdminState, viewer: Viewer, month: date) -> Decimal | None:
    """Return what caching saved: all cached tokens at the price of input, less what they cost.

    A model's ratio of prices is that of its newest price; models without a price are left out.
    """
    conditions = viewer.conditions()
    conditions.add("day >= {0}::DATE", month.isoformat())
    rows = await ask(
        admin,
        f"""
WITH newest AS (
    SELECT unnest(list_append(names, model)) AS name,
           input_usd_per_mtok / nullif(cache_read_usd_per_mtok, 0) AS per_read,
           input_usd_per_mtok / nullif(cache_write_5m_usd_per_mtok, 0) AS per_write_5m,
           input_usd_per_mtok / nullif(cache_write_1h_usd_per_mtok, 0) AS per_write_1h
    FROM prices WHERE above_prompt_tokens = 0
), ratios AS (
    SELECT name, max(per_read) AS per_read, max(per_write_5m) AS per_write_5m,
           max(per_write_1h) AS per_write_1h
    FROM newest GROUP BY name
)
SELECT sum(cache_read_cost_usd * (per_read - 1) + cache_write_5m_cost_usd * (per_write_5m - 1)
           + cache_write_1h_cost_usd * (per_write_1h - 1))::DECIMAL(18, 6) AS saved_usd
FROM (SELECT model AS name, sum(cache_read_cost_usd)::DOUBLE AS cache_read_cost_usd,
             sum(cache_write_5m_cost_usd)::DOUBLE AS cache_write_5m_cost_usd,
             sum(cache_write_1h_cost_usd)::DOUBLE AS cache_write_1h_cost_usd
      FROM spend_parts {conditions.where} GROUP BY model) JOIN ratios USING (name)
""",
        conditions.parameters,
    )
    saved: Decimal | None = rows[0]["saved_usd"]
    return saved


_TOPS = {
    "key": ("Keys", "coalesce(key_alias, key_id, 'no key')", "/ui/logs?period=30d&key="),
    "user": ("Users", "coalesce(user_id, 'no user')", "/ui/logs?period=30d&user="),
    "team": ("Teams", "coalesce(team_id, 'no team')", "/ui/logs?period=30d&team="),
    "model": ("Models", "coalesce(model, model_name, 'unknown')", "/ui/logs?period=30d&model="),
}
"""By what spend is shown: the title, the SQL of the name, and where a name leads to."""
_NAMELESS = ("no key", "no user", "no team", "unknown")


async def _top(admin: AdminState, viewer: Viewer, month: date, by: str) -> list[dict[str, Any]]:
    conditions = viewer.conditions()
    conditions.add("day >= {0}::DATE", month.isoformat())
    _, name, href = _TOPS[by]
    rows = await ask(
        admin,
        f"SELECT {name} AS name, sum(cost_usd) AS cost_usd FROM spend_parts {conditions.where} "
        f"GROUP BY ALL HAVING sum(requests) <> 0 ORDER BY cost_usd DESC, name LIMIT {TOP_MAX}",
        conditions.parameters,
    )
    largest = max((row["cost_usd"] for row in rows), default=Decimal(0))
    return [
        {
            "name": row["name"],
            "value": usd(row["cost_usd"]),
            "exact": usd_exact(row["cost_usd"]),
            "share": share(row["cost_usd"], largest) or 0.0,
            "href": "" if row["name"] in _NAMELESS else f"{href}{quote(row['name'])}",
        }
        for row in rows
    ]


async def _live(admin: AdminState, viewer: Viewer) -> dict[str, Any]:
    """Return the requests of the last hour by minute, and the latest ones."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    first = now - timedelta(minutes=LIVE_MINUTES - 1)
    conditions = viewer.conditions()
    conditions.add("started_at >= {0}::TIMESTAMP", first.strftime("%Y-%m-%d %H:%M:%S"))
    minutes, latest = await asyncio.gather(
        ask(
            admin,
            "SELECT date_trunc('minute', started_at) AS minute, count(*) AS requests, "
            "count(*) FILTER (status <> 'success') AS failed "
            f"FROM requests {conditions.where} GROUP BY ALL",
            conditions.parameters,
        ),
        ask(
            admin,
            "SELECT request_id, started_at, coalesce(key_alias, key_id) AS key_name, model_name, "
            "model, total_tokens, cost_usd, status, http_status "
            f"FROM requests {conditions.where} "
            f"ORDER BY started_at DESC, request_id DESC LIMIT {LATEST_MAX}",
            conditions.parameters,
        ),
    )
    by_minute = {row["minute"]: row for row in minutes}
    times = [first + timedelta(minutes=number) for number in range(LIVE_MINUTES)]
    counts = [by_minute.get(time, {"requests": 0, "failed": 0}) for time in times]
    total = sum(row["requests"] for row in counts)
    recent = sum(row["requests"] for row in counts[-5:])
    return {
        "chart": {
            "x": [int(time.timestamp()) for time in times],
            "series": [{"label": "Requests", "values": [row["requests"] for row in counts]}],
            "kind": "bars",
            "unit": "whole",
            "step": "minute",
        },
        "table": (
            ("Minute", "Requests"),
            [
                (f"{time:%H:%M}", row["requests"])
                for time, row in zip(times, counts, strict=True)
                if row["requests"]
            ],
        ),
        "requests": total,
        "failed": sum(row["failed"] for row in counts),
        "per_minute": recent / 5,
        "latest": latest,
    }
