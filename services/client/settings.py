"""The options that describe a virtual key, and the request body they make."""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import rich_click as click

from services.client.budget_options import BUDGET_FIELDS, BUDGET_OPTIONS, budget_value
from services.client.rate_options import RATE_FIELDS, RATE_OPTIONS, model_rates

__all__ = ["read_settings", "setting_options", "unset_option", "unset_option_of"]

Command = TypeVar("Command", bound=Callable[..., Any])

_FIELDS = {
    "alias": "key_alias",
    "model": "models",
    **BUDGET_FIELDS,
    "duration": "duration",
    "user_id": "user_id",
    "team_id": "team_id",
    "tag": "tags",
    "metadata": "metadata",
    "analyst": "analyst",
    "names_end_users": "names_end_users",
    "store_prompts": "store_prompts",
    "on_quota_exhausted": "on_quota_exhausted",
    "guardrail": "guardrails",
    "allowed_route": "allowed_routes",
    "model_alias": "aliases",
    **RATE_FIELDS,
}
"""Each option and the field of the API that it sets."""


def setting_options(command: Command) -> Command:
    """Add the options that describe a key."""
    for option in (
        click.option(
            "--analyst",
            type=click.Choice(["team", "all"]),
            help="Let it ask the ledger in SQL: about its team's rows, or about all.",
        ),
        click.option(
            "--names-end-users/--no-names-end-users",
            default=None,
            help="It is the key of a gateway in front, whose headers say who asks.",
        ),
        click.option(
            "--store-prompts/--no-store-prompts",
            default=None,
            help="Keep what it asks and is answered word for word, or not, whatever the "
            "configuration says.",
        ),
        click.option(
            "--on-quota-exhausted",
            type=click.Choice(["pay", "refuse"]),
            help="Where its subscription has no quota left: go on over an API key that is paid, or "
            "not. Without it: as its team says.",
        ),
        click.option(
            "--guardrail",
            multiple=True,
            help="A guardrail that its requests must pass; may be given several times.",
        ),
        click.option(
            "--allowed-route",
            multiple=True,
            help="A path, or a group such as llm_api_routes, that it may call, and no others; may "
            "be given several times.",
        ),
        click.option(
            "--model-alias",
            multiple=True,
            metavar="ALIAS=MODEL",
            help="A model name of its own that stands for another; may be given several times.",
        ),
        *RATE_OPTIONS,
        click.option("--metadata", help="A JSON object of your own."),
        click.option("--tag", multiple=True, help="A label; may be given several times."),
        click.option("--team-id", help="The team that the key belongs to."),
        click.option("--user-id", help="The user that the key belongs to."),
        click.option("--duration", help="How long the key lives, such as 30d."),
        *BUDGET_OPTIONS,
        click.option(
            "--model",
            multiple=True,
            help="A model that the key may use; may be given several times. Without it: all.",
        ),
        click.option("--alias", help="A name to know the key by."),
    ):
        command = option(command)
    return command


def unset_option_of(fields: dict[str, str]) -> Callable[[Command], Command]:
    """Return what adds the option that takes settings away; `fields` are options and fields."""
    return click.option(
        "--unset",
        multiple=True,
        type=click.Choice([name.replace("_", "-") for name in fields]),
        help="Take a setting away; may be given several times.",
    )


def unset_option(command: Command) -> Command:
    """Add the option that takes settings of a key away."""
    return unset_option_of(_FIELDS)(command)


def read_settings(settings: dict[str, Any], fields: dict[str, str] | None = None) -> dict[str, Any]:
    """Return the request body for the options given. Raises click.BadParameter.

    `fields` are the options and the fields of the API that they set; without it those of keys.
    """
    fields = _FIELDS if fields is None else fields
    body: dict[str, Any] = {}
    for name, field in fields.items():
        value = settings.get(name)
        if value is None or value == ():
            continue
        if name in BUDGET_FIELDS or name == "member_budget":
            value = budget_value(name, value)
        elif name in ("model_rpm_limit", "model_tpm_limit"):
            value = model_rates(name, value)
        elif name == "model_alias":
            value = _pairs(value)
        elif name == "metadata":
            value = _object(value)
        body[field] = value
    for name in settings.get("unset", ()):
        field = fields[name.replace("-", "_")]
        if field in body:
            raise click.BadParameter(f"--{name} is both given and unset")
        body[field] = None
    return body


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    pairs = dict(text.partition("=")[::2] for text in texts)
    if not all(pairs) or not all(pairs.values()):
        raise click.BadParameter("--model-alias must be ALIAS=MODEL")
    return pairs


def _object(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError):
        raise click.BadParameter("--metadata must be a JSON object") from None
