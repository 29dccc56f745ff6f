"""What an analyst sees whose key is limited to the rows of one team.

Each table that tells whose a row is gets a temporary view of its own name, which holds the team's
rows alone; the ledger's views are made again on top of those. A query names tables without a
schema then (that is checked in its tree), and DuckDB looks a name up among temporary things first.
The views live in the query's own connection and its transaction, which is rolled back.

A filter alone would be no wall: the optimiser may run a condition of the query before it, and an
error such as "could not convert 'ana'" would show a value of another team's row. So each view has
a LIMIT, larger than any table: no condition may be moved below one, by what LIMIT means.
"""

import re
from collections.abc import Iterator
from typing import Any

import duckdb
import msgspec

from services.ledger.sql_rules import SqlRefused

__all__ = ["TeamScope"]

_NO_LIMIT = 2**63 - 1
_VIEW_SQL = re.compile(r'CREATE VIEW "?(\w+)"? AS (.+?);?\s*', re.DOTALL)
_COLUMNS = """
SELECT t.table_name, bool_or(c.column_name = 'team_id'), bool_or(c.column_name = 'key_id')
FROM duckdb_tables() AS t JOIN duckdb_columns() AS c USING (table_oid, database_oid)
WHERE t.database_name = $1 AND t.schema_name = 'main' GROUP BY ALL
"""
_VIEWS = """
SELECT view_name, sql FROM duckdb_views()
WHERE database_name = $1 AND schema_name = 'main' AND NOT internal ORDER BY view_oid
"""
# Its row counts are those of whole tables.
_COUNTING = "duckdb_tables"


class TeamScope:
    """The tables and views of one team, made in a connection by `open`."""

    def __init__(self, team_id: str) -> None:
        self._team = "'" + team_id.replace("'", "''") + "'"
        self._open: set[str] = set()
        self._hidden: set[str] = set()

    def open(self, cursor: duckdb.DuckDBPyConnection, database: str) -> None:
        """Make the views, in the transaction that `cursor` has begun. Raises duckdb.Error."""
        main = f"{_quoted(database)}.main"
        for name, has_team, has_key in cursor.execute(_COLUMNS, [database]).fetchall():
            if has_team:
                owned = f"team_id = {self._team}"
            elif has_key:
                keys = f"SELECT key_id FROM {main}.keys WHERE team_id = {self._team}"  # noqa: S608 - quoted
                owned = f"key_id IN ({keys})"
            else:
                self._hidden.add(name.lower())
                continue
            table = f"{main}.{_quoted(name)}"
            rows = f"SELECT * FROM {table} WHERE {owned} LIMIT {_NO_LIMIT}"  # noqa: S608 - quoted
            self._make(cursor, name, rows)
        for name, text in cursor.execute(_VIEWS, [database]).fetchall():
            found = _VIEW_SQL.fullmatch(text)
            # A view is open where all that it reads is: else it would read whole tables.
            if found and _tables_of(cursor, found[2]) <= self._open:
                self._make(cursor, name, found[2])
            else:
                self._hidden.add(name.lower())

    def check(self, tree: dict[str, Any]) -> None:
        """Check the tree of a query that passed `check_tree`. Raises SqlRefused."""
        for node in _nodes(tree["statements"]):
            function = node.get("function")
            if isinstance(function, dict) and function["function_name"].lower() == _COUNTING:
                raise _refused_counting()
            if node.get("type") == "BASE_TABLE":
                self._check_table(node)

    def _check_table(self, node: dict[str, Any]) -> None:
        name = node["table_name"].lower()
        schema = node.get("schema_name", "").lower()
        if schema == "information_schema":
            return
        if schema or node.get("catalog_name"):
            raise SqlRefused(
                f'write "{name}" without a schema before it: this key sees the rows of its team '
                "alone, and reads them by the table's bare name"
            )
        if name == _COUNTING:
            raise _refused_counting()
        if name in self._hidden:
            raise SqlRefused(
                f'the table "{name}" is not open to this key, which sees the rows of its team '
                f"alone: it does not tell whose its rows are. Open are "
                f"{', '.join(sorted(self._open))}"
            )

    def _make(self, cursor: duckdb.DuckDBPyConnection, name: str, select: str) -> None:
        cursor.execute(f"CREATE TEMP VIEW {_quoted(name)} AS {select}")
        self._open.add(name.lower())


def _refused_counting() -> SqlRefused:
    return SqlRefused(
        f"{_COUNTING} is not open to a key that sees the rows of its team alone: it counts those "
        "of all. SHOW TABLES and duckdb_columns() tell what there is"
    )


def _tables_of(cursor: duckdb.DuckDBPyConnection, select: str) -> set[str]:
    """Return the names that a view of the ledger's schema reads, but for its WITH queries'."""
    row = cursor.execute("SELECT json_serialize_sql($1)", [select]).fetchone()
    assert row is not None
    tree = msgspec.json.decode(row[0])
    if tree["error"]:
        return {""}
    tables: set[str] = set()
    common: set[str] = set()
    for node in _nodes(tree["statements"]):
        if node.get("type") == "BASE_TABLE":
            tables.add(node["table_name"].lower())
        if "cte_map" in node:
            common.update(entry["key"].lower() for entry in node["cte_map"]["map"])
    return tables - common


def _nodes(root: Any) -> Iterator[dict[str, Any]]:
    """Yield every object in a JSON value; constants of SQL hold nothing that is asked for."""
    stack = [root]
    while stack:
        value = stack.pop()
        if isinstance(value, list):
            stack.extend(value)
        elif isinstance(value, dict) and value.get("class") != "CONSTANT":
            yield value
            stack.extend(value.values())


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
