"""What `tallygate top` shows: the traffic of the last seconds, asked of the ledger in SQL."""

from collections import defaultdict
from decimal import Decimal
from typing import Any

import msgspec

from services.client.answers import ask
from services.client.gateway import Gateway

__all__ = ["SECONDS_SHOWN", "Figures", "Latest", "Traffic", "read_traffic"]

NAMES_MAX = 200
"""Of keys, and of models, so many are asked for: those with the most requests."""
LATEST_MAX = 50
SECONDS_SHOWN = 60
"""For each of so many seconds it is told how many requests ended in it."""

# Results of message batches are no traffic: they come hours later, thousands at once.
_FIGURES = """
WITH recent AS (
    SELECT *, coalesce(key_alias, key_id) AS whose,
           coalesce(nullif(model_name, ''), nullif(model, '')) AS what
    FROM requests
    WHERE ended_at > now()::TIMESTAMP - to_seconds($1::BIGINT) AND endpoint <> 'batch_result'
),
ended AS (
    SELECT CASE GROUPING(whose, what) WHEN 3 THEN 'all' WHEN 1 THEN 'key' ELSE 'model' END AS kind,
           CASE GROUPING(whose, what) WHEN 1 THEN whose ELSE what END AS name,
           count(*) AS requests,
           count(*) FILTER (status = 'failure') AS failed,
           count(*) FILTER (status = 'refused') AS refused,
           count(*) FILTER (status = 'client_closed') AS client_closed,
           coalesce(sum(prompt_tokens), 0)::BIGINT AS prompt_tokens,
           coalesce(sum(output_tokens), 0)::BIGINT AS output_tokens,
           coalesce(sum(cost_usd), 0)::DECIMAL(38, 12) AS cost_usd,
           count(*) FILTER (unpriced) AS unpriced_requests,
           median(ttfb_ms) FILTER (status = 'success')::BIGINT AS ttfb_ms_median
    FROM recent
    GROUP BY GROUPING SETS ((), (whose), (what))
    QUALIFY row_number() OVER (PARTITION BY kind ORDER BY requests DESC, name) <= $2::BIGINT
),
opened AS (
    SELECT coalesce(k.key_alias, o.key_id) AS whose, nullif(o.model_name, '') AS what
    FROM open_requests AS o LEFT JOIN keys AS k USING (key_id)
),
under_way AS (
    SELECT CASE GROUPING(whose, what) WHEN 3 THEN 'all' WHEN 1 THEN 'key' ELSE 'model' END AS kind,
           CASE GROUPING(whose, what) WHEN 1 THEN whose ELSE what END AS name,
           count(*) AS under_way
    FROM opened GROUP BY GROUPING SETS ((), (whose), (what))
    QUALIFY row_number() OVER (PARTITION BY kind ORDER BY under_way DESC, name) <= $2::BIGINT
),
seconds AS (
    SELECT date_diff('millisecond', ended_at, now()::TIMESTAMP) // 1000 AS ago, count(*) AS requests
    FROM recent GROUP BY ago HAVING ago BETWEEN 0 AND $3::BIGINT - 1
)
SELECT kind, name, requests, failed, refused, client_closed, prompt_tokens, output_tokens, cost_usd,
       unpriced_requests, ttfb_ms_median, 0 AS under_way
FROM ended
UNION ALL
SELECT kind, name, 0, 0, 0, 0, 0, 0, 0, 0, NULL, under_way FROM under_way
UNION ALL
SELECT 'second', ago::VARCHAR, requests, 0, 0, 0, 0, 0, 0, 0, NULL, 0 FROM seconds
"""
_LATEST = """
SELECT strftime(ended_at, '%H:%M:%S') AS ended, request_id, coalesce(key_alias, key_id) AS whose,
       coalesce(nullif(model_name, ''), nullif(model, '')) AS what, status, http_status,
       coalesce(reason, error_type) AS problem, prompt_tokens, output_tokens, duration_ms, cost_usd
FROM requests
WHERE ended_at > now()::TIMESTAMP - to_seconds($1::BIGINT) AND endpoint <> 'batch_result'
ORDER BY ended_at DESC, request_id LIMIT $2::BIGINT
"""


