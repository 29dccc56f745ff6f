"""Which budgets a key, a team or a user has, by its record. Pure."""

from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

import msgspec

from schemas.budgets import BudgetId, BudgetScope
from schemas.config import GlobalBudget
from schemas.registry import (
    BudgetedRecord,
    KeyRecord,
    OwnerRecord,
    TeamMember,
    TeamRecord,
    UserRecord,
)
from services.runtime.budget_windows import NO_RESET, Counted, Reset, counted_window
from services.runtime.model_names import matches

__all__ = [
    "EVERYBODY",
    "AliasOf",
    "Limit",
    "Whose",
    "global_limits",
    "is_for",
    "limits_of",
    "member_id",
    "member_limit",
    "member_limits",
    "member_of",
    "model_limit",
    "name_of",
    "no_alias",
    "owners_of",
    "reset_of",
    "whose",
    "window_limit",
]


MEMBER_IDS_KEPT_MAX = 10_000
"""So many ids of members are kept for the next request; others are made again."""


class Whose(NamedTuple):
    """Whose budget it is: of a key, a user, a team or a member, by its id, or everybody's."""

    scope: BudgetScope
    scope_id: str


AliasOf = Callable[[str | None], str | None]
"""Tells what a model name stands for where it is an alias, None for any other."""


def no_alias(_: str | None) -> str | None:
    """Tell that there are no aliases."""
    return None


EVERYBODY = Whose("global", "all")


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """What is set for one budget.

    `max_budget_usd` None: there is no limit, and `soft_budget_usd` alone is looked at. `model` is
    a model name or a pattern with one `*`: only requests for such a name count, and only they are
    refused. The limit is `increase_usd` more until `increase_until_us`. `reset` is when the spend
    was last set, and to what.
    """

    budget_id: BudgetId
    name: str
    max_budget_usd: Decimal | None = None
    soft_budget_usd: Decimal | None = None
    budget_duration: str | None = None
    model: str | None = None
    increase_usd: Decimal | None = None
    increase_until_us: int | None = None
    strict: bool = False
    reset: Reset = NO_RESET

    def counts(self, model_name: str | None, alias_of: str | None = None) -> bool:
        """Tell whether requests count for a model name, which may be an alias of another one."""
        return is_for(self.model, model_name, alias_of)

    def window(self, now_us: int, timezone: str) -> Counted:
        """Return since when requests count at a moment, and until when."""
        return counted_window(self.budget_duration, now_us, timezone, self.reset)

    def max_at(self, now_us: int) -> Decimal | None:
        """Return what may be spent at a moment."""
        if self.max_budget_usd is None or self.increase_usd is None:
            return self.max_budget_usd
        if self.increase_until_us is None or now_us >= self.increase_until_us:
            return self.max_budget_usd
        return self.max_budget_usd + self.increase_usd


def is_for(model: str | None, model_name: str | None, alias_of: str | None) -> bool:
    """Tell whether a budget's model (None: all) is that of a request, by either of its names."""
    if model is None:
        return True
    return any(
        name is not None and matches(model, name) is not None for name in (model_name, alias_of)
    )


def whose(record: KeyRecord | TeamRecord | UserRecord) -> Whose:
    """Return whose budgets a record may set."""
    if isinstance(record, KeyRecord):
        return Whose("key", record.key_id)
    if isinstance(record, TeamRecord):
        return Whose("team", record.team_id)
    return Whose("user", record.user_id)


def name_of(record: KeyRecord | OwnerRecord) -> str:
    """Return how people know the key, team or user."""
    if isinstance(record, KeyRecord):
        return record.key_alias or record.key_name
    if isinstance(record, TeamRecord):
        return record.team_alias or record.team_id
    assert isinstance(record, UserRecord)
    return record.user_alias or record.user_id


def reset_of(record: BudgetedRecord) -> Reset:
    """Return when the spend of a key was last set, and to what."""
    if not isinstance(record, KeyRecord) or record.spend_reset_at_us is None:
        return NO_RESET
    return Reset(record.spend_reset_at_us, record.spend_reset_to_usd or Decimal(0))


