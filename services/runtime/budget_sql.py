"""What was spent of budgets, in SQL: for the books, where a count begins, and for who shows it."""

__all__ = ["ASKED_TABLE", "OWNERS", "SPEND_OF_ASKED_BUDGETS", "SPEND_OF_BUDGETS"]

_MATCHES = """
       ({name} = q.model
        OR (contains(q.model, '*')
            AND length({name}) >= length(q.model) - 1
            AND starts_with({name}, split_part(q.model, '*', 1))
            AND ends_with({name}, substr(q.model, length(split_part(q.model, '*', 1)) + 2))))"""
_QUERY = """
SELECT q.position, sum(r.cost_usd)::DECIMAL(38, 12) AS spent_usd
FROM {asked} AS q
JOIN requests AS r ON {owner} = q.id
WHERE r.started_at >= make_timestamp({earliest}::BIGINT) AND r.cost_usd > 0
  AND ({with_subscriptions}::BOOLEAN OR r.billing <> 'subscription')
  AND r.started_at >= make_timestamp(q.since_us)
  AND (q.model IS NULL OR {named}
       OR {aliased})
GROUP BY q.position
"""
# The bound on all of them (earliest) lets DuckDB pass over row groups of earlier days.
OWNERS = {
    "key": "r.key_id",
    "user": "r.user_id",
    "team": "r.team_id",
    # The rule of services.runtime.budget_limits.member_id; NULL where there is no user or team.
    "member": "(replace(replace(r.team_id, '%', '%25'), '/', '%2F') || '/' || r.user_id)",
    "global": "'all'",
}
"""Whose a request is, by the scope of a budget: SQL of a row `r` of requests or spend_parts."""
# The rule of services.ledger.spends.counted_model; an empty text is no name.
_NAME = "coalesce(nullif(r.model_name, ''), nullif(r.model, ''), r.response_model)"

_LISTS = """(
    SELECT unnest($1::BIGINT[]) AS position, unnest($2::VARCHAR[]) AS id,
           unnest($3::BIGINT[]) AS since_us, unnest($4::VARCHAR[]) AS model
)"""


def _queries(asked: str, earliest: str, with_subscriptions: str) -> dict[str, str]:
    return {
        scope: _QUERY.format(
            asked=asked,
            earliest=earliest,
            with_subscriptions=with_subscriptions,
            owner=owner,
            named=_MATCHES.format(name=_NAME),
            aliased=_MATCHES.format(name="r.alias_of"),
        )
        for scope, owner in OWNERS.items()
    }


SPEND_OF_BUDGETS = _queries(_LISTS, "$5", "$6")
"""By scope. For each question, at the same place of four lists: $1 its number, $2 the owner's id,
$3 the beginning of the window in microseconds, $4 a model name, a pattern with one `*`, or NULL.
$5 is the earliest of $3, $6 tells whether requests that a subscription paid count. The answer has a
row for each question of which anything was spent."""

ASKED_TABLE = "asked_budgets"
SPEND_OF_ASKED_BUDGETS = _queries(ASKED_TABLE, "$1", "$2")
"""The same where the questions are the rows of a table of that name, with the columns position, id,
since_us and model: for the thousands that are asked at a start."""
