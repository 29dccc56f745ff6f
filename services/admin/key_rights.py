"""What callers other than admins may do to virtual keys. Pure.

A team's admin manages the keys of the team, an `internal_user` the own ones. Neither may give a
key what is not theirs to give, and nobody gains a user's role by coming to know that user's key.
"""

from typing import Any

import msgspec

from schemas.errors import Forbidden, NotFound
from schemas.registry import KeyRecord
from services.admin.directory import live_keys
from services.admin.principal import Principal
from services.runtime.registry import RegistrySnapshot

__all__ = [
    "KEYS_OF_TEAM_MAX",
    "KEYS_OF_USER_MAX",
    "check_managed",
    "for_caller",
    "regenerated_by",
]

KEYS_OF_USER_MAX = 100
"""A user who has so many keys makes no further one."""
KEYS_OF_TEAM_MAX = 1000
"""The admins of a team that has so many keys make no further one for it."""
_FOR_ADMINS = ("analyst", "names_end_users", "store_prompts", "on_quota_exhausted")
"""Settings that a proxy_admin alone changes: they open other people's rows, spend money of others,
or say what is kept."""
_OWN_TO_CHANGE = frozenset({"key_alias", "metadata", "tags"})
"""What a user may change on a key that somebody else made for the user, whose limits it holds."""
_GIVEN_AS = {
    "expires_at_us": "duration",
    "max_budget_usd": "max_budget",
    "soft_budget_usd": "soft_budget",
    "spend_reset_at_us": "reset_to",
    "spend_reset_to_usd": "reset_to",
    "temp_budget_expires_at_us": "temp_budget_expiry",
    "temp_budget_increase_usd": "temp_budget_increase",
}
"""Names of settings in requests, where records have others."""
_BOOKKEEPING = frozenset({"updated_at_us", "updated_by", "without_role"})


def check_managed(caller: Principal, record: KeyRecord | None, *, param: str = "key") -> KeyRecord:
    """Return the record of a key that a request names and the caller may change.

    Raises NotFound where there is none or the caller may not see it, else Forbidden.
    """
    if record is None or not caller.sees_key(record):
        raise NotFound("Key not found in the registry", param=param)
    if not caller.manages_key(record):
        raise Forbidden(
            f"the key {record.key_alias or record.key_name} may be changed by an admin alone",
            param=param,
        )
    return record


def for_caller(
    snapshot: RegistrySnapshot, caller: Principal, before: KeyRecord | None, after: KeyRecord
) -> KeyRecord:
    """Return the record that a caller makes (`before` is None) or changes, as it may be stored.

    Raises Forbidden, which names the field.
    """
    if caller.manages_all:
        return after
    bare = before or KeyRecord(key_id=after.key_id, key_hash=after.key_hash, key_name="")
    changed = {name for name in _fields(after) if getattr(after, name) != getattr(bare, name)}
    if after.analyst is not None and "team_id" in changed:
        # Then it would see the rows of another team.
        changed.add("analyst")
    for name in _FOR_ADMINS:
        if name in changed and not _may_ask_about_team(caller, name, after):
            raise Forbidden(f"{name} can be changed by an admin alone", param=name)
    if not set(bare.guardrails) <= set(after.guardrails):
        raise Forbidden("guardrails can be taken away by an admin alone", param="guardrails")
    after = _owned(snapshot, caller, before, after)
    if before is None:
        _check_count(snapshot, caller, after)
    if before is not None and after.team_id not in caller.teams_administered:
        _check_limits_stay(snapshot, caller, before, changed)
    return after


def regenerated_by(caller: Principal, record: KeyRecord) -> KeyRecord:
    """Return a key whose new secret the caller is told, as it may be stored."""
    if caller.manages_all or record.user_id in (None, caller.user_id):
        return record
    return msgspec.structs.replace(record, without_role=True)


def _owned(
    snapshot: RegistrySnapshot, caller: Principal, before: KeyRecord | None, after: KeyRecord
) -> KeyRecord:
    """Return the record with its user, who must be the caller or a member of the caller's team."""
    manages_team = after.team_id in caller.teams_administered
    if before is None and after.user_id is None and not manages_team:
        after = msgspec.structs.replace(after, user_id=caller.user_id)
    is_own = after.user_id == caller.user_id
    is_moved = before is None or before.team_id != after.team_id
    if is_moved and after.team_id is not None and after.team_id not in caller.teams:
        raise Forbidden("team_id: you are no member of this team", param="team_id")
    if not manages_team and not (is_own and caller.manages_own_keys):
        what = "of your own" if caller.manages_own_keys else "of the teams that you manage"
        raise Forbidden(f"you may make and change keys {what} alone", param="user_id")
    if after.user_id is None or (before is not None and before.user_id == after.user_id):
        return after
    if not is_own and after.team_id not in snapshot.memberships(after.user_id):
        raise Forbidden("user_id: this user is no member of the team", param="user_id")
    # Whoever made the key, or had it before, knows it: its new user's role must not be theirs.
    if not is_own or before is not None:
        return msgspec.structs.replace(after, without_role=True)
    return after


def _check_count(snapshot: RegistrySnapshot, caller: Principal, new: KeyRecord) -> None:
    """Raise Forbidden where a team's admin, or a user, has made as many keys as there may be."""
    if new.team_id in caller.teams_administered:
        count = sum(each.team_id == new.team_id for each in live_keys(snapshot))
        whose, most = "the team has", KEYS_OF_TEAM_MAX
    else:
        count = sum(each.user_id == new.user_id for each in live_keys(snapshot))
        whose, most = "you have", KEYS_OF_USER_MAX
    if count >= most:
        raise Forbidden(
            f"{whose} {count} keys, and further ones are made by an admin alone: delete some that "
            "nobody uses"
        )


def _check_limits_stay(
    snapshot: RegistrySnapshot, caller: Principal, before: KeyRecord, changed: set[str]
) -> None:
    """Raise Forbidden where a user changes what an admin set on the user's key."""
    if before.blocked and "blocked" in changed:
        raise Forbidden("a blocked key is unblocked by an admin alone", param="blocked")
    by_whom = [snapshot.keys.get(each or "") for each in (before.created_by, before.updated_by)]
    if all(each is not None and each.user_id == caller.user_id for each in by_whom):
        return
    for field in sorted(changed - _OWN_TO_CHANGE):
        name = _GIVEN_AS.get(field, field)
        raise Forbidden(
            f"{name}: an admin made or changed this key and alone may change that; yours are "
            f"{', '.join(sorted(_OWN_TO_CHANGE))}",
            param=name,
        )


def _may_ask_about_team(caller: Principal, name: str, after: KeyRecord) -> bool:
    """Tell whether a team's admin lets a key ask about the rows of this team, which is theirs."""
    return (
        name == "analyst"
        and after.analyst in (None, "team")
        and after.team_id in caller.teams_administered
    )


def _fields(record: KeyRecord) -> Any:
    return (name for name in record.__struct_fields__ if name not in _BOOKKEEPING)
