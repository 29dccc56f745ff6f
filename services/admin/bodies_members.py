"""What the routes about members of teams take and answer: LiteLLM's names and shapes."""

from typing import Literal

import msgspec

from services.admin.bodies import Name
from services.admin.bodies_owners import GivenMember, GivenMembers, TeamRow, UserRow

__all__ = [
    "AddMembers",
    "AddedMembers",
    "DeleteMember",
    "DeletedMember",
    "Membership",
    "UpdateMember",
    "UpdatedMember",
]


class AddMembers(msgspec.Struct, frozen=True, kw_only=True):
    """POST /team/member_add: one member, or a list of them."""

    team_id: Name
    member: GivenMember | GivenMembers


class UpdateMember(msgspec.Struct, frozen=True, kw_only=True):
    """POST /team/member_update: the member, by `user_id` or `user_email`, and what changes."""

    team_id: Name
    user_id: Name | None = None
    user_email: Name | None = None
    role: Literal["admin", "user"] | None = None


class DeleteMember(msgspec.Struct, frozen=True, kw_only=True):
    """POST /team/member_delete: the member, by `user_id` or `user_email`."""

    team_id: Name
    user_id: Name | None = None
    user_email: Name | None = None


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """A user's place in a team."""

    team_id: str
    user_id: str


class AddedMembers(TeamRow, frozen=True, kw_only=True):
    """The team with its new members, their users, and their places in the team."""

    updated_users: tuple[UserRow, ...]
    updated_team_memberships: tuple[Membership, ...]


class UpdatedMember(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of POST /team/member_update."""

    team_id: str
    user_id: str
    user_email: str | None
    role: Literal["admin", "user"]


class DeletedMember(TeamRow, frozen=True, kw_only=True):
    """The team without the member, and how many of the member's keys in it were deleted."""

    deleted_keys: int
