"""The routes that ask the ledger: /spend/logs, /global/spend and /ledger/sql."""

from typing import Any

from litestar import Request, Response, get, post
from litestar.response import Stream

from schemas.errors import NotFound
from services.admin.analysts import team_seen_by
from services.admin.bodies import (
    GlobalSpend,
    SpendDay,
    SpendLog,
    SpendLogsQuery,
    SqlAnswer,
    SqlQuery,
)
from services.admin.days import midnight_us
from services.admin.describing import Description, described
from services.admin.directory import find_key
from services.admin.guard import caller_of
from services.admin.reading import answer_json, read_body, read_query
from services.admin.spend_sql import GLOBAL_SPEND, SPEND_BY_DAY, SPEND_LOGS, days_from, logs_from
from services.admin.spend_sql import money as money_from
from services.admin.sql_answers import (
    TRUNCATED_HEADER,
    answer_sql,
    chosen_format,
    unless_left,
)
from services.admin.state import AdminState, now_us

__all__ = ["SPEND_ROUTES"]

_LATEST_US = 253_402_300_799_999_999
_Request = Request[Any, Any, Any]


@get(
    "/spend/logs",
    opt=described(
        Description(
            summary="List requests and what they cost",
            description=(
                "Newest first, at most 10,000 rows (the header `x-tallygate-truncated` says when "
                "there are more). With `start_date` and `end_date`, and unless "
                "`summarize=false`, one row a day instead. Days are those of UTC."
            ),
            tag="spend",
            query=SpendLogsQuery,
            answer=list[SpendDay],
            other_answer=list[SpendLog],
            example_query="start_date=2026-11-01&end_date=2026-11-30",
            errors=(400, 404, 408),
        )
    ),
)
async def spend_logs(request: _Request, admin: AdminState) -> Response[bytes]:
    """List requests and their cost, or the spend by day."""
    query = read_query(request, SpendLogsQuery)
    snapshot = await admin.registry()
    key_id = None
    if query.api_key is not None:
        record = find_key(snapshot, query.api_key, with_deleted=True)
        if record is None:
            raise NotFound("Key not found in the registry", param="api_key")
        key_id = record.key_id
    start_us = 0 if query.start_date is None else midnight_us("start_date", query.start_date)
    end_us = _LATEST_US
    if query.end_date is not None:
        end_us = midnight_us("end_date", query.end_date, days_after=1)
    parameters = (key_id, query.user_id, query.request_id, start_us, end_us)
    has_period = query.start_date is not None and query.end_date is not None
    is_summary = has_period and query.summarize and query.request_id is None
    reply = await admin.ledger.query(SPEND_BY_DAY if is_summary else SPEND_LOGS, parameters)
    headers = {TRUNCATED_HEADER: "true"} if reply.truncated else None
    if is_summary:
        return answer_json(days_from(reply.rows), headers=headers)

    def hash_of(wanted_id: str) -> str | None:
        known = snapshot.keys.get(wanted_id)
        return None if known is None else known.key_hash

    return answer_json(logs_from(reply, hash_of), headers=headers)


@get(
    "/global/spend",
    opt=described(
        Description(
            summary="Show all spend",
            description="The sum of the costs of all requests in the ledger.",
            tag="spend",
            answer=GlobalSpend,
            errors=(408,),
        )
    ),
)
async def global_spend(admin: AdminState) -> Response[bytes]:
    """Show the spend of all keys together."""
    reply = await admin.ledger.query(GLOBAL_SPEND)
    spend = money_from(reply.rows[0][0] or 0)
    assert spend is not None, "a sum that is NULL was made 0"
    return answer_json(GlobalSpend(spend=spend))


@post(
    "/ledger/sql",
    status_code=200,
    opt=described(
        Description(
            summary="Ask the ledger in SQL",
            description=(
                "One SELECT in DuckDB's dialect over the ledger's tables, read-only, with limits "
                "on time (10 s), rows (10,000) and memory. For the master key, and for virtual "
                "keys with the permission `analyst`, which may be limited to their team's rows."
            ),
            tag="ledger",
            body=SqlQuery,
            answer=SqlAnswer,
            example_body={
                "query": "SELECT key_alias, sum(cost_usd) AS spend FROM requests GROUP BY ALL"
            },
            errors=(400, 408),
        ),
        access="analyst",
    ),
)
async def ledger_sql(request: _Request, admin: AdminState) -> Response[bytes] | Stream:
    """Run one SELECT over the ledger."""
    body = await read_body(request, SqlQuery)
    team_id = team_seen_by(caller_of(request), now_us())
    form = chosen_format(body.format, request.headers.get("accept"))
    return await unless_left(request, answer_sql(admin.ledger, body, form, team_id))


SPEND_ROUTES = (spend_logs, global_spend, ledger_sql)
