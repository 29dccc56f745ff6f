"""What the ledger says of one key, team, user or model name: days, models, requests, changes."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import urlencode

import msgspec

from schemas.errors import ApiError
from schemas.events import time_from_us
from services.admin.sql_where import Conditions
from services.admin.state import AdminState
from services.admin.ui.asking import Row, ask
from services.admin.ui.charting import DayChart, cells_of, day_chart
from services.admin.ui.formats import NOTHING, exact_time, share, usd, usd_exact
from services.admin.ui.viewer import Viewer
from services.runtime.registry import RegistrySnapshot

__all__ = [
    "DAYS",
    "Figures",
    "Kind",
    "changes_of",
    "changes_of_prices",
    "figures_of",
    "makers_of",
    "who_did",
]

DAYS = 30
"""Figures are of so many days, today included."""
TOP_MAX = 8
LATEST_MAX = 8
CHANGES_MAX = 30
"""So many of the latest changes are shown."""
VALUE_CHARS_MAX = 120
"""A value of a change is shown up to so many characters."""

Kind = Literal["key", "team", "user", "model"]
By = Literal["key", "user", "model"]
_IS = {
    "key": "key_id = {0}::VARCHAR",
    "team": "team_id = {0}::VARCHAR",
    "user": "user_id = {0}::VARCHAR",
    "model": "model_name = {0}::VARCHAR",
}
_NAMES = {
    "key": "coalesce(key_alias, key_id, 'no key')",
    "user": "coalesce(user_id, 'no user')",
    "model": "coalesce(model_name, model, 'unknown')",
}
_NOT_TOLD = (
    "key_hash",
    "former_key_hash",
    "created_at_us",
    "created_by",
    "updated_at_us",
    "updated_by",
)
"""Fields of changes that tell a reader nothing more."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of DAYS. `problem` is why there are none; `tops` are titles and their bars."""

    problem: str = ""
    chart: DayChart | None = None
    tops: list[tuple[str, list[dict[str, Any]]]] = []
    requests: int = 0
    failed: int = 0
    cost_usd: Decimal = Decimal(0)
    unpriced: int = 0
    latest: list[Row] = []


async def figures_of(
    admin: AdminState,
    viewer: Viewer,
    kind: Kind,
    name: str,
    *,
    chart_by: By,
    tops: Sequence[tuple[str, By]],
) -> Figures:
    """Return the figures of one of a kind, of what the viewer may see. Never raises ApiError."""
    today = datetime.now(UTC).date()
    first = today - timedelta(days=DAYS - 1)
    wanted = list(dict.fromkeys((chart_by, *(by for _, by in tops))))
    try:
        latest, sums, *cells = await asyncio.gather(
            _latest(admin, viewer, kind, name, first),
            _sums(admin, viewer, kind, name, first),
            *(_cells(admin, viewer, kind, name, first, by) for by in wanted),
        )
    except ApiError as error:
        return Figures(problem=error.message)
    by_name = dict(zip(wanted, cells, strict=True))
    return Figures(
        chart=day_chart(by_name[chart_by], first, today, "usd"),
        tops=[(title, _bars(by_name[by], kind, name, by)) for title, by in tops],
        latest=latest,
        **sums,
    )


def _conditions(viewer: Viewer, kind: Kind, name: str) -> Conditions:
    conditions = viewer.conditions()
    conditions.add(_IS[kind], name)
    return conditions


async def _sums(
    admin: AdminState, viewer: Viewer, kind: Kind, name: str, first: date
) -> dict[str, Any]:
    conditions = _conditions(viewer, kind, name)
    conditions.add("day >= {0}::DATE", first.isoformat())
    rows = await ask(
        admin,
        "SELECT coalesce(sum(requests), 0)::BIGINT AS requests, "
        "coalesce(sum(requests) FILTER (status <> 'success'), 0)::BIGINT AS failed, "
        "coalesce(sum(cost_usd), 0) AS cost_usd, "
        "coalesce(sum(unpriced_requests), 0)::BIGINT AS unpriced "
        f"FROM spend_parts {conditions.where}",
        conditions.parameters,
    )
    return rows[0]


