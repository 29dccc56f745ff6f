"""The members of a team: adding, changing and removing them, by the API's routes."""

from typing import Any

from litestar import Request, Response, get, post

from schemas.errors import Forbidden, NotFound
from services.admin.state import AdminState
from services.admin.ui.access import viewer_of
from services.admin.ui.addresses import id_in, page_of
from services.admin.ui.api_calls import ApiRefusal, call_api
from services.admin.ui.api_rows import Body
from services.admin.ui.confirming import Question, carry_out, confirm
from services.admin.ui.form_context import Blank, typed
from services.admin.ui.forms import Fields, read_fields, read_form
from services.admin.ui.pages import page, redirect
from services.admin.ui.settings_form import (
    FieldProblem,
    Kind,
    changed,
    given,
    periods_with,
    settings_from,
)
from services.admin.ui.team import team_of

__all__ = ["MEMBER_PAGE_ROUTES"]

USERS_MAX = 200
"""So many users are offered while one is typed; any other can be typed, too."""
ROLES = (("user", "member"), ("admin", "admin of the team"))
_KINDS: dict[str, Kind] = {
    "role": "text",
    "max_budget_in_team": "usd",
    "budget_duration": "text",
}
_Request = Request[Any, Any, Any]


@get("/teams/{part:str}/members/new")
async def add_form(request: _Request, admin: AdminState, part: str) -> Response[bytes]:
    """Show the form, in a dialog."""
    team_id = id_in(part)
    await _managed(request, team_id)
    return await _form(request, admin, team_id, {"role": "user"})


@post("/teams/{part:str}/members", status_code=200)
async def add(request: _Request, admin: AdminState, part: str) -> Response[Any]:
    """Add those who were typed, by their ids."""
    fields = await read_fields(request)
    team_id = id_in(part)
    try:
        names = _names(fields)
        settings = given(settings_from(fields, _KINDS))
        role = settings.pop("role", "user")
        members = [{"user_id": name, "role": role} for name in names]
        body = {"team_id": team_id, "member": members, **settings}
        await call_api(request, "POST", "/team/member_add", body=body)
    except (FieldProblem, ApiRefusal) as error:
        return await _form(request, admin, team_id, typed(fields), error)
    return redirect(request, page_of("team", team_id))


@get("/teams/{part:str}/members/edit")
async def edit_form(request: _Request, admin: AdminState, part: str) -> Response[bytes]:
    """Show what a member is and may spend."""
    team_id, user_id = id_in(part), request.query_params.get("user_id", "")
    member = await _member_of(request, team_id, user_id)
    return await _form(request, admin, team_id, member, before=user_id)


@post("/teams/{part:str}/members/edit", status_code=200)
async def edit(request: _Request, admin: AdminState, part: str) -> Response[Any]:
    """Change a member's role and budget in the team."""
    fields = await read_fields(request)
    team_id, user_id = id_in(part), "".join(fields.get("user_id", ()))
    member = await _member_of(request, team_id, user_id)
    try:
        changes = changed(settings_from(fields, _KINDS), member)
        if changes:
            body = {"team_id": team_id, "user_id": user_id, **changes}
            await call_api(request, "POST", "/team/member_update", body=body)
    except (FieldProblem, ApiRefusal) as error:
        return await _form(request, admin, team_id, typed(fields), error, before=user_id)
    return redirect(request, page_of("team", team_id))


@get("/teams/{part:str}/members/remove")
async def remove_question(request: _Request, part: str) -> Response[bytes]:
    """Ask whether a member is to be removed, with the member's keys in the team."""
    team_id, user_id = id_in(part), request.query_params.get("user_id", "")
    await _member_of(request, team_id, user_id)
    return confirm(request, _remove_question(team_id, user_id))


@post("/teams/{part:str}/members/remove", status_code=200)
async def remove(request: _Request, part: str) -> Response[Any]:
    """Remove a member."""
    form = await read_form(request)
    team_id, user_id = id_in(part), form.get("user_id", "")
    return await carry_out(
        request,
        _remove_question(team_id, user_id),
        "/team/member_delete",
        {"team_id": team_id, "user_id": user_id},
        then=page_of("team", team_id),
    )


def _names(fields: Fields) -> list[str]:
    names: list[str] = settings_from(fields, {"user_id": "words"})["user_id"]
    if not names:
        raise FieldProblem("user_id", "Name at least one user.")
    return names


async def _managed(request: _Request, team_id: str) -> Body:
    """Return a team, for those who manage it. Raises ApiRefusal, Forbidden."""
    answer, _ = await team_of(request, team_id)
    if not viewer_of(request).caller.manages_team(team_id):
        raise Forbidden("Members are changed by an admin, or by the team's own.")
    team: Body = answer["team_info"]
    return team


async def _member_of(request: _Request, team_id: str, user_id: str) -> Body:
    """Return a member's role and own budget in the team, for those who manage it.

    Raises ApiRefusal, Forbidden, NotFound.
    """
    for member in (await _managed(request, team_id))["members_with_roles"]:
        if member["user_id"] == user_id:
            budget = _own_budget(request, team_id, user_id)
            return {"role": member["role"], "user_id": user_id, **budget}
    raise NotFound(f"{user_id} is no member of this team.")


def _own_budget(request: _Request, team_id: str, user_id: str) -> dict[str, Any]:
    """Return the member's own budget; the API tells of one that all members have, too."""
    admin: AdminState = request.app.state.admin
    team = admin.snapshot.teams[team_id]
    place = next(each for each in team.members_with_roles if each.user_id == user_id)
    return {"max_budget_in_team": place.max_budget_usd, "budget_duration": place.budget_duration}


async def _form(
    request: _Request,
    admin: AdminState,
    team_id: str,
    values: Body,
    error: FieldProblem | ApiRefusal | None = None,
    *,
    before: str = "",
) -> Response[bytes]:
    """Return the form of a new member, or of the member `before`."""
    answer, _ = await team_of(request, team_id)
    team = answer["team_info"]
    members = {each["user_id"] for each in team["members_with_roles"]}
    users: list[str] = []
    if viewer_of(request).sees_all and not before:
        snapshot = await admin.registry()
        live = (user.user_id for user in snapshot.users.values() if not user.deleted)
        users = sorted(each for each in live if each not in members)[:USERS_MAX]
    problems: dict[str, str] = {}
    if error is not None:
        field = "user_id" if error.field in ("member", None) else error.field
        problems[field if field in (*_KINDS, "user_id") else "user_id"] = str(error)
    return page(
        request,
        "member_form.html",
        status=200 if error is None else 400,
        path=page_of("team", team_id),
        name=team["team_alias"] or team_id,
        users=users,
        values=Blank(values),
        problems=Blank(problems),
        roles=ROLES,
        periods=periods_with(values.get("budget_duration") or None),
        member=before,
        of_all=team["team_member_budget"],
    )


def _remove_question(team_id: str, user_id: str) -> Question:
    return Question(
        title=f"Remove {user_id}",
        text=f"{user_id} leaves the team {team_id}, and the keys that {user_id} has in it are "
        "deleted: their requests are refused from now on.",
        path=f"{page_of('team', team_id)}/members/remove",
        button="Remove member",
        is_dangerous=True,
        fields={"user_id": user_id},
    )


MEMBER_PAGE_ROUTES = (add_form, add, edit_form, edit, remove_question, remove)
