"""What the routes about teams and users share: deleting with all keys, and what was spent."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import partial
from operator import attrgetter

import msgspec

from schemas.errors import ApiError, Conflict
from schemas.events import TeamDeleted, UserDeleted
from schemas.registry import KeyRecord, TeamRecord, UserRecord
from services.admin.bodies import PAGE_SIZE_MAX, KeyRow
from services.admin.cascade import delete_keys_that_follow
from services.admin.directory import live_keys, sequence_of
from services.admin.members import change_team, without
from services.admin.owners import deleted_owner
from services.admin.principal import MASTER, Principal
from services.admin.records import Issue
from services.admin.shapes import KeySpend, key_row, window_of
from services.admin.spends import Column
from services.admin.state import AdminState, now_us
from services.runtime.registry import RegistrySnapshot

__all__ = ["delete_with_keys", "id_taken", "keys_of", "rows_of_keys", "spend_of_owners"]

_OF_OTHERS = KeySpend(error="shown to the team's admins alone", budgets=None)
_NOTHING = KeySpend(window_usd=Decimal(0), total_usd=Decimal(0))


def keys_of(snapshot: RegistrySnapshot, owner: TeamRecord | UserRecord) -> list[KeyRecord]:
    """Return the live keys that name a team or user."""
    field, owner_id = _own_id(owner)
    value = attrgetter(field)
    return [key for key in live_keys(snapshot) if value(key) == owner_id]


async def rows_of_keys(
    admin: AdminState, owner: TeamRecord | UserRecord, caller: Principal
) -> tuple[KeyRow, ...]:
    """Return rows of an owner's first keys, of those that the caller sees, with their spend."""
    keys = [key for key in keys_of(admin.snapshot, owner) if caller.sees_key(key)][:PAGE_SIZE_MAX]
    time_us = now_us()
    spends = await admin.ledger.spend_of(keys, time_us)
    return tuple(key_row(key, spends[key.key_id], time_us, admin.timezone) for key in keys)


async def spend_of_owners(
    admin: AdminState, owners: Sequence[TeamRecord | UserRecord], caller: Principal = MASTER
) -> list[KeySpend]:
    """Return what teams, or users, spent. Where the ledger cannot say, each says why not.

    What a team spent is shown to those who manage it or see everything.
    """
    if not owners:
        return []
    if isinstance(owners[0], TeamRecord) and not caller.sees_all:
        shown = [each for each in owners if isinstance(each, TeamRecord)]
        return await _spend_of_own_teams(admin, shown, caller)
    column: Column = "team_id" if isinstance(owners[0], TeamRecord) else "user_id"
    ids = [_own_id(owner)[1] for owner in owners]
    time_us = now_us()
    starts_us = [window_of(owner, time_us, admin.timezone).start_us for owner in owners]
    try:
        spends = await admin.ledger.spends_since(column, ids, starts_us)
    except ApiError as error:
        return [KeySpend(error=error.message, budgets=None)] * len(ids)
    budgets = await admin.ledger.spend_of_budgets(owners, time_us)
    return [
        msgspec.structs.replace(spends.get(owner_id, _NOTHING), budgets=spent)
        for owner_id, spent in zip(ids, budgets, strict=True)
    ]


async def _spend_of_own_teams(
    admin: AdminState, teams: Sequence[TeamRecord], caller: Principal
) -> list[KeySpend]:
    managed = [each for each in teams if caller.manages_team(each.team_id)]
    spends = dict(
        zip([each.team_id for each in managed], await spend_of_owners(admin, managed), strict=True)
    )
    return [spends.get(each.team_id, _OF_OTHERS) for each in teams]


async def delete_with_keys(
    admin: AdminState, owners: Iterable[TeamRecord | UserRecord], issue: Issue
) -> int:
    """Delete teams or users, then their keys; return how many keys.

    From the first event on the proxies refuse all of an owner's keys, so a failure half way lets
    none of them in.
    """
    snapshot = await admin.registry()
    count = 0
    states = [(owner, sequence_of(snapshot, owner)) for owner in owners]
    for state in states:
        admin.writer.check(*state)
    for owner, expected in states:
        change = TeamDeleted if isinstance(owner, TeamRecord) else UserDeleted
        await admin.writer.write(change, deleted_owner(owner, issue), expected_sequence=expected)
        if isinstance(owner, UserRecord):
            await _leave_teams(admin, owner.user_id, issue)
        count += await delete_keys_that_follow(admin, partial(keys_of, snapshot, owner), issue)
    return count


async def _leave_teams(admin: AdminState, user_id: str, issue: Issue) -> None:
    for team_id in list(admin.snapshot.memberships(user_id)):
        await change_team(
            admin, team_id, lambda team: without(team, user_id), issue, is_consequence=True
        )


def id_taken(kind: str) -> Conflict:
    """Return the error for an id that a team or user has, or had."""
    return Conflict(
        f"a {kind} with this {kind}_id exists already, or did once: choose another",
        param=f"{kind}_id",
    )


def _own_id(owner: TeamRecord | UserRecord) -> tuple[str, str]:
    if isinstance(owner, TeamRecord):
        return "team_id", owner.team_id
    return "user_id", owner.user_id
