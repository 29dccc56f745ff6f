"""What a team's admin and a user may do to keys: what is changed decides, not what is sent."""

from typing import Any

import msgspec
import pytest

from schemas.errors import Forbidden, NotFound
from schemas.registry import KeyRecord, TeamMember, TeamRecord, UserRecord, UserRole
from services.admin.key_rights import (
    KEYS_OF_TEAM_MAX,
    KEYS_OF_USER_MAX,
    check_managed,
    for_caller,
    regenerated_by,
)
from services.admin.principal import MASTER, Principal, principal_of_key
from services.runtime.registry import RegistrySnapshot

NOW_US = 1_796_083_200_000_000


def key(key_id: str = "k", **fields: Any) -> KeyRecord:
    return KeyRecord(key_id=key_id, key_hash=key_id * 64, key_name="sk-...x", **fields)


def place(user_id: str, **fields: Any) -> TeamMember:
    return TeamMember(user_id=user_id, **fields)


LEAD, ANN = key("l", user_id="lead"), key("a", user_id="ann")


@pytest.fixture
def snapshot() -> RegistrySnapshot:
    """The team blue, managed by lead, with ann and boss; red, in which lead is a member alone."""
    found = RegistrySnapshot()
    roles: dict[str, UserRole] = {
        "lead": "internal_user",
        "ann": "internal_user",
        "boss": "proxy_admin",
    }
    for user_id, role in roles.items():
        found.put_owner(UserRecord(user_id=user_id, user_role=role))
    blue = (place("lead", role="admin"), place("ann"), place("boss"))
    found.put_owner(TeamRecord(team_id="blue", members_with_roles=blue))
    found.put_owner(TeamRecord(team_id="red", members_with_roles=(place("lead"),)))
    found.put(LEAD)
    found.put(ANN)
    return found


def principal(snapshot: RegistrySnapshot, record: KeyRecord) -> Principal:
    return principal_of_key(snapshot, record, NOW_US)


@pytest.mark.parametrize(
    ("who", "before", "after", "param"),
    [
        (LEAD, None, {"team_id": "blue", "user_id": "ann"}, None),
        (LEAD, None, {"team_id": "blue", "user_id": "eve"}, "user_id"),
        (LEAD, None, {"team_id": "red"}, None),
        (LEAD, None, {"team_id": "red", "user_id": "ann"}, "user_id"),
        (LEAD, None, {"team_id": "green"}, "team_id"),
        (LEAD, None, {"team_id": "blue", "analyst": "team"}, None),
        (LEAD, None, {"team_id": "red", "analyst": "team"}, "analyst"),
        (
            LEAD,
            {"team_id": "blue", "analyst": "team", "user_id": "lead"},
            {"team_id": "red"},
            "analyst",
        ),
        (LEAD, {"team_id": "blue", "guardrails": ("a",)}, {"guardrails": ()}, "guardrails"),
        (LEAD, {"team_id": "blue", "guardrails": ("a",)}, {"guardrails": ("a", "b")}, None),
        (
            LEAD,
            {"team_id": "blue", "store_prompts": True},
            {"store_prompts": None},
            "store_prompts",
        ),
        (LEAD, {"team_id": "blue", "blocked": True}, {"blocked": False}, None),
        (ANN, {"user_id": "ann", "blocked": True}, {"blocked": False}, "blocked"),
        (ANN, {"user_id": "ann"}, {"user_id": None}, "user_id"),
        (ANN, {"user_id": "ann"}, {"team_id": "blue"}, "team_id"),
        (
            ANN,
            {"user_id": "ann", "created_by": "a", "updated_by": "a"},
            {"team_id": "blue"},
            None,
        ),
        (ANN, {"user_id": "ann"}, {"expires_at_us": 5}, "duration"),
        (ANN, {"user_id": "ann"}, {"key_alias": "mine", "tags": ("x",)}, None),
        (ANN, {"user_id": "ann", "created_by": "a", "updated_by": "a"}, {"rpm_limit": 9}, None),
        (
            ANN,
            {"user_id": "ann", "created_by": "a", "updated_by": "m"},
            {"rpm_limit": 9},
            "rpm_limit",
        ),
        (ANN, None, {"names_end_users": True}, "names_end_users"),
        (ANN, None, {"on_quota_exhausted": "pay"}, "on_quota_exhausted"),
    ],
)
def test_what_is_not_theirs_to_give_is_refused_by_its_name(
    snapshot: RegistrySnapshot,
    who: KeyRecord,
    before: dict[str, Any] | None,
    after: dict[str, Any],
    param: str | None,
) -> None:
    # Given a caller and a change of a key, when it is looked at, then it is as may be stored, or
    # the error names the setting; an admin may all of it.
    old = None if before is None else key(**before)
    new = key(**after) if old is None else msgspec.structs.replace(old, **after)
    assert for_caller(snapshot, MASTER, old, new) == new
    if param is not None:
        with pytest.raises(Forbidden) as refused:
            for_caller(snapshot, principal(snapshot, who), old, new)
        assert refused.value.param == param
        return
    stored = for_caller(snapshot, principal(snapshot, who), old, new)
    assert stored.user_id == (new.user_id or (None if new.team_id == "blue" else who.user_id))


