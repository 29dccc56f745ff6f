"""Budgets: what is set, what is spent of it, when it resets, and the alerts about it."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
from litestar import Request, Response, get

from schemas.errors import ApiError
from schemas.events import time_from_us
from schemas.registry import KeyRecord, TeamRecord, UserRecord
from services.admin.principal import Principal
from services.admin.spends import budgets_sql
from services.admin.sql_where import Conditions
from services.admin.state import AdminState, now_us
from services.admin.ui.access import viewer_of
from services.admin.ui.addresses import page_of
from services.admin.ui.asking import PAGE_TIMEOUT_S, Row, ask
from services.admin.ui.formats import share
from services.admin.ui.pages import page
from services.admin.ui.viewer import Viewer
from services.runtime.budget_limits import Limit, global_limits, limits_of, member_limit
from services.runtime.budget_sql import SPEND_OF_BUDGETS
from services.runtime.registry import RegistrySnapshot

__all__ = ["BUDGET_PAGE_ROUTES", "BudgetRow", "alert_conditions", "budget_rows", "limits_seen"]

ASKED_MAX = 1000
"""The spend of so many budgets is asked for one page; a search narrows them."""
EVENTS_MAX = 30
_Request = Request[Any, Any, Any]
_STATES = {"exceeded": 0, "warned": 1, "ok": 2}
_WITH_PAGE = ("key", "team", "user")
WARN_AT = 80
FULL = 100


class BudgetRow(msgspec.Struct, frozen=True, kw_only=True):
    """One budget as it stands: amounts in US dollars, `share` in percent of the limit.

    `pace_usd` is what the window will have cost at its end if it goes on as so far; None where
    there is no end, or the window has hardly begun.
    """

    scope: str
    scope_id: str
    name: str
    href: str
    what: str
    limit_usd: Decimal | None
    soft_usd: Decimal | None
    spent_usd: Decimal
    left_usd: Decimal | None
    share: float | None
    resets_at: datetime | None
    pace_usd: Decimal | None
    strict: bool
    state: str


@get("/budgets")
async def budgets(request: _Request, admin: AdminState) -> Response[bytes]:
    """Show all budgets that the viewer may see, the most used first."""
    viewer = viewer_of(request)
    search = request.query_params.get("search", "").strip().lower()[:200]
    snapshot = await admin.registry()
    limits = [
        limit
        for limit in limits_seen(admin, viewer, snapshot)
        if search in f"{limit.name}\n{limit.budget_id.scope_id}\n{limit.budget_id.scope}".lower()
    ]
    problem = ""
    rows: list[BudgetRow] = []
    events: list[Row] = []
    try:
        rows, events = await asyncio.gather(
            budget_rows(admin, limits[:ASKED_MAX]), _events(admin, viewer)
        )
    except ApiError as error:
        problem = error.message
    return page(
        request,
        "budgets.html",
        rows=rows,
        events=events,
        problem=problem,
        search=search,
        count=len(limits),
        asked_max=ASKED_MAX,
        timezone=admin.timezone,
    )


BUDGET_PAGE_ROUTES = (budgets,)


def limits_seen(admin: AdminState, viewer: Viewer, snapshot: RegistrySnapshot) -> list[Limit]:
    """Return the budgets that a viewer may see: all, or the own ones and those of managed teams.

    Own are those of the user, the user's keys and the user's places in teams.
    """
    caller = viewer.caller
    records: list[KeyRecord | TeamRecord | UserRecord]
    if viewer.sees_all:
        records = [*snapshot.teams.values(), *snapshot.users.values(), *snapshot.keys.values()]
        found = [*global_limits(admin.budget)]
    else:
        assert caller.key is not None, "the master key sees all"
        found = []
        records = [snapshot.keys.get(caller.key.key_id, caller.key)]
        if caller.user_id is not None:
            records = [
                *(snapshot.teams[each] for each in sorted(caller.teams) if each in snapshot.teams),
                *([snapshot.users[caller.user_id]] if caller.user_id in snapshot.users else ()),
                *(key for key in snapshot.keys.values() if caller.sees_key(key)),
            ]
    for record in records:
        if not isinstance(record, TeamRecord):
            found += limits_of(record)
            continue
        if caller.sees_all or caller.manages_team(record.team_id):
            found += limits_of(record)
        found += _members_seen(record, caller)
    return found


async def alert_conditions(admin: AdminState, viewer: Viewer) -> Conditions:
    """Return what rows of `budget_events` must meet: they are of owners whose budgets one sees."""
    found = Conditions()
    if not viewer.sees_all:
        limits = limits_seen(admin, viewer, await admin.registry())
        owners = {f"{limit.budget_id.scope}:{limit.budget_id.scope_id}" for limit in limits}
        found.add("list_contains({0}::VARCHAR[], scope || ':' || scope_id)", sorted(owners))
    return found


def _members_seen(team: TeamRecord, caller: Principal) -> list[Limit]:
    limits = []
    for each in () if team.deleted else team.members_with_roles:
        limit = member_limit(team, each)
        if limit is not None and caller.sees_member(team.team_id, each.user_id):
            limits.append(limit)
    return limits


async def budget_rows(admin: AdminState, limits: list[Limit]) -> list[BudgetRow]:
    """Return budgets with what is spent of them, the most used first. Raises ApiError."""
    time_us = now_us()
    by_scope: dict[str, list[Limit]] = defaultdict(list)
    for limit in limits:
        by_scope[limit.budget_id.scope].append(limit)
    spends = await asyncio.gather(
        *(_spends(admin, scope, group, time_us) for scope, group in by_scope.items())
    )
    rows = [
        _row(limit, spend, time_us, admin.timezone)
        for group, spent in zip(by_scope.values(), spends, strict=True)
        for limit, spend in zip(group, spent, strict=True)
    ]
    return sorted(rows, key=lambda row: (_STATES[row.state], -(row.share or 0), row.name))


async def _spends(
    admin: AdminState, scope: str, limits: list[Limit], time_us: int
) -> list[Decimal]:
    """Return what is spent of budgets of one scope: by days, but for those of a model."""
    windows = [limit.window(time_us, admin.timezone) for limit in limits]
    found = [each.before_usd for each in windows]

    async def add(places: list[int], sql: str, parameters: Sequence[object]) -> None:
        reply = await admin.ledger.query(sql, parameters, timeout_s=PAGE_TIMEOUT_S)
        for number, spent_usd in reply.rows:
            found[places[number]] += Decimal(spent_usd)

    with_subscriptions = admin.config.settings.budgets_count_subscriptions
    asked = []
    for is_of_model in (False, True):
        places = [n for n, limit in enumerate(limits) if (limit.model is not None) is is_of_model]
        if not places:
            continue
        ids = [limits[each].budget_id.scope_id for each in places]
        starts_us = [windows[each].start_us for each in places]
        if is_of_model:
            models = [limits[each].model for each in places]
            lists = (list(range(len(places))), ids, starts_us, models)
            of_models = (*lists, min(starts_us), with_subscriptions)
            asked.append(add(places, SPEND_OF_BUDGETS[scope], of_models))
        else:
            of_days = budgets_sql(scope, ids, starts_us, with_subscriptions=with_subscriptions)
            asked.append(add(places, *of_days))
    await asyncio.gather(*asked)
    return found


def _row(limit: Limit, spent_usd: Decimal, time_us: int, timezone: str) -> BudgetRow:
    max_usd = limit.max_at(time_us)
    start_us, end_us, before_usd = limit.window(time_us, timezone)
    pace = None
    if end_us is not None and time_us - start_us > (end_us - start_us) // 20:
        passed = Decimal(time_us - start_us) / Decimal(end_us - start_us)
        pace = (before_usd + (spent_usd - before_usd) / passed).quantize(Decimal("0.000001"))
    used = share(spent_usd, max_usd)
    if max_usd is not None and spent_usd >= max_usd:
        used, state = (used if used is not None else float(FULL)), "exceeded"
    else:
        near = used is not None and used >= WARN_AT
        soft = limit.soft_budget_usd is not None and spent_usd >= limit.soft_budget_usd
        state = "warned" if near or soft else "ok"
    scope, scope_id = limit.budget_id.scope, limit.budget_id.scope_id
    return BudgetRow(
        scope="all" if scope == "global" else scope,
        scope_id=scope_id,
        name=limit.name,
        href=page_of(scope, scope_id) if scope in _WITH_PAGE else "",
        what=_what(limit),
        limit_usd=max_usd,
        soft_usd=limit.soft_budget_usd,
        spent_usd=spent_usd,
        left_usd=None if max_usd is None else max(Decimal(0), max_usd - spent_usd),
        share=used,
        resets_at=None if end_us is None else time_from_us(end_us),
        pace_usd=pace,
        strict=limit.strict,
        state=state,
    )


_PERIODS = {
    "monthly": "a month",
    "30d": "a month",
    "1mo": "a month",
    "weekly": "a week",
    "7d": "a week",
    "1w": "a week",
    "daily": "a day",
    "24h": "a day",
    "1d": "a day",
    "hourly": "an hour",
    "1h": "an hour",
}


def _what(limit: Limit) -> str:
    """Return what a budget is for, in words: a month, in total, for claude-opus-*."""
    duration = limit.budget_duration
    period = "in total" if duration is None else _PERIODS.get(duration, f"per {duration}")
    return period if limit.model is None else f"{period}, for {limit.model}"


async def _events(admin: AdminState, viewer: Viewer) -> list[Row]:
    """Return what was told lately of the budgets that the viewer may see."""
    conditions = await alert_conditions(admin, viewer)
    return await ask(
        admin,
        "SELECT event, told_at, scope, scope_id, name, spend_usd, max_budget_usd, soft_budget_usd, "
        f"budget, threshold, resets_at FROM budget_events {conditions.where} "
        f"ORDER BY stream_sequence DESC LIMIT {EVENTS_MAX}",
        conditions.parameters,
    )
