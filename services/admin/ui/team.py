"""One team: its members, budget, spend by member and day, keys and history."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from litestar import Request, Response, get, post

from schemas.errors import ApiError
from services.admin.state import AdminState
from services.admin.ui.access import viewer_of
from services.admin.ui.addresses import id_in, page_of
from services.admin.ui.api_calls import ApiRefusal, call_api
from services.admin.ui.api_rows import (
    Body,
    BudgetBar,
    amount,
    budgets_of,
    moment_of,
    period_text,
)
from services.admin.ui.asking import ask
from services.admin.ui.confirming import Question, block_question, carry_out, confirm
from services.admin.ui.figures import DAYS, changes_of, figures_of, makers_of
from services.admin.ui.form_context import settings_given, typed
from services.admin.ui.formats import share
from services.admin.ui.forms import read_fields, read_form
from services.admin.ui.keys import key_view
from services.admin.ui.pages import page, redirect
from services.admin.ui.settings_form import FieldProblem, changed
from services.admin.ui.teams import TEAM_KINDS, owner_view, team_context
from services.admin.ui.viewer import Viewer

__all__ = ["TEAM_PAGE_ROUTES", "team_of"]

_Request = Request[Any, Any, Any]


@get("/teams/{part:str}")
async def team_page(request: _Request, admin: AdminState, part: str) -> Response[bytes]:
    """Show one team."""
    viewer, team_id = viewer_of(request), id_in(part)
    answer, _ = await team_of(request, team_id)
    now = datetime.now(UTC)
    figures, spends, (changes, problem) = await asyncio.gather(
        figures_of(
            admin,
            viewer,
            "team",
            team_id,
            chart_by="user",
            tops=[("Models", "model"), ("Keys", "key")],
        ),
        _spend_of_members(admin, viewer, team_id),
        changes_of(admin, viewer, "team", team_id),
    )
    team = owner_view(answer["team_info"], now, "team")
    return page(
        request,
        "team.html",
        owner=team,
        members=_members(admin, team, answer, spends),
        keys=[key_view(row, now) for row in answer["keys"]],
        budgets=budgets_of(team, now),
        makers=makers_of(admin.snapshot, team),
        manages=viewer.caller.manages_team(team_id),
        figures=figures,
        changes=changes,
        changes_problem=problem,
    )


async def team_of(request: _Request, team_id: str) -> tuple[Body, str]:
    """Return a team as the API shows it to the viewer, and its ETag. Raises ApiRefusal."""
    answer = await call_api(request, "GET", "/team/info", query={"team_id": team_id})
    return answer.body, answer.headers.get("etag", "")


async def _spend_of_members(
    admin: AdminState, viewer: Viewer, team_id: str
) -> dict[str, Decimal] | None:
    """Return what each user spent with the team's keys in DAYS; None: not known."""
    conditions = viewer.conditions()
    conditions.add("team_id = {0}::VARCHAR", team_id)
    first = datetime.now(UTC).date() - timedelta(days=DAYS - 1)
    conditions.add("day >= {0}::DATE", first.isoformat())
    try:
        rows = await ask(
            admin,
            "SELECT user_id, sum(cost_usd) AS cost_usd "
            f"FROM spend_parts {conditions.where} GROUP BY ALL",
            conditions.parameters,
        )
    except ApiError:
        return None
    return {row["user_id"]: row["cost_usd"] for row in rows}


def _members(
    admin: AdminState, team: Body, answer: Body, spends: dict[str, Decimal] | None
) -> list[dict[str, Any]]:
    users, keys = admin.snapshot.users, answer["keys"]
    places = {each["user_id"]: each for each in answer["team_memberships"]}
    with_own = {
        each.user_id
        for each in admin.snapshot.teams[team["id"]].members_with_roles
        if each.max_budget_usd is not None
    }
    return [
        {
            **member,
            "path": page_of("user", member["user_id"]),
            "alias": user.user_alias if (user := users.get(member["user_id"])) else None,
            "spend": None if spends is None else spends.get(member["user_id"], Decimal(0)),
            "budget": _budget_of(
                places.get(member["user_id"]), is_own=member["user_id"] in with_own
            ),
            "keys_count": sum(1 for key in keys if key["user_id"] == member["user_id"]),
        }
        for member in sorted(team["members_with_roles"], key=lambda each: str(each["user_id"]))
    ]


