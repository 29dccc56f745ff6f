"""The members of a team: adding, changing and removing them, by the API's routes."""

from typing import Any

from litestar import Request, Response, get, post

from services.admin.state import AdminState
from services.admin.ui.access import viewer_of
from services.admin.ui.addresses import id_in, page_of
from services.admin.ui.api_calls import ApiRefusal, call_api
from services.admin.ui.confirming import Question, confirm
from services.admin.ui.forms import read_form
from services.admin.ui.pages import page, redirect
from services.admin.ui.team import team_of

__all__ = ["MEMBER_PAGE_ROUTES"]

USERS_MAX = 200
"""So many users are offered while one is typed; any other can be typed, too."""
ROLES = (("user", "member"), ("admin", "admin of the team"))
_Request = Request[Any, Any, Any]


@get("/teams/{part:str}/members/new")
async def add_form(request: _Request, admin: AdminState, part: str) -> Response[bytes]:
    """Show the form, in a dialog."""
    return await _form(request, admin, id_in(part), {})


@post("/teams/{part:str}/members", status_code=200)
async def add(request: _Request, admin: AdminState, part: str) -> Response[Any]:
    """Add those who were typed, by ids or mail addresses."""
    form = await read_form(request)
    team_id = id_in(part)
    names = [name for each in form.get("user_id", "").split(",") if (name := each.strip())]
    members = [{"user_id": name, "role": form.get("role", "user")} for name in names]
    if not members:
        return await _form(request, admin, team_id, form, "Name at least one user.")
    try:
        body = {"team_id": team_id, "member": members}
        await call_api(request, "POST", "/team/member_add", body=body)
    except ApiRefusal as error:
        return await _form(request, admin, team_id, form, error.message)
    return redirect(request, page_of("team", team_id))


@post("/teams/{part:str}/members/role", status_code=200)
async def change_role(request: _Request, part: str) -> Response[Any]:
    """Make a member the team's admin, or an admin a member. Raises ApiRefusal."""
    form = await read_form(request)
    team_id = id_in(part)
    body = {"team_id": team_id, "user_id": form.get("user_id", ""), "role": form.get("role", "")}
    await call_api(request, "POST", "/team/member_update", body=body)
    return redirect(request, page_of("team", team_id))


@get("/teams/{part:str}/members/remove")
async def remove_question(request: _Request, part: str) -> Response[bytes]:
    """Ask whether a member is to be removed, with the member's keys in the team."""
    user_id = request.query_params.get("user_id", "")
    return confirm(request, _remove_question(id_in(part), user_id))


@post("/teams/{part:str}/members/remove", status_code=200)
async def remove(request: _Request, part: str) -> Response[Any]:
    """Remove a member."""
    form = await read_form(request)
    team_id, user_id = id_in(part), form.get("user_id", "")
    try:
        body = {"team_id": team_id, "user_id": user_id}
        await call_api(request, "POST", "/team/member_delete", body=body)
    except ApiRefusal as error:
        return confirm(request, _remove_question(team_id, user_id), error.message)
    return redirect(request, page_of("team", team_id))


async def _form(
    request: _Request, admin: AdminState, team_id: str, values: dict[str, str], problem: str = ""
) -> Response[bytes]:
    answer, _ = await team_of(request, team_id)
    members = {each["user_id"] for each in answer["team_info"]["members_with_roles"]}
    users: list[str] = []
    if viewer_of(request).sees_all:
        snapshot = await admin.registry()
        users = sorted(
            user.user_id
            for user in snapshot.users.values()
            if not user.deleted and user.user_id not in members
        )[:USERS_MAX]
    return page(
        request,
        "member_new.html",
        status=400 if problem else 200,
        path=page_of("team", team_id),
        name=answer["team_info"]["team_alias"] or team_id,
        users=users,
        user_id=values.get("user_id", ""),
        role=values.get("role", "user"),
        roles=ROLES,
        problem=problem,
    )


def _remove_question(team_id: str, user_id: str) -> Question:
    return Question(
        title=f"Remove {user_id}",
        text=f"{user_id} leaves the team {team_id}, and the keys that {user_id} has in it are "
        "deleted: they are refused for ever.",
        path=f"{page_of('team', team_id)}/members/remove",
        button="Remove member",
        is_dangerous=True,
        fields={"user_id": user_id},
    )


MEMBER_PAGE_ROUTES = (add_form, add, change_role, remove_question, remove)
