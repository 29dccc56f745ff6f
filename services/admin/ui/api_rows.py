"""What the API answers about keys, teams and users, as pages show it. Pure."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from services.admin.ui.formats import share, usd, whole

__all__ = [
    "BudgetBar",
    "amount",
    "budget_bar",
    "budgets_of",
    "moment_of",
    "period_text",
    "rates_of",
    "standing_of",
]

Body = Mapping[str, Any]
_PERIODS = {
    **dict.fromkeys(("hourly", "1h"), "hour"),
    **dict.fromkeys(("daily", "1d", "24h"), "day"),
    **dict.fromkeys(("weekly", "7d"), "week"),
    **dict.fromkeys(("monthly", "30d", "1mo"), "month"),
}
_STANDINGS = {"active": "good", "revoked": "bad", "expired": "warn", "deleted": "plain"}


class BudgetBar(msgspec.Struct, frozen=True, kw_only=True):
    """One budget: what was spent of it (None: not known) in its window, and when that ends."""

    name: str
    spent_usd: Decimal | None
    limit_usd: Decimal
    percent: float | None
    resets_at: datetime | None
    note: str = ""

    @property
    def label(self) -> str:
        """The bar in words."""
        return f"{self.name}: {usd(self.spent_usd)} of {usd(self.limit_usd)} spent"


def amount(value: float | str | None) -> Decimal | None:
    """Return money of an answer."""
    return None if value is None else Decimal(str(value))


def period_text(duration: str | None) -> str:
    """Return how long a budget lasts, in words."""
    if duration is None:
        return "in total"
    return f"per {_PERIODS.get(duration, duration)}"


def moment_of(text: str | None) -> datetime | None:
    """Return a time of an answer."""
    return None if text is None else datetime.fromisoformat(text)


def standing_of(row: Body, now: datetime) -> tuple[str, str]:
    """Return the standing of a key, team or user in a word, and the kind of its badge."""
    status = row.get("status")
    if status is None:
        return ("blocked", "bad") if row["blocked"] else ("active", "good")
    kind = _STANDINGS[status]
    bar = budget_bar(row, now)
    if status == "active" and bar is not None and (bar.percent or 0) >= 100:  # noqa: PLR2004
        return "budget spent", "bad"
    return ("blocked" if status == "revoked" else status), kind


def budget_bar(row: Body, now: datetime) -> BudgetBar | None:
    """Return the budget itself (`max_budget`, with an increase that holds now); None: no budget."""
    limit = amount(row["max_budget"])
    if limit is None:
        return None
    increase, until = amount(row["temp_budget_increase"]), moment_of(row["temp_budget_expiry"])
    note = ""
    if increase is not None and until is not None and until > now:
        limit += increase
        note = f"raised by {usd(increase)} until {until:%b} {until.day}"
    spent = amount(row["spend"])
    period = row["budget_duration"]
    return BudgetBar(
        name=f"Budget {period_text(period)}",
        spent_usd=spent,
        limit_usd=limit,
        percent=share(spent, limit) if limit else (None if spent is None else 100.0),
        resets_at=moment_of(row["budget_reset_at"]),
        note=note,
    )


def budgets_of(row: Body, now: datetime) -> list[BudgetBar]:
    """Return all budgets: the budget itself, further windows, those of models, the soft one."""
    bar = budget_bar(row, now)
    found = [] if bar is None else [bar]
    for window in row["budget_limits"]:
        usage = row["budget_limits_usage"].get(window["budget_duration"], {})
        found.append(
            _further(
                f"Window: {period_text(window['budget_duration'])}",
                usage.get("current_spend"),
                window["max_budget"],
                moment_of(window["reset_at"]),
            )
        )
    for model, budget in row["model_max_budget"].items():
        usage = row["model_max_budget_usage"].get(model, {})
        name = f"{model}, {period_text(budget['time_period'])}"
        found.append(_further(name, usage.get("current_spend"), budget["budget_limit"], None))
    if row["soft_budget"] is not None:
        soft = _further("Soft budget: alert only", row["spend"], row["soft_budget"], None)
        found.append(soft)
    return found


def _further(name: str, spent: Any, limit: Any, resets_at: datetime | None) -> BudgetBar:
    spent_usd, limit_usd = amount(spent), amount(limit)
    assert limit_usd is not None
    return BudgetBar(
        name=name,
        spent_usd=spent_usd,
        limit_usd=limit_usd,
        percent=share(spent_usd, limit_usd),
        resets_at=resets_at,
    )


def rates_of(row: Body) -> list[str]:
    """Return the rate limits in words."""
    found = [
        f"{whole(row[name])} {unit}"
        for name, unit in (
            ("rpm_limit", "requests/min"),
            ("tpm_limit", "tokens/min"),
            ("max_parallel_requests", "in parallel"),
        )
        if row[name] is not None
    ]
    for name, unit in (("model_rpm_limit", "requests/min"), ("model_tpm_limit", "tokens/min")):
        found += [f"{model}: {whole(limit)} {unit}" for model, limit in row[name].items()]
    return found
