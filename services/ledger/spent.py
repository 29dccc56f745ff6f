"""What was spent, from the rows of requests: the beginning of every budget's count."""

from collections.abc import Sequence

import duckdb

from schemas.money import picos_from_usd
from services.ledger.spends import SpendQuestion

__all__ = ["spends_since"]

_COLUMNS = {"key": "r.key_id", "user": "r.user_id", "team": "r.team_id", "global": "'all'"}

# The bound on all of them lets DuckDB pass over row groups of earlier days.
_QUERY = """
SELECT q.position, sum(r.cost_usd)::DECIMAL(38, 12)
FROM (
    SELECT unnest($1::BIGINT[]) AS position, unnest($2::VARCHAR[]) AS id,
           unnest($3::BIGINT[]) AS since_us, unnest($4::VARCHAR[]) AS model
) q
JOIN requests r ON {column} = q.id
WHERE r.started_at >= make_timestamp($5::BIGINT) AND r.cost_usd > 0
  AND r.started_at >= make_timestamp(q.since_us)
  AND (q.model IS NULL OR r.model_name = q.model
       OR (contains(q.model, '*')
           AND length(r.model_name) >= length(q.model) - 1
           AND starts_with(r.model_name, split_part(q.model, '*', 1))
           AND ends_with(r.model_name, array_to_string(split(q.model, '*')[2:], '*'))))
GROUP BY q.position
"""


def spends_since(
    connection: duckdb.DuckDBPyConnection, questions: Sequence[SpendQuestion]
) -> list[int]:
    """Return what the requests of each question cost, exactly, in pico-dollars."""
    spends = [0] * len(questions)
    for scope, column in _COLUMNS.items():
        asked = [n for n, question in enumerate(questions) if question.whose.scope == scope]
        if not asked:
            continue
        found = connection.execute(
            _QUERY.format(column=column),
            [
                asked,
                [questions[n].whose.scope_id for n in asked],
                [questions[n].since_us for n in asked],
                [questions[n].model for n in asked],
                min(questions[n].since_us for n in asked),
            ],
        ).fetchall()
        for position, spent_usd in found:
            spends[position] = picos_from_usd(spent_usd)
    return spends
