"""GET /user/daily/activity and /team/daily/activity: what was used and spent, day by day."""

from math import ceil
from typing import Any

from litestar import Request, Response, get
from litestar.response import Stream

from schemas.errors import BadRequest
from services.admin.activity_sql import (
    DAYS_AT_ONCE_MAX,
    Entity,
    activity_days,
    activity_keys,
    activity_parts,
    activity_table,
    days_from_parts,
    page_metadata,
)
from services.admin.bodies_activity import (
    ActivityDay,
    ActivityPage,
    ActivityQuery,
    TeamActivityQuery,
    UserActivityQuery,
)
from services.admin.days import midnight_us
from services.admin.describing import Description, described
from services.admin.guard import caller_of
from services.admin.own_spend import add_own, key_id_of
from services.admin.reading import answer_json, read_query
from services.admin.sql_answers import answer_table, chosen_format
from services.admin.sql_where import Conditions, day_conditions
from services.admin.state import AdminState
from services.runtime.registry import RegistrySnapshot

__all__ = ["ACTIVITY_ROUTES"]

_Request = Request[Any, Any, Any]
_IDS_MAX = 100


def _of(whose: str, query: Any) -> dict[str, Any]:
    return described(
        Description(
            summary=f"Show requests, tokens and spend by day, model, key and {whose}",
            description=(
                "Days of UTC, the newest first; both dates are needed. A page's `metadata` sums "
                "the page. Of each kind of part a day shows the dearest 50. As CSV or Arrow it is "
                "the whole period, one row for each day, key, model and endpoint."
            ),
            tag="spend",
            query=query,
            answer=ActivityPage,
            example_query="start_date=2026-11-01&end_date=2026-11-30",
            errors=(400, 404, 408),
            table=True,
        ),
        access="own",
    )


@get("/user/daily/activity", opt=_of("user", UserActivityQuery))
async def user_daily_activity(request: _Request, admin: AdminState) -> Response[bytes] | Stream:
    """Show what users' keys did, day by day."""
    query = read_query(request, UserActivityQuery)
    conditions = Conditions()
    if query.user_id is not None:
        conditions.add("user_id = {0}::VARCHAR", query.user_id)
    return await _answer(request, admin, query, conditions, "user_id")


@get("/team/daily/activity", opt=_of("team", TeamActivityQuery))
async def team_daily_activity(request: _Request, admin: AdminState) -> Response[bytes] | Stream:
    """Show what teams' keys did, day by day."""
    query = read_query(request, TeamActivityQuery)
    conditions = Conditions()
    conditions.add("team_id IS NOT NULL")
    for name, condition in (
        ("team_ids", "list_contains({0}::VARCHAR[], team_id)"),
        ("exclude_team_ids", "NOT list_contains({0}::VARCHAR[], team_id)"),
    ):
        given = getattr(query, name)
        if given is not None:
            ids = [text.strip() for text in given.split(",") if text.strip()]
            if len(ids) > _IDS_MAX:
                raise BadRequest(f"{name} may name {_IDS_MAX} teams at most", param=name)
            conditions.add(condition, ids)
    return await _answer(request, admin, query, conditions, "team_id")


async def _answer(
    request: _Request,
    admin: AdminState,
    query: ActivityQuery,
    conditions: Conditions,
    entity: Entity,
) -> Response[bytes] | Stream:
    snapshot = await admin.registry()
    caller = caller_of(request)
    key_id = key_id_of(snapshot, query.api_key, caller)
    _add_common(conditions, query, key_id)
    add_own(conditions, caller)
    form = chosen_format(query.format, request.headers.get("accept"))
    if form != "json":
        table = activity_table(conditions.where, entity)
        return await answer_table(request, admin.ledger, table, conditions.parameters, form)
    ledger, parameters = admin.ledger, conditions.parameters
    found = await ledger.query(activity_days(conditions.where), parameters)
    all_days = [str(row[0]) for row in found.rows]
    first = (query.page - 1) * query.page_size
    wanted = all_days[first : first + query.page_size]
    keys = await ledger.query(activity_keys(conditions.where), parameters)
    days: list[ActivityDay] = []
    for start in range(0, len(wanted), DAYS_AT_ONCE_MAX):
        days += await _days(admin, conditions, wanted[start : start + DAYS_AT_ONCE_MAX], entity)
    metadata = page_metadata(
        days,
        page=query.page,
        total_pages=max(1, ceil(len(all_days) / query.page_size)),
        total_api_keys=int(keys.rows[0][0]),
    )
    return answer_json(ActivityPage(results=tuple(days), metadata=metadata))


def _add_common(conditions: Conditions, query: ActivityQuery, key_id: str | None) -> None:
    """Add what both routes know. Raises BadRequest."""
    if query.timezone != 0:
        raise BadRequest("days are those of UTC: timezone can only be 0", param="timezone")
    day_conditions(conditions, query.start_date, query.end_date)
    if query.model is not None:
        conditions.add("(model_name = {0}::VARCHAR OR model = {0}::VARCHAR)", query.model)
    if key_id is not None:
        conditions.add("key_id = {0}::VARCHAR", key_id)


async def _days(
    admin: AdminState, conditions: Conditions, wanted: list[str], entity: Entity
) -> list[ActivityDay]:
    """Return some days that follow one another in the list of all."""
    some = conditions.copy()
    newest_us, oldest_us = (midnight_us("day", day) for day in (wanted[0], wanted[-1]))
    some.add(
        "day BETWEEN make_timestamp({0}::BIGINT) AND make_timestamp({1}::BIGINT)",
        oldest_us,
        newest_us,
    )
    reply = await admin.ledger.query(activity_parts(some.where, entity), some.parameters)
    snapshot = admin.snapshot

    def named(kind: str, name: str) -> tuple[str, dict[str, Any]]:
        if kind == "api_keys":
            return _named_key(snapshot, name)
        if kind == "entities":
            return name, _about_owner(snapshot, entity, name)
        return name, {}

    return days_from_parts(reply, named)


def _named_key(snapshot: RegistrySnapshot, key_id: str) -> tuple[str, dict[str, Any]]:
    """Return the SHA-256 of a key, or its id where the registry does not know it."""
    record = snapshot.keys.get(key_id)
    if record is None:
        return key_id, {"key_id": key_id, "key_alias": None, "team_id": None, "key_exists": False}
    return record.key_hash, {
        "key_id": key_id,
        "key_alias": record.key_alias,
        "team_id": record.team_id,
        "user_id": record.user_id,
        "key_exists": not record.deleted,
    }


def _about_owner(snapshot: RegistrySnapshot, entity: Entity, owner_id: str) -> dict[str, Any]:
    if entity == "team_id":
        team = snapshot.teams.get(owner_id)
        return {"team_alias": None if team is None else team.team_alias}
    user = snapshot.users.get(owner_id)
    if user is None:
        return {"user_alias": None, "user_email": None}
    return {"user_alias": user.user_alias, "user_email": user.user_email}


ACTIVITY_ROUTES = (user_daily_activity, team_daily_activity)
