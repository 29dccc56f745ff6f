"""The rows of budgets: what is set, by whose record. Pure."""

from collections.abc import Iterable
from typing import Any

from services.runtime.budget_limits import Limit

__all__ = ["budget_rows"]


def budget_rows(limits: Iterable[Limit]) -> list[tuple[Any, ...]]:
    """Return budgets in the order of BUDGET_COLUMNS."""
    return [
        (
            *limit.budget_id,
            limit.name,
            limit.max_budget_usd,
            limit.soft_budget_usd,
            limit.budget_duration,
            limit.model,
            limit.increase_usd,
            limit.increase_until_us,
            limit.strict,
            limit.reset.at_us or None,
            limit.reset.to_usd if limit.reset.at_us else None,
        )
        for limit in limits
    ]
