"""`tallygate budgets`: what keys, users, teams and all together may spend, and what they have."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import rich_click as click

from services.client.budget_options import BUDGET_FIELDS, BUDGET_OPTIONS
from services.client.budget_rows import (
    SCOPES,
    BudgetLine,
    GlobalBudget,
    Scope,
    csv_cells,
    lines_of,
    lines_of_all,
    table_row,
)
from services.client.gateway import EXIT_UNAUTHENTICATED, ClientError, Gateway
from services.client.key_rows import KeyPage, KeyRow, resolve_key
from services.client.limited_rows import LimitedRow, note_spend_error
from services.client.member_budgets import (
    MEMBER_FIELDS,
    budgets_of_member,
    budgets_of_members,
    set_member_budget,
)
from services.client.options import csv_option, gateway_options, json_option, raw_option
from services.client.output import csv_text, note, print_json, print_table
from services.client.settings import read_settings

__all__ = ["budgets"]

PAGE_SIZE = 100
PAGES_MAX = 50
"""So many pages of keys, and of users, are looked through for those that have a budget."""

_COLUMNS = ["whose", "name", "budget", "limit", "spent", "left", "used", "state", "resets", "id"]
_RIGHT = frozenset((3, 4, 5, 6))


class _Team(LimitedRow, kw_only=True):
    team_id: str
    team_alias: str | None = None


class _User(LimitedRow, kw_only=True):
    user_id: str
    user_alias: str | None = None
    user_email: str | None = None


class _UserPage(msgspec.Struct):
    users: list[_User]
    total_pages: int


class _KeyInfo(msgspec.Struct):
    info: KeyRow


class _TeamInfo(msgspec.Struct):
    team_info: _Team


class _UserInfo(msgspec.Struct):
    user_info: _User


_scope_option = click.option(
    "--scope",
    type=click.Choice(SCOPES),
    multiple=True,
    help="Budgets of these alone; may be given several times. global: that of all keys together.",
)
_owned = click.Choice(["key", "user", "team", "member"])


@click.group()
def budgets() -> None:
    """Show, set and take away budgets of keys, users and teams; show that of all together.

    NAME is a key's alias or id (or the key itself), a user's id, a team's id, or TEAM/USER for
    what a member's keys may spend in a team.
    """


@budgets.command(name="list")
@_scope_option
@click.option(
    "--state",
    type=click.Choice(["within", "warned", "exceeded"]),
    multiple=True,
    help="Those alone that stand so; may be given several times.",
)
@csv_option
@raw_option
@json_option
@gateway_options
def list_budgets(
    *,
    scope: tuple[Scope, ...],
    state: tuple[str, ...],
    as_csv: bool,
    raw: bool,
    as_json: bool,
    gateway: Gateway,
) -> None:
    """List every budget with what was spent of it, what is left and when it resets.

    A budget is warned of from 80 % or its soft budget on. One that is exceeded refuses requests.
    """
    lines: list[BudgetLine] = []
    refused: list[ClientError] = []
    wanted = scope or SCOPES
    for each in wanted:
        try:
            lines += _FINDERS[each](gateway)
        except ClientError as error:
            # Who may see some of it is shown that, unless the rest was asked for by name.
            if scope or error.exit_code != EXIT_UNAUTHENTICATED:
                raise
            refused.append(error)
    if len(refused) == len(wanted):
        raise refused[0]
    for each_refused in refused:
        note(f"note: not all is shown: {each_refused}")
    shown = [line for line in lines if not state or line.state in state]
    if as_csv:
        columns, rows = csv_cells(shown)
        sys.stdout.write(csv_text(columns, rows, raw=raw))
    else:
        _print(shown, as_json=as_json)


@budgets.command()
@click.argument("scope", type=click.Choice(SCOPES), required=False)
@click.argument("name", required=False)
@json_option
@gateway_options
def info(*, scope: Scope | None, name: str | None, as_json: bool, gateway: Gateway) -> None:
    """Show the budgets of a key, a user, a team or a member, or (global) that of all keys together.

    Without SCOPE and NAME: of the virtual key that asks.
    """
    if scope == "global":
        _print(_of_all(gateway), as_json=as_json)
        return
    if scope is not None and name is None:
        raise click.UsageError(f"NAME is missing: which {scope}?")
    _print(_of_one(gateway, scope or "key", name), as_json=as_json)


@budgets.command(name="set")
@click.argument("scope", type=_owned)
@click.argument("name")
@json_option
@gateway_options
def set_budgets(
    *, scope: Scope, name: str, as_json: bool, gateway: Gateway, **settings: Any
) -> None:
    """Set budgets of a key, a user, a team or a member; what is not named stays as it is.

    The budget of all keys together stands in the configuration (litellm_settings: max_budget).
    """
    body = read_settings(settings, BUDGET_FIELDS)
    if not body:
        raise click.UsageError("nothing to set: name a budget, such as --max-budget 100")
    _change(gateway, scope, name, body)
    _print(_of_one(gateway, scope, name), as_json=as_json)


for _option in BUDGET_OPTIONS:
    set_budgets = _option(set_budgets)


@budgets.command(name="unset")
@click.argument("scope", type=_owned)
@click.argument("name")
@click.argument(
    "what", nargs=-1, type=click.Choice([each.replace("_", "-") for each in BUDGET_FIELDS])
)
@click.option("--all", "everything", is_flag=True, help="All of them.")
@json_option
@gateway_options
def unset_budgets(
    *,
    scope: Scope,
    name: str,
    what: tuple[str, ...],
    everything: bool,
    as_json: bool,
    gateway: Gateway,
) -> None:
    """Take budgets of a key, a user, a team or a member away: those that WHAT names."""
    if everything == bool(what):
        raise click.UsageError("say what to take away, such as max-budget, or --all")
    known = MEMBER_FIELDS if scope == "member" else BUDGET_FIELDS
    names = [each.replace("-", "_") for each in what] or list(known)
    _change(gateway, scope, name, {BUDGET_FIELDS[each]: None for each in names})
    _print(_of_one(gateway, scope, name), as_json=as_json)


def _change(gateway: Gateway, scope: Scope, name: str, body: dict[str, Any]) -> None:
    if scope == "member":
        set_member_budget(gateway, name, body)
    elif scope == "key":
        gateway.post("/key/update", {"key": resolve_key(gateway, name), **body})
    else:
        gateway.post(f"/{scope}/update", {f"{scope}_id": name, **body})


def _of_one(gateway: Gateway, scope: Scope, name: str | None) -> list[BudgetLine]:
    """Return the budgets of a key (without a name the one that asks), a user or a team."""
    if scope == "key":
        query = {} if name is None else {"key": resolve_key(gateway, name)}
        key = msgspec.json.decode(gateway.get("/key/info", **query), type=_KeyInfo).info
        return _lines("key", [key])
    assert name is not None
    if scope == "member":
        return budgets_of_member(gateway, name)
    if scope == "user":
        content = gateway.get("/user/info", user_id=name)
        return _lines("user", [msgspec.json.decode(content, type=_UserInfo).user_info])
    content = gateway.get("/team/info", team_id=name)
    return _lines("team", [msgspec.json.decode(content, type=_TeamInfo).team_info])


def _of_keys(gateway: Gateway) -> list[BudgetLine]:
    rows: list[KeyRow] = []
    query: dict[str, str | int] = {
        "return_full_object": "true",
        "sort_by": "max_budget",
        "size": PAGE_SIZE,
    }
    for number in range(1, PAGES_MAX + 1):
        page = msgspec.json.decode(gateway.get("/key/list", page=number, **query), type=KeyPage)
        rows += page.keys
        if number >= page.total_pages:
            break
    else:
        _note_more("keys", len(rows))
    return _lines("key", rows)


def _of_users(gateway: Gateway) -> list[BudgetLine]:
    rows: list[_User] = []
    for number in range(1, PAGES_MAX + 1):
        content = gateway.get("/user/list", page=number, page_size=PAGE_SIZE)
        page = msgspec.json.decode(content, type=_UserPage)
        rows += page.users
        if number >= page.total_pages:
            break
    else:
        _note_more("users", len(rows))
    return _lines("user", rows)


def _of_teams(gateway: Gateway) -> list[BudgetLine]:
    return _lines("team", msgspec.json.decode(gateway.get("/team/list"), type=list[_Team]))


def _of_all(gateway: Gateway) -> list[BudgetLine]:
    return lines_of_all(msgspec.json.decode(gateway.get("/global/spend"), type=GlobalBudget))


_FINDERS: dict[Scope, Callable[[Gateway], list[BudgetLine]]] = {
    "key": _of_keys,
    "user": _of_users,
    "team": _of_teams,
    "member": budgets_of_members,
    "global": _of_all,
}


def _lines(scope: Scope, rows: list[Any]) -> list[BudgetLine]:
    """Return the budgets of rows of one kind, and say so where their spend is not known."""
    now = datetime.now(UTC)
    lines: list[BudgetLine] = []
    for row in rows:
        if scope == "key":
            scope_id, name = row.key_id, row.key_alias or row.key_name
        elif scope == "user":
            scope_id, name = row.user_id, row.user_alias or row.user_email or row.user_id
        else:
            scope_id, name = row.team_id, row.team_alias or row.team_id
        lines += lines_of(scope, scope_id, name, row, now)
    note_spend_error(rows)
    return lines


def _note_more(what: str, count: int) -> None:
    note(
        f"note: {count} {what} were looked through, there are more; `tallygate sql` has all "
        "budgets, in the table of that name"
    )


def _print(lines: list[BudgetLine], *, as_json: bool) -> None:
    if as_json:
        print_json(msgspec.json.Encoder(decimal_format="number").encode(lines))
        return
    cells = [[line.scope, line.name, *table_row(line), line.scope_id] for line in lines]
    print_table(_COLUMNS, cells, right=_RIGHT)
    if not lines:
        note("no budget is set")
