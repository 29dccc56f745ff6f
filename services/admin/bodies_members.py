"""What the routes about members of teams take and answer: LiteLLM's names and shapes."""

from decimal import Decimal
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from services.admin.bodies import Duration, Name
from services.admin.bodies_memberships import Membership
from services.admin.bodies_owners import GivenMember, GivenMembers, TeamRow, UserRow

__all__ = [
    "AddMembers",
    "AddedMembers",
    "DeleteMember",
    "DeletedMember",
    "UpdateMember",
    "UpdatedMember",
]


class AddMembers(msgspec.Struct, frozen=True, kw_only=True):
    """POST /team/member_add: one member, or a list of them, each with this budget in the team."""

    team_id: Name
    member: GivenMember | GivenMembers
    max_budget_in_team: Decimal | None = None
    budget_duration: Duration | None = None


class UpdateMember(msgspec.Struct, frozen=True, kw_only=True):
    """POST /team/member_update: the member, by `user_id` or `user_email`, and what changes.

    Null takes the member's own budget away: then that of all members holds.
    """

    team_id: Name
    user_id: Name | None = None
    user_email: Name | None = None
    role: Literal["admin", "user"] | None = None
    max_budget_in_team: Decimal | UnsetType | None = UNSET
    budget_duration: Duration | UnsetType | None = UNSET


class DeleteMember(msgspec.Struct, frozen=True, kw_only=True):
    """POST /team/member_delete: the member, by `user_id` or `user_email`."""

    team_id: Name
    user_id: Name | None = None
    user_email: Name | None = None


class AddedMembers(TeamRow, frozen=True, kw_only=True):
    """The team with its new members, their users, and their places in the team."""

    updated_users: tuple[UserRow, ...]
    updated_team_memberships: tuple[Membership, ...]


class UpdatedMember(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of POST /team/member_update: the member's own budget, null where it has none."""

    team_id: str
    user_id: str
    user_email: str | None
    role: Literal["admin", "user"]
    max_budget_in_team: Decimal | None
    budget_duration: str | None


class DeletedMember(TeamRow, frozen=True, kw_only=True):
    """The team without the member, and how many of the member's keys in it were deleted."""

    deleted_keys: int
