"""Queries to start from on the page SQL: what people ask a ledger first."""

__all__ = ["EXAMPLES"]

EXAMPLES: tuple[tuple[str, str], ...] = (
    (
        "Spend by day and model",
        """\
SELECT day, model, sum(cost_usd) AS cost_usd
FROM spend_by_day
WHERE day >= current_date - 30
GROUP BY ALL ORDER BY day""",
    ),
    (
        "Who spent most this month",
        """\
SELECT coalesce(user_id, key_alias) AS who,
       sum(cost_usd) AS cost_usd, sum(requests)::BIGINT AS requests
FROM spend_by_day
WHERE day >= date_trunc('month', current_date)
GROUP BY ALL ORDER BY cost_usd DESC NULLS LAST LIMIT 20""",
    ),
    (
        "Paid by the API, covered by seats",
        """\
SELECT day, sum(paid_usd) AS paid_usd, sum(api_equivalent_usd) AS seats_usd
FROM spend_by_day
WHERE day >= current_date - 30
GROUP BY ALL ORDER BY day""",
    ),
    (
        "Share of the prompt cache by user",
        """\
SELECT user_id,
       round(100 * sum(cache_read_tokens) / sum(prompt_tokens), 1) AS cached_percent,
       sum(prompt_tokens)::BIGINT AS prompt_tokens
FROM spend_by_day
WHERE day >= current_date - 30 AND user_id IS NOT NULL
GROUP BY ALL HAVING sum(prompt_tokens) > 0
ORDER BY cached_percent DESC""",
    ),
    (
        "The dearest requests of the week",
        """\
SELECT request_id, started_at, key_alias, model, prompt_tokens, output_tokens, cost_usd
FROM requests
WHERE started_at >= now()::TIMESTAMP - INTERVAL 7 DAY
ORDER BY cost_usd DESC NULLS LAST LIMIT 20""",
    ),
    (
        "Requests by hour of today",
        """\
SELECT date_trunc('hour', started_at) AS hour, count(*) AS requests
FROM requests
WHERE started_at >= current_date
GROUP BY ALL ORDER BY hour""",
    ),
    (
        "Errors and refusals by reason",
        """\
SELECT coalesce(error_type, status) AS kind, http_status, count(*) AS requests,
       max(started_at) AS last_at
FROM requests
WHERE status <> 'success' AND started_at >= now()::TIMESTAMP - INTERVAL 7 DAY
GROUP BY ALL ORDER BY requests DESC""",
    ),
    (
        "Time to the first byte by model",
        """\
SELECT model, count(*) AS requests,
       quantile_cont(ttfb_ms, 0.5)::BIGINT AS median_ms,
       quantile_cont(ttfb_ms, 0.95)::BIGINT AS p95_ms
FROM requests
WHERE status = 'success' AND started_at >= now()::TIMESTAMP - INTERVAL 1 DAY
GROUP BY ALL ORDER BY requests DESC""",
    ),
    (
        "Sub-agents and what they cost",
        """\
SELECT coalesce(purpose, 'unknown') AS purpose, sum(cost_usd) AS cost_usd,
       count(*) AS requests, count(DISTINCT session_id) AS sessions
FROM requests
WHERE started_at >= now()::TIMESTAMP - INTERVAL 7 DAY
GROUP BY ALL ORDER BY cost_usd DESC NULLS LAST""",
    ),
    (
        "What a model costs",
        """\
SELECT model, valid_from, above_prompt_tokens, input_usd_per_mtok, output_usd_per_mtok,
       cache_read_usd_per_mtok, cache_write_5m_usd_per_mtok, cache_write_1h_usd_per_mtok
FROM prices
ORDER BY model, valid_from, above_prompt_tokens""",
    ),
)
"""A title, and its query."""
