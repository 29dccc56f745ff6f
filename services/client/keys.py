"""`tallygate keys`: virtual keys of a running gateway."""

import sys
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
import rich_click as click

from services.client.gateway import Gateway
from services.client.key_rows import (
    KeyPage,
    KeyRow,
    print_keys,
    resolve_key,
)
from services.client.limited_rows import limit_lines, note_spend_error
from services.client.options import gateway_options, json_option
from services.client.output import dollars, note, print_json, print_table
from services.client.settings import read_settings, setting_options, unset_option

__all__ = ["keys"]

PAGE_SIZE_MAX = 100


class _Created(KeyRow, kw_only=True):
    key: str = ""


class _Info(msgspec.Struct):
    info: KeyRow


class _Reset(msgspec.Struct):
    spend: Decimal
    previous_spend: Decimal


class _Deleted(msgspec.Struct):
    deleted_keys: list[str]


@click.group()
def keys() -> None:
    """Make, list, change, block and delete virtual keys.

    KEY is a key's alias, its id (key_…), its SHA-256, or the key itself.
    """


@keys.command()
@click.option(
    "--key-type",
    type=click.Choice(["default", "llm_api", "management", "read_only", "analyst"]),
    help="What it may call, by a name: the API, the management API, what that only shows, or SQL.",
)
@setting_options
@json_option
@gateway_options
def create(
    *,
    key_type: str | None,
    as_json: bool,
    gateway: Gateway,
    **settings: Any,
) -> None:
    """Make a virtual key and show it, this once."""
    body = read_settings(settings)
    if key_type is not None:
        body["key_type"] = key_type
    content = gateway.post("/key/generate", body)
    if as_json:
        print_json(content)
        return
    row = msgspec.json.decode(content, type=_Created)
    sys.stdout.write(f"{row.key}\n")
    note(f"made {_name(row)} ({row.key_id}); the key above is shown this once")


@keys.command(name="list")
@click.option("--alias", help="Keys whose alias holds this.")
@click.option("--user-id", help="Keys of this user.")
@click.option("--team-id", help="Keys of this team.")
@click.option(
    "--status",
    type=click.Choice(["active", "expired", "revoked", "deleted"]),
    help="Keys of this status; without it all but deleted ones.",
)
@click.option("--page", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--size", type=click.IntRange(1, PAGE_SIZE_MAX), default=PAGE_SIZE_MAX, show_default=True
)
@json_option
@gateway_options
def list_keys(
    *,
    as_json: bool,
    gateway: Gateway,
    **filters: Any,
) -> None:
    """List virtual keys, the newest first."""
    query: dict[str, Any] = {name: value for name, value in filters.items() if value is not None}
    if "alias" in query:
        query |= {"key_alias": query.pop("alias"), "substring_matching": "true"}
    content = gateway.get("/key/list", return_full_object="true", **query)
    if as_json:
        print_json(content)
        return
    page = msgspec.json.decode(content, type=KeyPage)
    print_keys(page.keys)
    if page.total_pages > 1:
        note(f"page {page.current_page} of {page.total_pages}, {page.total_count} keys in all")


@keys.command()
@click.argument("key")
@json_option
@gateway_options
def info(
    *,
    key: str,
    as_json: bool,
    gateway: Gateway,
) -> None:
    """Show one virtual key, its spend and when its budget begins anew."""
    content = gateway.get("/key/info", key=resolve_key(gateway, key))
    if as_json:
        print_json(content)
        return
    _print_row(msgspec.json.decode(content, type=_Info).info)


@keys.command()
@click.argument("key")
@json_option
@gateway_options
def block(
    *,
    key: str,
    as_json: bool,
    gateway: Gateway,
) -> None:
    """Block a virtual key: it is refused until it is unblocked."""
    _change(gateway, "/key/block", key, {}, "blocked", as_json=as_json)


@keys.command()
@click.argument("key")
@json_option
@gateway_options
def unblock(
    *,
    key: str,
    as_json: bool,
    gateway: Gateway,
) -> None:
    """Let a blocked virtual key be used again."""
    _change(gateway, "/key/unblock", key, {}, "unblocked", as_json=as_json)


