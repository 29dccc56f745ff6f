"""The page of users, and making one."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
from litestar import Request, Response, get, post

from schemas.errors import BadRequest
from schemas.registry import UserRecord
from services.admin.directory import live_keys
from services.admin.owner_changes import spend_of_owners
from services.admin.owners import user_row
from services.admin.state import AdminState, now_us
from services.admin.ui.access import viewer_of
from services.admin.ui.addresses import page_of
from services.admin.ui.api_calls import ApiRefusal, call_api
from services.admin.ui.form_context import LIMIT_KINDS, settings_context, settings_given, typed
from services.admin.ui.forms import read_fields
from services.admin.ui.new_key import secret_page
from services.admin.ui.pages import is_part, page, redirect
from services.admin.ui.paging import PAGE_SIZE, next_page, page_number
from services.admin.ui.settings_form import FieldProblem, Kind, given
from services.admin.ui.teams import owner_view

__all__ = ["ROLES", "USERS_ROUTES", "USER_KINDS", "user_context"]

USER_KINDS: dict[str, Kind] = {
    **LIMIT_KINDS,
    "user_id": "text",
    "user_alias": "text",
    "user_email": "text",
    "user_role": "text",
}
"""The fields of the form, by the API's names."""
ROLES = (
    ("", "none: keys see themselves"),
    ("internal_user", "internal_user: makes own keys"),
    ("internal_user_viewer", "internal_user_viewer: sees own"),
    ("proxy_admin_viewer", "proxy_admin_viewer: sees all"),
    ("proxy_admin", "proxy_admin: changes all"),
)
_SHORT = {"": "All", **{role: role for role, _ in ROLES if role}, "none": "No role"}
_Request = Request[Any, Any, Any]


@get("/users")
async def users(request: _Request, admin: AdminState) -> Response[bytes]:
    """Show the users; for htmx the next rows alone. Who does not see all is led to itself."""
    viewer = viewer_of(request)
    if not viewer.sees_all:
        own = viewer.caller.user_id
        return page(request, "users_own.html", path=page_of("user", own) if own else "")
    query = request.query_params
    search, role = query.get("search", "").strip(), query.get("role", "")
    if role not in _SHORT:
        raise BadRequest(f"role must be one of {', '.join(filter(None, _SHORT))}", param="role")
    number = page_number(request)
    snapshot = await admin.registry()
    found = list(_matching(snapshot.users.values(), search.lower(), role))
    found.sort(key=lambda user: user.created_at_us, reverse=True)
    first = (number - 1) * PAGE_SIZE
    shown = found[first : first + PAGE_SIZE]
    following = None
    if len(found) > first + PAGE_SIZE:
        following = next_page("/ui/users", number, {"search": search, "role": role})
    context: dict[str, Any] = {
        "rows": await _views(admin, shown),
        "following": following,
        "total": len(found),
    }
    if is_part(request):
        return page(request, "users_rows.html", **context)
    return page(
        request,
        "users.html",
        search=search,
        role=role,
        roles=list(_SHORT.items()),
        **context,
    )


@get("/users/new", opt={"needs": "may_manage"})
async def new_user_form(request: _Request, admin: AdminState) -> Response[bytes]:
    """Show the form, in a dialog."""
    values = {"user_role": "internal_user", "auto_create_key": "on"}
    return page(request, "user_new.html", **await user_context(request, admin, values))


@post("/users", status_code=200, opt={"needs": "may_manage"})
async def create_user(request: _Request, admin: AdminState) -> Response[Any]:
    """Make the user, with a first key that is shown this once where one was asked for."""
    fields = await read_fields(request)
    try:
        body = given(settings_given(fields, USER_KINDS))
        body["auto_create_key"] = "auto_create_key" in fields
        if teams := [each for each in fields.get("teams", ()) if each]:
            body["teams"] = teams
        user = (await call_api(request, "POST", "/user/new", body=body)).body
    except (FieldProblem, ApiRefusal) as error:
        context = await user_context(request, admin, typed(fields), error)
        return page(request, "user_new.html", status=400, **context)
    if user["key"] is None:
        return redirect(request, page_of("user", user["user_id"]))
    name = user["user_alias"] or user["user_id"]
    key = {"key": user["key"], "key_alias": f"the first key of {name}", "models": user["models"]}
    return await secret_page(request, key, "User created")


async def user_context(
    request: _Request,
    admin: AdminState,
    values: dict[str, Any],
    error: FieldProblem | ApiRefusal | None = None,
) -> dict[str, Any]:
    """Return what the form of a user needs."""
    context = await settings_context(request, admin, values, USER_KINDS, error)
    return {**context, "roles": ROLES}


def _matching(records: Iterable[UserRecord], search: str, role: str) -> Iterable[UserRecord]:
    wanted = None if role == "none" else role
    for record in records:
        texts = (record.user_id, record.user_alias, record.user_email)
        if record.deleted or (role and record.user_role != wanted):
            continue
        if search in "\n".join(text or "" for text in texts).lower():
            yield record


async def _views(admin: AdminState, records: list[UserRecord]) -> list[dict[str, Any]]:
    """Return users as the page shows them, with what they spent and how many keys they have."""
    spends = await spend_of_owners(admin, records)
    time_us, now = now_us(), datetime.now(UTC)
    counts = dict.fromkeys((record.user_id for record in records), 0)
    for key in live_keys(admin.snapshot):
        if key.user_id in counts:
            counts[key.user_id] += 1
    views = []
    for record, spend in zip(records, spends, strict=True):
        row = user_row(admin.snapshot, record, spend, time_us, admin.timezone)
        view = owner_view(msgspec.to_builtins(row), now, "user")
        views.append({**view, "keys_count": counts[record.user_id]})
    return views


USERS_ROUTES = (users, new_user_form, create_user)
