"""What needs a look: budgets and quotas near their end, blocks, errors, missing prices."""

import asyncio
import textwrap
from datetime import UTC, date, datetime, timedelta

import msgspec

from services.admin.state import AdminState
from services.admin.ui.asking import Row, ask
from services.admin.ui.budgets import alert_conditions
from services.admin.ui.formats import counted, percent, share, usd, whole
from services.admin.ui.viewer import Viewer

__all__ = ["Matter", "matters"]

EACH_MAX = 5
"""So many budgets, and so many quotas, are named; the pages have all."""
QUOTA_WARN_AT = 80
ERRORS_PERCENT_MIN = 5.0
REQUESTS_MIN = 20
"""Of fewer requests in an hour a share says nothing."""
VAIN_REQUESTS_MIN = 3
"""So many in an hour, and no other: somebody cannot work."""
REASON_CHARS_MAX = 160


class Matter(msgspec.Struct, frozen=True, kw_only=True):
    """One line: `kind` is bad or warn, `who` whose it is, `text` what, `href` where to look."""

    kind: str
    who: str
    text: str
    href: str
    resets_at: datetime | None = None


async def matters(admin: AdminState, viewer: Viewer, today: date) -> list[Matter]:
    """Return what needs a look, the worst first. Raises ApiError."""
    parts = await asyncio.gather(
        _budgets(admin, viewer), _quotas(admin, viewer), _requests(admin, viewer, today)
    )
    return sorted((each for part in parts for each in part), key=lambda each: each.kind)


async def _budgets(admin: AdminState, viewer: Viewer) -> list[Matter]:
    """Return the budgets whose last word was that they are spent or nearly so."""
    conditions = await alert_conditions(admin, viewer)
    rows = await ask(
        admin,
        f"""
SELECT * FROM (
    SELECT event, name, spend_usd, max_budget_usd, soft_budget_usd, threshold, resets_at,
           told_at
    FROM budget_events {conditions.where}
    QUALIFY row_number() OVER (
        PARTITION BY scope, scope_id, budget ORDER BY stream_sequence DESC) = 1)
WHERE event <> 'cleared' AND coalesce(resets_at > now()::TIMESTAMP, true)
ORDER BY event, told_at DESC LIMIT {EACH_MAX}
""",
        conditions.parameters,
    )
    return [_budget(row) for row in rows]


def _budget(row: Row) -> Matter:
    limit = row["max_budget_usd"]
    if row["event"] == "exceeded":
        kind, text = "bad", f"budget of {usd(limit)} used up"
    elif row["threshold"] == "soft_budget":
        kind, text = "warn", f"soft budget of {usd(row['soft_budget_usd'])} reached"
    else:
        kind, text = "warn", f"{percent(share(row['spend_usd'], limit))} of {usd(limit)} spent"
    return Matter(
        kind=kind, who=row["name"], text=text, href="/ui/budgets", resets_at=row["resets_at"]
    )


async def _quotas(admin: AdminState, viewer: Viewer) -> list[Matter]:
    conditions = viewer.conditions()
    own = (
        ""
        if viewer.sees_all
        else f"AND seat IN (SELECT seat FROM quota_observations {conditions.where})"
    )
    rows = await ask(
        admin,
        f"""
SELECT coalesce(user_id, key_alias, 'an account') AS who,
       (100 * five_hour_utilization)::DOUBLE AS five_hour, five_hour_resets_at,
       (100 * seven_day_utilization)::DOUBLE AS seven_day, seven_day_resets_at
FROM quota_now
WHERE billing = 'subscription' AND observed_at > now()::TIMESTAMP - INTERVAL 8 DAY
  AND greatest(coalesce(five_hour_utilization, 0), coalesce(seven_day_utilization, 0))
      >= {QUOTA_WARN_AT / 100} {own}
ORDER BY greatest(coalesce(five_hour, 0), coalesce(seven_day, 0)) DESC LIMIT {EACH_MAX}
""",
        conditions.parameters,
    )
    found = []
    for row in rows:
        is_week = (row["seven_day"] or 0) >= (row["five_hour"] or 0)
        used = row["seven_day" if is_week else "five_hour"]
        found.append(
            Matter(
                kind="bad" if used >= 100 else "warn",  # noqa: PLR2004 - all of it
                who=row["who"],
                text=f"{percent(used)} of the {'7-day' if is_week else '5-hour'} quota",
                href="/ui/quotas",
                resets_at=row["seven_day_resets_at" if is_week else "five_hour_resets_at"],
            )
        )
    return found


async def _requests(admin: AdminState, viewer: Viewer, today: date) -> list[Matter]:
    """Return what is wrong with requests: errors of the last hour, blocks and prices of today."""
    hour, day = viewer.conditions(), viewer.conditions()
    since = datetime.now(UTC) - timedelta(hours=1)
    hour.add("started_at >= {0}::TIMESTAMP", since.strftime("%Y-%m-%d %H:%M:%S"))
    day.add("day = {0}::DATE", today.isoformat())
    blocks = viewer.conditions()
    blocks.add("found_at >= {0}::DATE AND action = 'block'", today.isoformat())
    errors, unpriced, blocked = await asyncio.gather(
        ask(
            admin,
            "SELECT count(*) AS requests, count(*) FILTER (status = 'failure') AS failed, "
            "count(*) FILTER (status = 'success') AS successes, "
            "arg_max(reason, started_at) AS reason "
            f"FROM requests {hour.where}",
            hour.parameters,
        ),
        ask(
            admin,
            "SELECT coalesce(model, model_name, 'unknown') AS model, "
            f"sum(unpriced_requests)::BIGINT AS requests FROM spend_parts {day.where} "
            "GROUP BY ALL HAVING sum(unpriced_requests) > 0 "
            f"ORDER BY requests DESC LIMIT {EACH_MAX}",
            day.parameters,
        ),
        ask(
            admin,
            f"SELECT count(DISTINCT request_id) AS requests FROM guardrail_events {blocks.where}",
            blocks.parameters,
        ),
    )
    found = []
    failed = share(errors[0]["failed"], errors[0]["requests"])
    if errors[0]["requests"] >= REQUESTS_MIN and (failed or 0) >= ERRORS_PERCENT_MIN:
        text = f"{percent(failed)} of the last hour's requests"
        href = "/ui/logs?status=error&period=1h"
        found.append(Matter(kind="bad", who="Errors", text=text, href=href))
    elif errors[0]["requests"] >= VAIN_REQUESTS_MIN and not errors[0]["successes"]:
        text = f"none of the last hour's {whole(errors[0]['requests'])} succeeded"
        if reason := errors[0]["reason"]:
            text += f": {textwrap.shorten(reason, REASON_CHARS_MAX, placeholder='…')}"
        found.append(Matter(kind="bad", who="Requests", text=text, href="/ui/logs?period=1h"))
    found += [
        Matter(
            kind="bad",
            who=row["model"],
            text=f"{counted(row['requests'], 'request')} today without a price",
            href="/ui/models",
        )
        for row in unpriced
    ]
    if blocked[0]["requests"]:
        text = f"{counted(blocked[0]['requests'], 'request')} blocked today"
        found.append(
            Matter(
                kind="warn",
                who="Guardrails",
                text=text,
                href="/ui/guardrails?action=block&days=1",
            )
        )
    return found
