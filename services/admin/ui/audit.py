"""Audit: who changed what, when, from where, with the values before and after."""

from typing import Any, get_args
from urllib.parse import urlencode

import msgspec
from litestar import Request, Response, get
from litestar.response import Stream

from schemas.errors import BadRequest
from services.admin.bodies_audit import Action, ObjectType
from services.admin.days import moment_us
from services.admin.sql_answers import answer_table
from services.admin.sql_where import Conditions
from services.admin.state import AdminState
from services.admin.ui.addresses import page_of
from services.admin.ui.asking import Row, ask
from services.admin.ui.figures import who_did
from services.admin.ui.pages import is_part, page
from services.admin.ui.sheets import as_sheet
from services.runtime.registry import RegistrySnapshot

__all__ = ["AUDIT_PAGE_ROUTES"]

CHANGES_MAX = 50
"""A page has so many changes; the next ones are fetched as one scrolls."""
VALUE_LENGTH_MAX = 400
_Request = Request[Any, Any, Any]
OBJECTS: dict[ObjectType, str] = {
    "key": "Keys",
    "team": "Teams",
    "user": "Users",
    "model": "Models",
    "config": "Configuration",
    "prices": "Prices",
    "requests": "Repricings",
}
_FILTERS = {"object": "object_type", "id": "object_id", "action": "action", "by": "changed_by"}
_COLUMNS = (
    "stream, stream_sequence, changed_at, changed_by, action, object_type, object_id, object_name, "
    "client_address, route, request_id, changed_fields, before, after"
)
_WITH_PAGE = ("key", "team", "user")


@get("/audit", opt={"needs": "sees_all"})
async def audit(request: _Request, admin: AdminState) -> Response[bytes]:
    """Show changes, the newest first; as a part the ones that come after `before`."""
    query = request.query_params
    chosen = {name: query.get(name, "")[:200] for name in (*_FILTERS, "name", "from", "to")}
    problem = ""
    rows: list[Row] = []
    try:
        conditions = _conditions(chosen)
    except BadRequest as error:
        problem, conditions = error.message, Conditions()
    before = query.get("before", "").split(".")
    if len(before) == 3 and before[0].isdecimal() and before[2].isdecimal():  # noqa: PLR2004
        conditions.add(
            "(changed_at, stream, stream_sequence) < "
            "(make_timestamp({0}::BIGINT), {1}::VARCHAR, {2}::BIGINT)",
            int(before[0][:18]),
            before[1],
            int(before[2][:18]),
        )
    rows = await ask(
        admin,
        f"SELECT {_COLUMNS}, epoch_us(changed_at) AS changed_us FROM audit_events "
        f"{conditions.where} ORDER BY changed_at DESC, stream DESC, stream_sequence DESC "
        f"LIMIT {CHANGES_MAX + 1}",
        conditions.parameters,
    )
    snapshot = await admin.registry()
    shown = [_change(row, snapshot) for row in rows[:CHANGES_MAX]]
    state = {name: value for name, value in chosen.items() if value}
    older = ""
    if len(rows) > CHANGES_MAX:
        last = rows[CHANGES_MAX - 1]
        place = f"{last['changed_us']}.{last['stream']}.{last['stream_sequence']}"
        older = f"/ui/audit?{urlencode({**state, 'before': place})}"
    return page(
        request,
        "audit_rows.html" if is_part(request) else "audit.html",
        rows=shown,
        older=older,
        chosen=chosen,
        objects=OBJECTS,
        actions=get_args(Action),
        problem=problem,
        csv=f"/ui/audit.csv?{urlencode(state)}",
    )


@get("/audit.csv", opt={"needs": "sees_all"})
async def audit_csv(request: _Request, admin: AdminState) -> Response[bytes] | Stream:
    """Return all changes that match as CSV."""
    query = request.query_params
    conditions = _conditions(
        {name: query.get(name, "") for name in (*_FILTERS, "name", "from", "to")}
    )
    sql = (
        f"SELECT {_COLUMNS} FROM audit_events {conditions.where} "
        "ORDER BY changed_at DESC, stream DESC, stream_sequence DESC"
    )
    answer = await answer_table(request, admin.ledger, sql, conditions.parameters, "csv")
    return as_sheet(answer, "audit.csv")


AUDIT_PAGE_ROUTES = (audit, audit_csv)


def _conditions(chosen: dict[str, str]) -> Conditions:
    """Return what changes must meet. Raises BadRequest where a time is none."""
    found = Conditions()
    for name, column in _FILTERS.items():
        if chosen[name]:
            found.add(f"{column} = {{0}}::VARCHAR", chosen[name])
    if chosen["name"]:
        found.add(
            "contains(lower(coalesce(object_name, object_id)), {0}::VARCHAR)",
            chosen["name"].lower(),
        )
    if chosen["from"]:
        found.add("changed_at >= make_timestamp({0}::BIGINT)", moment_us("from", chosen["from"]))
    if chosen["to"]:
        end_us = moment_us("to", chosen["to"], is_end=True)
        found.add("changed_at < make_timestamp({0}::BIGINT)", end_us)
    return found


def _change(row: Row, snapshot: RegistrySnapshot) -> Row:
    """Return a change with names for people, and its values field by field."""
    before = {} if row["before"] is None else msgspec.json.decode(row["before"])
    after = msgspec.json.decode(row["after"])
    fields = [name for name in row["changed_fields"] if name in before or name in after]
    return {
        **row,
        "by": who_did(snapshot, row["changed_by"]),
        "name": row["object_name"] or row["object_id"],
        "href": page_of(row["object_type"], row["object_id"])
        if row["object_type"] in _WITH_PAGE
        else "",
        "values": [(name, _text(before.get(name)), _text(after.get(name))) for name in fields],
    }


def _text(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return "–"
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= VALUE_LENGTH_MAX else f"{text[:VALUE_LENGTH_MAX]}…"
