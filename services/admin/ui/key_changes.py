"""Changing a virtual key: edit, block, unblock, a new secret, delete. Each in a dialog."""

from typing import Any

from litestar import Request, Response, get, post

from services.admin.state import AdminState
from services.admin.ui.api_calls import ApiRefusal, call_api
from services.admin.ui.confirming import Question, block_question, carry_out, confirm
from services.admin.ui.form_context import settings_given, typed
from services.admin.ui.forms import read_fields, read_form
from services.admin.ui.key import key_of
from services.admin.ui.new_key import KEY_KINDS, form_context, secret_page
from services.admin.ui.pages import page, redirect
from services.admin.ui.settings_form import FieldProblem, changed

__all__ = ["KEY_CHANGE_ROUTES"]

_GRACE_PERIODS = (
    ("", "Immediately"),
    ("1h", "In an hour"),
    ("24h", "In a day"),
    ("7d", "In a week"),
)
_Request = Request[Any, Any, Any]


@get("/keys/{key_id:str}/edit")
async def edit_form(request: _Request, admin: AdminState, key_id: str) -> Response[bytes]:
    """Show the form with what is set."""
    row, etag = await key_of(request, key_id)
    values = {**row, "duration": ""}
    context = await form_context(request, admin, values)
    return page(request, "key_edit.html", before=row, etag=etag, **context)


@post("/keys/{key_id:str}/edit", status_code=200)
async def edit(request: _Request, admin: AdminState, key_id: str) -> Response[Any]:
    """Change what differs, unless somebody changed the key since the form was shown."""
    fields = await read_fields(request)
    row, _ = await key_of(request, key_id)
    etag = "".join(fields.get("etag", ()))
    try:
        settings = settings_given(fields, KEY_KINDS)
        duration = settings.pop("duration", None)
        changes = changed(settings, row)
        if duration is not None:
            changes["duration"] = duration
        if changes:
            body = {"key": key_id, **changes}
            await call_api(request, "POST", "/key/update", body=body, if_match=etag)
    except (FieldProblem, ApiRefusal) as error:
        context = await form_context(request, admin, typed(fields), error)
        return page(request, "key_edit.html", status=400, before=row, etag=etag, **context)
    return redirect(request, f"/ui/keys/{key_id}")


@get("/keys/{key_id:str}/block")
async def ask_to_block(request: _Request, key_id: str) -> Response[bytes]:
    """Ask whether the key is to be blocked, or unblocked."""
    row, _ = await key_of(request, key_id)
    return confirm(request, _block_question(row))


@post("/keys/{key_id:str}/block", status_code=200)
async def block(request: _Request, key_id: str) -> Response[Any]:
    """Block or unblock the key: what was asked, also where somebody did it meanwhile."""
    form = await read_form(request)
    row, _ = await key_of(request, key_id)
    what = "unblock" if form.get("want") == "unblock" else "block"
    return await carry_out(
        request,
        _block_question(row),
        f"/key/{what}",
        {"key": key_id},
        then=f"/ui/keys/{key_id}",
    )


@get("/keys/{key_id:str}/regenerate")
async def regenerate_form(request: _Request, key_id: str) -> Response[bytes]:
    """Ask when the key of before ends."""
    row, _ = await key_of(request, key_id)
    return page(request, "key_regenerate.html", key=row, periods=_GRACE_PERIODS, problem="")


@post("/keys/{key_id:str}/regenerate", status_code=200)
async def regenerate(request: _Request, key_id: str) -> Response[bytes]:
    """Give the key a new secret and show it, this once."""
    form = await read_form(request)
    row, _ = await key_of(request, key_id)
    body = {"key": key_id, "grace_period": form.get("grace_period") or None}
    try:
        answer = await call_api(request, "POST", "/key/regenerate", body=body)
    except ApiRefusal as error:
        return page(
            request,
            "key_regenerate.html",
            status=error.status,
            key=row,
            periods=_GRACE_PERIODS,
            problem=error.message,
        )
    return await secret_page(request, answer.body, "New secret")


@get("/keys/{key_id:str}/reset")
async def reset_question(request: _Request, key_id: str) -> Response[bytes]:
    """Ask whether the key's budget is to begin anew."""
    row, _ = await key_of(request, key_id)
    return confirm(request, _reset_question(row))


@post("/keys/{key_id:str}/reset", status_code=200)
async def reset(request: _Request, key_id: str) -> Response[Any]:
    """Let the key's budgets begin anew now."""
    row, _ = await key_of(request, key_id)
    return await carry_out(
        request,
        _reset_question(row),
        "/key/reset_spend",
        {"key": key_id, "reset_to": 0},
        then=f"/ui/keys/{key_id}",
    )


@get("/keys/{key_id:str}/delete")
async def delete_question(request: _Request, key_id: str) -> Response[bytes]:
    """Ask for the key's name before it is deleted."""
    row, _ = await key_of(request, key_id)
    return confirm(request, _delete_question(row))


@post("/keys/{key_id:str}/delete", status_code=200)
async def delete(request: _Request, key_id: str) -> Response[Any]:
    """Delete the key whose name was typed."""
    row, _ = await key_of(request, key_id)
    question = _delete_question(row)
    return await carry_out(request, question, "/key/delete", {"keys": [key_id]}, then="/ui/keys")


def _block_question(row: Any) -> Question:
    return block_question(
        row["key_alias"] or row["key_name"],
        f"/ui/keys/{row['key_id']}",
        is_blocked=row["blocked"],
        block_text="Its requests are refused from then on, until it is unblocked. "
        "Those under way end.",
        unblock_text="It may be used again, at every proxy, within a moment.",
    )


def _reset_question(row: Any) -> Question:
    return Question(
        title=f"Reset the budget of {row['key_alias'] or row['key_name']}",
        text="Its budgets count from 0 again, from now on. What it spent stays in all totals and "
        "in the budgets of its user and team.",
        path=f"/ui/keys/{row['key_id']}/reset",
        button="Reset budget",
    )


def _delete_question(row: Any) -> Question:
    name = row["key_alias"] or row["key_name"]
    return Question(
        title=f"Delete {name}",
        text="It is refused from now on. What it spent stays in all totals, and its history in the "
        "audit log.",
        path=f"/ui/keys/{row['key_id']}/delete",
        button="Delete key",
        is_dangerous=True,
        typed=name,
    )


KEY_CHANGE_ROUTES = (
    edit_form,
    edit,
    ask_to_block,
    block,
    regenerate_form,
    regenerate,
    reset_question,
    reset,
    delete_question,
    delete,
)
