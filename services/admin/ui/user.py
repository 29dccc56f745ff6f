"""One user: role, teams, keys, budget, spend and history; changing and deleting one."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from litestar import Request, Response, get, post

from services.admin.state import AdminState
from services.admin.ui.access import viewer_of
from services.admin.ui.addresses import id_in, page_of
from services.admin.ui.api_calls import ApiRefusal, call_api
from services.admin.ui.api_rows import Body, budgets_of
from services.admin.ui.confirming import Question, block_question, carry_out, confirm
from services.admin.ui.figures import changes_of, figures_of, makers_of
from services.admin.ui.form_context import settings_given, typed
from services.admin.ui.forms import read_fields, read_form
from services.admin.ui.keys import key_view
from services.admin.ui.pages import page, redirect
from services.admin.ui.settings_form import FieldProblem, changed
from services.admin.ui.teams import owner_view
from services.admin.ui.users import USER_KINDS, user_context

__all__ = ["USER_PAGE_ROUTES"]

_Request = Request[Any, Any, Any]


@get("/users/{part:str}")
async def user_page(request: _Request, admin: AdminState, part: str) -> Response[bytes]:
    """Show one user."""
    viewer, user_id = viewer_of(request), id_in(part)
    answer, _ = await _user_of(request, user_id)
    now = datetime.now(UTC)
    figures, (changes, problem) = await asyncio.gather(
        figures_of(
            admin,
            viewer,
            "user",
            user_id,
            chart_by="model",
            tops=[("Keys", "key"), ("Models", "model")],
        ),
        changes_of(admin, viewer, "user", user_id),
    )
    user = owner_view(answer["user_info"], now, "user")
    places = admin.snapshot.memberships(user_id)
    joined = dict.fromkeys([*places, *(team["team_id"] for team in answer["teams"])])
    return page(
        request,
        "user.html",
        owner=user,
        teams=[
            (team_id, page_of("team", team_id), places[team_id].role if team_id in places else "")
            for team_id in joined
        ],
        keys=[key_view(row, now) for row in answer["keys"]],
        budgets=budgets_of(user, now),
        makers=makers_of(admin.snapshot, user),
        is_own=user_id == viewer.caller.user_id,
        figures=figures,
        changes=changes,
        changes_problem=problem,
    )


async def _user_of(request: _Request, user_id: str) -> tuple[Body, str]:
    """Return a user as the API shows it to the viewer, and its ETag. Raises ApiRefusal."""
    answer = await call_api(request, "GET", "/user/info", query={"user_id": user_id})
    return answer.body, answer.headers.get("etag", "")


@get("/users/{part:str}/edit", opt={"needs": "may_manage"})
async def edit_form(request: _Request, admin: AdminState, part: str) -> Response[bytes]:
    """Show the form with what is set."""
    answer, etag = await _user_of(request, id_in(part))
    user = owner_view(answer["user_info"], datetime.now(UTC), "user")
    context = await user_context(request, admin, user)
    return page(request, "user_edit.html", before=user, etag=etag, **context)


@post("/users/{part:str}/edit", status_code=200, opt={"needs": "may_manage"})
async def edit(request: _Request, admin: AdminState, part: str) -> Response[Any]:
    """Change what differs, unless somebody changed the user since the form was shown."""
    fields = await read_fields(request)
    user_id, etag = id_in(part), "".join(fields.get("etag", ()))
    answer, _ = await _user_of(request, user_id)
    user = owner_view(answer["user_info"], datetime.now(UTC), "user")
    try:
        changes = changed(settings_given(fields, USER_KINDS), user)
        if changes:
            body = {**changes, "user_id": user_id}
            await call_api(request, "POST", "/user/update", body=body, if_match=etag)
    except (FieldProblem, ApiRefusal) as error:
        context = await user_context(request, admin, typed(fields), error)
        return page(request, "user_edit.html", status=400, before=user, etag=etag, **context)
    return redirect(request, page_of("user", user_id))


@get("/users/{part:str}/block", opt={"needs": "may_manage"})
async def ask_to_block(request: _Request, part: str) -> Response[bytes]:
    """Ask whether the user is to be blocked, or unblocked."""
    answer, _ = await _user_of(request, id_in(part))
    return confirm(request, _block_question(answer["user_info"]))


@post("/users/{part:str}/block", status_code=200, opt={"needs": "may_manage"})
async def block(request: _Request, part: str) -> Response[Any]:
    """Block or unblock the user."""
    form = await read_form(request)
    user_id = id_in(part)
    answer, _ = await _user_of(request, user_id)
    return await carry_out(
        request,
        _block_question(answer["user_info"]),
        "/user/update",
        {"user_id": user_id, "blocked": form.get("want") != "unblock"},
        then=page_of("user", user_id),
    )


@get("/users/{part:str}/delete", opt={"needs": "may_manage"})
async def delete_question(request: _Request, part: str) -> Response[bytes]:
    """Ask for the user's id before the user is deleted."""
    await _user_of(request, id_in(part))
    return confirm(request, _delete_question(id_in(part)))


@post("/users/{part:str}/delete", status_code=200, opt={"needs": "may_manage"})
async def delete(request: _Request, part: str) -> Response[Any]:
    """Delete the user whose id was typed, with the user's keys."""
    user_id = id_in(part)
    question = _delete_question(user_id)
    return await carry_out(
        request, question, "/user/delete", {"user_ids": [user_id]}, then="/ui/users"
    )


def _block_question(user: Body) -> Question:
    return block_question(
        user["user_alias"] or user["user_id"],
        page_of("user", user["user_id"]),
        is_blocked=user["blocked"],
        block_text="All keys of the user are refused until the user is unblocked.",
        unblock_text="The user's keys may be used again, but for those that are blocked "
        "themselves.",
    )


def _delete_question(user_id: str) -> Question:
    return Question(
        title=f"Delete the user {user_id}",
        text="This deletes all of the user's keys, too: their requests are refused. What they "
        "spent stays in "
        "all totals; the ID cannot be used again.",
        path=f"{page_of('user', user_id)}/delete",
        button="Delete user and keys",
        is_dangerous=True,
        typed=user_id,
    )


USER_PAGE_ROUTES = (
    user_page,
    edit_form,
    edit,
    ask_to_block,
    block,
    delete_question,
    delete,
)
