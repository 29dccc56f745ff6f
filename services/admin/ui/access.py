"""Who may see which page: every page needs a session unless it says otherwise.

`opt={"needs": "sees_all"}` asks for more, and
`opt={"session": "none"}` is for pages and files before the login, `"any"` for what a key with other
`allowed_routes` may, too. What changes something
must come from a page of ours: SameSite keeps the cookie at home, `Sec-Fetch-Site` or `Origin` says
where a request began, and a form carries its session's token (threats: forged requests).
"""

import hmac
import time
from typing import Any
from urllib.parse import urlsplit

from litestar.connection import ASGIConnection, Request
from litestar.datastructures import Cookie
from litestar.exceptions import HTTPException
from litestar.handlers import BaseRouteHandler

from schemas.errors import Forbidden
from schemas.keys import hash_key
from services.admin.key_types import refuse_other_routes
from services.admin.origin import note_origin
from services.admin.principal import MASTER, principal_of_key_id
from services.admin.state import AdminState, now_us
from services.admin.ui.sessions import COOKIE, SESSION_S, Sessions
from services.admin.ui.viewer import Viewer

__all__ = [
    "CSRF_HEADER",
    "NotLoggedIn",
    "address_of_client",
    "login_cookie",
    "require_session",
    "viewer_of",
]

CSRF_HEADER = "x-tallygate-csrf"
_NEEDED = {
    "sees_all": "this page is for the master key, and for keys of a proxy_admin or "
    "proxy_admin_viewer",
    "may_manage": "this page is for the master key, and for keys of a proxy_admin",
    "may_make_keys": "this page is for the master key, and for keys of a proxy_admin, an "
    "internal_user or a team's admin",
}
_SAFE = ("GET", "HEAD", "OPTIONS")
_OWN_SITES = ("same-origin", "none")
_Connection = ASGIConnection[Any, Any, Any, Any]


class NotLoggedIn(HTTPException):
    """There is no session, or not any more: the login page is shown."""

    status_code = 401


async def require_session(connection: _Connection, handler: BaseRouteHandler) -> None:
    """Admit a request to a page or raise NotLoggedIn or Forbidden."""
    admin: AdminState = connection.app.state.admin
    method = str(connection.scope.get("method", "GET"))
    if method not in _SAFE:
        _refuse_foreign(connection)
    address = address_of_client(admin, connection)
    request_id = connection.scope.get("state", {}).get("request_id", "")
    note_origin(address, method, connection.scope["path_template"], request_id)
    if handler.opt.get("session") == "none":
        return
    viewer = await _viewer(admin, connection.app.state.sessions, connection.cookies.get(COOKIE))
    if viewer is None:
        raise NotLoggedIn
    # A page that says no has the menu, too.
    connection.state.viewer = viewer
    if method not in _SAFE:
        given = connection.headers.get(CSRF_HEADER, "")
        if not hmac.compare_digest(given.encode(), viewer.csrf_token.encode()):
            raise Forbidden("this form is of another session: reload the page and try again")
    # Whoever is in can leave.
    if handler.opt.get("session") != "any":
        path = connection.scope["path_template"]
        refuse_other_routes(viewer.caller.key, method, path)
    needs = handler.opt.get("needs", "session")
    if needs != "session" and not getattr(viewer, needs):
        raise Forbidden(_NEEDED[needs])


def viewer_of(connection: _Connection) -> Viewer:
    """Return who was admitted to the page."""
    viewer: Viewer = connection.state.viewer
    return viewer


def address_of_client(admin: AdminState, connection: _Connection) -> str:
    """Return the address of the browser, by the proxy's word where it passed the request on."""
    client = connection.scope.get("client")
    proved = admin.proved_address(connection.scope["headers"])
    return proved or (client[0] if client else "unknown")


def login_cookie(
    request: Request[Any, Any, Any], value: str, *, max_age: int = SESSION_S
) -> Cookie:
    """Return the session's cookie: out of reach of scripts and of other sites."""
    proto = request.headers.get("x-forwarded-proto", request.scope.get("scheme", "http"))
    return Cookie(
        key=COOKIE,
        value=value,
        path="/ui",
        max_age=max_age,
        httponly=True,
        samesite="strict",
        secure=proto == "https",
    )


def _refuse_foreign(connection: _Connection) -> None:
    site = connection.headers.get("sec-fetch-site")
    origin = connection.headers.get("origin")
    if site is not None:
        is_own = site in _OWN_SITES
    elif origin is not None:
        is_own = urlsplit(origin).netloc == connection.headers.get("host")
    else:
        is_own = True  # no browser, so nobody whose session could be misused
    if not is_own:
        raise Forbidden("this request began on another site")


async def _viewer(admin: AdminState, sessions: Sessions, cookie: str | None) -> Viewer | None:
    """Return who holds a session, with the rights that their credential has now."""
    if cookie is None:
        return None
    session = sessions.read(cookie, admin.master_key, int(time.time()))
    if session is None:
        return None
    token = sessions.csrf_token(session, admin.master_key)
    if session.key_id is None:
        is_current = session.is_of(hash_key(admin.master_key))
        return Viewer(caller=MASTER, session=session, csrf_token=token) if is_current else None
    caller = principal_of_key_id(await admin.registry(), session.key_id, now_us())
    if caller is None or caller.problem is not None or caller.key is None:
        return None
    if not session.is_of(caller.key.key_hash):
        return None
    return Viewer(caller=caller, session=session, csrf_token=token)
