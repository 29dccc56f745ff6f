"""What was spent of budgets, in SQL: for the books, where a count begins, and for who shows it."""

__all__ = ["SPEND_OF_BUDGETS"]

_MATCHES = """
       ({name} = q.model
        OR (contains(q.model, '*')
            AND length({name}) >= length(q.model) - 1
            AND starts_with({name}, split_part(q.model, '*', 1))
            AND ends_with({name}, substr(q.model, length(split_part(q.model, '*', 1)) + 2))))"""
_QUERY = """
SELECT q.position, sum(r.cost_usd)::DECIMAL(38, 12) AS spent_usd
FROM (
    SELECT unnest($1::BIGINT[]) AS position, unnest($2::VARCHAR[]) AS id,
           unnest($3::BIGINT[]) AS since_us, unnest($4::VARCHAR[]) AS model
) AS q
JOIN requests AS r ON {owner} = q.id
WHERE r.started_at >= make_timestamp($5::BIGINT) AND r.cost_usd > 0
  AND ($6::BOOLEAN OR r.billing <> 'subscription')
  AND r.started_at >= make_timestamp(q.since_us)
  AND (q.model IS NULL OR {named}
       OR {aliased})
GROUP BY q.position
"""
# The bound on all of them ($5) lets DuckDB pass over row groups of earlier days.
_OWNERS = {"key": "r.key_id", "user": "r.user_id", "team": "r.team_id", "global": "'all'"}
# The rule of services.ledger.spends.counted_model; an empty text is no name.
_NAME = "coalesce(nullif(r.model_name, ''), nullif(r.model, ''), r.response_model)"

SPEND_OF_BUDGETS = {
    scope: _QUERY.format(
        owner=owner,
        named=_MATCHES.format(name=_NAME),
        aliased=_MATCHES.format(name="r.alias_of"),
    )
    for scope, owner in _OWNERS.items()
}
"""By scope. For each question, at the same place of four lists: $1 its number, $2 the owner's id,
$3 the beginning of the window in microseconds, $4 a model name, a pattern with one `*`, or NULL.
$5 is the earliest of $3, $6 tells whether requests that a subscription paid count. The answer has a
row for each question of which anything was spent."""
