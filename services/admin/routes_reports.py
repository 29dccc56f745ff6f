"""Reports about spend: /spend/keys, /spend/users, /spend/tags and /global/spend/report."""

from collections.abc import Callable
from typing import Any

from litestar import Request, Response, get
from litestar.response import Stream

from schemas.errors import BadRequest
from schemas.rpc import QueryReply
from services.admin.bodies_spend import (
    GroupReport,
    KeySpendRow,
    ReportDay,
    ReportQuery,
    SpendPeriodQuery,
    TagSpend,
    UserSpendQuery,
    UserSpendRow,
)
from services.admin.by_days import query_by_days, whole
from services.admin.describing import Description, described
from services.admin.guard import caller_of
from services.admin.own_spend import add_own, key_id_of, own_listed
from services.admin.principal import Principal
from services.admin.reading import answer_json, read_query
from services.admin.report_sql import (
    HashOf,
    customers_from,
    groups_from,
    keys_from,
    report_by_customer,
    report_by_group,
    report_by_team,
    spend_of_all_keys,
    spend_of_all_users,
    tags_from,
    teams_from,
    users_from,
)
from services.admin.routes_spend import hashes_of
from services.admin.sql_answers import TRUNCATED_HEADER, answer_table, chosen_format
from services.admin.sql_where import Conditions, day_conditions
from services.admin.state import AdminState
from services.admin.tag_spend import spend_of_tags

__all__ = ["REPORT_ROUTES"]

_Request = Request[Any, Any, Any]
_ERRORS = (400, 408)


def _listing(summary: str, description: str, query: Any, answer: Any) -> dict[str, Any]:
    return described(
        Description(
            summary=summary,
            description=description,
            tag="spend",
            query=query,
            answer=answer,
            example_query="start_date=2026-11-01&end_date=2026-11-30",
            errors=_ERRORS,
            table=True,
        ),
        access="own",
    )


@get(
    "/spend/keys",
    opt=_listing(
        "List keys by what they spent",
        "All keys that were not deleted, and those that spent anything, the dearest first.",
        SpendPeriodQuery,
        list[KeySpendRow],
    ),
)
async def spend_keys(request: _Request, admin: AdminState) -> Response[bytes] | Stream:
    """List keys by what they spent."""
    query = read_query(request, SpendPeriodQuery)
    hash_of = hashes_of(await admin.registry())
    caller = caller_of(request)
    conditions = _of_period(query, caller)
    sql = spend_of_all_keys(conditions.where)
    sql = own_listed(sql, conditions, caller, "key_id user_id team_id")
    return await _answer(
        request, admin, sql, conditions, query.format, lambda reply: keys_from(reply, hash_of)
    )


@get(
    "/spend/users",
    opt=_listing(
        "List users by what their keys spent",
        "All users that were not deleted, and those whose keys spent anything, the dearest first.",
        UserSpendQuery,
        list[UserSpendRow],
    ),
)
async def spend_users(request: _Request, admin: AdminState) -> Response[bytes] | Stream:
    """List users by what their keys spent."""
    query = read_query(request, UserSpendQuery)
    caller = caller_of(request)
    conditions = _of_period(query, caller)
    sql = own_listed(spend_of_all_users(conditions.where), conditions, caller, "user_id")
    if query.user_id is not None:
        mark = len(conditions.parameters) + 1
        sql = f"SELECT * FROM ({sql}) WHERE user_id = ${mark}::VARCHAR"  # noqa: S608 - ours
        conditions.parameters.append(query.user_id)
    return await _answer(request, admin, sql, conditions, query.format, users_from)


@get(
    "/spend/tags",
    opt=_listing(
        "List tags by what was spent for them",
        "The tags that keys have now, and those that requests had; one with two counts for both.",
        SpendPeriodQuery,
        list[TagSpend],
    ),
)
async def spend_tags(request: _Request, admin: AdminState) -> Response[bytes] | Stream:
    """List tags by what was spent for them."""
    query = read_query(request, SpendPeriodQuery)
    sql, conditions = spend_of_tags(query.start_date, query.end_date, caller_of(request))
    return await _answer(request, admin, sql, conditions, query.format, tags_from)


