"""The page Sessions: what each session of Claude Code took, newest first.

Sessions are added up from their requests. A session that began before the period is whole as far
as LOOK_BACK reaches; its own page has all of it. Which sessions are shown is found first, with
little memory, by hashes of their ids; only these are then added up.

The newest are found among the requests of a short time (LATELY) where there are enough. Any other
order adds up all sessions of the period, which may take a second at millions of requests: the page
fetches these rows by itself once it is there, and so those of a month.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from litestar import Request, Response, get

from schemas.errors import ApiError, BadRequest
from schemas.events import time_from_us, us_from_time
from services.admin.state import AdminState
from services.admin.ui.access import viewer_of
from services.admin.ui.asking import Row, ask
from services.admin.ui.log_view import LogView, narrowed
from services.admin.ui.logs import names_of_rows
from services.admin.ui.pages import page
from services.admin.ui.session_view import (
    SESSION_PERIODS,
    SORTS,
    SessionView,
    read_session_view,
)
from services.admin.ui.viewer import Viewer

__all__ = ["SESSIONS_ROUTES"]

ROWS_MAX = 50
LOOK_BACK = timedelta(days=1)
"""So far before a period the requests of its sessions are looked for."""
LATELY = timedelta(hours=6)
"""The newest sessions are first looked for in so short a time before those that were shown."""
_Request = Request[Any, Any, Any]


@get("/sessions")
async def sessions(request: _Request, admin: AdminState) -> Response[bytes]:
    """Show the sessions that the address asks for."""
    viewer, view = viewer_of(request), read_session_view(request.query_params)
    found, names = await asyncio.gather(
        _nothing(view) if view.comes_later else _rows(admin, viewer, view),
        names_of_rows(admin, viewer),
    )
    return page(
        request,
        "sessions.html",
        status=400 if view.problem else 200,
        view=view,
        names=names,
        periods=[(name, text) for name, (text, _) in SESSION_PERIODS.items()],
        **found,
    )


@get("/sessions/more")
async def more_sessions(request: _Request, admin: AdminState) -> Response[bytes]:
    """Return the sessions below those that are shown."""
    view = read_session_view(request.query_params)
    if view.problem:
        raise BadRequest(view.problem)
    found = await _rows(admin, viewer_of(request), view)
    return page(request, "sessions_rows.html", view=view, **found)


SESSIONS_ROUTES = (sessions, more_sessions)


async def _nothing(view: SessionView) -> dict[str, Any]:
    """Return what a page shows whose rows are still to come."""
    return {"rows": [], "has_more": False, "problem": view.problem}


async def _rows(admin: AdminState, viewer: Viewer, view: SessionView) -> dict[str, Any]:
    """Return a view's sessions, and whether there are more. `problem`: the ledger cannot say."""
    found = await _nothing(view)
    if view.problem:
        return found
    now = datetime.now(UTC)
    try:
        rows: list[Row] = []
        if view.is_newest_first:
            now_us = us_from_time(now)
            shown_to_us = now_us if view.shown_to_us is None else view.shown_to_us
            since = time_from_us(min(shown_to_us, now_us)) - LATELY
            rows = await _ranked(admin, viewer, view, now, since)
        if len(rows) <= ROWS_MAX:
            rows = await _ranked(admin, viewer, view, now)
    except ApiError as error:
        return found | {"problem": error.message}
    return found | {"rows": rows[:ROWS_MAX], "has_more": len(rows) > ROWS_MAX}


async def _ranked(
    admin: AdminState,
    viewer: Viewer,
    view: SessionView,
    now: datetime,
    since: datetime | None = None,
) -> list[Row]:
    """Return the first sessions in a view's order, one more than are shown.

    With `since` they are those alone that had an answer after it: where these are enough, they are
    the newest of all, for a session's last answer is among them.
    """
    conditions = viewer.conditions()
    first = now - SESSION_PERIODS[view.period][1]
    conditions.add("started_at >= make_timestamp({0}::BIGINT)", us_from_time(first - LOOK_BACK))
    conditions.add("session_id IS NOT NULL AND status <> 'refused'")
    conditions = narrowed(conditions, LogView(filters=view.filters), first)
    lately = conditions.copy()
    if since is not None:
        lately.add("ended_at >= make_timestamp({0}::BIGINT)", us_from_time(since))
    parameters = lately.parameters
    having = f"max(ended_at) >= make_timestamp(${len(parameters) + 1}::BIGINT)"
    parameters.append(us_from_time(first))
    order, cast = SORTS[view.sort]
    if view.mark is not None:
        than = "<" if view.order == "desc" else ">"
        marks = [cast.format(f"${len(parameters) + 1}"), f"${len(parameters) + 2}::UBIGINT"]
        having += f" AND ({order} {than} {marks[0]} OR "
        having += f"({order} = {marks[0]} AND place {than} {marks[1]}))"
        parameters += view.mark
    way = view.order.upper()
    sql = f"""
WITH wanted AS (
    SELECT hash(session_id) AS place FROM requests {lately.where}
    GROUP BY place HAVING {having} ORDER BY {order} {way}, place {way} LIMIT {ROWS_MAX + 1}
)
SELECT session_id, any_value(hash(session_id)) AS place,
       arg_max(key_alias, started_at) AS key_alias,
       arg_max(key_id, started_at) AS key_id, arg_max(user_id, started_at) AS user_id,
       arg_max(team_id, started_at) AS team_id, min(started_at) AS started_at,
       max(ended_at) AS ended_at,
       date_diff('millisecond', min(started_at), max(ended_at)) AS duration_ms,
       count(*) AS requests, count(DISTINCT agent_id) AS agents,
       count(*) FILTER (status <> 'success') AS failed,
       sum(prompt_tokens)::BIGINT AS prompt_tokens, sum(output_tokens)::BIGINT AS output_tokens,
       sum(total_tokens)::BIGINT AS total_tokens,
       sum(cache_read_tokens)::BIGINT AS cache_read_tokens,
       coalesce(sum(cost_usd), 0) AS cost_usd, count(*) FILTER (unpriced) AS unpriced,
       arg_max(client_name, started_at) AS client_name,
       arg_max(client_version, started_at) AS client_version
FROM requests SEMI JOIN wanted ON hash(session_id) = wanted.place {conditions.where}
GROUP BY session_id ORDER BY {order} {way}, place {way}
"""
    return await ask(admin, sql, parameters)
