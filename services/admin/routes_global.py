"""LiteLLM's routes for its own pages: the last 30 days by key, model, team, tag and day."""

from datetime import timedelta
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import Any

from litestar import Request, Response, get

from schemas.events import time_from_us
from services.admin.bodies_global import (
    KeyTotal,
    ModelTotal,
    SpendOfDay,
    SpendOfDaysQuery,
    TagNames,
    TagTotal,
    TagTotals,
    TagTotalsQuery,
    TeamTotal,
    TeamTotals,
    TopQuery,
)
from services.admin.describing import Description, described
from services.admin.directory import live_keys
from services.admin.guard import caller_of
from services.admin.own_spend import key_id_of
from services.admin.reading import answer_json, read_query
from services.admin.routes_spend import hashes_of
from services.admin.spend_sql import money
from services.admin.sql_where import Conditions, day_conditions
from services.admin.state import AdminState, now_us
from services.admin.tag_spend import spend_of_tags

__all__ = ["GLOBAL_ROUTES"]

_Request = Request[Any, Any, Any]
_DAYS = 30
_NO_TEAM = "Unassigned"
_MODEL = "coalesce(model, model_name)"


def _route(
    summary: str, description: str, answer: Any, query: Any = None, example: str = ""
) -> dict[str, Any]:
    return described(
        Description(
            summary=summary,
            description=description,
            tag="spend",
            query=query,
            answer=answer,
            example_query=example,
            errors=(400, 404, 408),
        ),
        access="read",
    )


@get(
    "/global/spend/keys",
    opt=_route(
        "List the keys that spent most",
        "In the last 30 days. `/spend/keys` has any period, all keys, and tables.",
        list[KeyTotal],
        TopQuery,
        "limit=10",
    ),
)
async def top_keys(request: _Request, admin: AdminState) -> Response[bytes]:
    """List the keys that spent most."""
    query = read_query(request, TopQuery)
    hash_of = hashes_of(await admin.registry())
    conditions = _last_days()
    sql = f"""
SELECT key_id, arg_max(spend_parts.key_alias, day), any_value(keys.key_name), sum(cost_usd) AS usd
FROM spend_parts LEFT JOIN keys USING (key_id) {conditions.where}
GROUP BY key_id HAVING sum(requests) <> 0 ORDER BY usd DESC, key_id LIMIT {query.limit}
"""  # noqa: S608 - constants and a number
    reply = await admin.ledger.query(sql, conditions.parameters)
    return answer_json(
        [
            KeyTotal(
                api_key=None if key_id is None else hash_of(key_id),
                key_alias=key_alias,
                key_name=key_name,
                total_spend=_usd(usd),
            )
            for key_id, key_alias, key_name, usd in reply.rows
        ]
    )


@get(
    "/global/spend/models",
    opt=_route(
        "List the models that most was spent with",
        "In the last 30 days.",
        list[ModelTotal],
        TopQuery,
        "limit=10",
    ),
)
async def top_models(request: _Request, admin: AdminState) -> Response[bytes]:
    """List the models that most was spent with."""
    query = read_query(request, TopQuery)
    conditions = _last_days()
    conditions.add(f"{_MODEL} IS NOT NULL")
    sql = f"""
SELECT {_MODEL} AS model, sum(cost_usd) AS usd FROM spend_parts {conditions.where}
GROUP BY ALL HAVING sum(requests) <> 0 ORDER BY usd DESC, model LIMIT {query.limit}
"""  # noqa: S608 - constants and a number
    reply = await admin.ledger.query(sql, conditions.parameters)
    return answer_json([ModelTotal(model=name, total_spend=_usd(usd)) for name, usd in reply.rows])


