"""The page of one request: what it was, what it cost and why, and its events in order."""

import asyncio
import contextlib
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from litestar import Request, Response, get

from schemas.errors import NotFound
from schemas.events import us_from_time
from services.admin.sql_where import Conditions
from services.admin.state import AdminState
from services.admin.ui.access import viewer_of
from services.admin.ui.answer_text import said_in
from services.admin.ui.api_calls import ApiRefusal, call_api
from services.admin.ui.asking import Row, ask
from services.admin.ui.cost_lines import cost_lines
from services.admin.ui.pages import page
from services.admin.ui.request_events import events_of
from services.admin.ui.viewer import Viewer

__all__ = ["REQUEST_ROUTES"]

RELATED_MAX = 50
"""So many findings, attempts and repricings are shown."""
PROMPT_CHARS_MAX = 40_000
"""Of a stored body so much is shown; GET /prompt/info has all of it."""
_ID = re.compile(r"tg_([0-9a-f]{14})[0-9a-f]{18}")
_AROUND = timedelta(days=1)
_Request = Request[Any, Any, Any]


@get("/logs/{request_id:str}")
async def request_page(request: _Request, admin: AdminState, request_id: str) -> Response[bytes]:
    """Show one request. Raises NotFound, also for one that the viewer may not see."""
    viewer = viewer_of(request)
    row = await _request_row(admin, viewer, request_id)
    if row is None:
        return await _not_over_yet(request, admin, viewer, request_id)
    prices, attempts, findings, corrections, repricings = await asyncio.gather(
        _prices(admin, row),
        _attempts(admin, viewer, row),
        _of_request(admin, viewer, "guardrail_events", "found_at", row),
        _of_request(admin, None, "corrections", "corrected_sequence", row),
        _repricings(admin, row),
    )
    price = prices[0] if prices else None
    lines = cost_lines(row, price)
    return page(
        request,
        "request.html",
        row=row,
        price=price,
        lines=lines,
        is_sum=sum(line.cost_usd for line in lines) == (row["cost_usd"] or 0),
        findings=findings,
        events=events_of(row, attempts, findings, corrections, repricings),
        may_read_prompt=viewer.may_manage and row["status"] != "refused",
    )


@get("/logs/{request_id:str}/prompt")
async def prompt_part(request: _Request, request_id: str) -> Response[bytes]:
    """Return what a request asked and was answered, where that is stored and may be read."""
    try:
        answer = await call_api(request, "GET", "/prompt/info", query={"request_id": request_id})
    except ApiRefusal as refusal:
        return page(request, "request_prompt.html", problem=refusal.message, bodies=[])
    stored = answer.body
    bodies = [
        ("Asked", _shown(stored["request"]), stored["is_request_cut"]),
        ("Answered", _shown(said_in(stored["response"])), stored["is_response_cut"]),
    ]
    return page(request, "request_prompt.html", problem="", bodies=bodies)


REQUEST_ROUTES = (request_page, prompt_part)


def _shown(text: str) -> tuple[str, int]:
    """Return the beginning of a text, JSON with indents, and how many characters were left out."""
    with contextlib.suppress(msgspec.DecodeError):  # what is no JSON is shown as it is
        text = msgspec.json.format(text.encode(), indent=2).decode()
    return text[:PROMPT_CHARS_MAX], max(0, len(text) - PROMPT_CHARS_MAX)


async def _request_row(admin: AdminState, viewer: Viewer, request_id: str) -> Row | None:
    """Return a request's row. Its id tells when it began, so not all rows need be looked at."""
    if began := _ID.fullmatch(request_id):
        began_at = datetime.fromtimestamp(int(began[1], 16) / 1_000_000, UTC)
        if found := await _row_where(admin, viewer, request_id, began_at):
            return found
    return await _row_where(admin, viewer, request_id, None)


async def _row_where(
    admin: AdminState, viewer: Viewer, request_id: str, around: datetime | None
) -> Row | None:
    conditions = viewer.conditions()
    if around is not None:
        conditions.add(_BETWEEN, *_bounds(around))
    conditions.add("request_id = {0}::VARCHAR", request_id)
    rows = await ask(
        admin, f"SELECT * FROM requests {conditions.where} LIMIT 1", conditions.parameters
    )
    return rows[0] if rows else None


