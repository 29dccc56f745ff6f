"""The page of teams, and making one."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from litestar import Request, Response, get, post

from services.admin.directory import live_keys
from services.admin.principal import Principal
from services.admin.state import AdminState
from services.admin.ui.access import viewer_of
from services.admin.ui.addresses import page_of
from services.admin.ui.api_calls import ApiRefusal, call_api
from services.admin.ui.api_rows import Body, budget_bar, moment_of, period_text, rates_of
from services.admin.ui.api_rows import standing_of as standing
from services.admin.ui.form_context import LIMIT_KINDS, settings_context, settings_given, typed
from services.admin.ui.forms import read_fields
from services.admin.ui.pages import is_part, page, redirect
from services.admin.ui.paging import PAGE_SIZE, next_page, page_number
from services.admin.ui.settings_form import FieldProblem, Kind, given, periods_with

__all__ = ["TEAMS_ROUTES", "TEAM_KINDS", "owner_view", "team_context"]

TEAM_KINDS: dict[str, Kind] = {
    **LIMIT_KINDS,
    "team_id": "text",
    "team_alias": "text",
    "team_member_budget": "usd",
    "team_member_budget_duration": "text",
}
"""The fields of the form, by the API's names."""
_Request = Request[Any, Any, Any]


@get("/teams")
async def teams(request: _Request, admin: AdminState) -> Response[bytes]:
    """Show the teams that the viewer may see; for htmx the next rows alone."""
    search = request.query_params.get("search", "").strip()
    number = page_number(request)
    problem, rows = "", []
    try:
        rows = (await call_api(request, "GET", "/team/list")).body
    except ApiRefusal as refusal:
        # A key without a role belongs to no team that it could see.
        problem = "" if viewer_of(request).caller.key is not None else refusal.message
    wanted = search.lower()
    found = [
        row for row in rows if wanted in f"{row['team_id']}\n{row['team_alias'] or ''}".lower()
    ]
    first = (number - 1) * PAGE_SIZE
    now = datetime.now(UTC)
    views = [owner_view(row, now, "team") for row in found[first : first + PAGE_SIZE]]
    await _count_keys(admin, viewer_of(request).caller, views)
    following = None
    if len(found) > first + PAGE_SIZE:
        following = next_page("/ui/teams", number, {"search": search})
    shown: dict[str, Any] = {"rows": views, "following": following, "total": len(found)}
    if is_part(request):
        return page(request, "teams_rows.html", **shown)
    return page(request, "teams.html", problem=problem, search=search, **shown)


@get("/teams/new", opt={"needs": "may_manage"})
async def new_team_form(request: _Request, admin: AdminState) -> Response[bytes]:
    """Show the form, in a dialog."""
    return page(request, "team_new.html", **await team_context(request, admin, {}))


@post("/teams", status_code=200, opt={"needs": "may_manage"})
async def create_team(request: _Request, admin: AdminState) -> Response[Any]:
    """Make the team and show it, or the form with what is wrong."""
    fields = await read_fields(request)
    try:
        body = given(settings_given(fields, TEAM_KINDS))
        answer = await call_api(request, "POST", "/team/new", body=body)
    except (FieldProblem, ApiRefusal) as error:
        context = await team_context(request, admin, typed(fields), error)
        return page(request, "team_new.html", status=400, **context)
    return redirect(request, owner_view(answer.body, datetime.now(UTC), "team")["path"])


async def team_context(
    request: _Request,
    admin: AdminState,
    values: Mapping[str, Any],
    error: FieldProblem | ApiRefusal | None = None,
) -> dict[str, Any]:
    """Return what the form of a team needs."""
    context = await settings_context(request, admin, values, TEAM_KINDS, error)
    of_members = values.get("team_member_budget_duration") or None
    return {**context, "member_periods": periods_with(of_members)}


def owner_view(row: Body, now: datetime, kind: str) -> dict[str, Any]:
    """Return a team (or user) of an answer as pages show it."""
    owner_id = row[f"{kind}_id"]
    word, badge_kind = standing(row, now)
    return {
        **row,
        "id": owner_id,
        "path": page_of(kind, owner_id),
        "name": row[f"{kind}_alias"] or owner_id,
        "standing": word,
        "standing_kind": badge_kind,
        "budget": budget_bar(row, now),
        "period": period_text(row["budget_duration"]),
        "rates": rates_of(row),
        "created_at": moment_of(row["created_at"]),
        "updated_at": moment_of(row["updated_at"]),
    }


async def _count_keys(admin: AdminState, caller: Principal, views: list[dict[str, Any]]) -> None:
    """Add to each team how many keys of it the caller sees."""
    counts = {view["id"]: 0 for view in views}
    for key in live_keys(await admin.registry()):
        if key.team_id in counts and caller.sees_key(key):
            counts[key.team_id] += 1
    for view in views:
        view["keys_count"] = counts[view["id"]]


TEAMS_ROUTES = (teams, new_team_form, create_team)