@get(
    "/global/spend/teams",
    opt=_route(
        "Show what teams spent by day",
        "In the last 30 days, by the teams' aliases, or ids where they have none.",
        TeamTotals,
    ),
)
async def team_totals(admin: AdminState) -> Response[bytes]:
    """Show what teams spent by day."""
    conditions = _last_days()
    sql = f"""
SELECT strftime(day, '%Y-%m-%d') AS date,
       coalesce(teams.team_alias, spend_parts.team_id, '{_NO_TEAM}') AS team, sum(cost_usd) AS usd
FROM spend_parts LEFT JOIN teams USING (team_id) {conditions.where}
GROUP BY ALL HAVING sum(requests) <> 0 ORDER BY date, team
"""  # noqa: S608 - constants only
    reply = await admin.ledger.query(sql, conditions.parameters)
    totals: dict[str, Decimal] = {}
    for _, team, usd in reply.rows:
        totals[team] = totals.get(team, Decimal(0)) + Decimal(usd)
    dearest = sorted(totals.items(), key=itemgetter(1), reverse=True)
    days = [
        {**{team: _usd(usd) for _, team, usd in rows}, "date": date}
        for date, rows in groupby(reply.rows, key=itemgetter(0))
    ]
    return answer_json(
        TeamTotals(
            daily_spend=tuple(days),
            teams=tuple(sorted(totals)),
            total_spend_per_team=tuple(
                TeamTotal(team_id=team, total_spend=_usd(usd)) for team, usd in dearest
            ),
        )
    )


@get(
    "/global/spend/tags",
    opt=_route(
        "Show what tags spent",
        "As `/spend/tags`, in another shape of LiteLLM's.",
        TagTotals,
        TagTotalsQuery,
        "start_date=2026-11-01&end_date=2026-11-30&tags=web",
    ),
)
async def tag_totals(request: _Request, admin: AdminState) -> Response[bytes]:
    """Show what tags spent."""
    query = read_query(request, TagTotalsQuery)
    sql, conditions = spend_of_tags(query.start_date, query.end_date, caller_of(request))
    wanted = {tag.strip() for tag in (query.tags or "").split(",")} - {""}
    reply = await admin.ledger.query(sql, conditions.parameters)
    found = (
        TagTotal(name=tag, spend=_usd(usd), log_count=requests)
        for tag, requests, usd in reply.rows
        if not wanted or tag in wanted
    )
    return answer_json(TagTotals(spend_per_tag=tuple(found)))


@get(
    "/global/spend/all_tag_names",
    opt=_route("List the tags that keys have", "In the order of the alphabet.", TagNames),
)
async def tag_names(admin: AdminState) -> Response[bytes]:
    """List the tags that keys have."""
    tags = {tag for key in live_keys(await admin.registry()) for tag in key.tags}
    return answer_json(TagNames(tag_names=tuple(sorted(tags))))


@get(
    "/global/spend/logs",
    opt=_route(
        "Show what was spent by day",
        "In the last 30 days, by all keys or by one; days without requests are left out.",
        list[SpendOfDay],
        SpendOfDaysQuery,
    ),
)
async def spend_of_days(request: _Request, admin: AdminState) -> Response[bytes]:
    """Show what was spent by day."""
    query = read_query(request, SpendOfDaysQuery)
    key_id = key_id_of(await admin.registry(), query.api_key, caller_of(request))
    conditions = _last_days()
    if key_id is not None:
        conditions.add("key_id = {0}::VARCHAR", key_id)
    sql = f"""
SELECT strftime(day, '%Y-%m-%d') AS date, sum(cost_usd) FROM spend_parts {conditions.where}
GROUP BY day HAVING sum(requests) <> 0 ORDER BY day
"""  # noqa: S608 - constants only
    reply = await admin.ledger.query(sql, conditions.parameters)
    return answer_json([SpendOfDay(date=date, spend=_usd(usd)) for date, usd in reply.rows])


def _last_days() -> Conditions:
    conditions = Conditions()
    first = time_from_us(now_us()).date() - timedelta(days=_DAYS)
    day_conditions(conditions, first.isoformat(), None)
    return conditions


def _usd(amount: Any) -> Decimal:
    return money(amount) or Decimal(0)


GLOBAL_ROUTES = (
    top_keys,
    top_models,
    team_totals,
    tag_totals,
    tag_names,
    spend_of_days,
)
