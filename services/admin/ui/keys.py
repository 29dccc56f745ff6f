"""The page of virtual keys: those that the viewer may see, filtered, sorted, page by page."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from litestar import Request, Response, get

from services.admin.state import AdminState
from services.admin.ui.api_calls import ApiRefusal, call_api
from services.admin.ui.api_rows import (
    Body,
    budget_bar,
    moment_of,
    period_text,
    rates_of,
    standing_of,
)
from services.admin.ui.form_context import team_ids
from services.admin.ui.pages import is_part, page
from services.admin.ui.paging import PAGE_SIZE, next_page

__all__ = ["KEYS_ROUTES", "Order", "key_view"]

_FILTERS = {"search": "search", "team": "team_id", "user": "user_id", "status": "status"}
"""The filters of the page by the API's names of them."""
_STATUSES = (
    ("", "All but deleted"),
    ("active", "active"),
    ("revoked", "blocked"),
    ("expired", "expired"),
    ("deleted", "deleted"),
)
_Request = Request[Any, Any, Any]


class Order:
    """How a list is sorted, and the addresses of the same list in another order."""

    def __init__(self, path: str, query: dict[str, str], by: str, order: str) -> None:
        self._path, self._query = path, query
        self.by, self.order = by, order

    def url(self, by: str) -> str:
        """Return the address of the list by a column: the other way round where it is that."""
        order = "asc" if by == self.by and self.order == "desc" else "desc"
        kept = {name: value for name, value in self._query.items() if value and name != "page"}
        return f"{self._path}?{urlencode({**kept, 'sort': by, 'order': order})}"


@get("/keys")
async def keys(request: _Request, admin: AdminState) -> Response[bytes]:
    """Show the keys; for htmx the next rows alone."""
    query = {name: value.strip() for name, value in request.query_params.items()}
    order = Order(
        "/ui/keys", query, query.get("sort") or "created_at", query.get("order") or "desc"
    )
    asked = {api: query.get(name, "") for name, api in _FILTERS.items()}
    problem, status, found = None, 200, None
    try:
        answer = await call_api(
            request,
            "GET",
            "/key/list",
            query={
                **asked,
                "page": query.get("page") or "1",
                "size": PAGE_SIZE,
                "sort_by": order.by,
                "sort_order": order.order,
                "return_full_object": "true",
            },
        )
        found = answer.body
    except ApiRefusal as refusal:
        problem, status = refusal.message, refusal.status
    now = datetime.now(UTC)
    rows = [key_view(row, now) for row in found["keys"]] if found is not None else []
    following = None
    if found is not None and found["current_page"] < found["total_pages"]:
        following = next_page("/ui/keys", found["current_page"], query)
    shown: dict[str, Any] = {
        "rows": rows,
        "following": following,
        "total": 0 if found is None else found["total_count"],
        "spend_error": next((row["spend_error"] for row in rows if row["spend_error"]), None),
    }
    if is_part(request) and problem is None:
        return page(request, "keys_rows.html", **shown)
    return page(
        request,
        "keys.html",
        status=status,
        problem=problem,
        sort=order,
        filters={name: query.get(name, "") for name in _FILTERS},
        is_filtered=any(asked.values()),
        statuses=_STATUSES,
        teams=[("", "All"), *((team, team) for team in await team_ids(request, admin))],
        **shown,
    )


def key_view(row: Body, now: datetime) -> dict[str, Any]:
    """Return one key of an answer as pages show it."""
    word, kind = standing_of(row, now)
    return {
        **row,
        "name": row["key_alias"] or row["key_name"],
        "standing": word,
        "standing_kind": kind,
        "budget": budget_bar(row, now),
        "period": period_text(row["budget_duration"]),
        "rates": rates_of(row),
        "last_active": moment_of(row["last_active"]),
        "expires": moment_of(row["expires"]),
        "created_at": moment_of(row["created_at"]),
        "updated_at": moment_of(row["updated_at"]),
        "former_key_until": moment_of(row["former_key_until"]),
    }


KEYS_ROUTES = (keys,)