async def _cells(
    admin: AdminState, viewer: Viewer, kind: Kind, name: str, first: date, by: By
) -> dict[str, dict[date, Decimal | int]]:
    conditions = _conditions(viewer, kind, name)
    conditions.add("day >= {0}::DATE", first.isoformat())
    rows = await ask(
        admin,
        f"SELECT day, {_NAMES[by]} AS name, sum(cost_usd) AS value "
        f"FROM spend_parts {conditions.where} GROUP BY ALL HAVING sum(requests) <> 0",
        conditions.parameters,
    )
    return cells_of(rows)


def _bars(
    cells: Mapping[str, Mapping[date, Decimal | int]], kind: Kind, name: str, by: By
) -> list[dict[str, Any]]:
    sums = {each: Decimal(sum(days.values())) for each, days in cells.items()}
    ranked = sorted(sums, key=lambda each: (-sums[each], each))[:TOP_MAX]
    largest = max(sums.values(), default=Decimal(0))
    return [
        {
            "name": each,
            "value": usd(sums[each]),
            "exact": usd_exact(sums[each]),
            "share": share(sums[each], largest) or 0.0,
            "href": f"/ui/logs?{urlencode({kind: name, by: each, 'period': '30d'})}",
        }
        for each in ranked
    ]


async def _latest(
    admin: AdminState, viewer: Viewer, kind: Kind, name: str, first: date
) -> list[Row]:
    conditions = _conditions(viewer, kind, name)
    conditions.add("started_at >= {0}::TIMESTAMP", f"{first} 00:00:00")
    return await ask(
        admin,
        "SELECT request_id, started_at, coalesce(key_alias, key_id) AS key_name, user_id, "
        "model_name, model, total_tokens, cost_usd, status, http_status "
        f"FROM requests {conditions.where} "
        f"ORDER BY started_at DESC, request_id DESC LIMIT {LATEST_MAX}",
        conditions.parameters,
    )


async def changes_of(
    admin: AdminState, viewer: Viewer, kind: Kind, object_id: str
) -> tuple[list[Row], str]:
    """Return the latest changes of one of a kind, and why there are none where that is so.

    They are for those who may see the changes of all (as GET /audit): others get none.
    """
    if not viewer.sees_all:
        return [], ""
    return await _changes(
        admin,
        "FROM registry_changes WHERE object_type = $1::VARCHAR AND object_id = $2::VARCHAR "
        f"ORDER BY stream_sequence DESC LIMIT {CHANGES_MAX}",
        [kind, object_id],
    )


async def changes_of_prices(admin: AdminState) -> tuple[list[Row], str]:
    """Return the latest changes of prices: of the book, the file's entries and the API's."""
    return await _changes(
        admin,
        "FROM audit_events WHERE object_type = 'prices' "
        f"ORDER BY stream_sequence DESC LIMIT {CHANGES_MAX}",
        [],
    )


async def _changes(
    admin: AdminState, source: str, parameters: list[object]
) -> tuple[list[Row], str]:
    try:
        rows = await ask(
            admin,
            "SELECT changed_at, action, object_id, changed_by, client_address, changed_fields, "
            f"before, after {source}",
            parameters,
        )
    except ApiError as error:
        return [], error.message
    snapshot = await admin.registry()
    for row in rows:
        row["who"] = who_did(snapshot, row["changed_by"])
        row["fields"] = _fields(row)
    return rows, ""


def makers_of(snapshot: RegistrySnapshot, row: Mapping[str, Any]) -> dict[str, str]:
    """Return who made and who last changed what a row of the API is about."""
    return {each: who_did(snapshot, row[each]) for each in ("created_by", "updated_by")}


def who_did(snapshot: RegistrySnapshot, by: str | None) -> str:
    """Return whoever changed something by the name of the key."""
    key = snapshot.keys.get(by or "")
    return by or "" if key is None else key.key_alias or key.key_name


def _fields(row: Row) -> list[tuple[str, str, str]]:
    """Return the fields of a change with their values before and after."""
    before = msgspec.json.decode(row["before"]) if row["before"] else {}
    after = msgspec.json.decode(row["after"])
    return [
        (name, _text(name, before.get(name)), _text(name, after.get(name)))
        for name in row["changed_fields"]
        if name not in _NOT_TOLD
    ]


def _text(name: str, value: Any) -> str:
    if value in (None, [], {}, ""):
        return NOTHING
    if name.endswith("_us") and isinstance(value, int):
        return exact_time(time_from_us(value))
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= VALUE_CHARS_MAX else text[: VALUE_CHARS_MAX - 1] + "…"
