"""The routes that set a virtual key's spend: its budgets count anew, its history stays."""

from decimal import Decimal
from typing import Any

import msgspec
from litestar import Request, Response, post

from schemas.errors import BadRequest, Unavailable
from schemas.events import KeyUpdated
from schemas.registry import KeyRecord
from services.admin.bodies_reset import ResetKeySpend, ResetNamedKeySpend, SpendOfKeyReset
from services.admin.budgets import amount_from, budgets_shown
from services.admin.describing import Description, described
from services.admin.directory import find_key, sequence_of
from services.admin.guard import caller_of
from services.admin.key_rights import check_managed, for_caller
from services.admin.money import plain_number
from services.admin.preconditions import etag_header
from services.admin.reading import answer_json, read_body
from services.admin.records import Issue
from services.admin.state import AdminState, now_us

__all__ = ["RESET_ROUTES", "reset_record"]

_TAG = "keys"
_Request = Request[Any, Any, Any]
_DESCRIPTION = (
    "From now on the key's spend is `reset_to`, which may not be more than it was, and its "
    "budgets count requests that start from now on. What was spent before stays in the books, "
    "in `total_spend` and in all reports, and counts for the budgets of its user and team."
)


@post(
    "/key/reset_spend",
    status_code=200,
    opt=described(
        Description(
            summary="Set a virtual key's spend",
            description=_DESCRIPTION,
            tag=_TAG,
            body=ResetKeySpend,
            answer=SpendOfKeyReset,
            versioned=True,
            example_body={"key": "sk-...", "reset_to": 0},
            errors=(400, 404, 409, 412),
        ),
        access="keys",
    ),
)
async def reset_spend(request: _Request, admin: AdminState) -> Response[bytes]:
    """Set the spend of the key that the body names."""
    body = await read_body(request, ResetKeySpend)
    return await _reset(request, admin, body.key, body.reset_to)


@post(
    "/key/{key:str}/reset_spend",
    status_code=200,
    opt=described(
        Description(
            summary="Set the spend of the virtual key in the path",
            description=_DESCRIPTION + " Name the key by its id or SHA-256: paths are logged.",
            tag=_TAG,
            body=ResetNamedKeySpend,
            answer=SpendOfKeyReset,
            versioned=True,
            example_body={"reset_to": 0},
            errors=(400, 404, 409, 412),
        ),
        access="keys",
    ),
)
async def reset_named_spend(request: _Request, admin: AdminState, key: str) -> Response[bytes]:
    """Set the spend of the key that the path names."""
    body = await read_body(request, ResetNamedKeySpend)
    return await _reset(request, admin, key, body.reset_to)


async def _reset(
    request: _Request, admin: AdminState, given: str, reset_to: Decimal
) -> Response[bytes]:
    snapshot = await admin.registry()
    caller = caller_of(request)
    before = check_managed(caller, find_key(snapshot, given))
    expected = sequence_of(snapshot, before)
    issue = Issue(now_us=now_us(), by=caller.name)
    spend = (await admin.ledger.spend_of([before], issue.now_us))[before.key_id]
    if spend.window_usd is None:
        # Without what was spent nobody could say that the figure is not more.
        raise Unavailable(spend.error or "the ledger does not say what the key spent")
    after = reset_record(before, reset_to, spend.window_usd, issue)
    record = for_caller(snapshot, caller, before, after)
    sequence = await admin.writer.write(KeyUpdated, record, expected_sequence=expected)
    shown = budgets_shown(record, None, issue.now_us, admin.timezone)
    answer = SpendOfKeyReset(
        key_id=record.key_id,
        key_hash=record.key_hash,
        spend=plain_number(record.spend_reset_to_usd or Decimal(0)),
        previous_spend=plain_number(spend.window_usd),
        max_budget=shown["max_budget"],
        budget_reset_at=shown["budget_reset_at"],
    )
    return answer_json(answer, headers=etag_header(sequence))


def reset_record(
    record: KeyRecord, reset_to: Decimal, spent_usd: Decimal, issue: Issue
) -> KeyRecord:
    """Return the record with its spend set. Raises BadRequest for a figure that cannot be.

    `spent_usd` is what it was.
    """
    to_usd = amount_from("reset_to", reset_to)
    assert to_usd is not None
    if to_usd > spent_usd:
        raise BadRequest(
            f"reset_to must be at most what the key has spent in this window, "
            f"{plain_number(spent_usd)} US dollars: nothing can be spent that was not",
            param="reset_to",
        )
    if record.max_budget_usd is not None and to_usd > record.max_budget_usd:
        raise BadRequest(
            f"reset_to must be at most the key's max_budget, {record.max_budget_usd} US dollars",
            param="reset_to",
        )
    return msgspec.structs.replace(
        record,
        spend_reset_at_us=issue.now_us,
        spend_reset_to_usd=to_usd,
        updated_at_us=issue.now_us,
        updated_by=issue.by,
    )


RESET_ROUTES = (reset_spend, reset_named_spend)