def limits_of(record: KeyRecord | TeamRecord | UserRecord) -> tuple[Limit, ...]:
    """Return the budgets that a record sets; none where it is deleted."""
    if record.deleted:
        return ()
    owner, name, strict = whose(record), name_of(record), record.strict_budget
    reset = reset_of(record)
    # What was spent of single models and of other windows is not in the figure that was set.
    anew = Reset(reset.at_us)
    limits = [
        Limit(
            budget_id=BudgetId(*owner, limit=window_limit(each.budget_duration)),
            name=name,
            max_budget_usd=each.max_budget_usd,
            budget_duration=each.budget_duration,
            strict=strict,
            reset=anew,
        )
        for each in record.budget_limits
    ]
    limits += [
        Limit(
            budget_id=BudgetId(*owner, limit=model_limit(model)),
            name=name,
            max_budget_usd=budget.max_budget_usd,
            budget_duration=budget.budget_duration,
            model=model,
            strict=strict,
            reset=anew,
        )
        for model, budget in record.model_max_budget.items()
    ]
    if record.max_budget_usd is not None or record.soft_budget_usd is not None:
        limits.append(
            Limit(
                budget_id=BudgetId(*owner),
                name=name,
                max_budget_usd=record.max_budget_usd,
                soft_budget_usd=record.soft_budget_usd,
                budget_duration=record.budget_duration,
                increase_usd=record.temp_budget_increase_usd,
                increase_until_us=record.temp_budget_expires_at_us,
                strict=strict,
                reset=reset,
            )
        )
    return tuple(limits)


def member_limits(team: TeamRecord) -> tuple[Limit, ...]:
    """Return the budgets of a team's members, of each that has one."""
    if team.deleted:
        return ()
    found = (member_limit(team, each) for each in team.members_with_roles)
    return tuple(limit for limit in found if limit is not None)


def member_limit(team: TeamRecord, member: TeamMember) -> Limit | None:
    """Return the budget of one member in a team, the team's own word where there is no other."""
    maximum = member.max_budget_usd
    if maximum is None:
        maximum = team.team_member_budget_usd
    if maximum is None:
        return None
    return Limit(
        budget_id=BudgetId("member", member_id(team.team_id, member.user_id)),
        name=f"{member.user_id} in {name_of(team)}",
        max_budget_usd=maximum,
        budget_duration=member.budget_duration or team.team_member_budget_duration,
        strict=team.strict_budget,
    )


@lru_cache(maxsize=MEMBER_IDS_KEPT_MAX)
def member_id(team_id: str, user_id: str) -> str:
    """Return the id of a user in a team; services.runtime.budget_sql has the same rule."""
    return f"{team_id.replace('%', '%25').replace('/', '%2F')}/{user_id}"


def member_of(scope_id: str) -> tuple[str, str]:
    """Return the team and the user that the id of a member names."""
    team, _, user_id = scope_id.partition("/")
    return team.replace("%2F", "/").replace("%25", "%"), user_id


def global_limits(budget: GlobalBudget | None) -> tuple[Limit, ...]:
    """Return the budgets of all keys together, as the configuration sets them."""
    if budget is None:
        return ()
    return (
        Limit(
            budget_id=BudgetId(*EVERYBODY),
            name="all keys",
            max_budget_usd=budget.max_budget_usd,
            budget_duration=budget.budget_duration,
        ),
    )


def window_limit(budget_duration: str) -> str:
    """Return the `limit` of the id of a further window."""
    return f"window-{budget_duration}"


def model_limit(model: str) -> str:
    """Return the `limit` of the id of a model's budget."""
    return f"model-{model}"


def owners_of(key: KeyRecord) -> tuple[Whose, ...]:
    """Return everybody whose budgets the requests of a key count for."""
    owners = [Whose("key", key.key_id)]
    if key.user_id is not None:
        owners.append(Whose("user", key.user_id))
    if key.team_id is not None:
        owners.append(Whose("team", key.team_id))
        if key.user_id is not None:
            owners.append(Whose("member", member_id(key.team_id, key.user_id)))
    owners.append(EVERYBODY)
    return tuple(owners)
