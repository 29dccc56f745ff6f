"""`tallygate users`: users of a running gateway, to whom keys belong."""

import sys
from typing import Any

import msgspec
import rich_click as click

from services.client.gateway import Gateway
from services.client.key_rows import KeyRow, print_keys
from services.client.options import gateway_options, json_option
from services.client.output import cell_text, note, print_json
from services.client.owners import (
    OWNER_FIELDS,
    OwnerRow,
    delete_owners,
    note_change,
    owner_options,
    print_details,
    print_owners,
)
from services.client.settings import read_settings, unset_option_of

__all__ = ["users"]

PAGE_SIZE_MAX = 100

_FIELDS = {"alias": "user_alias", "email": "user_email", "role": "user_role", **OWNER_FIELDS}
_ROLES = ("proxy_admin", "proxy_admin_viewer", "internal_user", "internal_user_viewer")

_email_option = click.option("--email", help="The user's mail address.")
_role_option = click.option(
    "--role",
    type=click.Choice(_ROLES),
    help="What the user's keys may do at the management API. Without one: see themselves alone.",
)


class _User(OwnerRow, kw_only=True):
    user_id: str
    user_alias: str | None = None
    user_email: str | None = None
    user_role: str | None = None


class _Created(msgspec.Struct):
    user_id: str
    key: str | None = None
    key_id: str | None = None


class _Team(msgspec.Struct):
    team_id: str


class _Info(msgspec.Struct):
    user_info: _User
    keys: list[KeyRow]
    teams: list[_Team]


class _Updated(msgspec.Struct):
    data: _User


class _Page(msgspec.Struct):
    users: list[_User]
    total: int
    page: int
    total_pages: int


@click.group()
def users() -> None:
    """Make, list, change, block and delete users. USER is a user's id.

    Keys belong to a user by their --user-id; a user's budget is what all of them may spend
    together.
    """


@users.command()
@click.option("--id", "user_id", help="The user's id; without it a random one is made.")
@_email_option
@_role_option
@click.option("--team", multiple=True, help="A team to be a member of; may be given several times.")
@owner_options
@click.option("--with-key", is_flag=True, help="Make a first key too, and print it, this once.")
@click.option("--key-alias", help="With --with-key: that key's alias.")
@click.option("--key-duration", help="With --with-key: how long that key lives, such as 30d.")
@json_option
@gateway_options
def create(
    *,
    user_id: str | None,
    team: tuple[str, ...],
    with_key: bool,
    key_alias: str | None,
    key_duration: str | None,
    as_json: bool,
    gateway: Gateway,
    **settings: Any,
) -> None:
    """Make a user and print the user's id; with --with-key, print the first key instead."""
    of_key = {"user_id": user_id, "key_alias": key_alias, "duration": key_duration}
    if not with_key and (key_alias is not None or key_duration is not None):
        raise click.UsageError("--key-alias and --key-duration go with --with-key")
    body = read_settings(settings, _FIELDS) | {"auto_create_key": with_key}
    body |= {name: value for name, value in of_key.items() if value is not None}
    if team:
        body["teams"] = team
    content = gateway.post("/user/new", body)
    if as_json:
        print_json(content)
        return
    made = msgspec.json.decode(content, type=_Created)
    if made.key is None:
        sys.stdout.write(f"{cell_text(made.user_id)}\n")
        note("made the user above; keys belong to a user by their --user-id")
        return
    sys.stdout.write(f"{made.key}\n")
    note(f"made {made.user_id} with {made.key_id}; the key above is shown this once")


@users.command(name="list")
@click.option("--email", help="Users whose mail address holds this.")
@click.option("--page", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--size", type=click.IntRange(1, PAGE_SIZE_MAX), default=PAGE_SIZE_MAX, show_default=True
)
@json_option
@gateway_options
def list_users(*, email: str | None, page: int, size: int, as_json: bool, gateway: Gateway) -> None:
    """List users, the newest first, and what their keys spent in the current budget window."""
    query = {} if email is None else {"user_email": email}
    content = gateway.get("/user/list", page=page, page_size=size, **query)
    if as_json:
        print_json(content)
        return
    found = msgspec.json.decode(content, type=_Page)
    names: dict[str, list[Any]] = {
        "user": [row.user_id for row in found.users],
        "alias": [row.user_alias for row in found.users],
        "email": [row.user_email for row in found.users],
        "role": [row.user_role for row in found.users],
    }
    print_owners(names, found.users)
    if found.total_pages > 1:
        note(f"page {found.page} of {found.total_pages}, {found.total} users in all")


@users.command()
@click.argument("user")
@json_option
@gateway_options
def info(*, user: str, as_json: bool, gateway: Gateway) -> None:
    """Show one user, the user's spend and keys, and the teams of these keys."""
    content = gateway.get("/user/info", user_id=user)
    if as_json:
        print_json(content)
        return
    found = msgspec.json.decode(content, type=_Info)
    row = found.user_info
    names: list[list[Any]] = [
        ["user", row.user_id],
        ["alias", row.user_alias],
        ["email", row.user_email],
        ["role", row.user_role or "none"],
    ]
    print_details(names, row, [["teams", ", ".join(team.team_id for team in found.teams)]])
    print_keys(found.keys)


@users.command()
@click.argument("user")
@_email_option
@_role_option
@owner_options
@unset_option_of(_FIELDS)
@json_option
@gateway_options
def update(*, user: str, as_json: bool, gateway: Gateway, **settings: Any) -> None:
    """Change settings of a user; what is not named stays as it is."""
    body = read_settings(settings, _FIELDS)
    if not body:
        raise click.UsageError("nothing to change: name a setting, or --unset one")
    _change(gateway, user, body, "changed", as_json=as_json)


@users.command()
@click.argument("user")
@json_option
@gateway_options
def block(*, user: str, as_json: bool, gateway: Gateway) -> None:
    """Block a user: all of the user's keys are refused until the user is unblocked."""
    _change(gateway, user, {"blocked": True}, "blocked", as_json=as_json)


@users.command()
@click.argument("user")
@json_option
@gateway_options
def unblock(*, user: str, as_json: bool, gateway: Gateway) -> None:
    """Let a blocked user's keys be used again."""
    _change(gateway, user, {"blocked": False}, "unblocked", as_json=as_json)


@users.command()
@click.argument("user", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask, even at a terminal.")
@json_option
@gateway_options
def delete(*, user: tuple[str, ...], yes: bool, as_json: bool, gateway: Gateway) -> None:
    """Delete users and all of their keys for ever; their history stays in the ledger."""
    delete_owners(gateway, "user", user, yes=yes, as_json=as_json)


def _change(gateway: Gateway, user: str, body: dict[str, Any], done: str, *, as_json: bool) -> None:
    content = gateway.post("/user/update", {"user_id": user, **body})
    if as_json:
        print_json(content)
        return
    row = msgspec.json.decode(content, type=_Updated).data
    note_change(done, row.user_alias, row.user_id, row)