@keys.command()
@click.argument("key")
@setting_options
@unset_option
@json_option
@gateway_options
def update(
    *,
    key: str,
    as_json: bool,
    gateway: Gateway,
    **settings: Any,
) -> None:
    """Change settings of a virtual key; what is not named stays as it is."""
    body = read_settings(settings)
    if not body:
        raise click.UsageError("nothing to change: name a setting, or --unset one")
    _change(gateway, "/key/update", key, body, "changed", as_json=as_json)


@keys.command()
@click.argument("key")
@click.option("--grace-period", help="The old key works for so long beside the new one (24h).")
@json_option
@gateway_options
def regenerate(
    *,
    key: str,
    grace_period: str | None,
    as_json: bool,
    gateway: Gateway,
) -> None:
    """Replace a virtual key's secret and show the new one, this once."""
    body = {"key": resolve_key(gateway, key)}
    if grace_period is not None:
        body["grace_period"] = grace_period
    content = gateway.post("/key/regenerate", body)
    if as_json:
        print_json(content)
        return
    row = msgspec.json.decode(content, type=_Created)
    sys.stdout.write(f"{row.key}\n")
    end = (
        f"works until {row.former_key_until}" if row.former_key_until else "is refused from now on"
    )
    note(f"replaced the key of {row.key_alias or row.key_name} ({row.key_id}); the old one {end}")


@keys.command()
@click.argument("key")
@click.option("--to", "reset_to", default="0", show_default=True, help="US dollars.")
@json_option
@gateway_options
def reset_spend(
    *,
    key: str,
    reset_to: str,
    as_json: bool,
    gateway: Gateway,
) -> None:
    """Set what a virtual key has spent, so that its budgets count anew; its history stays."""
    try:
        amount = Decimal(reset_to)
    except InvalidOperation:
        raise click.BadParameter("--to must be an amount of US dollars") from None
    body = {"key": resolve_key(gateway, key), "reset_to": amount}
    content = gateway.post("/key/reset_spend", body)
    if as_json:
        print_json(content)
        return
    answer = msgspec.json.decode(content, type=_Reset)
    note(
        f"the spend of {key} counts as {dollars(answer.spend)} from now on, "
        f"not {dollars(answer.previous_spend)} any more"
    )


@keys.command()
@click.argument("key", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask, even at a terminal.")
@json_option
@gateway_options
def delete(
    *,
    key: tuple[str, ...],
    yes: bool,
    as_json: bool,
    gateway: Gateway,
) -> None:
    """Delete virtual keys for ever; their history stays in the ledger."""
    if not yes and sys.stdin.isatty():
        click.confirm(f"Delete {len(key)} key(s) for ever?", abort=True)
    names = [resolve_key(gateway, name) for name in key]
    content = gateway.post("/key/delete", {"keys": names})
    if as_json:
        print_json(content)
        return
    note(f"deleted {len(msgspec.json.decode(content, type=_Deleted).deleted_keys)} key(s)")


def _change(
    gateway: Gateway, path: str, key: str, body: dict[str, Any], done: str, *, as_json: bool
) -> None:
    content = gateway.post(path, {"key": resolve_key(gateway, key), **body})
    if as_json:
        print_json(content)
        return
    row = msgspec.json.decode(content, type=KeyRow)
    note(f"{done} {_name(row)} ({row.key_id}), which is {row.status} now")


def _name(row: KeyRow) -> str:
    return row.key_alias or row.key_name


def _print_row(row: KeyRow) -> None:
    lines: list[list[Any]] = [
        ["alias", row.key_alias],
        ["key", row.key_name],
        ["id", row.key_id],
        ["status", row.status],
        *limit_lines(row),
        ["models", ", ".join(row.models) or "all"],
        ["user", row.user_id],
        ["team", row.team_id],
        ["analyst", row.analyst],
        ["aliases", ", ".join(f"{alias}={name}" for alias, name in row.aliases.items())],
        ["may call", ", ".join(row.allowed_routes) or "all"],
        ["names end users", "yes" if row.names_end_users else "no"],
        ["prompts stored", row.store_prompts],
        ["quota used up", row.on_quota_exhausted],
        ["guardrails", ", ".join(row.guardrails)],
        ["made", row.created_at],
        ["expires", row.expires or "never"],
        ["former key until", row.former_key_until],
        ["tags", ", ".join(row.tags)],
        ["metadata", row.metadata or ""],
    ]
    print_table(["", ""], lines, right=frozenset())
    note_spend_error([row])
