"""What was spent, from the rows of requests: the beginning of every budget's count."""

from collections.abc import Sequence

import duckdb

from schemas.money import picos_from_usd
from services.ledger.spends import SpendQuestion
from services.runtime.budget_sql import SPEND_OF_BUDGETS

__all__ = ["spends_since"]


def spends_since(
    connection: duckdb.DuckDBPyConnection,
    questions: Sequence[SpendQuestion],
    *,
    with_subscriptions: bool = True,
) -> list[int]:
    """Return what the requests of each question cost, exactly, in pico-dollars.

    `with_subscriptions` tells whether requests that a subscription paid count.
    """
    spends = [0] * len(questions)
    for scope, query in SPEND_OF_BUDGETS.items():
        asked = [n for n, question in enumerate(questions) if question.whose.scope == scope]
        if not asked:
            continue
        found = connection.execute(
            query,
            [
                asked,
                [questions[n].whose.scope_id for n in asked],
                [questions[n].since_us for n in asked],
                [questions[n].model for n in asked],
                min(questions[n].since_us for n in asked),
                with_subscriptions,
            ],
        ).fetchall()
        for position, spent_usd in found:
            spends[position] = picos_from_usd(spent_usd)
    return spends