def _budget_of(place: Body | None, *, is_own: bool) -> BudgetBar | None:
    """Return a member's budget in the team; None: there is none."""
    budget = place["litellm_budget_table"] if place is not None else None
    if place is None or budget is None:
        return None
    limit, spent = amount(budget["max_budget"]), amount(place["spend"])
    assert limit is not None
    period = period_text(budget["budget_duration"])
    return BudgetBar(
        name="Budget in the team",
        spent_usd=spent,
        limit_usd=limit,
        percent=share(spent, limit),
        resets_at=moment_of(place["budget_reset_at"]),
        note=period if is_own else f"{period}, as all members",
    )


@get("/teams/{part:str}/edit", opt={"needs": "may_manage"})
async def edit_form(request: _Request, admin: AdminState, part: str) -> Response[bytes]:
    """Show the form with what is set."""
    answer, etag = await team_of(request, id_in(part))
    team = owner_view(answer["team_info"], datetime.now(UTC), "team")
    context = await team_context(request, admin, team)
    return page(request, "team_edit.html", before=team, etag=etag, **context)


@post("/teams/{part:str}/edit", status_code=200, opt={"needs": "may_manage"})
async def edit(request: _Request, admin: AdminState, part: str) -> Response[Any]:
    """Change what differs, unless somebody changed the team since the form was shown."""
    fields = await read_fields(request)
    team_id, etag = id_in(part), "".join(fields.get("etag", ()))
    answer, _ = await team_of(request, team_id)
    team = owner_view(answer["team_info"], datetime.now(UTC), "team")
    try:
        changes = changed(settings_given(fields, TEAM_KINDS), team)
        if changes:
            body = {**changes, "team_id": team_id}
            await call_api(request, "POST", "/team/update", body=body, if_match=etag)
    except (FieldProblem, ApiRefusal) as error:
        context = await team_context(request, admin, typed(fields), error)
        return page(request, "team_edit.html", status=400, before=team, etag=etag, **context)
    return redirect(request, page_of("team", team_id))


@get("/teams/{part:str}/block", opt={"needs": "may_manage"})
async def ask_to_block(request: _Request, part: str) -> Response[bytes]:
    """Ask whether the team is to be blocked, or unblocked."""
    answer, _ = await team_of(request, id_in(part))
    return confirm(request, _block_question(answer["team_info"]))


@post("/teams/{part:str}/block", status_code=200, opt={"needs": "may_manage"})
async def block(request: _Request, part: str) -> Response[Any]:
    """Block or unblock the team."""
    form = await read_form(request)
    team_id = id_in(part)
    answer, _ = await team_of(request, team_id)
    what = "unblock" if form.get("want") == "unblock" else "block"
    return await carry_out(
        request,
        _block_question(answer["team_info"]),
        f"/team/{what}",
        {"team_id": team_id},
        then=page_of("team", team_id),
    )


@get("/teams/{part:str}/delete", opt={"needs": "may_manage"})
async def delete_question(request: _Request, part: str) -> Response[bytes]:
    """Ask for the team's id before it is deleted."""
    await team_of(request, id_in(part))
    return confirm(request, _delete_question(id_in(part)))


@post("/teams/{part:str}/delete", status_code=200, opt={"needs": "may_manage"})
async def delete(request: _Request, part: str) -> Response[Any]:
    """Delete the team whose id was typed, with its keys."""
    team_id = id_in(part)
    question = _delete_question(team_id)
    return await carry_out(
        request, question, "/team/delete", {"team_ids": [team_id]}, then="/ui/teams"
    )


def _block_question(team: Body) -> Question:
    return block_question(
        team["team_alias"] or team["team_id"],
        page_of("team", team["team_id"]),
        is_blocked=team["blocked"],
        block_text="All of its keys are refused until it is unblocked, keys that are made later, "
        "too.",
        unblock_text="Its keys may be used again, but for those that are blocked themselves.",
    )


def _delete_question(team_id: str) -> Question:
    return Question(
        title=f"Delete the team {team_id}",
        text="This deletes all of its keys, too: their requests are refused. What they spent "
        "stays in all totals; "
        "the ID cannot be used again.",
        path=f"{page_of('team', team_id)}/delete",
        button="Delete team and keys",
        is_dangerous=True,
        typed=team_id,
    )


TEAM_PAGE_ROUTES = (
    team_page,
    edit_form,
    edit,
    ask_to_block,
    block,
    delete_question,
    delete,
)
