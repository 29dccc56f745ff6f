"""The rollups: sums of the facts by day, kept in the transaction of the rows that they sum.

A rollup is a table of parts. Whoever puts rows into `requests`, takes some away or changes some
has them counted in, or out, by `count` in the same transaction: parts are only added, those of
rows that are taken away with their sums negated. So no part is ever looked for, and any change of
the facts is the same two steps: the old rows out, the new ones in. What all parts of a group add
up to is what the views (spend_by_day, ttfb_by_day) tell.

Many parts of one group are merged to one now and then, day by day. No sum changes by that.

`differing` adds up the facts again and compares: `tallygate verify` asks it.
"""

import logging
from collections.abc import Sequence
from datetime import date
from typing import Any, Literal

import duckdb
import msgspec

from services.ledger.rows import COST_COLUMNS

__all__ = ["PARTS_UNMERGED_MAX", "ROLLUPS", "Rollup", "Rollups", "count", "differing"]

log = logging.getLogger(__name__)

PARTS_UNMERGED_MAX = 20_000
"""At most about so many parts of one rollup wait for being merged: what they cost a query."""

_COUNTED = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "web_search_requests",
)
# A time within its first five binary digits: whole numbers, so the same on every machine.
_TTFB_SHIFT = "greatest(0, length(bin(ttfb_ms)) - 5)::BIGINT"


class Rollup(msgspec.Struct, frozen=True, kw_only=True):
    """One rollup: its table, what it groups by and what it sums, as SQL over rows of `requests`.

    Every sum is of whole numbers or of decimals, hence exact; it is that of no rows where it is 0.
    """

    table: str
    groups: dict[str, str]
    sums: dict[str, str]
    where: str = "true"

    def select(self, relation: str, where: str, sign: int) -> str:
        """Return the SELECT of the parts that some rows make, `sign` times each sum."""
        groups = ", ".join(f"{sql} AS {name}" for name, sql in self.groups.items())
        sums = ", ".join(f"{sign} * {sql} AS {name}" for name, sql in self.sums.items())
        return (
            f"SELECT {groups}, {sums} FROM {relation} WHERE ({where}) AND {self.where} GROUP BY ALL"  # noqa: S608
        )


ROLLUPS = (
    Rollup(
        table="spend_parts",
        groups={
            "day": "started_at::DATE",
            **{
                name: name
                for name in (
                    "key_id",
                    "key_alias",
                    "user_id",
                    "team_id",
                    "model_name",
                    "model",
                    "endpoint",
                    "billing",
                    "status",
                )
            },
        },
        sums={
            "requests": "count(*)",
            # What one part holds of them is far from the largest number, even if all is merged.
            **{name: f"sum({name})::BIGINT" for name in _COUNTED},
            "duration_ms": "sum(duration_ms)::HUGEINT",
            **{name: f"coalesce(sum({name}), 0)::DECIMAL(38, 12)" for name in COST_COLUMNS},
            "unpriced_requests": "count(*) FILTER (unpriced)",
            "estimated_requests": "count(*) FILTER (estimated)",
        },
    ),
    Rollup(
        table="ttfb_parts",
        groups={
            "day": "started_at::DATE",
            "model": "model",
            "stream": "stream",
            "ttfb_from_ms": f"(ttfb_ms >> {_TTFB_SHIFT}) << {_TTFB_SHIFT}",
            "ttfb_below_ms": f"((ttfb_ms >> {_TTFB_SHIFT}) + 1) << {_TTFB_SHIFT}",
        },
        sums={"requests": "count(*)"},
        where="ttfb_ms IS NOT NULL AND status = 'success'",
    ),
)


def count(
    connection: duckdb.DuckDBPyConnection,
    direction: Literal["in", "out"],
    relation: str = "requests",
    where: str = "true",
    parameters: Sequence[Any] = (),
) -> None:
    """Count rows in, or out, in every rollup: in the transaction that stores or removes them.

    `relation` has the columns of `requests`, `where` (with `parameters`) chooses among its rows.
    To change rows: out, change them, in. Rows that leave are counted out while they are there.
    """
    sign = 1 if direction == "in" else -1
    for rollup in ROLLUPS:
        names = ", ".join((*rollup.groups, *rollup.sums))
        connection.execute(
            f"INSERT INTO {rollup.table} ({names}, merged) "  # noqa: S608
            f"SELECT *, false FROM ({rollup.select(relation, where, sign)})",
            list(parameters),
        )


def differing(connection: duckdb.DuckDBPyConnection, rollup: Rollup) -> int:
    """Return how many groups of a rollup do not add up to what their facts do."""
    groups = ", ".join(rollup.groups)
    names = ", ".join((*rollup.groups, *rollup.sums))
    sums = ", ".join(f"sum({name}) AS {name}" for name in rollup.sums)
    wrong = " OR ".join(f"{name} <> 0" for name in rollup.sums)
    found = connection.execute(
        f"SELECT count(*) FROM (SELECT {groups}, {sums} FROM ("  # noqa: S608
        f"{rollup.select('requests', 'true', -1)} UNION ALL SELECT {names} FROM {rollup.table}) "
        f"GROUP BY {groups}) WHERE {wrong}"
    ).fetchall()
    return int(found[0][0])


class Rollups:
    """Keeps the parts few: merges them where many have come together."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def merge(self) -> None:
        """Merge what is not merged yet, where that is much; in a transaction of the caller's."""
        for rollup in ROLLUPS:
            found = self._connection.execute(
                f"SELECT day, count(*) FROM {rollup.table} WHERE NOT merged GROUP BY day"  # noqa: S608
            ).fetchall()
            if sum(parts for _, parts in found) > PARTS_UNMERGED_MAX:
                self._merge_days(rollup, [day for day, _ in found])

    def _merge_days(self, rollup: Rollup, days: list[date]) -> None:
        """Have one part for each group of some days, and none where all its rows have left."""
        groups = ", ".join(rollup.groups)
        sums = ", ".join(f"sum({name}) AS {name}" for name in rollup.sums)
        names = ", ".join((*rollup.groups, *rollup.sums))
        of_days = "WHERE day IN (SELECT unnest(?::DATE[]))"
        execute = self._connection.execute
        execute(
            f"CREATE OR REPLACE TEMP TABLE merged_parts AS SELECT {groups}, {sums} "  # noqa: S608
            f"FROM {rollup.table} {of_days} GROUP BY {groups} HAVING sum(requests) <> 0",
            [days],
        )
        execute(f"DELETE FROM {rollup.table} {of_days}", [days])  # noqa: S608
        execute(
            f"INSERT INTO {rollup.table} ({names}, merged) SELECT {names}, true FROM merged_parts"  # noqa: S608
        )
        execute("DROP TABLE merged_parts")
