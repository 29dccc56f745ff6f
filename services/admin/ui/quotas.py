"""Quotas: who is near the wall of Anthropic's own windows, and what subscriptions are worth."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from litestar import Request, Response, get

from schemas.errors import ApiError
from services.admin.state import AdminState
from services.admin.ui.access import viewer_of
from services.admin.ui.asking import Row, ask
from services.admin.ui.pages import page
from services.admin.ui.viewer import Viewer

__all__ = ["QUOTA_PAGE_ROUTES"]

SEATS_MAX = 500
HISTORY_DAYS = 7
POINTS_MAX = 2000
MONTHS_MAX = 60
_FULL = 100
_Request = Request[Any, Any, Any]


@get("/quotas")
async def quotas(request: _Request, admin: AdminState) -> Response[bytes]:
    """Show the seats with what of their windows is used; `seat` names one whose course is shown."""
    viewer = viewer_of(request)
    chosen = request.query_params.get("seat", "")[:200]
    problem = ""
    seats: list[Row] = []
    values: list[Row] = []
    history: list[Row] = []
    try:
        seats, values, history = await asyncio.gather(
            _seats(admin, viewer), _values(admin, viewer), _history(admin, viewer, chosen)
        )
    except ApiError as error:
        problem = error.message
    return page(
        request,
        "quotas.html",
        seats=[seat for seat in seats if seat["billing"] == "subscription"],
        keys=[seat for seat in seats if seat["billing"] != "subscription"],
        values=values,
        chosen=next((seat for seat in seats if seat["seat"] == chosen), None),
        chart=_course(history),
        problem=problem,
        now=datetime.now(UTC),
    )


QUOTA_PAGE_ROUTES = (quotas,)


async def _seats(admin: AdminState, viewer: Viewer) -> list[Row]:
    """Return the accounts as the API told of them last, the fullest first.

    Those who do not see all see the accounts that their own requests went by.
    """
    conditions = viewer.conditions()
    own = (
        ""
        if viewer.sees_all
        else f"WHERE seat IN (SELECT seat FROM quota_observations {conditions.where})"
    )
    return await ask(
        admin,
        f"""
SELECT seat, billing, key_alias, user_id, team_id, observed_at, status, representative_claim,
       (100 * five_hour_utilization)::DOUBLE AS five_hour, five_hour_resets_at,
       (100 * seven_day_utilization)::DOUBLE AS seven_day, seven_day_resets_at,
       overage_status, (100 * overage_utilization)::DOUBLE AS overage, overage_disabled_reason,
       requests_remaining, requests_limit, tokens_remaining, tokens_limit
FROM quota_now {own}
ORDER BY greatest(coalesce(five_hour, 0), coalesce(seven_day, 0)) DESC, seat LIMIT {SEATS_MAX}
""",
        conditions.parameters,
    )


async def _values(admin: AdminState, viewer: Viewer) -> list[Row]:
    """Return what the subscriptions cost and would have cost at the API, the newest month first."""
    where, parameters = "", []
    if not viewer.sees_all:
        caller = viewer.caller
        assert caller.key is not None, "the master key sees all"
        where = "WHERE user_id = $1 OR key_alias = $2"
        parameters = [caller.user_id, caller.key.key_alias]
    return await ask(
        admin,
        "SELECT month, coalesce(user_id, key_alias) AS who, plan, monthly_usd, api_equivalent_usd, "
        f"saved_usd, requests FROM seat_value {where} "
        f"ORDER BY month DESC, api_equivalent_usd DESC, who LIMIT {MONTHS_MAX}",
        parameters,
    )


async def _history(admin: AdminState, viewer: Viewer, seat: str) -> list[Row]:
    if not seat:
        return []
    conditions = viewer.conditions()
    conditions.add("seat = {0}::VARCHAR", seat)
    since = datetime.now(UTC) - timedelta(days=HISTORY_DAYS)
    conditions.add("observed_at >= {0}::TIMESTAMP", since.strftime("%Y-%m-%d %H:%M:%S"))
    rows = await ask(
        admin,
        "SELECT observed_at, (100 * five_hour_utilization)::DOUBLE AS five_hour, "
        "(100 * seven_day_utilization)::DOUBLE AS seven_day "
        f"FROM quota_observations {conditions.where} "
        f"ORDER BY observed_at DESC, stream_sequence DESC LIMIT {POINTS_MAX}",
        conditions.parameters,
    )
    return rows[::-1]


def _course(history: list[Row]) -> dict[str, Any] | None:
    if not history:
        return None
    times = [int(row["observed_at"].timestamp()) for row in history]
    return {
        "data": {
            "x": times,
            "series": [
                {"label": "5 hours", "values": [row["five_hour"] for row in history]},
                {"label": "7 days", "values": [row["seven_day"] for row in history]},
            ],
            "kind": "line",
            "unit": "percent",
            "step": "minute",
            "top": _FULL,
        },
        "table": (
            ("When", "5 hours", "7 days"),
            [
                (
                    f"{row['observed_at']:%b %d %H:%M}",
                    *(
                        "–" if row[name] is None else f"{row[name]:.0f} %"
                        for name in ("five_hour", "seven_day")
                    ),
                )
                for row in history[::-1]
            ],
        ),
    }
