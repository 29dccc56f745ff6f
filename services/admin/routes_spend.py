"""The routes that ask the ledger: /spend/logs, /global/spend and /ledger/sql."""

from math import ceil
from typing import Any

from litestar import Request, Response, get, post
from litestar.response import Stream

from schemas.errors import BadRequest
from schemas.events import time_from_us
from services.admin.analysts import team_seen_by
from services.admin.bodies import SqlAnswer, SqlQuery
from services.admin.bodies_spend import (
    GlobalSpend,
    SpendDay,
    SpendLog,
    SpendLogsPage,
    SpendLogsPageQuery,
    SpendLogsQuery,
)
from services.admin.by_days import query_by_days
from services.admin.describing import Description, described
from services.admin.guard import caller_of
from services.admin.money import budget_problem, plain_number
from services.admin.newest_logs import newest_logs
from services.admin.own_spend import add_own, key_id_of
from services.admin.reading import answer_json, read_body, read_query
from services.admin.report_sql import HashOf
from services.admin.spend_sql import (
    all_logs,
    days_from,
    global_spend_sql,
    logs_count,
    logs_from,
    spend_by_day,
)
from services.admin.spend_sql import money as money_from
from services.admin.spend_sql import spend_logs as rows_of_logs
from services.admin.sql_answers import (
    TRUNCATED_HEADER,
    answer_sql,
    answer_table,
    chosen_format,
    unless_left,
)
from services.admin.sql_where import Conditions, log_conditions
from services.admin.state import AdminState, now_us
from services.runtime.durations import budget_window
from services.runtime.registry import RegistrySnapshot

__all__ = ["SPEND_ROUTES", "hashes_of"]

_Request = Request[Any, Any, Any]


@get(
    "/spend/logs",
    opt=described(
        Description(
            summary="List requests and what they cost",
            description=(
                "Newest first, at most 10,000 rows (the header `x-tallygate-truncated` says when "
                "there are more; `/spend/logs/v2` has pages). With `start_date` and `end_date`, "
                "and unless `summarize=false`, one row a day instead. Days are those of UTC."
            ),
            tag="spend",
            query=SpendLogsQuery,
            answer=list[SpendDay],
            other_answer=list[SpendLog],
            example_query="start_date=2026-11-01&end_date=2026-11-30",
            errors=(400, 404, 408),
            table=True,
        ),
        access="own",
    ),
)
async def spend_logs(request: _Request, admin: AdminState) -> Response[bytes] | Stream:
    """List requests and their cost, or the spend by day."""
    query = read_query(request, SpendLogsQuery)
    snapshot = await admin.registry()
    of_single_ones = (query.request_id, query.session_id, query.end_user)
    has_period = query.start_date is not None and query.end_date is not None
    is_summary = has_period and query.summarize and not any(of_single_ones)
    caller = caller_of(request)
    key_id = key_id_of(snapshot, query.api_key, caller)
    form = chosen_format(query.format, request.headers.get("accept"))
    if is_summary and form == "json":
        assert query.start_date is not None and query.end_date is not None, "it has a period"  # noqa: PT018
        others = log_conditions(query, key_id, None, None, of_days=True)
        add_own(others, caller)
        days = await query_by_days(
            admin.ledger, spend_by_day, others, query.start_date, query.end_date
        )
        return answer_json(days_from(days.rows))
    conditions = log_conditions(query, key_id, query.start_date, query.end_date, of_days=is_summary)
    add_own(conditions, caller)
    if form != "json":
        sql = (spend_by_day if is_summary else all_logs)(conditions.where)
        return await answer_table(request, admin.ledger, sql, conditions.parameters, form)
    logs, has_more = await newest_logs(admin.ledger, conditions, hashes_of(snapshot))
    return answer_json(logs, headers={TRUNCATED_HEADER: "true"} if has_more else None)


