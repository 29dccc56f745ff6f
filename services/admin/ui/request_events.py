"""The events of one request in their order, from what the ledger keeps of them. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

__all__ = ["RequestEvent", "events_of"]

_Row = Mapping[str, Any]
_ENDS = {"refused": "request.rejected"}


class RequestEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event: `name` in the words of docs/events.md, or what was seen of the answer.

    `message` is that of the stream USAGE which holds it, `producer` and `number` who reported it;
    None where the ledger does not keep that. `href` leads to what it is about.
    """

    at: datetime
    name: str
    text: str
    message: int | None = None
    producer: str = ""
    number: int | None = None
    href: str = ""


def events_of(
    row: _Row,
    attempts: Sequence[_Row],
    findings: Sequence[_Row],
    corrections: Sequence[_Row],
    repricings: Sequence[_Row],
) -> list[RequestEvent]:
    """Return what happened to a request, the first first.

    `row` is of `requests`, `attempts` are other attempts at the same request, `findings` of
    `guardrail_events`, `corrections` of that table, `repricings` those that meant the request.
    """
    is_refused = row["status"] == "refused"
    found = [
        RequestEvent(
            at=row["started_at"],
            name="came in" if is_refused else "request.started",
            text=f"{row['path'] or row['endpoint']}, {row['model_name'] or 'no model'}",
        )
    ]
    if row["first_byte_at"] is not None:
        found.append(
            RequestEvent(at=row["first_byte_at"], name="first byte", text="The answer began.")
        )
    found += [_finding(each) for each in findings]
    found += [_attempt(each) for each in attempts]
    found.append(_end(row))
    found += [
        RequestEvent(
            at=row["ended_at"],
            name="correction",
            text=f"It had been closed as lost at message {each['lost_sequence']:,}; then its end "
            "came after all and replaced that.",
            message=each["corrected_sequence"],
        )
        for each in corrections
    ]
    found += [_repricing(each, row) for each in repricings]
    return sorted(found, key=lambda each: each.at)


def _finding(row: _Row) -> RequestEvent:
    action = {"block": "blocked", "mask": "masked", "log": "noted"}.get(
        row["action"], row["action"]
    )
    return RequestEvent(
        at=row["found_at"],
        name="guardrail.triggered",
        text=f"{row['guardrail']} {action} {row['rule']} ({row['category']}) in {row['place']}, "
        f"{row['hits']} ×",
        message=row["stream_sequence"],
        producer=row["producer"],
        number=row["producer_sequence"],
    )


def _attempt(row: _Row) -> RequestEvent:
    which = "A further attempt" if row["attempt_of"] else "The first attempt"
    return RequestEvent(
        at=row["started_at"],
        name="attempt",
        text=f"{which} at {row['deployment'] or 'a deployment'}: {row['status']} "
        f"({row['http_status']})",
        message=row["stream_sequence"],
        href=f"/ui/logs/{row['request_id']}",
    )


def _end(row: _Row) -> RequestEvent:
    if row["error_type"] == "lost":
        name, text = "lost", "Its end never came; after 24 hours it was closed."
    else:
        name = _ENDS.get(row["status"], "usage.recorded")
        text = row["reason"] or row["error_type"] or row["stop_reason"] or row["status"]
    return RequestEvent(
        at=row["ended_at"],
        name=name,
        text=text,
        message=row["stream_sequence"],
        producer=row["producer"],
        number=row["producer_sequence"],
    )


def _repricing(row: _Row, request: _Row) -> RequestEvent:
    if not row["applied"]:
        what = "It meant too many requests at once and changed none."
    elif row["stream_sequence"] == request["priced_sequence"]:
        what = "The cost shown is by these prices."
    else:
        what = "A later repricing decides."
    return RequestEvent(
        at=row["repriced_at"],
        name="requests.repriced",
        text=f"{row['reason']} (by {row['repriced_by'] or 'somebody unknown'}). {what}",
        message=row["stream_sequence"],
    )
