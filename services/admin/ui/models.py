"""The page of models: names, deployments, prices, what they cost, and what has no price."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
from litestar import Request, Response, get

from schemas.errors import ApiError
from services.admin.state import AdminState
from services.admin.ui.access import viewer_of
from services.admin.ui.addresses import page_of
from services.admin.ui.api_calls import call_api
from services.admin.ui.api_rows import Body
from services.admin.ui.asking import Row, ask
from services.admin.ui.figures import DAYS, changes_of_prices
from services.admin.ui.pages import page
from services.admin.ui.viewer import Viewer
from services.runtime.model_names import matches

__all__ = ["MODELS_ROUTES", "Deployed", "deployments_seen", "prices_of", "recent_of"]

_MILLION = 1_000_000
_PRICES = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write_5m": "cache_creation_input_token_cost",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
}
_SETTINGS = {
    "weight": "weight {:g}",
    "order": "order {}",
    "rpm": "{:,} requests/min",
    "tpm": "{:,} tokens/min",
    "max_parallel_requests": "{:,} in parallel",
    "timeout": "timeout {:g} s",
    "stream_timeout": "of streams {:g} s",
}
"""Settings of deployments in words."""
_Request = Request[Any, Any, Any]


class Deployed(msgspec.Struct, kw_only=True):
    """One deployment as pages show it; prices are US dollars per million tokens."""

    id: str
    model_name: str
    model: str
    api_base: str
    is_of_registry: bool
    forwards: bool
    unusable: str
    settings: list[str]
    prices: dict[str, Decimal | None]
    recent: Row | None = None

    @property
    def is_unpriced(self) -> bool:
        """Whether its requests have no price; one with a pattern has that of each model."""
        return "*" not in self.model and self.prices["input"] is None


@get("/models")
async def models(request: _Request, admin: AdminState) -> Response[bytes]:
    """Show all models that the viewer may use."""
    viewer = viewer_of(request)
    is_all = request.query_params.get("prices") == "all"
    deployments = await deployments_seen(request)
    problem = ""
    spent: list[Row] = []
    recent: list[Row] = []
    known: list[Row] = []
    try:
        spent, recent, known = await asyncio.gather(
            _spent(admin, viewer), recent_of(admin, viewer), _known_prices(admin, viewer)
        )
    except ApiError as error:
        problem = error.message
    by_id = {row["deployment"]: row for row in recent}
    for each in deployments:
        each.recent = by_id.get(each.id)
    used = {each.model for each in deployments} | {row["model"] for row in spent}
    changes, changes_problem = await changes_of_prices(admin) if viewer.sees_all else ([], "")
    return page(
        request,
        "models.html",
        names=_names(admin, deployments, spent),
        deployments=deployments,
        unpriced=[row for row in spent if row["unpriced"]],
        # While the ledger cannot be asked, no price is known of any.
        without_price=[] if problem else [each for each in deployments if each.is_unpriced],
        prices=[row for row in known if is_all or used & set(row["names"])],
        is_all=is_all,
        problem=problem,
        changes=changes,
        changes_problem=changes_problem,
    )


async def deployments_seen(request: _Request) -> list[Deployed]:
    """Return the deployments that the viewer may see, in the order of the API."""
    answer = await call_api(request, "GET", "/model/info")
    return [_deployed(entry) for entry in answer.body["data"]]


def _deployed(entry: Body) -> Deployed:
    info, params = entry["model_info"], entry["litellm_params"]
    model = str(params.get("model") or "")
    return Deployed(
        id=info["id"],
        model_name=entry["model_name"],
        model=model.removeprefix("anthropic/"),
        api_base=str(params.get("api_base") or ""),
        is_of_registry=info["db_model"],
        forwards=info["forwards_client_auth"],
        unusable=info["unusable"] or "",
        settings=[
            text.format(params[name])
            for name, text in _SETTINGS.items()
            if params.get(name) is not None
        ],
        prices=prices_of(info),
    )


def prices_of(info: Body) -> dict[str, Decimal | None]:
    """Return the prices of a deployment in US dollars per million tokens."""
    return {
        name: None if info[field] is None else Decimal(str(info[field])) * _MILLION
        for name, field in _PRICES.items()
    }


def _names(
    admin: AdminState, deployments: list[Deployed], spent: list[Row]
) -> list[dict[str, Any]]:
    """Return the model names with their deployments and what was asked of each."""
    aliases = admin.config.router.model_group_alias
    hidden = admin.config.router.hidden_aliases
    groups: dict[str, list[Deployed]] = {}
    for each in deployments:
        groups.setdefault(each.model_name, []).append(each)
    found: dict[str, dict[str, Any]] = {
        name: {
            "name": name,
            "path": page_of("model", name),
            "deployments": members,
            "aliases": [a for a, of in aliases.items() if of == name and a not in hidden],
            "requests": 0,
            "cost_usd": Decimal(0),
            "failed": 0,
        }
        for name, members in groups.items()
    }
    for row in spent:
        asked = aliases.get(row["model_name"], row["model_name"])
        name = asked if asked in found else _pattern_of(asked, found)
        if name is not None:
            for sum_of in ("requests", "cost_usd", "failed"):
                found[name][sum_of] += row[sum_of]
    return list(found.values())


def _pattern_of(asked: str | None, groups: Mapping[str, Any]) -> str | None:
    if asked is None:
        return None
    fitting = (name for name in groups if "*" in name and matches(name, asked) is not None)
    return next(fitting, None)


def _first_day() -> date:
    return datetime.now(UTC).date() - timedelta(days=DAYS - 1)


async def _spent(admin: AdminState, viewer: Viewer) -> list[Row]:
    """Return requests and cost of DAYS by the name that was asked for and the model."""
    conditions = viewer.conditions()
    conditions.add("day >= {0}::DATE", _first_day().isoformat())
    return await ask(
        admin,
        "SELECT model_name, model, sum(requests)::BIGINT AS requests, sum(cost_usd) AS cost_usd, "
        "coalesce(sum(requests) FILTER (status = 'failure'), 0)::BIGINT AS failed, "
        "sum(unpriced_requests)::BIGINT AS unpriced "
        f"FROM spend_parts {conditions.where} GROUP BY ALL HAVING sum(requests) <> 0 "
        "ORDER BY cost_usd DESC, model_name, model LIMIT 1000",
        conditions.parameters,
    )


async def recent_of(admin: AdminState, viewer: Viewer) -> list[Row]:
    """Return how the deployments did in the last 24 hours. Raises ApiError."""
    conditions = viewer.conditions()
    since = datetime.now(UTC) - timedelta(days=1)
    conditions.add("started_at >= {0}::TIMESTAMP", since.strftime("%Y-%m-%d %H:%M:%S"))
    conditions.add("deployment IS NOT NULL")
    return await ask(
        admin,
        "SELECT deployment, count(*) AS requests, "
        "count(*) FILTER (status = 'failure') AS failed, "
        "max(ended_at) FILTER (status = 'failure') AS failed_at, "
        "max(ended_at) FILTER (status = 'success') AS answered_at "
        f"FROM requests {conditions.where} GROUP BY deployment",
        conditions.parameters,
    )


async def _known_prices(admin: AdminState, viewer: Viewer) -> list[Row]:
    """Return all prices, for those who see all: entries of one's own tell of contracts."""
    if not viewer.sees_all:
        return []
    return await ask(
        admin,
        "SELECT * FROM prices ORDER BY model, valid_from DESC NULLS LAST, above_prompt_tokens "
        "LIMIT 2000",
    )


MODELS_ROUTES = (models,)
