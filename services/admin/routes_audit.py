"""GET /audit and one entry of it: who changed what, when, from where and by which route."""

from math import ceil
from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.response import Stream

from schemas.errors import BadRequest, NotFound
from schemas.rpc import QueryReply
from services.admin.bodies_audit import TABLE_NAMES, AuditLog, AuditPage, AuditQuery
from services.admin.days import moment_us
from services.admin.describing import Description, described
from services.admin.reading import answer_json, read_query
from services.admin.sql_answers import answer_table, chosen_format
from services.admin.sql_where import Conditions
from services.admin.state import AdminState

__all__ = ["AUDIT_ROUTES"]

_Request = Request[Any, Any, Any]
_COLUMNS = (
    "stream, stream_sequence, changed_at, changed_by, action, object_type, object_id, object_name, "
    "client_address, route, request_id, changed_fields, before, after"
)
_SEQUENCE_DIGITS_MAX = 18
_OBJECT_TYPES = {name: kind for kind, name in TABLE_NAMES.items()}


@get(
    "/audit",
    opt=described(
        Description(
            summary="List changes: who changed what, when and from where",
            description=(
                "One page of changes of keys, teams, users, models, the configuration and prices, "
                "the newest first, with the values before and after. As CSV or Arrow it is all "
                "that match, 1,000,000 rows at most, unless `page` or `page_size` is given."
            ),
            tag="audit",
            query=AuditQuery,
            answer=AuditPage,
            example_query="object_type=key&changed_field=max_budget_usd&start_date=2026-11-01",
            errors=(400, 408),
            table=True,
        ),
        access="read",
    ),
)
async def audit(request: _Request, admin: AdminState) -> Response[bytes] | Stream:
    """List changes of the registry and of prices."""
    query = read_query(request, AuditQuery)
    conditions = _conditions(query)
    order = query.sort_order.upper()
    select = (
        f"SELECT {_COLUMNS} FROM audit_events {conditions.where} "  # noqa: S608 - constants only
        f"ORDER BY changed_at {order}, stream, stream_sequence {order}"
    )
    page = f"LIMIT {query.page_size} OFFSET {(query.page - 1) * query.page_size}"
    form = chosen_format(query.format, request.headers.get("accept"))
    if form != "json":
        is_page = not {"page", "page_size"}.isdisjoint(request.query_params)
        sql = f"{select} {page}" if is_page else select
        return await answer_table(request, admin.ledger, sql, conditions.parameters, form)
    reply = await admin.ledger.query(f"{select} {page}", conditions.parameters)
    count = f"SELECT count(*) FROM audit_events {conditions.where}"  # noqa: S608 - constants only
    total = int((await admin.ledger.query(count, conditions.parameters)).rows[0][0])
    return answer_json(
        AuditPage(
            audit_logs=_logs(reply),
            total=total,
            page=query.page,
            page_size=query.page_size,
            total_pages=ceil(total / query.page_size),
        )
    )


@get(
    "/audit/{audit_id:str}",
    opt=described(
        Description(
            summary="Show one change",
            description="Its `id` is as `GET /audit` shows it.",
            tag="audit",
            answer=AuditLog,
            errors=(400, 404, 408),
        ),
        access="read",
    ),
)
async def audit_entry(admin: AdminState, audit_id: str) -> Response[bytes]:
    """Show one change."""
    stream, _, sequence = audit_id.rpartition(":")
    if not sequence.isdecimal() or len(sequence) > _SEQUENCE_DIGITS_MAX:
        raise BadRequest("an id is as GET /audit shows it, such as REGISTRY:12", param="audit_id")
    select = (
        f"SELECT {_COLUMNS} FROM audit_events "  # noqa: S608 - constants only
        "WHERE stream = $1::VARCHAR AND stream_sequence = $2::BIGINT"
    )
    found = _logs(await admin.ledger.query(select, (stream, int(sequence))))
    if not found:
        raise NotFound("there is no change with this id; GET /audit lists them", param="audit_id")
    return answer_json(found[0])


def _conditions(query: AuditQuery) -> Conditions:
    """Return what changes must meet. Raises BadRequest where a time is none."""
    found = Conditions()
    if query.table_name is not None:
        found.add("object_type = {0}::VARCHAR", _OBJECT_TYPES[query.table_name])
    for column in (
        "object_type",
        "object_id",
        "object_name",
        "action",
        "changed_by",
        "client_address",
        "route",
        "request_id",
    ):
        value = getattr(query, column)
        if value is not None:
            found.add(f"{column} = {{0}}::VARCHAR", value)
    if query.changed_field is not None:
        found.add("list_contains(changed_fields, {0}::VARCHAR)", query.changed_field)
    if query.start_date is not None:
        start_us = moment_us("start_date", query.start_date)
        found.add("changed_at >= make_timestamp({0}::BIGINT)", start_us)
    if query.end_date is not None:
        end_us = moment_us("end_date", query.end_date, is_end=True)
        found.add("changed_at < make_timestamp({0}::BIGINT)", end_us)
    return found


def _logs(reply: QueryReply) -> tuple[AuditLog, ...]:
    names = [column.name for column in reply.columns]
    found = []
    for row in reply.rows:
        cells = dict(zip(names, row, strict=True))
        before = cells["before"]
        found.append(
            AuditLog(
                id=f"{cells['stream']}:{cells['stream_sequence']}",
                updated_at=cells["changed_at"],
                table_name=TABLE_NAMES.get(cells["object_type"]),
                before_value=None if before is None else msgspec.json.decode(before),
                updated_values=msgspec.json.decode(cells["after"]),
                changed_fields=tuple(cells["changed_fields"]),
                **{
                    name: cells[name]
                    for name in (
                        "changed_by",
                        "action",
                        "object_type",
                        "object_id",
                        "object_name",
                        "client_address",
                        "route",
                        "request_id",
                    )
                },
            )
        )
    return tuple(found)


AUDIT_ROUTES = (audit, audit_entry)
