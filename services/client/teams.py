"""`tallygate teams`: teams of a running gateway, to which keys belong."""

import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
import rich_click as click

from services.client.gateway import Gateway
from services.client.key_rows import KeyRow, print_keys
from services.client.members import MemberRow, Membership, member_commands, print_members
from services.client.options import gateway_options, json_option
from services.client.output import cell_text, dollars, note, print_json
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

__all__ = ["teams"]

Command = TypeVar("Command", bound=Callable[..., Any])

_FIELDS = {
    "alias": "team_alias",
    **OWNER_FIELDS,
    "on_quota_exhausted": "on_quota_exhausted",
    "member_budget": "team_member_budget",
    "member_budget_duration": "team_member_budget_duration",
}

_quota_option = click.option(
    "--on-quota-exhausted",
    type=click.Choice(["pay", "refuse"]),
    help="What holds for its keys that say nothing of it, where a subscription has no quota left: "
    "go on over an API key that is paid, or not.",
)


def _member_budget_options(command: Command) -> Command:
    for option in (
        click.option("--member-budget-duration", help="How long that lasts: daily, monthly, …"),
        click.option(
            "--member-budget",
            help="US dollars that each member may spend in the team who has no other budget there.",
        ),
    ):
        command = option(command)
    return command


class _Team(OwnerRow, kw_only=True):
    team_id: str
    team_alias: str | None = None
    on_quota_exhausted: str | None = None
    members_with_roles: tuple[MemberRow, ...] = ()
    team_member_budget: Decimal | None = None
    team_member_budget_duration: str | None = None


class _Info(msgspec.Struct):
    team_info: _Team
    keys: list[KeyRow]
    team_memberships: tuple[Membership, ...] = ()


class _Updated(msgspec.Struct):
    data: _Team


@click.group()
def teams() -> None:
    """Make, list, change, block and delete teams, and say who belongs to them.

    TEAM is a team's id, USER a user's.

    Keys belong to a team by their --team-id; its budget is what all of them may spend together.
    """


@teams.command()
@click.option("--id", "team_id", help="The team's id; without it a random one is made.")
@owner_options
@_quota_option
@_member_budget_options
@json_option
@gateway_options
def create(*, team_id: str | None, as_json: bool, gateway: Gateway, **settings: Any) -> None:
    """Make a team and print its id."""
    body = read_settings(settings, _FIELDS)
    content = gateway.post("/team/new", body if team_id is None else {"team_id": team_id, **body})
    if as_json:
        print_json(content)
        return
    row = msgspec.json.decode(content, type=_Team)
    sys.stdout.write(f"{cell_text(row.team_id)}\n")
    note("made the team above; keys belong to it by their --team-id")


@teams.command(name="list")
@json_option
@gateway_options
def list_teams(*, as_json: bool, gateway: Gateway) -> None:
    """List teams, the newest first, and what their keys spent in the current budget window."""
    content = gateway.get("/team/list")
    if as_json:
        print_json(content)
        return
    rows = msgspec.json.decode(content, type=list[_Team])
    names: dict[str, list[Any]] = {
        "team": [row.team_id for row in rows],
        "alias": [row.team_alias for row in rows],
    }
    print_owners(names, rows)


@teams.command()
@click.argument("team")
@json_option
@gateway_options
def info(*, team: str, as_json: bool, gateway: Gateway) -> None:
    """Show one team, its spend, its members and its keys."""
    content = gateway.get("/team/info", team_id=team)
    if as_json:
        print_json(content)
        return
    found = msgspec.json.decode(content, type=_Info)
    row = found.team_info
    names: list[list[Any]] = [["team", row.team_id], ["alias", row.team_alias]]
    each = dollars(row.team_member_budget)
    if each and row.team_member_budget_duration is not None:
        each = f"{each} {row.team_member_budget_duration}"
    more = [["quota used up", row.on_quota_exhausted], ["each member", each or None]]
    print_details(names, row, more)
    if row.members_with_roles:
        print_members(row.members_with_roles, found.team_memberships)
    print_keys(found.keys)


@teams.command()
@click.argument("team")
@owner_options
@_quota_option
@_member_budget_options
@unset_option_of(_FIELDS)
@json_option
@gateway_options
def update(*, team: str, as_json: bool, gateway: Gateway, **settings: Any) -> None:
    """Change settings of a team; what is not named stays as it is."""
    body = read_settings(settings, _FIELDS)
    if not body:
        raise click.UsageError("nothing to change: name a setting, or --unset one")
    content = gateway.post("/team/update", {"team_id": team, **body})
    if as_json:
        print_json(content)
        return
    _tell("changed", msgspec.json.decode(content, type=_Updated).data)


@teams.command()
@click.argument("team")
@json_option
@gateway_options
def block(*, team: str, as_json: bool, gateway: Gateway) -> None:
    """Block a team: all of its keys are refused until it is unblocked."""
    _change(gateway, "/team/block", team, "blocked", as_json=as_json)


@teams.command()
@click.argument("team")
@json_option
@gateway_options
def unblock(*, team: str, as_json: bool, gateway: Gateway) -> None:
    """Let a blocked team's keys be used again."""
    _change(gateway, "/team/unblock", team, "unblocked", as_json=as_json)


@teams.command()
@click.argument("team", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask, even at a terminal.")
@json_option
@gateway_options
def delete(*, team: tuple[str, ...], yes: bool, as_json: bool, gateway: Gateway) -> None:
    """Delete teams and all of their keys for ever; their history stays in the ledger."""
    delete_owners(gateway, "team", team, yes=yes, as_json=as_json)


for _command in member_commands:
    teams.add_command(_command)


def _change(gateway: Gateway, path: str, team: str, done: str, *, as_json: bool) -> None:
    content = gateway.post(path, {"team_id": team})
    if as_json:
        print_json(content)
        return
    _tell(done, msgspec.json.decode(content, type=_Team))


def _tell(done: str, row: _Team) -> None:
    note_change(done, row.team_alias, row.team_id, row)
