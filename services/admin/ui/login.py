"""Logging in with the master key or a virtual key, and out."""

import time
from typing import Any
from urllib.parse import unquote

from litestar import Request, Response, get, post
from litestar.response import Redirect

from schemas.errors import ApiError
from schemas.keys import hash_key
from services.admin.state import AdminState
from services.admin.ui.access import address_of_client, login_cookie, viewer_of
from services.admin.ui.forms import read_form
from services.admin.ui.pages import HEADERS, page, redirect
from services.runtime.key_routes import is_allowed

__all__ = ["LOGIN_ROUTES"]

KEY_LENGTH_MAX = 512
_DOORS = ("/ui/login", "/ui/logout")
_Request = Request[Any, Any, Any]


def _safe_next(given: str) -> str:
    """Return a path of the dashboard to go to after the login; nothing else is gone to."""
    path = unquote(given.partition("?")[0].partition("#")[0])
    is_own = path == "/ui" or path.startswith("/ui/")
    is_plain = "\\" not in given and not {".", ".."} & set(path.split("/"))
    return given if is_own and is_plain and path.rstrip("/") not in _DOORS else "/ui"


def _form(
    request: _Request, after: str, status: int = 200, problem: str | None = None
) -> Response[bytes]:
    """Return the form; `problem` is what was wrong with what was entered."""
    return page(
        request,
        "login.html",
        status=status,
        after=after,
        problem=problem,
        # SameSite=Strict: the cookie comes with links of our own pages alone.
        comes_from_elsewhere=request.headers.get("sec-fetch-site") == "cross-site",
    )


@get("/login", opt={"session": "none"})
async def login_page(request: _Request) -> Response[bytes]:
    """Show the form."""
    after = _safe_next(request.query_params.get("next", "/ui"))
    return _form(request, after)


@post("/login", opt={"session": "none"})
async def log_in(request: _Request, admin: AdminState) -> Response[Any]:
    """Open a session for the key that the form holds."""
    form = await read_form(request)
    after = _safe_next(form.get("next", "/ui"))
    secret = form.get("key", "").strip()
    if not secret or len(secret) > KEY_LENGTH_MAX or not secret.isascii():
        return _form(request, after, 400, "Enter the master key or your key.")
    try:
        caller = await admin.identify([secret], address_of_client(admin, request))
    except ApiError as error:
        problem = (
            "This is neither the master key nor a virtual key of this gateway."
            if error.http_status == 401  # noqa: PLR2004
            else error.message
        )
        return _form(request, after, error.http_status, problem)
    if caller.problem is not None:
        problem = f"This key {caller.problem}."
        return _form(request, after, 403, problem)
    key = caller.key
    if key is not None and not is_allowed(key.allowed_routes, "GET", "/ui"):
        problem = "This key is limited to other routes than the dashboard's."
        return _form(request, after, 403, problem)
    # A key that was replaced opens the session of the new one: it has the same rights until then.
    key_id, key_hash = (None, hash_key(secret)) if key is None else (key.key_id, key.key_hash)
    cookie = request.app.state.sessions.open(key_id, key_hash, admin.master_key, int(time.time()))
    return Redirect(
        after, status_code=303, headers=HEADERS, cookies=[login_cookie(request, cookie)]
    )


@post("/logout", opt={"session": "any"})
async def log_out(request: _Request) -> Response[Any]:
    """End the session."""
    request.app.state.sessions.end(viewer_of(request).session, int(time.time()))
    answer = redirect(request, "/ui/login")
    answer.cookies.append(login_cookie(request, "", max_age=0))
    return answer


LOGIN_ROUTES = (login_page, log_in, log_out)
