"""A user's place in a team, with the budget that is only for what the user spends there."""

from datetime import datetime
from decimal import Decimal

import msgspec

__all__ = ["MemberBudget", "Membership"]


class MemberBudget(msgspec.Struct, frozen=True, kw_only=True):
    """A member's budget, under LiteLLM's name for where it keeps it."""

    max_budget: Decimal
    budget_duration: str | None


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """A user's place in a team.

    `spend` is what the user's keys in this team spent in the budget's current window, or ever
    where there is no budget or window; null: the ledger could not be asked. `litellm_budget_table`
    is the member's budget, the team's for all members where it has no other; null: there is none.
    """

    team_id: str
    user_id: str
    spend: Decimal | None
    budget_reset_at: datetime | None
    litellm_budget_table: MemberBudget | None
    budget_id: None = None
