"""`tallygate models`: deployments of a running gateway, and those of its registry changed."""

import sys
from decimal import Decimal
from typing import Any

import msgspec
import rich_click as click

from services.client.gateway import Gateway
from services.client.options import gateway_options, json_option
from services.client.output import cell_text, note, print_json, print_table

__all__ = ["models", "per_million"]

_TOKENS = 1_000_000
_COLUMNS = ["name", "model", "from", "input", "output", "id", "unusable"]


class _Facts(msgspec.Struct):
    id: str
    db_model: bool
    input_cost_per_token: Decimal | None = None
    output_cost_per_token: Decimal | None = None
    unusable: str | None = None


class _Entry(msgspec.Struct):
    model_name: str
    litellm_params: dict[str, Any]
    model_info: _Facts


class _Infos(msgspec.Struct):
    data: list[_Entry]


class _Row(msgspec.Struct):
    model_id: str
    model_name: str


_param_option = click.option(
    "--param",
    multiple=True,
    metavar="NAME=VALUE",
    help="One of litellm_params, such as model=anthropic/claude-haiku-4-5, timeout=120 or "
    "api_key=os.environ/TEAM_API_KEY; may be given several times. VALUE is JSON, or else text.",
)


_info_option = click.option(
    "--info",
    multiple=True,
    metavar="NAME=VALUE",
    help="One of model_info, LiteLLM's facts about a model, such as max_tokens=8192; may be given "
    "several times. VALUE is JSON, or else text.",
)


@click.group()
def models() -> None:
    """List models; add, change and delete those of the registry while requests run.

    Models of the configuration file are changed there. ID is that of `models list`.
    """


@models.command(name="list")
@click.option("--id", "model_id", help="This one alone.")
@json_option
@gateway_options
def list_models(*, model_id: str | None, as_json: bool, gateway: Gateway) -> None:
    """List the deployments of all models, with their prices per million tokens.

    `from` says where one is set: in the configuration file or over the API. `unusable` says why
    no proxy can serve it.
    """
    query = {} if model_id is None else {"litellm_model_id": model_id}
    content = gateway.get("/model/info", **query)
    if as_json:
        print_json(content)
        return
    found = msgspec.json.decode(content, type=_Infos).data
    rows = [
        [
            each.model_name,
            each.litellm_params.get("model"),
            "api" if each.model_info.db_model else "file",
            per_million(each.model_info.input_cost_per_token),
            per_million(each.model_info.output_cost_per_token),
            each.model_info.id,
            each.model_info.unusable,
        ]
        for each in found
    ]
    print_table(_COLUMNS, rows, right=frozenset((3, 4)))


@models.command()
@click.argument("name")
@click.option("--id", "model_id", help="The deployment's id; without it a random one is made.")
@_param_option
@_info_option
@json_option
@gateway_options
def create(
    *,
    name: str,
    model_id: str | None,
    param: tuple[str, ...],
    info: tuple[str, ...],
    as_json: bool,
    gateway: Gateway,
) -> None:
    """Add a model that clients ask for by NAME, and print its id."""
    facts = _values("--info", info) | ({} if model_id is None else {"id": model_id})
    params = _values("--param", param)
    body = {"model_name": name, "litellm_params": params, "model_info": facts}
    content = gateway.post("/model/new", body)
    if as_json:
        print_json(content)
        return
    row = msgspec.json.decode(content, type=_Row)
    sys.stdout.write(f"{cell_text(row.model_id)}\n")
    note(f"added {row.model_name}; its id is above")


@models.command()
@click.argument("model_id", metavar="ID")
@click.option("--name", help="The name that clients ask for.")
@_param_option
@_info_option
@json_option
@gateway_options
def update(
    *,
    model_id: str,
    name: str | None,
    param: tuple[str, ...],
    info: tuple[str, ...],
    as_json: bool,
    gateway: Gateway,
) -> None:
    """Change a model of the registry; what is not named stays, and NAME=null takes it away."""
    body: dict[str, Any] = {} if name is None else {"model_name": name}
    if param:
        body["litellm_params"] = _values("--param", param)
    if not body and not info:
        raise click.UsageError("nothing to change: give a --name, a --param or an --info")
    facts = _values("--info", info) | {"id": model_id}
    content = gateway.post("/model/update", {"model_info": facts, **body})
    if as_json:
        print_json(content)
        return
    row = msgspec.json.decode(content, type=_Row)
    note(f"changed {row.model_name} ({row.model_id})")


@models.command()
@click.argument("model_id", metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask, even at a terminal.")
@json_option
@gateway_options
def delete(*, model_id: str, yes: bool, as_json: bool, gateway: Gateway) -> None:
    """Delete a model of the registry; requests under way end as they began."""
    if not yes and sys.stdin.isatty():
        click.confirm(f"Delete the model {cell_text(model_id)} for ever?", abort=True)
    content = gateway.post("/model/delete", {"id": model_id})
    if as_json:
        print_json(content)
        return
    note(f"deleted {model_id}")


def _values(option: str, given: tuple[str, ...]) -> dict[str, Any]:
    """Return what an option's NAME=VALUE say. Raises click.BadParameter."""
    values: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{option} must be NAME=VALUE, such as timeout=120")
        try:
            values[name] = msgspec.json.decode(value)
        except (msgspec.MsgspecError, RecursionError):
            values[name] = value
    return values


def per_million(price_usd: Decimal | None) -> str:
    """Return the price of a million tokens without the zeros at its end."""
    return "" if price_usd is None else f"{(price_usd * _TOKENS).normalize():f}"