class Figures(msgspec.Struct, kw_only=True):
    """The traffic of all, of one key or of one model; `name` None: of none that has a name.

    `under_way` are requests that have not ended; all else is about those that ended in the window.
    """

    name: str | None = None
    requests: int = 0
    requests_per_s: Decimal = Decimal(0)
    under_way: int = 0
    failed: int = 0
    refused: int = 0
    client_closed: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    unpriced_requests: int = 0
    ttfb_ms_median: int | None = None


class Latest(msgspec.Struct, kw_only=True):
    """A request that has just ended; `ended` is the time of day in UTC."""

    ended: str
    request_id: str
    key: str | None
    model: str | None
    status: str
    http_status: int
    problem: str | None
    prompt_tokens: int
    output_tokens: int
    duration_ms: int
    cost_usd: Decimal | None


class Traffic(msgspec.Struct, kw_only=True):
    """The last `window_s` seconds. `per_second` has the newest second last."""

    window_s: int
    total: Figures
    keys: list[Figures]
    models: list[Figures]
    latest: list[Latest]
    per_second: list[int]


def read_traffic(gateway: Gateway, window_s: int) -> Traffic:
    """Ask the ledger what goes on. Raises ClientError."""
    figures = ask(
        gateway, {"query": _FIGURES, "parameters": [window_s, NAMES_MAX, SECONDS_SHOWN]}
    ).rows
    latest = ask(gateway, {"query": _LATEST, "parameters": [window_s, LATEST_MAX]}).rows
    return traffic_of(figures, latest, window_s)


def traffic_of(figures: list[list[Any]], latest: list[list[Any]], window_s: int) -> Traffic:
    """Return the answers to both questions as one. Pure."""
    found: dict[str, dict[str | None, Figures]] = defaultdict(dict)
    per_second = [0] * SECONDS_SHOWN
    for kind, name, *cells in figures:
        if kind == "second":
            per_second[SECONDS_SHOWN - 1 - int(name)] = int(cells[0])
            continue
        each = found[kind].setdefault(name, Figures(name=name))
        _add(each, cells)
        each.requests_per_s = round(Decimal(each.requests) / window_s, 3)
    return Traffic(
        window_s=window_s,
        total=found["all"].get(None, Figures()),
        keys=_busiest_first(found["key"]),
        models=_busiest_first(found["model"]),
        latest=[_latest(row) for row in latest],
        per_second=per_second,
    )


def _add(figures: Figures, cells: list[Any]) -> None:
    requests, failed, refused, closed, prompt, output, cost, unpriced, ttfb, under_way = cells
    figures.requests += int(requests)
    figures.failed += int(failed)
    figures.refused += int(refused)
    figures.client_closed += int(closed)
    figures.prompt_tokens += int(prompt)
    figures.output_tokens += int(output)
    figures.cost_usd += Decimal(cost)
    figures.unpriced_requests += int(unpriced)
    figures.under_way += int(under_way)
    if ttfb is not None:
        figures.ttfb_ms_median = int(ttfb)


def _busiest_first(found: dict[str | None, Figures]) -> list[Figures]:
    return sorted(
        found.values(), key=lambda each: (-each.under_way - each.requests, each.name or "")
    )


def _latest(row: list[Any]) -> Latest:
    ended, request_id, key, model, status, http, problem, prompt, output, ms, cost = row
    return Latest(
        ended=ended,
        request_id=request_id,
        key=key,
        model=model,
        status=status,
        http_status=int(http),
        problem=problem,
        prompt_tokens=int(prompt),
        output_tokens=int(output),
        duration_ms=int(ms),
        cost_usd=None if cost is None else Decimal(cost),
    )
