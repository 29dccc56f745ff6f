"""One change of a virtual key's settings: of /key/update, and of each key of /key/bulk_update."""

from typing import Any

from litestar import Request

from schemas.events import KeyUpdated
from schemas.registry import KeyRecord
from services.admin.bodies import UpdateKey
from services.admin.directory import find_key, sequence_of
from services.admin.guard import caller_of
from services.admin.guardrail_names import check_guardrails
from services.admin.key_rights import check_managed, for_caller
from services.admin.key_types import check_routes
from services.admin.records import Issue, updated_record
from services.admin.state import AdminState
from services.admin.writer import refuse_taken_alias

__all__ = ["change_key"]


async def change_key(
    request: Request[Any, Any, Any], admin: AdminState, body: UpdateKey, issue: Issue
) -> tuple[KeyRecord, int]:
    """Store what a request changes of a key; return its new state and the event's sequence.

    Raises ApiError, and nothing is changed then.
    """
    caller = caller_of(request)
    check_guardrails(body.guardrails, admin.guardrail_names)
    check_routes(body.allowed_routes, request.app.route_handler_method_map)
    snapshot = await admin.registry()
    before = check_managed(caller, find_key(snapshot, body.key))
    record = for_caller(snapshot, caller, before, updated_record(before, body, issue))
    if record.key_alias != before.key_alias:
        refuse_taken_alias(snapshot, record)
    sequence = await admin.writer.write(
        KeyUpdated, record, expected_sequence=sequence_of(snapshot, before)
    )
    if record.key_alias != before.key_alias:
        await admin.writer.claim_alias(KeyUpdated, record, before)
    return record, sequence
