"""What requests add to budgets, and whose those are."""

from collections.abc import Iterator

import msgspec

from schemas.events import UsageRecord
from services.runtime.budget_limits import EVERYBODY, Whose, member_id

__all__ = ["Spend", "SpendQuestion", "counted_model"]


class Spend(msgspec.Struct, frozen=True):
    """What one request adds to the budgets: whose, when it started, how much, for which model.

    `is_subscription`: a subscription paid it, and the cost is what the API would have taken.
    `alias_of` is what the model name stands for, where it is an alias.
    """

    key_id: str
    started_at_us: int
    cost_picos: int
    user_id: str | None = None
    team_id: str | None = None
    model_name: str | None = None
    is_subscription: bool = False
    alias_of: str | None = None

    def owners(self) -> Iterator[Whose]:
        """Yield everybody whose budgets it may add to."""
        yield Whose("key", self.key_id)
        if self.user_id is not None:
            yield Whose("user", self.user_id)
        if self.team_id is not None:
            yield Whose("team", self.team_id)
            if self.user_id is not None:
                yield Whose("member", member_id(self.team_id, self.user_id))
        yield EVERYBODY


class SpendQuestion(msgspec.Struct, frozen=True):
    """Asks what an owner's requests since a moment cost; with `model` those for such names."""

    whose: Whose
    since_us: int
    model: str | None = None


def counted_model(record: UsageRecord) -> str | None:
    """Return the model name by which a request counts for budgets of models.

    It is the one that the client asked for. Results of message batches do not tell it: they count
    by the model that answered. services.runtime.budget_sql has the same rule.
    """
    return record.model_name or record.model or record.response_model
