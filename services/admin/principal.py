"""Who asks, and what that lets them do: the master key, or a virtual key and its user. Pure.

A key has the role of the user that it names, while both are in force. What a team admin may do
comes from the teams' members beside it.
"""

import msgspec

from schemas.registry import KeyRecord, UserRecord, UserRole
from services.runtime.registry import RegistrySnapshot

__all__ = ["MASTER", "Principal", "key_problem", "principal_of_key", "principal_of_key_id"]


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. `key` is None for the master key, whose `role` is `proxy_admin`.

    `user_id` is the user whose `role` it is, `teams` are those that this user is a member of, and
    `teams_administered` those of them that the user manages. A key without a role has none of
    these, and sees itself alone; `problem` says why, where the key had more otherwise.
    """

    key: KeyRecord | None = None
    role: UserRole | None = None
    user_id: str | None = None
    teams: frozenset[str] = frozenset()
    teams_administered: frozenset[str] = frozenset()
    problem: str | None = None

    @property
    def name(self) -> str:
        """Who is written down as the one who changed something."""
        return "master_key" if self.key is None else self.key.key_id

    @property
    def manages_all(self) -> bool:
        """Whether everything may be changed."""
        return self.role == "proxy_admin"

    @property
    def sees_all(self) -> bool:
        """Whether everything may be seen."""
        return self.role in ("proxy_admin", "proxy_admin_viewer")

    @property
    def manages_own_keys(self) -> bool:
        """Whether the user may make, change and delete keys of its own."""
        return self.role == "internal_user"

    @property
    def has_part(self) -> bool:
        """Whether the caller is somebody's: with a role, or in charge of a team."""
        return self.role is not None or bool(self.teams_administered)

    def sees_key(self, key: KeyRecord) -> bool:
        """Tell whether a key is one of the caller's own, or of a team that it manages."""
        return (
            self.sees_all
            or (self.key is not None and self.key.key_id == key.key_id)
            or (self.role is not None and self.user_id == key.user_id)
            or key.team_id in self.teams_administered
        )

    def manages_key(self, key: KeyRecord) -> bool:
        """Tell whether a key may be changed by the caller."""
        return (
            self.manages_all
            or (self.manages_own_keys and self.user_id == key.user_id)
            or key.team_id in self.teams_administered
        )

    def sees_team(self, team_id: str) -> bool:
        """Tell whether a team is one that the caller is a member of."""
        return self.sees_all or (self.has_part and team_id in self.teams)

    def sees_member(self, team_id: str, user_id: str) -> bool:
        """Tell whether what a user may spend in a team, and spent, is shown to the caller."""
        return self.sees_all or self.manages_team(team_id) or user_id == self.user_id

    def manages_team(self, team_id: str) -> bool:
        """Tell whether the caller manages a team's members and keys."""
        return self.manages_all or team_id in self.teams_administered


MASTER = Principal(role="proxy_admin")


def principal_of_key(snapshot: RegistrySnapshot, key: KeyRecord, now_us: int) -> Principal:
    """Return who a virtual key is, as the registry stands."""
    problem = key_problem(snapshot, key, now_us)
    user = snapshot.users.get(key.user_id) if key.user_id is not None else None
    if problem is not None or user is None or user.deleted or key.without_role:
        return Principal(key=key, problem=problem)
    teams = snapshot.memberships(user.user_id)
    return Principal(
        key=key,
        role=user.user_role,
        user_id=user.user_id,
        teams=frozenset(teams),
        teams_administered=frozenset(
            each for each, place in teams.items() if place.role == "admin"
        ),
    )


def principal_of_key_id(snapshot: RegistrySnapshot, key_id: str, now_us: int) -> Principal | None:
    """Return who the key with an id is; None where there is no such key, or not any more."""
    key = snapshot.keys.get(key_id)
    if key is None or key.deleted:
        return None
    return principal_of_key(snapshot, key, now_us)


def key_problem(snapshot: RegistrySnapshot, key: KeyRecord, now_us: int) -> str | None:
    """Return why a key may do nothing now, such as "is blocked"; None: it may."""
    if key.deleted:
        return "is deleted"
    if key.blocked:
        return "is blocked"
    if key.expires_at_us is not None and key.expires_at_us <= now_us:
        return "has expired"
    for owner in snapshot.owners_of(key):
        if owner.blocked or owner.deleted:
            kind = "user" if isinstance(owner, UserRecord) else "team"
            return f"belongs to a {kind} that is {'deleted' if owner.deleted else 'blocked'}"
    return None
