"""One virtual key: its standing, budgets, limits, spend, requests and history."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
from litestar import Request, Response, get

from services.admin.state import AdminState
from services.admin.ui.access import viewer_of
from services.admin.ui.addresses import page_of
from services.admin.ui.api_calls import call_api
from services.admin.ui.api_rows import Body, budgets_of
from services.admin.ui.figures import changes_of, figures_of, makers_of
from services.admin.ui.keys import key_view
from services.admin.ui.pages import page

__all__ = ["KEY_PAGE_ROUTES", "key_of", "rights_of"]

_Request = Request[Any, Any, Any]


@get("/keys/{key_id:str}")
async def key_page(request: _Request, admin: AdminState, key_id: str) -> Response[bytes]:
    """Show one key."""
    viewer = viewer_of(request)
    row, _ = await key_of(request, key_id)
    now = datetime.now(UTC)
    figures, (changes, changes_problem) = await asyncio.gather(
        figures_of(
            admin, viewer, "key", row["key_id"], chart_by="model", tops=[("Models", "model")]
        ),
        changes_of(admin, viewer, "key", row["key_id"]),
    )
    return page(
        request,
        "key.html",
        key=key_view(row, now),
        makers=makers_of(admin.snapshot, row),
        budgets=budgets_of(row, now),
        rights=await rights_of(request, admin, row),
        metadata=_pretty(row["metadata"]),
        user_path=page_of("user", row["user_id"] or ""),
        team_path=page_of("team", row["team_id"] or ""),
        figures=figures,
        changes=changes,
        changes_problem=changes_problem,
    )


async def key_of(request: _Request, key_id: str) -> tuple[Body, str]:
    """Return a key as the API shows it to the viewer, and its ETag. Raises ApiRefusal."""
    answer = await call_api(request, "GET", "/key/info", query={"key": key_id})
    return answer.body["info"], answer.headers.get("etag", "")


async def rights_of(request: _Request, admin: AdminState, row: Body) -> set[str]:
    """Return what the viewer may do to a key: `change`, `block`."""
    caller = viewer_of(request).caller
    record = (await admin.registry()).keys.get(row["key_id"])
    if record is None or record.deleted or not caller.manages_key(record):
        return set()
    may_block = caller.manages_all or record.team_id in caller.teams_administered
    return {"change", "block"} if may_block else {"change"}


def _pretty(metadata: dict[str, Any]) -> str:
    if not metadata:
        return ""
    return msgspec.json.format(msgspec.json.encode(metadata), indent=2).decode()


KEY_PAGE_ROUTES = (key_page,)
