"""What the commands about teams and about users share: options, rows and how they are shown."""

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
import rich_click as click

from services.client.budget_options import BUDGET_FIELDS, BUDGET_OPTIONS
from services.client.gateway import Gateway
from services.client.limited_rows import LimitedRow, limit_lines, note_spend_error
from services.client.output import dollars, note, print_json, print_table
from services.client.rate_options import RATE_FIELDS, RATE_OPTIONS

__all__ = [
    "OWNER_FIELDS",
    "OwnerRow",
    "delete_owners",
    "note_change",
    "owner_options",
    "print_details",
    "print_owners",
]

Command = TypeVar("Command", bound=Callable[..., Any])

OWNER_FIELDS = {
    **BUDGET_FIELDS,
    **RATE_FIELDS,
    "model": "models",
    "metadata": "metadata",
    "guardrail": "guardrails",
}
"""Each option of teams and users alike, and the field of the API that it sets."""


class OwnerRow(LimitedRow, kw_only=True):
    """What is shown of a team or a user."""

    blocked: bool
    models: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """Say in a word whether its keys are refused."""
        return "blocked" if self.blocked else "active"


def owner_options(command: Command) -> Command:
    """Add the options that describe a team or a user."""
    for option in (
        click.option(
            "--guardrail",
            multiple=True,
            help="A guardrail that the requests of its keys must pass; may be given several times.",
        ),
        *RATE_OPTIONS,
        click.option(
            "--model",
            multiple=True,
            help="A model that its keys may use; may be given several times. Without it: all.",
        ),
        click.option("--metadata", help="A JSON object of your own."),
        *BUDGET_OPTIONS,
        click.option("--alias", help="A name for people."),
    ):
        command = option(command)
    return command


def print_owners(names: dict[str, list[Any]], rows: list[Any]) -> None:
    """Print teams or users as a table; `names` are the columns that tell them apart."""
    columns = [*names, "status", "spend", "budget", "period"]
    cells = [
        [
            *(cells[number] for cells in names.values()),
            row.status,
            dollars(row.spend),
            dollars(row.max_budget),
            row.budget_duration,
        ]
        for number, row in enumerate(rows)
    ]
    money = len(names) + 1
    print_table(columns, cells, right=frozenset((money, money + 1)))
    note_spend_error(rows)


def print_details(names: list[list[Any]], row: OwnerRow, more: list[list[Any]]) -> None:
    """Print one team or user line by line: `names` first, `more` last."""
    lines: list[list[Any]] = [
        *names,
        ["status", row.status],
        *limit_lines(row),
        ["models", ", ".join(row.models) or "all"],
        ["guardrails", ", ".join(row.guardrails)],
        ["made", row.created_at],
        ["metadata", row.metadata or ""],
        *more,
    ]
    print_table(["", ""], lines, right=frozenset())
    note_spend_error([row])


def note_change(done: str, alias: str | None, owner_id: str, row: OwnerRow) -> None:
    """Say what was done with a team or a user, and where it stands now."""
    note(f"{done} {alias or owner_id} ({owner_id}), which is {row.status} now")


def delete_owners(
    gateway: Gateway, what: str, ids: Sequence[str], *, yes: bool, as_json: bool
) -> None:
    """Delete teams or users (`what` is one of them), and say how many.

    At a terminal it is asked first whether that is meant. Raises click.Abort where it is not.
    """
    if not yes and sys.stdin.isatty():
        click.confirm(f"Delete {len(ids)} {what}(s) and all of their keys for ever?", abort=True)
    content = gateway.post(f"/{what}/delete", {f"{what}_ids": ids})
    if as_json:
        print_json(content)
        return
    done = msgspec.json.decode(content, type=dict[str, Any])
    note(f"deleted {len(done[f'deleted_{what}s'])} {what}(s) and {done['deleted_keys']} key(s)")
