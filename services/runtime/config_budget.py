"""Reading the budget of all together: `max_budget` and `budget_duration` of `litellm_settings`."""

from collections.abc import Mapping
from decimal import Decimal

from schemas.config import GlobalBudget
from services.runtime.config_prices import amount
from services.runtime.config_reader import ConfigReader
from services.runtime.durations import parse_duration
from services.runtime.yaml_lines import Node

__all__ = ["read_global_budget"]


def read_global_budget(reader: ConfigReader, litellm: Mapping[str, Node]) -> GlobalBudget | None:
    """Return the budget, None: there is none. What is wrong is noted."""
    maximum = amount(reader, litellm.get("max_budget"), "litellm_settings.max_budget")
    node = litellm.get("budget_duration")
    duration = reader.text(node, "litellm_settings.budget_duration")
    if node is not None and duration is not None:
        try:
            parse_duration(duration)
        except ValueError as error:
            reader.problem(node.line, f"litellm_settings.budget_duration: {error}")
            return None
        if maximum is None and "max_budget" not in litellm:
            reader.problem(
                node.line,
                "litellm_settings.budget_duration is the window of max_budget, which is missing",
            )
    return None if maximum is None else GlobalBudget(Decimal(maximum), duration)
