"""`tallygate teams member-…`: who belongs to a team, and who manages it."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
import rich_click as click

from services.client.budget_options import budget_value
from services.client.gateway import Gateway
from services.client.options import gateway_options, json_option
from services.client.output import dollars, note, print_json, print_table

__all__ = ["MemberRow", "Membership", "member_commands", "print_members"]

Command = TypeVar("Command", bound=Callable[..., Any])


class MemberRow(msgspec.Struct):
    """A user in a team."""

    user_id: str
    role: str
    user_email: str | None = None


class _Budget(msgspec.Struct):
    max_budget: Decimal
    budget_duration: str | None = None


class Membership(msgspec.Struct):
    """A member's budget in a team, and what is spent of it."""

    team_id: str
    user_id: str
    spend: Decimal | None = None
    budget_reset_at: str | None = None
    litellm_budget_table: _Budget | None = None


class _Changed(MemberRow):
    max_budget_in_team: Decimal | None = None


class _Team(msgspec.Struct):
    team_id: str
    members_with_roles: list[MemberRow]
    deleted_keys: int = 0


_ROLES = click.Choice(["admin", "user"])
_ROLE_HELP = "admin: manages the team's keys and members."
_by_email_option = click.option(
    "--by-email", is_flag=True, help="USER is a mail address, not the user's id."
)


def _budget_options(command: Command) -> Command:
    for option in (
        click.option(
            "--budget-duration", help="How long that lasts: daily, monthly, …; else as in the team."
        ),
        click.option(
            "--max-budget", help="US dollars that a member's keys in the team may spend together."
        ),
    ):
        command = option(command)
    return command


def _budget(max_budget: str | None, budget_duration: str | None) -> dict[str, Any]:
    """Return the fields of what was given. Raises click.BadParameter."""
    found: dict[str, Any] = {}
    if max_budget is not None:
        found["max_budget_in_team"] = budget_value("max_budget", max_budget)
    if budget_duration is not None:
        found["budget_duration"] = budget_duration
    return found


def print_members(rows: Sequence[MemberRow], places: Sequence[Membership] = ()) -> None:
    """Print the members of a team as a table, those who manage it first, with their budgets."""
    ordered = sorted(rows, key=lambda row: (row.role != "admin", row.user_id))
    by_user = {place.user_id: place for place in places}
    cells = [
        [row.user_id, row.user_email, row.role, *_budget_cells(by_user.get(row.user_id))]
        for row in ordered
    ]
    columns = ["member", "email", "role", "spend here", "budget here", "window"]
    print_table(columns, cells, right=frozenset({3, 4}))


def _budget_cells(place: Membership | None) -> list[Any]:
    if place is None:
        return ["", "", ""]
    budget = place.litellm_budget_table
    if budget is None:
        return [dollars(place.spend), "", ""]
    return [dollars(place.spend), dollars(budget.max_budget), budget.budget_duration]


@click.command(name="member-add")
@click.argument("team")
@click.argument("user", nargs=-1, required=True)
@click.option("--role", type=_ROLES, default="user", show_default=True, help=_ROLE_HELP)
@_budget_options
@_by_email_option
@json_option
@gateway_options
def _add(
    *,
    team: str,
    user: tuple[str, ...],
    role: str,
    max_budget: str | None,
    budget_duration: str | None,
    by_email: bool,
    as_json: bool,
    gateway: Gateway,
) -> None:
    """Make users members of a team; one who is no user yet is made one, without a role or a key."""
    given = [{**_named(each, by_email=by_email), "role": role} for each in user]
    body = {"team_id": team, "member": given, **_budget(max_budget, budget_duration)}
    content = gateway.post("/team/member_add", body)
    if as_json:
        print_json(content)
        return
    found = msgspec.json.decode(content, type=_Team)
    note(f"added {len(given)} member(s) to {found.team_id}: {len(found.members_with_roles)} in all")


@click.command(name="member-update")
@click.argument("team")
@click.argument("user")
@click.option("--role", type=_ROLES, help=_ROLE_HELP)
@_budget_options
@click.option("--unset-budget", is_flag=True, help="Take the member's own budget away.")
@_by_email_option
@json_option
@gateway_options
def _update(
    *,
    team: str,
    user: str,
    role: str | None,
    max_budget: str | None,
    budget_duration: str | None,
    unset_budget: bool,
    by_email: bool,
    as_json: bool,
    gateway: Gateway,
) -> None:
    """Change what a member is in a team, and may spend there; what is not named stays."""
    changes = _budget(max_budget, budget_duration)
    if unset_budget:
        if changes:
            raise click.UsageError("--unset-budget goes with no other budget")
        changes = {"max_budget_in_team": None, "budget_duration": None}
    if role is not None:
        changes["role"] = role
    if not changes:
        raise click.UsageError("nothing to change: name a role or a budget")
    body = {"team_id": team, **_named(user, by_email=by_email), **changes}
    content = gateway.post("/team/member_update", body)
    if as_json:
        print_json(content)
        return
    found = msgspec.json.decode(content, type=_Changed)
    own = found.max_budget_in_team
    limit = "no budget of its own" if own is None else f"{dollars(own)} of its own"
    note(f"{found.user_id} has the role {found.role} in {team} now, and {limit}")


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
