"""What the forms of keys, teams and users share: their choices, what was typed, what was wrong."""

from collections.abc import Mapping
from typing import Any

from litestar import Request

from services.admin.state import AdminState
from services.admin.ui.access import viewer_of
from services.admin.ui.api_calls import ApiRefusal, call_api
from services.admin.ui.forms import Fields
from services.admin.ui.settings_form import FieldProblem, Kind, periods_with, settings_from

__all__ = [
    "LIMIT_KINDS",
    "Blank",
    "model_names",
    "settings_context",
    "settings_given",
    "team_ids",
    "typed",
]

USERS_MAX = 200
"""So many users are offered while one is typed; any other can be typed, too."""
TEAMS_MAX = 500
"""So many teams are offered as a choice."""
LIMIT_KINDS: dict[str, Kind] = {
    "models": "choices",
    "max_budget": "usd",
    "budget_duration": "text",
    "soft_budget": "usd",
    "rpm_limit": "count",
    "tpm_limit": "count",
    "max_parallel_requests": "count",
    "guardrails": "choices",
}
"""The fields that keys, teams and users have alike, by the API's names."""
_MORE = ("soft_budget", "rpm_limit", "tpm_limit", "max_parallel_requests", "tags", "guardrails")
"""Those that are shown when they are asked for, or when one of them is set or wrong."""
_Request = Request[Any, Any, Any]


class Blank(dict[str, Any]):
    """What is not in it is empty: forms ask for all of their fields."""

    def __missing__(self, name: str) -> str:
        return ""


def settings_given(fields: Fields, kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """Return what a form says, of what it shows, models among it. Raises FieldProblem."""
    settings = settings_from(fields, kinds)
    settings = {
        # Boxes that nobody ticked send nothing; what the form did not show stays as it is.
        name: value
        for name, value in settings.items()
        if name in fields or kinds[name] in ("choices", "flag")
    }
    if "some" not in fields.get("models_of", ()):
        settings["models"] = []
        return settings
    further = settings_from(fields, {"models_further": "words"})["models_further"]
    settings["models"] = list(dict.fromkeys([*settings["models"], *further]))
    if not settings["models"]:
        raise FieldProblem("models", "Choose at least one model, or all models.")
    return settings


def typed(fields: Fields) -> dict[str, Any]:
    """Return what was typed, to be shown again."""
    values: dict[str, Any] = {name: "".join(texts[-1:]) for name, texts in fields.items()}
    for name in ("models", "guardrails"):
        values[name] = list(fields.get(name, ()))
    return values


async def settings_context(
    request: _Request,
    admin: AdminState,
    values: Mapping[str, Any],
    known: Mapping[str, Kind],
    error: FieldProblem | ApiRefusal | None = None,
) -> dict[str, Any]:
    """Return what a form needs: its choices, what is filled in, and what was wrong.

    What was wrong with a field that is not one of the `known` stands above the form.
    """
    names = await model_names(request)
    chosen = list(values.get("models", ()))
    problems: dict[str, str] = {}
    if error is not None:
        field = error.field or ""
        problems[field if field in known else ""] = str(error)
    snapshot = await admin.registry()
    users = (user.user_id for user in snapshot.users.values() if not user.deleted)
    return {
        "values": Blank(values),
        "problems": Blank(problems),
        "problem": problems.get(""),
        "models": list(dict.fromkeys([*names, *chosen])),
        "chosen": chosen,
        "is_limited": values.get("models_of") == "some" or bool(chosen),
        "teams": [("", "None"), *((team, team) for team in await team_ids(request, admin))],
        "users": sorted(users)[:USERS_MAX] if viewer_of(request).sees_all else [],
        "guardrails": [each.name for each in admin.guardrails if not each.default_on],
        "periods": periods_with(values.get("budget_duration") or None),
        "is_more_open": any(name in problems or values.get(name) for name in _MORE),
    }


async def model_names(request: _Request) -> list[str]:
    """Return the names that may be asked for."""
    listed = (await call_api(request, "GET", "/models")).body["data"]
    return [each["id"] for each in listed]


async def team_ids(request: _Request, admin: AdminState) -> list[str]:
    """Return the ids of the live teams that the viewer sees all of, or is a member of."""
    caller = viewer_of(request).caller
    snapshot = await admin.registry()
    ids = (
        team.team_id
        for team in snapshot.teams.values()
        if not team.deleted and (caller.sees_all or team.team_id in caller.teams)
    )
    return sorted(ids)[:TEAMS_MAX]
