"""What requests add to budgets, and whose those are."""

from collections.abc import Iterator

import msgspec

from services.runtime.budget_limits import EVERYBODY, Whose

__all__ = ["Spend", "SpendQuestion"]


class Spend(msgspec.Struct, frozen=True):
    """What one request adds to the budgets: whose, when it started, how much, for which model."""

    key_id: str
    started_at_us: int
    cost_picos: int
    user_id: str | None = None
    team_id: str | None = None
    model_name: str | None = None

    def owners(self) -> Iterator[Whose]:
        """Yield everybody whose budgets it may add to."""
        yield Whose("key", self.key_id)
        if self.user_id is not None:
            yield Whose("user", self.user_id)
        if self.team_id is not None:
            yield Whose("team", self.team_id)
        yield EVERYBODY


class SpendQuestion(msgspec.Struct, frozen=True):
    """Asks what an owner's requests since a moment cost; with `model` those for such names."""

    whose: Whose
    since_us: int
    model: str | None = None
