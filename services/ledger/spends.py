"""What requests add to budgets, and whose those are."""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from schemas.events import BudgetScope

__all__ = ["Spend", "Whose"]


class Whose(NamedTuple):
    """Whose budget it is: of a key, a user or a team, by its id."""

    scope: BudgetScope
    scope_id: str


class Spend(msgspec.Struct, frozen=True):
    """What one request adds to the budgets: whose, when it started, how much."""

    key_id: str
    started_at_us: int
    cost_picos: int
    user_id: str | None = None
    team_id: str | None = None

    def owners(self) -> Iterator[Whose]:
        """Yield everybody whose budget it adds to."""
        yield Whose("key", self.key_id)
        if self.user_id is not None:
            yield Whose("user", self.user_id)
        if self.team_id is not None:
            yield Whose("team", self.team_id)
