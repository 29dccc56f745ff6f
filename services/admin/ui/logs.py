"""The page Logs: every request, newest first, live, and any part of them.

A row is in the books when its request is over, so a request that took long comes after one that
began later. Live rows are therefore told by their message of the stream, not by their time: each
comes exactly once, and paging down goes by what the page began with.
"""

import asyncio
from datetime import UTC, datetime
from typing import Any

from litestar import Request, Response, get
from litestar.response import Stream

from schemas.errors import ApiError, BadRequest
from services.admin.sql_answers import answer_table
from services.admin.state import AdminState
from services.admin.ui.access import viewer_of
from services.admin.ui.asking import PAGE_TIMEOUT_S, Row, ask, rows_from
from services.admin.ui.log_view import PERIODS, STATUSES, LogView, narrowed, order_of, read_view
from services.admin.ui.pages import HEADERS, page
from services.admin.ui.sheets import as_sheet
from services.admin.ui.viewer import Viewer

__all__ = ["LOG_COLUMNS", "LOG_ROUTES", "names_of_rows"]

ROWS_MAX = 49
"""So many rows at a time. One more is asked for, and of up to 50 rows in some order DuckDB reads
all other columns last, for these rows alone: with 51 a page takes twice the time."""
LIVE_ROWS_MAX = 1000
"""When so many rows have come live the page stops: a table that grows for days helps nobody."""
NAMES_MAX = 200
"""So many names are proposed for each filter."""
LOG_COLUMNS = (
    "request_id, started_at, key_id, key_alias, user_id, team_id, model_name, model, endpoint, "
    "billing, prompt_tokens, output_tokens, total_tokens, cost_usd, unpriced, estimated, "
    "duration_ms, ttfb_ms, status, http_status, error_type, reason, session_id, purpose, agent_id"
)
_CSV_COLUMNS = (
    f"{LOG_COLUMNS}, input_tokens, cache_read_tokens, cache_write_5m_tokens, "
    "cache_write_1h_tokens, ended_at, client_name, client_version"
)
_NO_CONTENT = 204
_Request = Request[Any, Any, Any]


@get("/logs")
async def logs(request: _Request, admin: AdminState) -> Response[bytes]:
    """Show the requests that the address asks for."""
    viewer, view = viewer_of(request), read_view(request.query_params)
    found, names = await asyncio.gather(_rows(admin, viewer, view), names_of_rows(admin, viewer))
    return page(
        request,
        "logs.html",
        status=400 if view.problem else 200,
        view=view,
        names=names,
        periods=[(name, text) for name, (text, _) in PERIODS.items()],
        statuses=[(name, text) for name, (text, _) in STATUSES.items()],
        **found,
    )


@get("/logs/more")
async def more_logs(request: _Request, admin: AdminState) -> Response[bytes]:
    """Return the rows below those that are shown."""
    view = _checked(request)
    return page(
        request, "logs_rows.html", view=view, **await _rows(admin, viewer_of(request), view)
    )


@get("/logs/new")
async def new_logs(request: _Request, admin: AdminState) -> Response[bytes]:
    """Return the rows that came after those that are shown; 204: none did."""
    view = _checked(request)
    found = await _rows(admin, viewer_of(request), view)
    rows = found["rows"]
    if not rows and not found["problem"]:
        return Response(content=b"", status_code=_NO_CONTENT, headers=HEADERS)
    shown = view.shown + len(rows)
    return page(
        request,
        "logs_new.html",
        view=view,
        shown=shown,
        is_enough=shown >= LIVE_ROWS_MAX or found["has_more"],
        **found,
    )


@get("/logs/sum")
async def sum_of_logs(request: _Request, admin: AdminState) -> Response[bytes]:
    """Return what all requests that match come to."""
    view = _checked(request)
    conditions = narrowed(viewer_of(request).conditions(), view, datetime.now(UTC))
    rows = await ask(
        admin,
        "SELECT count(*) AS requests, count(*) FILTER (status = 'success') AS successes, "
        "coalesce(sum(total_tokens), 0)::BIGINT AS tokens, coalesce(sum(cost_usd), 0) AS cost_usd, "
        f"count(*) FILTER (unpriced) AS unpriced FROM requests {conditions.where}",
        conditions.parameters,
    )
    return page(request, "logs_sum.html", sums=rows[0])


@get("/logs.csv")
async def logs_as_csv(request: _Request, admin: AdminState) -> Response[bytes] | Stream:
    """Return the requests that the address asks for as CSV, in the ledger's own order."""
    view = _checked(request)
    conditions = narrowed(viewer_of(request).conditions(), view, datetime.now(UTC))
    sql = f"SELECT {_CSV_COLUMNS} FROM requests {conditions.where}"
    answer = await answer_table(request, admin.ledger, sql, conditions.parameters, "csv")
    return as_sheet(answer, "tallygate-requests.csv")


LOG_ROUTES = (logs, more_logs, new_logs, sum_of_logs, logs_as_csv)


def _checked(request: _Request) -> LogView:
    """Return what a part's address asks for. Raises BadRequest with what is wrong with it."""
    view = read_view(request.query_params)
    if view.problem:
        raise BadRequest(view.problem)
    return view


async def _rows(admin: AdminState, viewer: Viewer, view: LogView) -> dict[str, Any]:
    """Return the rows of a view, whether there are more, and up to which message they are.

    Where the ledger cannot say, `problem` tells why.
    """
    found: dict[str, Any] = {"rows": [], "has_more": False, "sequence": 0, "problem": view.problem}
    if view.problem:
        return found
    conditions = narrowed(viewer.conditions(), view, datetime.now(UTC))
    try:
        reply = await admin.ledger.query(
            f"SELECT {LOG_COLUMNS} FROM requests {conditions.where} "
            f"ORDER BY {order_of(view)} LIMIT {ROWS_MAX + 1}",
            conditions.parameters,
            timeout_s=PAGE_TIMEOUT_S,
        )
    except ApiError as error:
        return found | {"problem": error.message}
    rows = rows_from(reply)
    return found | {
        "rows": rows[:ROWS_MAX],
        "has_more": len(rows) > ROWS_MAX,
        "sequence": reply.stream_sequence,
    }


async def names_of_rows(admin: AdminState, viewer: Viewer) -> Row:
    """Return names for the filters, as far as the viewer sees their rows; empty where unknown."""
    conditions = viewer.conditions()
    columns = {
        "keys": "coalesce(key_alias, key_id)",
        "users": "user_id",
        "teams": "team_id",
        "models": "coalesce(model_name, model)",
    }
    lists = ", ".join(
        f"list_sort(list(DISTINCT {name}) FILTER ({name} IS NOT NULL))[:{NAMES_MAX}] AS {column}"
        for column, name in columns.items()
    )
    try:
        rows = await ask(
            admin, f"SELECT {lists} FROM spend_parts {conditions.where}", conditions.parameters
        )
    except ApiError:
        return {name: [] for name in columns}  # the rows' own place says what is wrong
    return {name: names or [] for name, names in rows[0].items()}
