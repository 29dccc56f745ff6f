"""Who a key is: its user's role while both are in force, and its place in the user's teams."""

from typing import Any

import msgspec
import pytest

from schemas.registry import KeyRecord, TeamMember, TeamRecord, UserRecord
from services.admin.access import refusal_of
from services.admin.principal import MASTER, Principal, principal_of_key, principal_of_key_id
from services.runtime.registry import RegistrySnapshot

NOW_US = 1_796_083_200_000_000
KEY = KeyRecord(key_id="k", key_hash="0" * 64, key_name="sk-...0000", user_id="u", team_id="blue")


def snapshot_with(*records: KeyRecord | TeamRecord | UserRecord) -> RegistrySnapshot:
    snapshot = RegistrySnapshot()
    for record in records:
        if isinstance(record, KeyRecord):
            snapshot.put(record)
        else:
            snapshot.put_owner(record)
    return snapshot


def blue(**fields: Any) -> TeamRecord:
    return TeamRecord(team_id="blue", **fields)


def test_key_has_its_users_role_and_places_in_teams() -> None:
    # Given a user in two teams, of which the user manages one, when the key's principal is asked
    # for, then it has the role and both places.
    snapshot = snapshot_with(
        KEY,
        UserRecord(user_id="u", user_role="internal_user"),
        blue(members_with_roles=(TeamMember(user_id="u", role="admin"),)),
        TeamRecord(team_id="red", members_with_roles=(TeamMember(user_id="u"),)),
    )
    found = principal_of_key(snapshot, KEY, NOW_US)
    assert (found.role, found.user_id, found.name) == ("internal_user", "u", "k")
    assert (found.teams, found.teams_administered) == ({"blue", "red"}, {"blue"})
    # When one team lets the user go and the other is deleted, then nothing of them remains.
    snapshot.put_owner(blue(members_with_roles=(TeamMember(user_id="v", role="admin"),)))
    snapshot.put_owner(
        TeamRecord(team_id="red", deleted=True, members_with_roles=(TeamMember(user_id="u"),))
    )
    assert principal_of_key_id(snapshot, "k", NOW_US) == Principal(
        key=KEY, role="internal_user", user_id="u"
    )
    assert snapshot.memberships("v").keys() == {"blue"}


@pytest.mark.parametrize(
    ("key", "user", "team", "problem"),
    [
        ({"blocked": True}, {}, {}, "is blocked"),
        ({"expires_at_us": NOW_US}, {}, {}, "has expired"),
        ({}, {"blocked": True}, {}, "belongs to a user that is blocked"),
        ({}, {}, {"blocked": True}, "belongs to a team that is blocked"),
        ({}, {}, {"deleted": True}, "belongs to a team that is deleted"),
        ({"without_role": True}, {}, {}, None),
        ({"user_id": None}, {}, {}, None),
        ({"user_id": "nobody"}, {}, {}, None),
        ({}, {"deleted": True}, {}, "belongs to a user that is deleted"),
    ],
)
def test_key_that_is_not_in_force_has_no_role(
    key: dict[str, Any], user: dict[str, Any], team: dict[str, Any], problem: str | None
) -> None:
    # Given an admin's key, when it, its user or its team is not in force, or the role is not its
    # own, then it has none, and the refusal says why.
    record = msgspec.structs.replace(KEY, **key)
    snapshot = snapshot_with(
        record,
        UserRecord(user_id="u", user_role="proxy_admin", **user),
        blue(members_with_roles=(TeamMember(user_id="u", role="admin"),), **team),
    )
    found = principal_of_key(snapshot, record, NOW_US)
    assert found == Principal(key=record, problem=problem)
    assert (found.manages_all, found.sees_all) == (False, False)
    assert refusal_of(found, "admin").endswith(problem or "which has no role")


def test_deleted_key_is_nobody() -> None:
    # Given a key that was deleted, when it is asked for by its id, then there is nobody.
    snapshot = snapshot_with(msgspec.structs.replace(KEY, deleted=True))
    assert principal_of_key_id(snapshot, "k", NOW_US) is None
    assert principal_of_key_id(snapshot, "other", NOW_US) is None
    assert MASTER.manages_all and MASTER.name == "master_key"  # noqa: PT018 - one thing
