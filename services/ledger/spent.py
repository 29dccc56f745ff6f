"""What was spent, from the rows of requests: the beginning of every budget's count."""

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from schemas.money import picos_from_usd
from services.ledger.spends import SpendQuestion
from services.runtime.budget_sql import ASKED_TABLE, SPEND_OF_ASKED_BUDGETS

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
    for scope, query in SPEND_OF_ASKED_BUDGETS.items():
        asked = [n for n, question in enumerate(questions) if question.whose.scope == scope]
        if not asked:
            continue
        some = [questions[n] for n in asked]
        # Lists as parameters would take longer than the query itself.
        table = pa.table(
            {
                "position": pa.array(asked, pa.int64()),
                "id": pa.array([each.whose.scope_id for each in some], pa.string()),
                "since_us": pa.array([each.since_us for each in some], pa.int64()),
                "model": pa.array([each.model for each in some], pa.string()),
            }
        )
        connection.register(ASKED_TABLE, table)
        try:
            earliest_us = min(each.since_us for each in some)
            found = connection.execute(query, [earliest_us, with_subscriptions]).fetchall()
        finally:
            connection.unregister(ASKED_TABLE)
        for position, spent_usd in found:
            spends[position] = picos_from_usd(spent_usd)
    return spends
