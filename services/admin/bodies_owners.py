"""What the routes about teams and users take and answer: LiteLLM's names and shapes."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from schemas.registry import OnQuotaExhausted, UserRole
from services.admin.bodies import (
    PAGE_MAX,
    PAGE_SIZE_MAX,
    Duration,
    GuardrailNames,
    KeyRow,
    Models,
    Name,
)
from services.admin.bodies_budgets import BudgetSettings, BudgetsShown
from services.admin.bodies_memberships import Membership

__all__ = [
    "MEMBERS_ADDED_MAX",
    "OWNERS_DELETED_MAX",
    "BlockTeam",
    "DeleteTeams",
    "DeleteUsers",
    "DeletedTeams",
    "DeletedUsers",
    "GivenMember",
    "GivenMembers",
    "ListedUser",
    "MemberRow",
    "NewTeam",
    "NewUser",
    "NewUserAnswer",
    "OwnerSettings",
    "TeamInfo",
    "TeamInfoQuery",
    "TeamRow",
    "TeamSettings",
    "UpdateTeam",
    "UpdateUser",
    "UpdatedTeam",
    "UpdatedUser",
    "UserInfo",
    "UserInfoQuery",
    "UserList",
    "UserListQuery",
    "UserRow",
    "UserSettings",
]

OWNERS_DELETED_MAX = 100
"""One request deletes at most so many teams or users."""

Ids = Annotated[tuple[Name, ...], Meta(min_length=1, max_length=OWNERS_DELETED_MAX)]


TEAMS_JOINED_MAX = 100
"""One request makes a user a member of at most so many teams."""
MEMBERS_ADDED_MAX = 100
"""One request adds at most so many members."""


class GivenMember(msgspec.Struct, frozen=True, kw_only=True):
    """A member, named by `user_id` or by the mail address of a user."""

    role: Literal["admin", "user"] = "user"
    user_id: Name | None = None
    user_email: Name | None = None


GivenMembers = Annotated[tuple[GivenMember, ...], Meta(max_length=MEMBERS_ADDED_MAX)]


class OwnerSettings(BudgetSettings, frozen=True, kw_only=True):
    """What can be set on teams and users alike. Absent: it stays; null takes it away."""

    metadata: dict[str, Any] | UnsetType | None = UNSET
    blocked: bool | UnsetType | None = UNSET
    guardrails: GuardrailNames | UnsetType | None = UNSET
    models: Models | UnsetType | None = UNSET


class TeamSettings(OwnerSettings, frozen=True, kw_only=True):
    """What can be set on a team."""

    team_alias: Name | UnsetType | None = UNSET
    on_quota_exhausted: OnQuotaExhausted | UnsetType | None = UNSET
    team_member_budget: Decimal | UnsetType | None = UNSET
    team_member_budget_duration: Duration | UnsetType | None = UNSET


class NewTeam(TeamSettings, frozen=True, kw_only=True):
    """POST /team/new. Without `team_id` a random one is made."""

    team_id: Name | None = None
    members_with_roles: GivenMembers | None = None


class UpdateTeam(TeamSettings, frozen=True, kw_only=True):
    """POST /team/update: the team and what changes."""

    team_id: Name


class BlockTeam(msgspec.Struct, frozen=True, kw_only=True):
    """POST /team/block and /team/unblock."""

    team_id: Name


class DeleteTeams(msgspec.Struct, frozen=True, kw_only=True):
    """POST /team/delete."""

    team_ids: Ids


class UserSettings(OwnerSettings, frozen=True, kw_only=True):
    """What can be set on a user."""

    user_alias: Name | UnsetType | None = UNSET
    user_email: Name | UnsetType | None = UNSET
    user_role: UserRole | UnsetType | None = UNSET


class NewUser(UserSettings, frozen=True, kw_only=True):
    """POST /user/new. Without `user_id` a random one is made. `teams` get the user as a member.

    With `auto_create_key`, the default, a key of the user's is made too: `key_alias` and
    `duration` (how long it lives) are that key's.
    """

    user_id: Name | None = None
    teams: Annotated[tuple[Name, ...], Meta(max_length=TEAMS_JOINED_MAX)] | None = None
    auto_create_key: bool = True
    key_alias: Name | None = None
    duration: Duration | None = None


class UpdateUser(UserSettings, frozen=True, kw_only=True):
    """POST /user/update: the user and what changes."""

    user_id: Name


class DeleteUsers(msgspec.Struct, frozen=True, kw_only=True):
    """POST /user/delete."""

    user_ids: Ids


class OwnerRow(BudgetsShown, frozen=True, kw_only=True):
    """What LiteLLM shows of teams and users alike.

    `spend` is that of all their keys in the current budget window, `total_spend` that since ever;
    both are null where the ledger could not be asked (`spend_error` says why). The fields at the
    end have no meaning here and are always empty.
    """

    blocked: bool
    spend: Decimal | None
    total_spend: Decimal | None
    spend_error: str | None
    metadata: dict[str, Any]
    guardrails: tuple[str, ...]
    created_at: datetime
    created_by: str | None
    updated_at: datetime
    updated_by: str | None
    models: tuple[str, ...]
    organization_id: None = None
    object_permission: None = None


class MemberRow(msgspec.Struct, frozen=True, kw_only=True):
    """A user in a team; `user_email` is that of the user."""

    user_id: str
    user_email: str | None
    role: Literal["admin", "user"]


class TeamRow(OwnerRow, frozen=True, kw_only=True):
    """A team."""

    team_id: str
    team_alias: str | None
    on_quota_exhausted: OnQuotaExhausted | None
    members_with_roles: tuple[MemberRow, ...]
    team_member_budget: Decimal | None
    team_member_budget_duration: str | None
    litellm_model_table: None = None


class UserRow(OwnerRow, frozen=True, kw_only=True):
    """A user."""

    user_id: str
    user_alias: str | None
    user_email: str | None
    user_role: UserRole | None
    teams: tuple[str, ...]
    model_spend: dict[str, Any] = msgspec.field(default_factory=dict)
    organization_memberships: None = None
    sso_user_id: None = None


class ListedUser(UserRow, frozen=True, kw_only=True):
    """A user in a list, and how many keys name the user."""

    key_count: int


class NewUserAnswer(UserRow, frozen=True, kw_only=True):
    """The answer of POST /user/new; `key` is shown this once, null where none was made."""

    key: str | None
    token: str | None
    key_id: str | None
    key_alias: str | None
    expires: datetime | None


class UpdatedTeam(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of POST /team/update."""

    team_id: str
    data: TeamRow


