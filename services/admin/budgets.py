"""The budgets in a record from what a request asks for, and what is shown of them. Pure."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from msgspec import UNSET

from schemas.errors import BadRequest
from schemas.events import time_from_us, us_from_time
from schemas.registry import BudgetedRecord, BudgetWindow, ModelBudget
from services.admin.bodies_budgets import (
    BudgetSettings,
    BudgetUsage,
    ModelBudgetGiven,
    ModelBudgetShown,
    WindowGiven,
    WindowShown,
)
from services.admin.money import budget_problem, plain_number
from services.runtime.budget_limits import model_limit, window_limit
from services.runtime.durations import (
    TIME_US_MAX,
    budget_window,
    expiry_from,
    parse_duration,
)

__all__ = ["amount_from", "budget_changes", "budgets_shown", "duration_from"]


def budget_changes(settings: BudgetSettings, record: BudgetedRecord, now_us: int) -> dict[str, Any]:
    """Return the fields of a record that set its budgets. Raises BadRequest, naming the field."""
    changes: dict[str, Any] = {}
    if settings.max_budget is not UNSET:
        changes["max_budget_usd"] = amount_from("max_budget", settings.max_budget)
    if settings.soft_budget is not UNSET:
        changes["soft_budget_usd"] = amount_from("soft_budget", settings.soft_budget)
    if settings.budget_duration is not UNSET:
        changes["budget_duration"] = duration_from("budget_duration", settings.budget_duration)
    if settings.budget_limits is not UNSET:
        changes["budget_limits"] = _windows(settings.budget_limits or ())
    if settings.model_max_budget is not UNSET:
        changes["model_max_budget"] = _models(settings.model_max_budget or {})
    if settings.strict_budget is not UNSET:
        changes["strict_budget"] = bool(settings.strict_budget)
    return changes | _increase(settings, record, changes, now_us)


def _increase(
    settings: BudgetSettings, record: BudgetedRecord, changes: dict[str, Any], now_us: int
) -> dict[str, Any]:
    """Return the fields of the temporary increase, which belongs to a max_budget and has an end."""
    increase = record.temp_budget_increase_usd
    until_us = record.temp_budget_expires_at_us
    if settings.temp_budget_increase is not UNSET:
        increase = amount_from("temp_budget_increase", settings.temp_budget_increase) or None
        # One without an amount has no end either; a new amount keeps the end that was set.
        until_us = until_us if increase is not None else None
    if settings.temp_budget_expiry is not UNSET:
        until_us = _expiry(settings.temp_budget_expiry, now_us)
        if until_us is None and settings.temp_budget_increase is UNSET:
            increase = None
    has_budget = changes.get("max_budget_usd", record.max_budget_usd) is not None
    if not has_budget and settings.temp_budget_increase in (UNSET, None):
        increase = until_us = None
    if increase is not None and not has_budget:
        raise BadRequest(
            "temp_budget_increase raises max_budget, and there is none: set max_budget too",
            param="temp_budget_increase",
        )
    if increase is not None and until_us is None:
        raise BadRequest(
            "temp_budget_increase needs temp_budget_expiry: when the budget falls back, as a time "
            "or a duration such as 10d",
            param="temp_budget_expiry",
        )
    if until_us is not None and increase is None:
        raise BadRequest(
            "temp_budget_expiry needs temp_budget_increase: by how much max_budget is raised",
            param="temp_budget_increase",
        )
    return {"temp_budget_increase_usd": increase, "temp_budget_expires_at_us": until_us}


def amount_from(name: str, amount_usd: Decimal | None, param: str | None = None) -> Decimal | None:
    """Return an amount of US dollars as records have it. Raises BadRequest."""
    if amount_usd is None:
        return None
    problem = budget_problem(amount_usd)
    if problem is not None:
        raise BadRequest(f"{name} {problem}", param=param or name)
    return plain_number(amount_usd)


def duration_from(name: str, text: str | None, param: str | None = None) -> str | None:
    """Return the length of a window as records have it. Raises BadRequest."""
    if text is None:
        return None
    try:
        parse_duration(text)
    except ValueError as error:
        raise BadRequest(f"{name}: {error}", param=param or name) from None
    return text


def _windows(given: tuple[WindowGiven, ...]) -> tuple[BudgetWindow, ...]:
    windows: list[BudgetWindow] = []
    lengths: list[int] = []
    for place, each in enumerate(given):
        where = f"budget_limits[{place}]"
        amount = amount_from(f"{where}.max_budget", each.max_budget, "budget_limits")
        duration = duration_from(f"{where}.budget_duration", each.budget_duration, "budget_limits")
        assert amount is not None
        assert duration is not None
        length_s = parse_duration(duration).length_s
        if length_s in lengths:
            raise BadRequest(
                f"{where}.budget_duration: there is a window of this length before it",
                param="budget_limits",
            )
        lengths.append(length_s)
        windows.append(BudgetWindow(max_budget_usd=amount, budget_duration=duration))
    return tuple(windows)


def _models(given: dict[str, ModelBudgetGiven]) -> dict[str, ModelBudget]:
    models: dict[str, ModelBudget] = {}
    for model, each in given.items():
        where = f"model_max_budget.{model[:100]}"
        if model.count("*") > 1:
            raise BadRequest(
                f"{where}: a pattern may hold one *, for any rest of a name",
                param="model_max_budget",
            )
        limits = [each.budget_limit, each.max_budget]
        periods = [each.time_period, each.budget_duration]
        if limits.count(None) != 1 or None not in periods:
            raise BadRequest(
                f"{where}: give budget_limit (US dollars) and, unless it is for ever, time_period "
                "(such as 30d), each once",
                param="model_max_budget",
            )
        amount = amount_from(
            f"{where}.budget_limit",
            limits[0] if limits[1] is None else limits[1],
            "model_max_budget",
        )
        assert amount is not None
        models[model] = ModelBudget(
            max_budget_usd=amount,
            budget_duration=duration_from(
                f"{where}.time_period", periods[0] or periods[1], "model_max_budget"
            ),
        )
    return models


def _expiry(text: str | None, now_us: int) -> int | None:
    """Return when an increase ends: a duration from now on, a time, or a day's beginning."""
    if text is None:
        return None
    try:
        until_us = expiry_from(text, now_us)
    except ValueError:
        until_us = _time(text)
    if not now_us < until_us <= TIME_US_MAX:
        raise BadRequest("temp_budget_expiry must be later than now", param="temp_budget_expiry")
    return until_us


