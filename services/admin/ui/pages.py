"""Rendering: templates, the headers that every page has, and pages for errors."""

import gzip
import logging
from functools import cache
from http import HTTPStatus
from typing import Any

import jinja2
import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.response import Redirect
from markupsafe import Markup

from schemas.errors import ApiError
from services.admin.ui.access import CSRF_HEADER, NotLoggedIn
from services.admin.ui.api_calls import ApiRefusal
from services.admin.ui.assets import asset_url
from services.admin.ui.formats import FILTERS
from services.admin.ui.navigation import menu_of
from services.admin.ui.viewer import Viewer

__all__ = ["HEADERS", "answer_ui_error", "is_part", "page", "redirect", "render"]

log = logging.getLogger(__name__)

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; "
        "img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}
PACKED_FROM_BYTES = 1024
"""A page of so many bytes is sent packed, to whoever takes that."""
PACKING_LEVEL = 5
THEME_COOKIE = "tallygate_theme"
_THEMES = ("light", "dark")
_SERVER_ERROR = 500
_Request = Request[Any, Any, Any]


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("services.admin.ui", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    environment.filters["json_data"] = _json_data
    environment.globals.update(asset_url=asset_url)
    return environment


def _json_data(value: Any) -> Markup:
    """Return JSON that may stand in a script element of data: no text in it ends the element."""
    text = msgspec.json.encode(value, enc_hook=str).decode()
    for character, escaped in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(character, escaped)
    return Markup(text)  # noqa: S704 - escaped above


def render(template: str, **context: Any) -> str:
    """Return a template as text. Every value is escaped."""
    return _environment().get_template(template).render(**context)


def page(
    request: _Request, template: str, *, status: int = 200, headers: Any = None, **context: Any
) -> Response[bytes]:
    """Return a page, or a part of one, for the viewer of a request."""
    viewer: Viewer | None = getattr(request.state, "viewer", None)
    menu = []
    if viewer is not None:
        rights = {"sees_all": viewer.sees_all, "may_manage": viewer.may_manage}
        menu = menu_of(**rights, may_ask=viewer.may_ask)
    theme = request.cookies.get(THEME_COOKIE, "")
    text = render(
        template,
        viewer=viewer,
        menu=menu,
        here=request.url.path.rstrip("/") or "/",
        query=dict(request.query_params),
        theme=theme if theme in _THEMES else "",
        csrf_header=CSRF_HEADER,
        **context,
    )
    content = text.encode()
    given = {**HEADERS, "vary": "accept-encoding, cookie", **(headers or {})}
    accepts = request.headers.get("accept-encoding", "")
    if len(content) >= PACKED_FROM_BYTES and "gzip" in accepts:
        # The length of a packed page could tell secrets to another site, were there one that can
        # make this browser ask with its cookie: SameSite=Strict sees to it that there is none.
        content = gzip.compress(content, PACKING_LEVEL, mtime=0)
        given["content-encoding"] = "gzip"
    return Response(
        content=content, status_code=status, media_type="text/html; charset=utf-8", headers=given
    )


def is_part(request: _Request) -> bool:
    """Tell whether htmx asks for a part of a page, not a browser for the whole."""
    return request.headers.get("hx-request") == "true"


def redirect(request: _Request, path: str) -> Response[Any]:
    """Send the browser to another page, also where htmx asks."""
    if is_part(request):
        return Response(content="", status_code=200, headers={**HEADERS, "hx-redirect": path})
    return Redirect(path, status_code=303, headers=HEADERS)


def answer_ui_error(request: _Request, error: Exception) -> Response[Any]:
    """Return the page for an error: what went wrong, and what to do."""
    if isinstance(error, NotLoggedIn):
        where = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        is_plain = request.method == "GET" and not is_part(request)
        return redirect(request, _login_path(where if is_plain else "/ui"))
    status, message = _verdict(request, error)
    part = is_part(request)
    return page(
        request,
        "part_error.html" if part else "error.html",
        status=status,
        headers={"hx-retarget": "#flash", "hx-reswap": "innerHTML"} if part else None,
        code=status,
        title=HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Error",
        message=message,
        request_id=request.scope.get("state", {}).get("request_id", ""),
    )


def _login_path(where: str) -> str:
    import urllib.parse

    return "/ui/login" if where == "/ui" else f"/ui/login?next={urllib.parse.quote(where)}"


def _verdict(request: _Request, error: Exception) -> tuple[int, str]:
    if isinstance(error, ApiError):
        return error.http_status, error.message
    if isinstance(error, ApiRefusal):
        return error.status, error.message
    if isinstance(error, HTTPException) and error.status_code < _SERVER_ERROR:
        if error.status_code == HTTPStatus.NOT_FOUND:
            return 404, "There is no such page."
        return error.status_code, error.detail
    route = request.scope.get("path_template", "")
    request_id = request.scope.get("state", {}).get("request_id", "")
    log.error(
        "a page ended by a fault",
        exc_info=error,
        extra={"request_id": request_id, "route": route},
    )
    return 500, "tallygate met a fault of its own; its log says more under the id below."
