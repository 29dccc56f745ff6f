"""What GET /audit takes and answers: LiteLLM's page of its audit log, with each change's origin."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from services.admin.bodies import Name
from services.admin.bodies_spend import Format, Moment

__all__ = [
    "AUDIT_PAGE_SIZE_MAX",
    "TABLE_NAMES",
    "Action",
    "AuditLog",
    "AuditPage",
    "AuditQuery",
    "ObjectType",
]

AUDIT_PAGE_SIZE_MAX = 100

ObjectType = Literal["key", "team", "user", "model", "config", "prices", "requests"]
Action = Literal[
    "created",
    "updated",
    "blocked",
    "unblocked",
    "rotated",
    "deleted",
    "changed",
    "repriced",
    "not_repriced",
]
TABLE_NAMES = {
    "key": "LiteLLM_VerificationToken",
    "team": "LiteLLM_TeamTable",
    "user": "LiteLLM_UserTable",
    "model": "LiteLLM_ProxyModelTable",
}
"""LiteLLM's names for what is changed, where it has one."""


class AuditQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /audit: changes that match all that is given, one page of them.

    `object_id` is an id, `object_name` a name at the time of the change, `changed_field` the name
    of one of the fields that were changed. Times are days or times of days in UTC, both included.
    """

    object_type: ObjectType | None = None
    table_name: (
        Literal[
            "LiteLLM_VerificationToken",
            "LiteLLM_TeamTable",
            "LiteLLM_UserTable",
            "LiteLLM_ProxyModelTable",
        ]
        | None
    ) = None
    object_id: Name | None = None
    object_name: Name | None = None
    action: Action | None = None
    changed_by: Name | None = None
    changed_field: Name | None = None
    client_address: Name | None = None
    route: Name | None = None
    request_id: Name | None = None
    start_date: Moment | None = None
    end_date: Moment | None = None
    page: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    page_size: Annotated[int, Meta(ge=1, le=AUDIT_PAGE_SIZE_MAX)] = 50
    sort_order: Literal["asc", "desc"] = "desc"
    format: Format | None = None


class AuditLog(msgspec.Struct, frozen=True, kw_only=True):
    """One change. `before_value` and `updated_values` hold the changed fields alone.

    `id` is the stream and the message in it that holds the change. `before_value` is null where
    there was nothing before.
    """

    id: str
    updated_at: str
    changed_by: str | None
    action: str
    object_type: str
    table_name: str | None
    object_id: str
    object_name: str | None
    client_address: str | None
    route: str | None
    request_id: str | None
    changed_fields: tuple[str, ...]
    before_value: dict[str, Any] | None
    updated_values: dict[str, Any]


class AuditPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of changes, and how many there are altogether."""

    audit_logs: tuple[AuditLog, ...]
    total: int
    page: int
    page_size: int
    total_pages: int
