"""`tallygate teams member-…`: who belongs to a team, and who manages it."""

from collections.abc import Sequence
from typing import Any

import msgspec
import rich_click as click

from services.client.gateway import Gateway
from services.client.options import gateway_options, json_option
from services.client.output import note, print_json, print_table

__all__ = ["MemberRow", "member_commands", "print_members"]


class MemberRow(msgspec.Struct):
    """A user in a team."""

    user_id: str
    role: str
    user_email: str | None = None


class _Team(msgspec.Struct):
    team_id: str
    members_with_roles: list[MemberRow]
    deleted_keys: int = 0


_role_option = click.option(
    "--role",
    type=click.Choice(["admin", "user"]),
    default="user",
    show_default=True,
    help="admin: manages the team's keys and members.",
)
_by_email_option = click.option(
    "--by-email", is_flag=True, help="USER is a mail address, not the user's id."
)


def print_members(rows: Sequence[MemberRow]) -> None:
    """Print the members of a team as a table, those who manage it first."""
    ordered = sorted(rows, key=lambda row: (row.role != "admin", row.user_id))
    cells = [[row.user_id, row.user_email, row.role] for row in ordered]
    print_table(["member", "email", "role"], cells, right=frozenset())


@click.command(name="member-add")
@click.argument("team")
@click.argument("user", nargs=-1, required=True)
@_role_option
@_by_email_option
@json_option
@gateway_options
def _add(
    *,
    team: str,
    user: tuple[str, ...],
    role: str,
    by_email: bool,
    as_json: bool,
    gateway: Gateway,
) -> None:
    """Make users members of a team; one who is no user yet is made one, without a role or a key."""
    given = [{**_named(each, by_email=by_email), "role": role} for each in user]
    content = gateway.post("/team/member_add", {"team_id": team, "member": given})
    if as_json:
        print_json(content)
        return
    found = msgspec.json.decode(content, type=_Team)
    note(f"added {len(given)} member(s) to {found.team_id}: {len(found.members_with_roles)} in all")


@click.command(name="member-update")
@click.argument("team")
@click.argument("user")
@_role_option
@_by_email_option
@json_option
@gateway_options
def _update(
    *, team: str, user: str, role: str, by_email: bool, as_json: bool, gateway: Gateway
) -> None:
    """Change what a member is in a team."""
    body = {"team_id": team, **_named(user, by_email=by_email), "role": role}
    content = gateway.post("/team/member_update", body)
    if as_json:
        print_json(content)
        return
    found = msgspec.json.decode(content, type=MemberRow)
    note(f"{found.user_id} has the role {found.role} in {team} now")


@click.command(name="member-delete")
@click.argument("team")
@click.argument("user")
@_by_email_option
@json_option
@gateway_options
def _delete(*, team: str, user: str, by_email: bool, as_json: bool, gateway: Gateway) -> None:
    """Remove a member from a team, and delete the member's keys that belong to the team."""
    body = {"team_id": team, **_named(user, by_email=by_email)}
    content = gateway.post("/team/member_delete", body)
    if as_json:
        print_json(content)
        return
    found = msgspec.json.decode(content, type=_Team)
    note(f"removed {user} from {found.team_id}, and deleted {found.deleted_keys} key(s)")


def _named(user: str, *, by_email: bool) -> dict[str, Any]:
    return {"user_email" if by_email else "user_id": user}


member_commands: tuple[click.Command, ...] = (_add, _update, _delete)
"""Commands for the group `teams`."""
