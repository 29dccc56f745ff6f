"""The page of one session: its requests as a timeline, how its context and its cost grew.

In large books it shows the requests of some days (`session_scope`), and then says by itself whether
there are others.
"""

import asyncio
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from litestar import Request, Response, get

from schemas.errors import BadRequest, NotFound
from schemas.events import us_from_time
from services.admin.sql_where import Conditions
from services.admin.state import AdminState
from services.admin.ui.access import viewer_of
from services.admin.ui.asking import Row, ask
from services.admin.ui.formats import share, usd, usd_exact, whole
from services.admin.ui.pages import is_part, page
from services.admin.ui.session_scope import SessionScope, read_scope
from services.admin.ui.viewer import Viewer

__all__ = ["SESSION_PAGE_ROUTES", "with_gaps"]

STEPS_MAX = 100
"""So many requests at a time."""
POINTS_MAX = 400
"""A chart has about so many points at most; of more requests some are left out of it."""
PAUSE_MS = 300_000
"""Who waits longer than the five minutes of the prompt cache is told so: it costs."""
_MARK = re.compile(r"(\d{1,17})~([\x21-\x7e]{1,128})")
_Request = Request[Any, Any, Any]


@get("/sessions/{session_id:str}")
async def session_page(request: _Request, admin: AdminState, session_id: str) -> Response[bytes]:
    """Show one session, or with `after` its next requests. Raises NotFound, BadRequest."""
    viewer = viewer_of(request)
    after = request.query_params.get("after", "")
    mark = _MARK.fullmatch(after)
    if after and mark is None:
        raise BadRequest("this address does not say after which request to go on")
    scope, total = await _found(
        admin, viewer, session_id, read_scope(request.query_params, datetime.now(UTC))
    )
    bounds = _bounds(viewer, session_id, total)
    steps, agents, *charts = await asyncio.gather(
        _steps(admin, bounds, None if mark is None else (int(mark[1]), mark[2])),
        _agents(admin, bounds),
        *(() if is_part(request) else (_models(admin, bounds), _points(admin, bounds))),
    )
    shown: dict[str, Any] = {
        "session_id": session_id,
        "scope": scope,
        "total": total,
        "steps": with_gaps(steps[:STEPS_MAX]),
        "has_more": len(steps) > STEPS_MAX,
        "agents": {row["agent_id"]: number for number, row in enumerate(agents, 1)},
        "pause_ms": PAUSE_MS,
    }
    if is_part(request):
        return page(request, "session_steps.html", **shown)
    models, points = charts
    return page(request, "session.html", models=models, charts=_charts(points), **shown)


@get("/sessions/{session_id:str}/elsewhere")
async def elsewhere(request: _Request, admin: AdminState, session_id: str) -> Response[bytes]:
    """Return how many requests of a session are outside of the days that its page shows."""
    conditions = viewer_of(request).conditions()
    scope = read_scope(request.query_params, datetime.now(UTC))
    scope.add_outside_to(conditions)
    conditions.add("session_id = {0}::VARCHAR", session_id)
    rows = await ask(
        admin,
        "SELECT count(*) AS requests, min(started_at) AS first_at, max(started_at) AS last_at "
        f"FROM requests {conditions.where}",
        conditions.parameters,
    )
    return page(request, "session_elsewhere.html", session_id=session_id, others=rows[0])


SESSION_PAGE_ROUTES = (session_page, elsewhere)


def with_gaps(steps: list[Row]) -> list[Row]:
    """Return requests with the gap since the latest answer before each was over; None: none."""
    found = []
    for step in steps:
        before: datetime | None = step["over_before_at"]
        gap_ms = None
        if before is not None:
            gap_ms = (step["started_at"] - before).total_seconds() * 1000
        mark = f"{us_from_time(step['started_at'])}~{step['request_id']}"
        found.append(step | {"gap_ms": gap_ms, "mark": mark})
    return found


async def _found(
    admin: AdminState, viewer: Viewer, session_id: str, scope: SessionScope
) -> tuple[SessionScope, Row]:
    """Return what a session comes to in a scope, or else in all days. Raises NotFound."""
    for each in dict.fromkeys((scope, SessionScope())):
        total = await _total(admin, viewer, session_id, each)
        if total["requests"]:
            return each, total
    raise NotFound("There is no session of this id that you may see.")


async def _total(admin: AdminState, viewer: Viewer, session_id: str, scope: SessionScope) -> Row:
    """Return what a session's requests in a scope come to; there may be none."""
    conditions = viewer.conditions()
    scope.add_to(conditions)
    conditions.add("session_id = {0}::VARCHAR", session_id)
    rows = await ask(
        admin,
        f"""
SELECT count(*) AS requests, min(started_at) AS started_at, max(ended_at) AS ended_at,
       max(started_at) AS last_at,
       date_diff('millisecond', min(started_at), max(ended_at)) AS duration_ms,
       coalesce(sum(duration_ms), 0)::BIGINT AS working_ms,
       sum(prompt_tokens)::BIGINT AS prompt_tokens, sum(output_tokens)::BIGINT AS output_tokens,
       sum(total_tokens)::BIGINT AS total_tokens,
       sum(cache_read_tokens)::BIGINT AS cache_read_tokens,
       max(prompt_tokens) AS context_max, coalesce(sum(cost_usd), 0) AS cost_usd,
       coalesce(sum(cost_usd) FILTER (billing = 'subscription'), 0) AS subscription_usd,
       coalesce(sum(cost_usd) FILTER (agent_id IS NOT NULL), 0) AS agents_usd,
       count(DISTINCT agent_id) AS agents, count(*) FILTER (unpriced) AS unpriced,
       count(*) FILTER (status <> 'success') AS failed,
       arg_max(key_alias, started_at) AS key_alias, arg_max(key_id, started_at) AS key_id,
       arg_max(user_id, started_at) AS user_id, arg_max(team_id, started_at) AS team_id,
       arg_max(client_name, started_at) AS client_name,
       arg_max(client_version, started_at) AS client_version,
       arg_max(entrypoint, started_at) AS entrypoint
FROM requests {conditions.where}
""",
        conditions.parameters,
    )
    return rows[0]