def _time(text: str) -> int:
    try:
        found = datetime.fromisoformat(text)
        if len(text) <= len("2026-11-25"):
            found = datetime.combine(date.fromisoformat(text), datetime.min.time())
        return us_from_time(found if found.tzinfo is not None else found.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise BadRequest(
            "temp_budget_expiry must be a time such as 2026-12-01 or 2026-12-01T18:00:00Z, or a "
            "duration such as 10d",
            param="temp_budget_expiry",
        ) from None


def budgets_shown(
    record: BudgetedRecord, spent: dict[str, Decimal] | None, now_us: int, timezone: str
) -> dict[str, Any]:
    """Return the fields of BudgetsShown but for those of rates.

    `spent` is by the limits of budget ids; None: not known.
    """

    def resets_at(duration: str) -> datetime:
        return time_from_us(budget_window(duration, now_us, timezone)[1])

    def usage(limit: str, duration: str | None) -> BudgetUsage:
        return BudgetUsage(
            current_spend=None if spent is None else plain_number(spent.get(limit, Decimal(0))),
            reset_at=None if duration is None else resets_at(duration),
        )

    duration, until_us = record.budget_duration, record.temp_budget_expires_at_us
    return {
        "max_budget": _shown(record.max_budget_usd),
        "soft_budget": _shown(record.soft_budget_usd),
        "budget_duration": duration,
        "budget_reset_at": None if duration is None else resets_at(duration),
        "budget_limits": tuple(
            WindowShown(
                budget_duration=each.budget_duration,
                max_budget=plain_number(each.max_budget_usd),
                reset_at=resets_at(each.budget_duration),
            )
            for each in record.budget_limits
        ),
        "budget_limits_usage": {
            each.budget_duration: usage(window_limit(each.budget_duration), each.budget_duration)
            for each in record.budget_limits
        },
        "model_max_budget": {
            model: ModelBudgetShown(
                budget_limit=plain_number(each.max_budget_usd), time_period=each.budget_duration
            )
            for model, each in record.model_max_budget.items()
        },
        "model_max_budget_usage": {
            model: usage(model_limit(model), each.budget_duration)
            for model, each in record.model_max_budget.items()
        },
        "temp_budget_increase": _shown(record.temp_budget_increase_usd),
        "temp_budget_expiry": None if until_us is None else time_from_us(until_us),
        "strict_budget": record.strict_budget,
    }


def _shown(amount_usd: Decimal | None) -> Decimal | None:
    return None if amount_usd is None else plain_number(amount_usd)