def test_a_key_that_somebody_else_knows_never_has_its_users_role(
    snapshot: RegistrySnapshot,
) -> None:
    # Given a team's admin, when a key is made for a member, given to one, or made anew, then the
    # role of that user is not the key's; the own key keeps it.
    lead = principal(snapshot, LEAD)
    made = for_caller(snapshot, lead, None, key(team_id="blue", user_id="boss"))
    bot = key(team_id="blue")
    given = for_caller(snapshot, lead, bot, msgspec.structs.replace(bot, user_id="boss"))
    anew = regenerated_by(lead, key(team_id="blue", user_id="boss"))
    for record in (made, given, anew):
        assert record.without_role
        assert principal(snapshot, record).role is None
    own = for_caller(snapshot, lead, None, key(team_id="blue", user_id="lead"))
    assert not own.without_role
    assert not regenerated_by(lead, own).without_role
    assert not regenerated_by(MASTER, key(user_id="boss")).without_role


@pytest.mark.parametrize(
    ("who", "owner", "most"),
    [
        (ANN, {"user_id": "ann"}, KEYS_OF_USER_MAX),
        (LEAD, {"team_id": "blue"}, KEYS_OF_TEAM_MAX),
    ],
)
def test_users_and_teams_make_no_more_keys_than_they_may_have(
    snapshot: RegistrySnapshot, who: KeyRecord, owner: dict[str, Any], most: int
) -> None:
    # Given one key less than there may be, when further ones are made, then one is, and the next
    # is refused until one is deleted; an admin may go on.
    for number in range(most - sum(each.user_id == "ann" for each in [who]) - 1):
        snapshot.put(key(f"key_{number}", **owner))
    last, further = key("last", **owner), key("further", **owner)
    snapshot.put(for_caller(snapshot, principal(snapshot, who), None, last))
    with pytest.raises(Forbidden, match=f"{most} keys"):
        for_caller(snapshot, principal(snapshot, who), None, further)
    assert for_caller(snapshot, MASTER, None, further) == further
    snapshot.put(msgspec.structs.replace(last, deleted=True))
    assert for_caller(snapshot, principal(snapshot, who), None, further) == further


def test_a_user_s_key_may_stay_in_a_team_that_the_user_is_no_member_of(
    snapshot: RegistrySnapshot,
) -> None:
    # Given a key that an admin put into a team, when its user renames it, then it stays there.
    before = key(user_id="ann", team_id="red")
    after = msgspec.structs.replace(before, key_alias="mine")
    assert for_caller(snapshot, principal(snapshot, ANN), before, after) == after


def test_keys_of_others_are_not_there_and_seen_ones_may_be_another_s_to_change(
    snapshot: RegistrySnapshot,
) -> None:
    # Given keys of others, when a caller names them, then they are not found; a key that is only
    # shown is refused, and says who may change it.
    ann = principal(snapshot, ANN)
    for record in (None, key(user_id="lead"), key(team_id="blue")):
        with pytest.raises(NotFound):
            check_managed(ann, record)
    snapshot.put_owner(UserRecord(user_id="ann", user_role="internal_user_viewer"))
    with pytest.raises(Forbidden, match="by an admin alone"):
        check_managed(principal(snapshot, ANN), ANN)
    assert check_managed(principal(snapshot, LEAD), key(team_id="blue")) == key(team_id="blue")
