"""Making a virtual key: the form, and the key with what Claude Code needs, this once."""

import re
import shlex
from collections.abc import Mapping
from typing import Any

from litestar import Request, Response, get, post

from services.admin.state import AdminState
from services.admin.ui.access import viewer_of
from services.admin.ui.api_calls import ApiRefusal, call_api
from services.admin.ui.forms import Fields, read_fields
from services.admin.ui.keys import team_ids_of
from services.admin.ui.pages import page
from services.admin.ui.settings_form import FieldProblem, Kind, given, periods_with, settings_from
from services.client.claude_variables import Mode, Setup, wanted_variables

__all__ = ["KEY_KINDS", "NEW_KEY_ROUTES", "form_context", "key_settings", "secret_page", "typed"]

USERS_MAX = 200
"""So many users are offered while one is typed; any other can be typed, too."""
KEY_KINDS: dict[str, Kind] = {
    "key_alias": "text",
    "models": "choices",
    "user_id": "text",
    "team_id": "text",
    "max_budget": "usd",
    "budget_duration": "text",
    "duration": "text",
    "soft_budget": "usd",
    "rpm_limit": "count",
    "tpm_limit": "count",
    "max_parallel_requests": "count",
    "tags": "words",
    "guardrails": "choices",
}
"""The fields of the form, by the API's names."""
_MORE = ("soft_budget", "rpm_limit", "tpm_limit", "max_parallel_requests", "tags", "guardrails")
"""Those that are shown when they are asked for, or when one of them is wrong."""
_KEY_TYPES = (
    ("", "everything that its user may"),
    ("llm_api", "the Anthropic API alone"),
    ("management", "the management API alone"),
    ("read_only", "reading of the management API"),
    ("analyst", "SQL about the rows of its team"),
)
_HOST = re.compile(r"[A-Za-z0-9.:\[\]-]{1,255}")
_Request = Request[Any, Any, Any]


@get("/keys/new")
async def new_key_form(request: _Request, admin: AdminState) -> Response[bytes]:
    """Show the form, in a dialog; what the address names is filled in."""
    query = request.query_params
    values = {name: query[name] for name in ("user_id", "team_id") if query.get(name)}
    return page(request, "key_new.html", **await form_context(request, admin, values))


@post("/keys", status_code=200)
async def create_key(request: _Request, admin: AdminState) -> Response[bytes]:
    """Make the key and show it, or the form with what is wrong."""
    fields = await read_fields(request)
    try:
        body = given(key_settings(fields))
        if key_type := "".join(fields.get("key_type", ())):
            body["key_type"] = key_type
        answer = await call_api(request, "POST", "/key/generate", body=body)
    except (FieldProblem, ApiRefusal) as error:
        context = await form_context(request, admin, typed(fields), error)
        return page(request, "key_new.html", status=400, **context)
    return await secret_page(request, answer.body, "Key created")


def key_settings(fields: Fields) -> dict[str, Any]:
    """Return what a form of a key says. Raises FieldProblem."""
    settings = settings_from(fields, KEY_KINDS)
    if "some" not in fields.get("models_of", ()):
        settings["models"] = []
        return settings
    further = settings_from(fields, {"models_further": "words"})["models_further"]
    settings["models"] = list(dict.fromkeys([*settings["models"], *further]))
    if not settings["models"]:
        raise FieldProblem("models", "Choose at least one model, or all models.")
    return settings


class _Blank(dict[str, Any]):
    """What is not in it is empty: forms ask for all of their fields."""

    def __missing__(self, name: str) -> str:
        return ""


def typed(fields: Fields) -> dict[str, Any]:
    """Return what was typed, to be shown again."""
    values: dict[str, Any] = {name: "".join(texts[-1:]) for name, texts in fields.items()}
    for name in ("models", "guardrails"):
        values[name] = list(fields.get(name, ()))
    return values


async def form_context(
    request: _Request,
    admin: AdminState,
    values: Mapping[str, Any],
    error: FieldProblem | ApiRefusal | None = None,
) -> dict[str, Any]:
    """Return what the form needs: its choices, what is filled in, and what was wrong."""
    viewer = viewer_of(request)
    names = await _model_names(request)
    chosen = list(values.get("models", ()))
    problems: dict[str, str] = {}
    if error is not None:
        field = error.field
        known = field in KEY_KINDS or field == "key_type"
        problems[field if known and field is not None else ""] = str(error)
    snapshot = await admin.registry()
    users = sorted(user.user_id for user in snapshot.users.values() if not user.deleted)
    return {
        "values": _Blank(values),
        "problems": _Blank(problems),
        "problem": problems.get(""),
        "models": list(dict.fromkeys([*names, *chosen])),
        "chosen": chosen,
        "is_limited": values.get("models_of") == "some" or bool(chosen),
        "teams": [("", "none"), *((team, team) for team in await team_ids_of(request, admin))],
        "users": users[:USERS_MAX] if viewer.sees_all else [],
        "guardrails": [each.name for each in admin.guardrails if not each.default_on],
        "key_types": _KEY_TYPES,
        "periods": periods_with(values.get("budget_duration") or None),
        "is_more_open": any(name in problems or values.get(name) for name in _MORE),
    }


async def secret_page(request: _Request, key: Mapping[str, Any], title: str) -> Response[bytes]:
    """Return the dialog that shows a key, this once, with the lines for Claude Code."""
    names = key["models"] or await _model_names(request)
    # Without a model Claude Code keeps its own, which the key may use where it may use several.
    whole = [name for name in names if "*" not in name]
    model = whole[0] if whole and (len(whole) == 1 or key["models"]) else None
    url = _gateway_url(request)
    lines: dict[Mode, str] = {
        mode: _shell_lines(Setup(url, key["key"], mode, model))
        for mode in ("subscription", "api-key")
    }
    return page(request, "key_secret.html", title=title, key=key, url=url, lines=lines)


async def _model_names(request: _Request) -> list[str]:
    """Return the names that may be asked for."""
    listed = (await call_api(request, "GET", "/models")).body["data"]
    return [each["id"] for each in listed]


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
