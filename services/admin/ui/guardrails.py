"""Guardrails: which there are, and what they found."""

import asyncio
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from litestar import Request, Response, get

from schemas.errors import ApiError
from schemas.events import us_from_time
from services.admin.sql_where import Conditions
from services.admin.state import AdminState
from services.admin.ui.access import viewer_of
from services.admin.ui.asking import Row, ask
from services.admin.ui.charting import DayChart, cells_of, day_chart
from services.admin.ui.pages import page
from services.admin.ui.periods import CHOICES, Period, period_of
from services.admin.ui.viewer import Viewer

__all__ = ["GUARDRAIL_PAGE_ROUTES"]

FINDINGS_MAX = 50
"""A page lists so many findings; a link leads to older ones."""
RULES_MAX = 100
FILTERS = ("guardrail", "rule", "action", "key", "user")
"""What findings are filtered by, as parameters of the address."""
ACTIONS = ("block", "mask", "log")
_COLUMNS = {"key": "key_alias", "user": "user_id"}
_PLACE = re.compile(r"(\d{1,18})\.(\d{1,18})\.(\d{1,18})")
_Request = Request[Any, Any, Any]


@get("/guardrails")
async def guardrails(request: _Request, admin: AdminState) -> Response[bytes]:
    """Show the guardrails, their findings by day and rule, and the latest ones."""
    viewer = viewer_of(request)
    query = request.query_params
    period = period_of(query, datetime.now(UTC).date())
    chosen = {name: query.get(name, "")[:200] for name in FILTERS}
    before = _PLACE.fullmatch(query.get("before", ""))
    problem = ""
    days: DayChart | None = None
    rules: list[Row] = []
    found: list[Row] = []
    try:
        days, rules, found = await asyncio.gather(
            _days(admin, _conditions(viewer, period, chosen), period),
            _rules(admin, _conditions(viewer, period, chosen)),
            _findings(admin, _conditions(viewer, period, chosen), before),
        )
    except ApiError as error:
        problem = error.message
    state = {name: value for name, value in chosen.items() if value} | period.query

    def address(**changed: str) -> str:
        kept = {name: value for name, value in {**state, **changed}.items() if value}
        return f"/ui/guardrails?{urlencode(kept)}"

    has_more = len(found) > FINDINGS_MAX
    return page(
        request,
        "guardrails.html",
        guardrails=admin.guardrails if viewer.sees_all else (),
        period=period,
        choices=CHOICES,
        chosen=chosen,
        actions=ACTIONS,
        days=days,
        rules=rules,
        found=found[:FINDINGS_MAX],
        older=address(before=_place(found[FINDINGS_MAX - 1])) if has_more else "",
        is_filtered=any(chosen.values()),
        address=address,
        problem=problem,
    )


GUARDRAIL_PAGE_ROUTES = (guardrails,)


def _conditions(viewer: Viewer, period: Period, chosen: dict[str, str]) -> Conditions:
    conditions = viewer.conditions()
    conditions.add("found_at >= {0}::DATE", period.first.isoformat())
    conditions.add("found_at < {0}::DATE + 1", period.last.isoformat())
    for name, value in chosen.items():
        if value:
            conditions.add(f"{_COLUMNS.get(name, name)} = {{0}}::VARCHAR", value)
    return conditions


async def _days(admin: AdminState, conditions: Conditions, period: Period) -> DayChart:
    rows = await ask(
        admin,
        "SELECT found_at::DATE AS day, action AS name, sum(hits)::BIGINT AS value "
        f"FROM guardrail_events {conditions.where} GROUP BY ALL",
        conditions.parameters,
    )
    return day_chart(cells_of(rows), period.first, period.last, "whole")


async def _rules(admin: AdminState, conditions: Conditions) -> list[Row]:
    return await ask(
        admin,
        "SELECT guardrail, rule, category, action, sum(hits)::BIGINT AS hits, "
        "count(DISTINCT request_id) AS requests, max(found_at) AS last_at "
        f"FROM guardrail_events {conditions.where} "
        f"GROUP BY ALL ORDER BY hits DESC, guardrail, rule LIMIT {RULES_MAX}",
        conditions.parameters,
    )


def _place(row: Row) -> str:
    """Return where a finding stands in the order of the page."""
    return f"{us_from_time(row['found_at'])}.{row['stream_sequence']}.{row['producer_sequence']}"


async def _findings(
    admin: AdminState, conditions: Conditions, before: re.Match[str] | None
) -> list[Row]:
    """Return the newest findings, one more than a page has; `before` is the last one's place."""
    if before is not None:
        conditions.add(
            "(found_at, stream_sequence, producer_sequence) < "
            "(make_timestamp({0}::BIGINT), {1}::BIGINT, {2}::BIGINT)",
            *(int(number) for number in before.groups()),
        )
    return await ask(
        admin,
        "SELECT stream_sequence, producer_sequence, found_at, request_id, guardrail, rule, "
        "category, action, place, hits, "
        "coalesce(key_alias, key_id) AS key_name, user_id, model_name "
        f"FROM guardrail_events {conditions.where} "
        "ORDER BY found_at DESC, stream_sequence DESC, producer_sequence DESC "
        f"LIMIT {FINDINGS_MAX + 1}",
        conditions.parameters,
    )