class UpdatedUser(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of POST /user/update."""

    user_id: str
    data: UserRow


class DeletedTeams(msgspec.Struct, frozen=True, kw_only=True):
    """The teams that were deleted, and how many of their keys."""

    deleted_teams: tuple[str, ...]
    deleted_keys: int


class DeletedUsers(msgspec.Struct, frozen=True, kw_only=True):
    """The users that were deleted, and how many of their keys."""

    deleted_users: tuple[str, ...]
    deleted_keys: int


class TeamInfoQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /team/info."""

    team_id: Name


class UserInfoQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /user/info: without `user_id` the user whose key it is."""

    user_id: Name | None = None


class TeamInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A team and its keys (PAGE_SIZE_MAX at most: /key/list has all)."""

    team_id: str
    team_info: TeamRow
    keys: tuple[KeyRow, ...]
    team_memberships: tuple[Membership, ...]


class UserInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A user, the user's keys (PAGE_SIZE_MAX at most: /key/list has all), and the teams of both."""

    user_id: str
    user_info: UserRow
    keys: tuple[KeyRow, ...]
    teams: tuple[TeamRow, ...]
    team_memberships: tuple[Membership, ...]


class UserListQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /user/list. `user_email` matches parts, in any case."""

    page: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = 1
    page_size: Annotated[int, Meta(ge=1, le=PAGE_SIZE_MAX)] = 25
    user_email: Name | None = None


class UserList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of users, the newest first."""

    users: tuple[ListedUser, ...]
    total: int
    page: int
    page_size: int
    total_pages: int