@get(
    "/global/spend/report",
    opt=described(
        Description(
            summary="Report spend by team, end user, key or user",
            description=(
                "`team` (the default) and `customer` give one entry a day, `api_key` and `user` "
                "one for the whole period. Both dates are needed. JSON holds 100,000 lines, CSV "
                "and Arrow 1,000,000."
            ),
            tag="spend",
            query=ReportQuery,
            answer=list[ReportDay],
            other_answer=list[GroupReport],
            example_query="start_date=2026-11-01&end_date=2026-11-30&group_by=team",
            errors=(400, 404, 408),
            table=True,
        ),
        access="own",
    ),
)
async def spend_report(request: _Request, admin: AdminState) -> Response[bytes] | Stream:
    """Report spend in a period."""
    query = read_query(request, ReportQuery)
    snapshot = await admin.registry()
    hash_of = hashes_of(snapshot)
    by_key = query.api_key is not None or query.internal_user_id is not None
    group_by = query.group_by or ("api_key" if by_key else "team")
    of_requests = group_by == "customer" or query.customer_id is not None
    if of_requests and group_by != "customer":
        raise BadRequest("customer_id goes with group_by=customer alone", param="customer_id")
    caller = caller_of(request)
    conditions = Conditions()
    add_own(conditions, caller)
    for column, value in (
        ("key_id", key_id_of(snapshot, query.api_key, caller)),
        ("user_id", query.internal_user_id),
        ("team_id", query.team_id),
        ("end_user_id", query.customer_id),
    ):
        if value is not None:
            conditions.add(f"{column} = {{0}}::VARCHAR", value)
    if of_requests:
        conditions.add("end_user_id IS NOT NULL")
    if group_by in ("team", "customer"):
        return await _by_day(request, admin, query, conditions, hash_of)
    day_conditions(conditions, query.start_date, query.end_date)
    column = "key_id" if group_by == "api_key" else "user_id"
    return await _answer(
        request,
        admin,
        report_by_group(conditions.where, column),
        conditions,
        query.format,
        lambda reply: groups_from(whole(reply), column, hash_of),
    )


async def _by_day(
    request: _Request,
    admin: AdminState,
    query: ReportQuery,
    conditions: Conditions,
    hash_of: HashOf,
) -> Response[bytes] | Stream:
    """Return the report by team, or by end user where the conditions are about `requests`."""
    start_date, end_date = query.start_date, query.end_date
    is_by_customer = query.group_by == "customer"
    sql = report_by_customer if is_by_customer else report_by_team
    column = "started_at" if is_by_customer else "day"
    form = chosen_format(query.format, request.headers.get("accept"))
    if form != "json":
        day_conditions(conditions, start_date, end_date, column)
        table = sql(conditions.where)
        return await answer_table(request, admin.ledger, table, conditions.parameters, form)
    lines = await query_by_days(admin.ledger, sql, conditions, start_date, end_date, column=column)
    return answer_json((customers_from if is_by_customer else teams_from)(lines, hash_of))


def _of_period(query: SpendPeriodQuery, caller: Principal) -> Conditions:
    conditions = Conditions()
    add_own(conditions, caller)
    day_conditions(conditions, query.start_date, query.end_date)
    return conditions


async def _answer(
    request: _Request,
    admin: AdminState,
    sql: str,
    conditions: Conditions,
    given_format: Any,
    shaped: Callable[[QueryReply], Any],
) -> Response[bytes] | Stream:
    """Return the answer to our query: as a table, or in JSON as `shaped` makes it."""
    form = chosen_format(given_format, request.headers.get("accept"))
    if form != "json":
        return await answer_table(request, admin.ledger, sql, conditions.parameters, form)
    reply = await admin.ledger.query(sql, conditions.parameters)
    headers = {TRUNCATED_HEADER: "true"} if reply.truncated else None
    return answer_json(shaped(reply), headers=headers)


REPORT_ROUTES = (spend_keys, spend_users, spend_tags, spend_report)
