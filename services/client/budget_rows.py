"""Budgets as the API shows them with keys, users and teams: one line for each limit. Pure."""

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import msgspec

from services.client.limited_rows import BudgetUsage, LimitedRow
from services.client.output import dollars, plain_cell

__all__ = [
    "SCOPES",
    "BudgetLine",
    "GlobalBudget",
    "Scope",
    "csv_cells",
    "lines_of",
    "lines_of_all",
    "reckoned",
    "table_row",
]

Scope = Literal["key", "user", "team", "member", "global"]
SCOPES: tuple[Scope, ...] = ("key", "user", "team", "member", "global")

WARNED_FROM = Decimal("0.8")
"""From this part of a budget on it is told of, as docs/budgets.md says."""

_NOT_KNOWN = BudgetUsage()


class GlobalBudget(msgspec.Struct):
    """The budget of all keys together, as /global/spend shows it."""

    max_budget: Decimal | None = None
    budget_duration: str | None = None
    budget_spend: Decimal | None = None
    budget_reset_at: str | None = None


class BudgetLine(msgspec.Struct, kw_only=True):
    """One limit: whose, which, what was spent of it and when its window ends.

    `limit_usd` None: nothing is refused, a soft budget alone. `spent_usd` None: not known.
    `window` None: it never resets.
    """

    scope: Scope
    scope_id: str
    name: str
    model: str | None = None
    window: str | None = None
    limit_usd: Decimal | None = None
    soft_usd: Decimal | None = None
    spent_usd: Decimal | None = None
    left_usd: Decimal | None = None
    used: Decimal | None = None
    state: Literal["within", "warned", "exceeded", "unknown"] = "unknown"
    resets_at: str | None = None
    strict: bool = False


def lines_of(
    scope: Scope, scope_id: str, name: str, row: LimitedRow, now: datetime
) -> list[BudgetLine]:
    """Return the budgets of a key, a user or a team; `now` decides on a temporary increase."""

    def line(spent: Decimal | None, limit: Decimal | None, **fields: Any) -> BudgetLine:
        found = BudgetLine(
            scope=scope,
            scope_id=scope_id,
            name=name,
            strict=row.strict_budget,
            limit_usd=limit,
            spent_usd=spent,
            **fields,
        )
        return reckoned(found)

    lines = []
    if row.max_budget is not None or row.soft_budget is not None:
        lines.append(
            line(
                row.spend,
                _raised(row, now),
                soft_usd=row.soft_budget,
                window=row.budget_duration,
                resets_at=row.budget_reset_at,
            )
        )
    for each in row.budget_limits:
        usage = row.budget_limits_usage.get(each.budget_duration, _NOT_KNOWN)
        lines.append(
            line(
                usage.current_spend,
                each.max_budget,
                window=each.budget_duration,
                resets_at=usage.reset_at,
            )
        )
    for model, budget in row.model_max_budget.items():
        usage = row.model_max_budget_usage.get(model, _NOT_KNOWN)
        lines.append(
            line(
                usage.current_spend,
                budget.budget_limit,
                model=model,
                window=budget.time_period,
                resets_at=usage.reset_at,
            )
        )
    return lines


def lines_of_all(found: GlobalBudget) -> list[BudgetLine]:
    """Return the budget of all keys together, if there is one."""
    if found.max_budget is None:
        return []
    line = BudgetLine(
        scope="global",
        scope_id="all",
        name="everybody",
        window=found.budget_duration,
        limit_usd=found.max_budget,
        spent_usd=found.budget_spend,
        resets_at=found.budget_reset_at,
    )
    return [reckoned(line)]


def table_row(line: BudgetLine) -> list[Any]:
    """Return the cells of a budget for people: budget, limit, spent, left, used, state, resets."""
    words = [f"for {line.model}"] if line.model else []
    words += [f"per {line.window}"] if line.window else ["in all"]
    limit = dollars(line.limit_usd)
    if line.soft_usd is not None:
        limit = f"{limit or 'none'} (told of at {dollars(line.soft_usd)})"
    used = "" if line.used is None else f"{line.used * 100:.0f} %"
    state = line.state + (", strict" if line.strict else "")
    cells = [" ".join(words), limit, dollars(line.spent_usd), dollars(line.left_usd), used, state]
    return [*cells, line.resets_at or "never"]


def csv_cells(lines: list[BudgetLine]) -> tuple[list[tuple[str, str]], list[list[Any]]]:
    """Return the columns (names and types) and the rows of budgets as CSV, amounts exact."""
    fields = msgspec.structs.fields(BudgetLine)
    columns = [(each.name, "DECIMAL" if _is_amount(each.name) else "VARCHAR") for each in fields]
    return columns, [[plain_cell(cell) for cell in msgspec.structs.astuple(each)] for each in lines]


def _is_amount(name: str) -> bool:
    return name.endswith("_usd") or name == "used"


def _raised(row: LimitedRow, now: datetime) -> Decimal | None:
    """Return the budget with the increase that is in force now."""
    if row.max_budget is None or row.temp_budget_increase is None or not row.temp_budget_expiry:
        return row.max_budget
    is_over = datetime.fromisoformat(row.temp_budget_expiry) <= now
    return row.max_budget if is_over else row.max_budget + row.temp_budget_increase


def reckoned(line: BudgetLine) -> BudgetLine:
    """Fill in what follows from the limit and what was spent."""
    spent, limit, soft = line.spent_usd, line.limit_usd, line.soft_usd
    if spent is None:
        return line
    line.state = "within"
    if soft is not None and spent >= soft:
        line.state = "warned"
    if limit is None:
        return line
    line.left_usd = max(limit - spent, Decimal(0))
    line.used = spent / limit if limit else None
    if spent >= limit:
        line.state = "exceeded"
    elif spent >= limit * WARNED_FROM:
        line.state = "warned"
    return line
