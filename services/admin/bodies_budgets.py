"""The budgets of keys, teams and users: LiteLLM's fields, as they are given and shown."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from schemas.registry import BUDGET_MODELS_MAX, BUDGET_WINDOWS_MAX
from services.admin.bodies_rates import RateSettings, RatesShown

__all__ = [
    "BudgetSettings",
    "BudgetUsage",
    "BudgetsShown",
    "ModelBudgetGiven",
    "ModelBudgetShown",
    "WindowGiven",
    "WindowShown",
]

_Duration = Annotated[str, Meta(min_length=1, max_length=32)]
_Time = Annotated[str, Meta(min_length=1, max_length=64)]
_Model = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+\Z")]


class WindowGiven(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A further window: so many US dollars in each of it."""

    budget_duration: _Duration
    max_budget: Decimal


class ModelBudgetGiven(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be spent on a model. LiteLLM has two names for each; one of each pair is given."""

    budget_limit: Decimal | None = None
    time_period: _Duration | None = None
    max_budget: Decimal | None = None
    budget_duration: _Duration | None = None


class BudgetSettings(RateSettings, frozen=True, kw_only=True):
    """What can be set of budgets. Absent: it stays; null takes it away.

    `temp_budget_expiry` is a time (RFC 3339, or a day in UTC) or how long from now on (`10d`).
    """

    max_budget: Decimal | UnsetType | None = UNSET
    soft_budget: Decimal | UnsetType | None = UNSET
    budget_duration: _Duration | UnsetType | None = UNSET
    budget_limits: (
        Annotated[tuple[WindowGiven, ...], Meta(max_length=BUDGET_WINDOWS_MAX)] | UnsetType | None
    ) = UNSET
    model_max_budget: (
        Annotated[dict[_Model, ModelBudgetGiven], Meta(max_length=BUDGET_MODELS_MAX)]
        | UnsetType
        | None
    ) = UNSET
    temp_budget_increase: Decimal | UnsetType | None = UNSET
    temp_budget_expiry: _Time | UnsetType | None = UNSET
    strict_budget: bool | UnsetType | None = UNSET


class WindowShown(msgspec.Struct, frozen=True, kw_only=True):
    """A further window, and when the current one ends."""

    budget_duration: str
    max_budget: Decimal
    reset_at: datetime


class ModelBudgetShown(msgspec.Struct, frozen=True, kw_only=True):
    """What may be spent on a model; `time_period` null: for ever."""

    budget_limit: Decimal
    time_period: str | None


class BudgetUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What was spent of a budget in its current window, and when that ends (null: never).

    `current_spend` null: the ledger could not be asked.
    """

    current_spend: Decimal | None
    reset_at: datetime | None = None


class BudgetsShown(RatesShown, frozen=True, kw_only=True):
    """The same as they are shown. `max_budget` is without the temporary increase."""

    max_budget: Decimal | None = None
    soft_budget: Decimal | None = None
    budget_duration: str | None = None
    budget_reset_at: datetime | None = None
    budget_limits: tuple[WindowShown, ...] = ()
    budget_limits_usage: dict[str, BudgetUsage] = msgspec.field(default_factory=dict)
    model_max_budget: dict[str, ModelBudgetShown] = msgspec.field(default_factory=dict)
    model_max_budget_usage: dict[str, BudgetUsage] = msgspec.field(default_factory=dict)
    temp_budget_increase: Decimal | None = None
    temp_budget_expiry: datetime | None = None
    strict_budget: bool = False
