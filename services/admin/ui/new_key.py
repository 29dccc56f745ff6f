"""Making a virtual key: the form, and the key with what Claude Code needs, this once."""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from litestar import Request, Response, get, post

from services.admin.state import AdminState
from services.admin.ui.api_calls import ApiRefusal, call_api
from services.admin.ui.form_context import (
    LIMIT_KINDS,
    model_names,
    settings_context,
    settings_given,
    typed,
)
from services.admin.ui.forms import read_fields
from services.admin.ui.pages import page
from services.admin.ui.settings_form import FieldProblem, Kind, given
from services.client.claude_variables import ANTHROPIC_MODELS, Mode, Setup, wanted_variables

__all__ = ["KEY_KINDS", "NEW_KEY_ROUTES", "form_context", "model_to_set", "secret_page"]

KEY_KINDS: dict[str, Kind] = {
    **LIMIT_KINDS,
    "key_alias": "text",
    "user_id": "text",
    "team_id": "text",
    "duration": "text",
    "tags": "words",
}
"""The fields of the form, by the API's names."""
_KEY_TYPES = (
    ("", "Everything its user may"),
    ("llm_api", "Anthropic API only"),
    ("management", "Management API only"),
    ("read_only", "Management API, read only"),
    ("analyst", "SQL on its team's rows"),
)
_HOST = re.compile(r"[A-Za-z0-9.:\[\]-]{1,255}")
_Request = Request[Any, Any, Any]


@get("/keys/new", opt={"needs": "may_make_keys"})
async def new_key_form(request: _Request, admin: AdminState) -> Response[bytes]:
    """Show the form, in a dialog; what the address names is filled in."""
    query = request.query_params
    values = {name: query[name] for name in ("user_id", "team_id") if query.get(name)}
    return page(request, "key_new.html", **await form_context(request, admin, values))


@post("/keys", status_code=200, opt={"needs": "may_make_keys"})
async def create_key(request: _Request, admin: AdminState) -> Response[bytes]:
    """Make the key and show it, or the form with what is wrong."""
    fields = await read_fields(request)
    try:
        body = given(settings_given(fields, KEY_KINDS))
        if key_type := "".join(fields.get("key_type", ())):
            body["key_type"] = key_type
        answer = await call_api(request, "POST", "/key/generate", body=body)
    except (FieldProblem, ApiRefusal) as error:
        context = await form_context(request, admin, typed(fields), error)
        return page(request, "key_new.html", status=400, **context)
    return await secret_page(request, answer.body, "Key created")


async def form_context(
    request: _Request,
    admin: AdminState,
    values: Mapping[str, Any],
    error: FieldProblem | ApiRefusal | None = None,
) -> dict[str, Any]:
    """Return what the form of a key needs."""
    known: dict[str, Kind] = {**KEY_KINDS, "key_type": "text"}
    context = await settings_context(request, admin, values, known, error)
    return {**context, "key_types": _KEY_TYPES}


async def secret_page(request: _Request, key: Mapping[str, Any], title: str) -> Response[bytes]:
    """Return the dialog that shows a key, this once, with the lines for Claude Code."""
    names = key["models"] or await model_names(request)
    model = model_to_set(names, are_own=bool(key["models"]))
    url = _gateway_url(request)
    lines: dict[Mode, str] = {
        mode: _shell_lines(Setup(url, key["key"], mode, model))
        for mode in ("subscription", "api-key")
    }
    return page(request, "key_secret.html", title=title, key=key, url=url, lines=lines)


def model_to_set(names: Sequence[str], *, are_own: bool) -> str | None:
    """Return the model that Claude Code is told to ask for; None: it keeps its own.

    Its own is one that a key may use where all of Anthropic's are served, or several by the names
    that Anthropic gave them. `are_own`: the names are the key's, and not all of the gateway's.
    """
    whole = [name for name in names if "*" not in name]
    if not whole:
        return None
    is_renamed = len(whole) == len(names) and not whole[0].startswith(ANTHROPIC_MODELS)
    return whole[0] if are_own or len(whole) == 1 or is_renamed else None


def _shell_lines(setup: Setup) -> str:
    wanted = wanted_variables(setup, {})
    return "\n".join(f"export {name}={shlex.quote(value or '')}" for name, value in wanted.items())


def _gateway_url(request: _Request) -> str:
    """Return the address by which this browser came: the gateway's own port serves these pages."""
    host = request.headers.get("host", "")
    proto = request.headers.get("x-forwarded-proto", request.scope.get("scheme", "http"))
    is_usual = _HOST.fullmatch(host) is not None
    scheme = "https" if proto == "https" else "http"
    return f"{scheme}://{host if is_usual else 'localhost:4000'}"


NEW_KEY_ROUTES = (new_key_form, create_key)