_BETWEEN = "started_at BETWEEN make_timestamp({0}::BIGINT) AND make_timestamp({1}::BIGINT)"


def _bounds(moment: datetime) -> tuple[int, int]:
    return us_from_time(moment - _AROUND), us_from_time(moment + _AROUND)


async def _not_over_yet(
    request: _Request, admin: AdminState, viewer: Viewer, request_id: str
) -> Response[bytes]:
    """Show a request that is under way, to those who see all. Raises NotFound."""
    if viewer.sees_all:
        rows = await ask(
            admin,
            "SELECT started_at, model_name, key_id FROM open_requests "
            "WHERE request_id = $1::VARCHAR LIMIT 1",
            [request_id],
        )
        if rows:
            return page(request, "request_open.html", request_id=request_id, row=rows[0])
    raise NotFound(
        "There is no request of this id that you may see. One that is still under way is here as "
        "soon as it is over."
    )


async def _prices(admin: AdminState, row: Row) -> list[Row]:
    """Return what the price book says now of the request's model, day and length of prompt."""
    return await ask(
        admin,
        "SELECT * FROM prices "
        "WHERE (list_contains(names, $1::VARCHAR) OR list_contains(names, $2::VARCHAR)) "
        "AND coalesce(valid_from <= $3::DATE, true) AND coalesce(valid_to > $3::DATE, true) "
        "AND (above_prompt_tokens = 0 OR above_prompt_tokens < $4::BIGINT) "
        "AND coalesce(up_to_prompt_tokens >= $4::BIGINT, true) "
        "ORDER BY list_contains(names, $1::VARCHAR) DESC NULLS LAST LIMIT 1",
        [row["response_model"], row["model"], row["started_at"].date().isoformat(),
         row["prompt_tokens"]],
    )  # fmt: skip


async def _attempts(admin: AdminState, viewer: Viewer, row: Row) -> list[Row]:
    """Return the other attempts at the same request."""
    conditions = viewer.conditions()
    first = row["attempt_of"] or row["request_id"]
    conditions.add(_BETWEEN, *_bounds(row["started_at"]))
    conditions.add("(request_id = {0}::VARCHAR OR attempt_of = {0}::VARCHAR)", first)
    conditions.add("request_id <> {0}::VARCHAR", row["request_id"])
    return await ask(
        admin,
        "SELECT request_id, attempt_of, started_at, deployment, status, http_status, "
        f"stream_sequence FROM requests {conditions.where} "
        f"ORDER BY started_at LIMIT {RELATED_MAX}",
        conditions.parameters,
    )


async def _of_request(
    admin: AdminState, viewer: Viewer | None, table: str, order: str, row: Row
) -> list[Row]:
    """Return the rows of another table that are about a request.

    `viewer` is None for a table that does not tell whose they are: the request's row was seen.
    """
    conditions = Conditions() if viewer is None else viewer.conditions()
    conditions.add("request_id = {0}::VARCHAR", row["request_id"])
    sql = f"SELECT * FROM {table} {conditions.where} ORDER BY {order} LIMIT {RELATED_MAX}"
    return await ask(admin, sql, conditions.parameters)


async def _repricings(admin: AdminState, row: Row) -> list[Row]:
    """Return the repricings that meant a request."""
    names = [name for name in (row["response_model"], row["model"], row["model_name"]) if name]
    return await ask(
        admin,
        "SELECT stream_sequence, repriced_at, repriced_by, reason, applied FROM repricings "
        "WHERE stream_sequence = $4::BIGINT OR (stream_sequence > $1::BIGINT "
        "AND requests_from <= make_timestamp($2::BIGINT) "
        "AND coalesce(requests_to > make_timestamp($2::BIGINT), true) "
        "AND (len(models) = 0 OR list_has_any(models, $3::VARCHAR[]))) "
        f"ORDER BY stream_sequence LIMIT {RELATED_MAX}",
        [row["stream_sequence"], us_from_time(row["started_at"]), names, row["priced_sequence"]],
    )