@get(
    ["/spend/logs/v2", "/spend/logs/ui"],
    opt=described(
        Description(
            summary="List requests page by page",
            description=(
                "One page of requests that match, in the order asked for, with the number of all. "
                "As CSV or Arrow it is the same page. LiteLLM has both names of it."
            ),
            tag="spend",
            query=SpendLogsPageQuery,
            answer=SpendLogsPage,
            example_query="start_date=2026-11-01&model=claude-opus-5&page=1&page_size=50",
            errors=(400, 404, 408),
            table=True,
        ),
        access="own",
    ),
)
async def spend_logs_page(request: _Request, admin: AdminState) -> Response[bytes] | Stream:
    """List one page of requests and their cost."""
    query = read_query(request, SpendLogsPageQuery)
    snapshot = await admin.registry()
    caller = caller_of(request)
    key_id = key_id_of(snapshot, query.api_key, caller)
    conditions = log_conditions(query, key_id, query.start_date, query.end_date)
    add_own(conditions, caller)
    _add_amounts(conditions, query)
    sql = (
        f"{rows_of_logs(conditions.where, query.sort_by, query.sort_order)} "
        f"LIMIT {query.page_size} OFFSET {(query.page - 1) * query.page_size}"
    )
    form = chosen_format(query.format, request.headers.get("accept"))
    if form != "json":
        return await answer_table(request, admin.ledger, sql, conditions.parameters, form)
    reply = await admin.ledger.query(sql, conditions.parameters)
    counted = await admin.ledger.query(logs_count(conditions.where), conditions.parameters)
    total = int(counted.rows[0][0])
    return answer_json(
        SpendLogsPage(
            data=tuple(logs_from(reply, hashes_of(snapshot))),
            total=total,
            page=query.page,
            page_size=query.page_size,
            total_pages=ceil(total / query.page_size),
        )
    )


def _add_amounts(conditions: Conditions, query: SpendLogsPageQuery) -> None:
    """Add the bounds of what a request may have cost. Raises BadRequest."""
    for name, comparison in (("min_spend", ">="), ("max_spend", "<=")):
        amount_usd = getattr(query, name)
        if amount_usd is None:
            continue
        problem = budget_problem(amount_usd)
        if problem is not None:
            raise BadRequest(f"{name} {problem}", param=name)
        conditions.add(f"cost_usd {comparison} {{0}}::DECIMAL(38, 12)", f"{amount_usd:f}")


def hashes_of(snapshot: RegistrySnapshot) -> HashOf:
    """Return what tells the SHA-256 of a key by its id."""

    def hash_of(wanted_id: str) -> str | None:
        known = snapshot.keys.get(wanted_id)
        return None if known is None else known.key_hash

    return hash_of


@get(
    "/global/spend",
    opt=described(
        Description(
            summary="Show all spend",
            description=(
                "The sum of the costs of all requests in the ledger, and the budget of all keys "
                "together; for a key that sees its own alone, the sum of that."
            ),
            tag="spend",
            answer=GlobalSpend,
            errors=(408,),
        ),
        access="own",
    ),
)
async def global_spend(request: _Request, admin: AdminState) -> Response[bytes]:
    """Show the spend of all keys together, or all that is the caller's own."""
    caller = caller_of(request)
    conditions = Conditions()
    add_own(conditions, caller)
    reply = await admin.ledger.query(global_spend_sql(conditions.where), conditions.parameters)
    spend = money_from(reply.rows[0][0] or 0)
    assert spend is not None, "a sum that is NULL was made 0"
    budget = admin.budget
    if budget is None or not caller.sees_all:
        return answer_json(GlobalSpend(spend=spend))
    start_us, end_us = 0, None
    if budget.budget_duration is not None:
        start_us, end_us = budget_window(budget.budget_duration, now_us(), admin.timezone)
    return answer_json(
        GlobalSpend(
            spend=spend,
            max_budget=plain_number(budget.max_budget_usd),
            budget_duration=budget.budget_duration,
            budget_spend=plain_number(await admin.ledger.spend_of_everybody(start_us)),
            budget_reset_at=None if end_us is None else time_from_us(end_us),
        )
    )


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


SPEND_ROUTES = (spend_logs, spend_logs_page, global_spend, ledger_sql)
