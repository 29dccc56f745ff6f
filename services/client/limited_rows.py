"""What the API shows alike of keys, teams and users: spend, budgets and rate limits."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from services.client.budget_options import budgets_text
from services.client.output import dollars, note
from services.client.rate_options import rates_text

__all__ = ["BudgetUsage", "LimitedRow", "limit_lines", "note_spend_error"]


class WindowBudget(msgspec.Struct):
    """A further window."""

    budget_duration: str
    max_budget: Decimal


class ModelBudget(msgspec.Struct):
    """What may be spent on a model; `time_period` None: for ever."""

    budget_limit: Decimal
    time_period: str | None = None


class BudgetUsage(msgspec.Struct):
    """What was spent of one of these (None: not known), and when its window ends (None: never)."""

    current_spend: Decimal | None = None
    reset_at: str | None = None


class LimitedRow(msgspec.Struct, kw_only=True):
    """What is shown of a key, a team or a user; `spend` is that of all of its keys."""

    spend: Decimal | None = None
    total_spend: Decimal | None = None
    spend_error: str | None = None
    max_budget: Decimal | None = None
    budget_duration: str | None = None
    budget_reset_at: str | None = None
    soft_budget: Decimal | None = None
    budget_limits: list[WindowBudget] = []
    budget_limits_usage: dict[str, BudgetUsage] = {}
    model_max_budget: dict[str, ModelBudget] = {}
    model_max_budget_usage: dict[str, BudgetUsage] = {}
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


def limit_lines(row: LimitedRow) -> list[list[Any]]:
    """Return the lines of a table that tell of spend and limits."""
    budget = dollars(row.max_budget) or "none"
    if row.budget_duration:
        budget += f", {row.budget_duration}, begins anew at {row.budget_reset_at}"
    return [
        ["spend", dollars(row.spend)],
        ["spend ever", dollars(row.total_spend)],
        ["budget", budget],
        ["further budgets", budgets_text(row)],
        ["rate limits", rates_text(row)],
    ]


def note_spend_error(rows: Sequence[LimitedRow]) -> None:
    """Say why spend is not shown, where it is not."""
    problem = next((row.spend_error for row in rows if row.spend_error), None)
    if problem:
        note(f"note: spend is not shown: {problem}")
