"""What the commands about teams and about users share: options, rows and how they are shown."""

import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
import rich_click as click

from services.client.budget_options import BUDGET_FIELDS, BUDGET_OPTIONS, budgets_text
from services.client.key_rows import note_spend_error
from services.client.output import dollars, print_table
from services.client.rate_options import RATE_FIELDS, RATE_OPTIONS, rates_text

__all__ = [
    "OWNER_FIELDS",
    "OwnerRow",
    "confirm_deletion",
    "json_option",
    "owner_options",
    "print_details",
    "print_owners",
]

Command = TypeVar("Command", bound=Callable[..., Any])

OWNER_FIELDS = {
    **BUDGET_FIELDS,
    **RATE_FIELDS,
    "metadata": "metadata",
    "guardrail": "guardrails",
}
"""Each option of teams and users alike, and the field of the API that it sets."""

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the gateway's answer as JSON."
)


class OwnerRow(msgspec.Struct, kw_only=True):
    """What is shown of a team or a user; `spend` is that of all of its keys."""

    blocked: bool
    spend: Decimal | None = None
    total_spend: Decimal | None = None
    spend_error: str | None = None
    max_budget: Decimal | None = None
    budget_duration: str | None = None
    budget_reset_at: str | None = None
    soft_budget: Decimal | None = None
    budget_limits: list[dict[str, Any]] = []
    model_max_budget: dict[str, dict[str, Any]] = {}
    temp_budget_increase: Decimal | None = None
    temp_budget_expiry: str | None = None
    strict_budget: bool = False
    rpm_limit: int | None = None
    tpm_limit: int | None = None
    max_parallel_requests: int | None = None
    model_rpm_limit: dict[str, int] = {}
    model_tpm_limit: dict[str, int] = {}
    metadata: dict[str, Any] = {}
    guardrails: list[str] = []
    created_at: str | None = None

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
    budget = dollars(row.max_budget) or "none"
    if row.budget_duration:
        budget += f", {row.budget_duration}, begins anew at {row.budget_reset_at}"
    lines: list[list[Any]] = [
        *names,
        ["status", row.status],
        ["spend", dollars(row.spend)],
        ["spend ever", dollars(row.total_spend)],
        ["budget", budget],
        ["further budgets", budgets_text(row)],
        ["rate limits", rates_text(row)],
        ["guardrails", ", ".join(row.guardrails)],
        ["made", row.created_at],
        ["metadata", row.metadata or ""],
        *more,
    ]
    print_table(["", ""], lines, right=frozenset())
    note_spend_error([row])


def confirm_deletion(count: int, what: str, *, yes: bool) -> None:
    """Ask at a terminal whether it is meant. Raises click.Abort where it is not."""
    if not yes and sys.stdin.isatty():
        click.confirm(f"Delete {count} {what}(s) and all of their keys for ever?", abort=True)
