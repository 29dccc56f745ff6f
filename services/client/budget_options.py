"""The options that set a key's budgets, and how these are shown."""

from decimal import Decimal, InvalidOperation
from typing import Any

import rich_click as click

__all__ = ["BUDGET_FIELDS", "BUDGET_OPTIONS", "budget_value", "budgets_text"]

BUDGET_FIELDS = {
    "max_budget": "max_budget",
    "soft_budget": "soft_budget",
    "budget_duration": "budget_duration",
    "budget_limit": "budget_limits",
    "model_budget": "model_max_budget",
    "temp_budget_increase": "temp_budget_increase",
    "temp_budget_expiry": "temp_budget_expiry",
    "strict_budget": "strict_budget",
}
"""Each option and the field of the API that it sets."""

BUDGET_OPTIONS = (
    click.option(
        "--strict-budget/--no-strict-budget",
        default=None,
        help="Let no budget be passed by more than one request of each proxy worker.",
    ),
    click.option(
        "--temp-budget-expiry", help="When the increase ends: 10d from now, or 2026-12-01."
    ),
    click.option(
        "--temp-budget-increase", help="US dollars by which the budget is more for a while."
    ),
    click.option(
        "--model-budget",
        multiple=True,
        metavar="MODEL=USD[/DURATION]",
        help="What may be spent on one model, or on all that a pattern with * matches; may be "
        "given several times. All of them are set anew.",
    ),
    click.option(
        "--budget-limit",
        multiple=True,
        metavar="USD/DURATION",
        help="A further window, such as 10/1d; may be given several times. All are set anew.",
    ),
    click.option(
        "--budget-duration", help="How long a budget lasts: daily, weekly, monthly, 12h, …"
    ),
    click.option("--soft-budget", help="US dollars; that it is reached is told, nothing refused."),
    click.option("--max-budget", help="US dollars, such as 100.00; then requests are refused."),
)


def budget_value(option: str, given: Any) -> Any:
    """Return what the API takes for an option. Raises click.BadParameter."""
    if option in ("max_budget", "soft_budget", "temp_budget_increase", "member_budget"):
        return _amount(option, given)
    if option == "budget_limit":
        return [_window(text) for text in given]
    if option == "model_budget":
        return dict(_model(text) for text in given)
    return given


def _amount(option: str, text: str) -> Decimal:
    """Return dollars exactly; msgspec sends them as a string, which the API reads exactly."""
    name = "--" + option.replace("_", "-")
    try:
        amount = Decimal(text.removeprefix("$"))
    except InvalidOperation:
        raise click.BadParameter(f"{name} must be an amount such as 100.00") from None
    if not amount.is_finite() or amount < 0:
        raise click.BadParameter(f"{name} must be a finite amount, not negative")
    return amount


def _window(text: str) -> dict[str, Any]:
    amount, slash, duration = text.partition("/")
    if not slash or not duration:
        raise click.BadParameter("--budget-limit must be USD/DURATION, such as 10/1d")
    return {"budget_duration": duration, "max_budget": _amount("budget_limit", amount)}


def _model(text: str) -> tuple[str, dict[str, Any]]:
    model, equals, budget = text.rpartition("=")
    if not equals or not model:
        raise click.BadParameter(
            "--model-budget must be MODEL=USD or MODEL=USD/DURATION, such as opus-*=30/monthly"
        )
    amount, _, duration = budget.partition("/")
    limit: dict[str, Any] = {"budget_limit": _amount("model_budget", amount)}
    return model, limit | ({"time_period": duration} if duration else {})


def budgets_text(row: Any) -> str:
    """Return a key's further budgets for people, "none" where it has none."""
    parts = [f"${each.max_budget} per {each.budget_duration}" for each in row.budget_limits]
    for model, each in row.model_max_budget.items():
        period = f" per {each.time_period}" if each.time_period else ""
        parts.append(f"{model}: ${each.budget_limit}{period}")
    if row.temp_budget_increase is not None:
        parts.append(f"${row.temp_budget_increase} more until {row.temp_budget_expiry}")
    if row.soft_budget is not None:
        parts.append(f"told of at ${row.soft_budget}")
    if row.strict_budget:
        parts.append("strict")
    return "; ".join(parts) or "none"