def _bounds(viewer: Viewer, session_id: str, total: Row) -> Conditions:
    """Return the conditions of a session's rows, bounded by its time: so few rows are looked at."""
    conditions = viewer.conditions()
    conditions.add(
        "started_at BETWEEN make_timestamp({0}::BIGINT) AND make_timestamp({1}::BIGINT)",
        us_from_time(total["started_at"]),
        us_from_time(total["last_at"]),
    )
    conditions.add("session_id = {0}::VARCHAR", session_id)
    return conditions


async def _steps(admin: AdminState, bounds: Conditions, after: tuple[int, str] | None) -> list[Row]:
    """Return requests in their order, each with the cost so far and the latest end before it."""
    parameters = list(bounds.parameters)
    below = ""
    if after is not None:
        first = len(parameters) + 1
        time, name = f"make_timestamp(${first}::BIGINT)", f"${first + 1}::VARCHAR"
        below = f"WHERE started_at > {time} OR (started_at = {time} AND request_id > {name})"
        parameters += after
    return await ask(
        admin,
        f"""
SELECT * FROM (
    SELECT request_id, started_at, ended_at, duration_ms, ttfb_ms, model_name, model, endpoint,
           purpose, agent_id, prompt_tokens, output_tokens, cache_read_tokens, cost_usd, unpriced,
           estimated, status, http_status, error_type, reason, stop_reason, message_count,
           sum(cost_usd) OVER so_far AS cost_so_far_usd,
           max(ended_at) OVER (ORDER BY started_at, request_id
                               ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS over_before_at
    FROM requests {bounds.where}
    WINDOW so_far AS (ORDER BY started_at, request_id ROWS UNBOUNDED PRECEDING)
) {below} ORDER BY started_at, request_id LIMIT {STEPS_MAX + 1}
""",
        parameters,
    )


async def _agents(admin: AdminState, bounds: Conditions) -> list[Row]:
    """Return the sub-agents in the order in which they came."""
    return await ask(
        admin,
        "SELECT agent_id, min(started_at) AS first_at FROM requests "
        f"{bounds.where} AND agent_id IS NOT NULL GROUP BY agent_id ORDER BY first_at, agent_id",
        bounds.parameters,
    )


async def _models(admin: AdminState, bounds: Conditions) -> list[dict[str, Any]]:
    """Return what each model cost, as bars."""
    rows = await ask(
        admin,
        "SELECT coalesce(model, model_name, 'unknown') AS name, count(*) AS requests, "
        "coalesce(sum(cost_usd), 0) AS cost_usd "
        f"FROM requests {bounds.where} GROUP BY ALL ORDER BY cost_usd DESC, name LIMIT 10",
        bounds.parameters,
    )
    largest = max((row["cost_usd"] for row in rows), default=Decimal(0))
    return [
        {
            "name": f"{row['name']}, {whole(row['requests'])} requests",
            "value": usd(row["cost_usd"]),
            "exact": usd_exact(row["cost_usd"]),
            "share": share(row["cost_usd"], largest) or 0.0,
            "href": "",
        }
        for row in rows
    ]


async def _points(admin: AdminState, bounds: Conditions) -> list[Row]:
    """Return the points of the charts: the cost so far, and the context of the conversation."""
    return await ask(
        admin,
        f"""
SELECT started_at, cost_so_far_usd, context_tokens FROM (
    SELECT started_at, sum(cost_usd) OVER so_far AS cost_so_far_usd,
           CASE WHEN agent_id IS NULL AND coalesce(purpose, 'main') = 'main'
                THEN nullif(prompt_tokens, 0) END AS context_tokens,
           row_number() OVER so_far AS number, count(*) OVER () AS all_of_them
    FROM requests {bounds.where}
    WINDOW so_far AS (ORDER BY started_at, request_id ROWS UNBOUNDED PRECEDING)
) WHERE number % greatest(1, all_of_them // {POINTS_MAX}) = 0 OR number IN (1, all_of_them)
ORDER BY number
""",
        bounds.parameters,
    )


def _charts(points: list[Row]) -> dict[str, Any]:
    """Return the data of both charts, and the same as tables."""
    asked = [point for point in points if point["context_tokens"] is not None]
    context = [point["context_tokens"] for point in asked]
    costs = [point["cost_so_far_usd"] or Decimal(0) for point in points]
    return {
        "context": _line("Context", asked, context, "whole"),
        "context_table": (
            ("Time", "Tokens of the prompt"),
            [(_clock(point), whole(value)) for point, value in zip(asked, context, strict=True)],
        ),
        "cost": _line("Cost so far", points, [float(cost) for cost in costs], "usd"),
        "cost_table": (
            ("Time", "Cost so far"),
            [(_clock(point), usd(cost)) for point, cost in zip(points, costs, strict=True)],
        ),
    }


def _clock(point: Row) -> str:
    return f"{point['started_at']:%b %d, %H:%M:%S}"


def _line(label: str, points: list[Row], values: list[Any], unit: str) -> dict[str, Any]:
    return {
        "x": [point["started_at"].timestamp() for point in points],
        "series": [{"label": label, "values": values}],
        "kind": "line",
        "unit": unit,
        "step": "minute",
    }
