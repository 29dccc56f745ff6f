"""Decides whether a text is one harmless SELECT over the ledger's tables.

DuckDB has no wall between a query and its host, and a SELECT can do a great deal: read files,
run other SQL, stop a server. So a text runs only where all of it is known to be harmless:

1. it is one statement, a SELECT, that DuckDB itself can write down as a tree
   (`json_serialize_sql` refuses everything else, and runs nothing);
2. each node of the tree is of a kind listed here, each function is on the list of
   `sql_functions`, each table is one of the ledger's (or one of the views that describe them);
3. the tree is neither so deep nor so large that planning it, which cannot be interrupted, would
   take long. DuckDB 1.5.5 needs 0.1 s for 100 operators inside one another and half a minute for
   900; it doubles its time with each level of nested lambdas or subqueries in expressions.
"""

import re
from collections.abc import Callable, Collection
from typing import Any

import duckdb
import msgspec

from schemas.errors import TallygateError
from schemas.rpc import QUERY_SQL_BYTES_MAX
from services.ledger.sql_functions import (
    FUNCTIONS,
    SIZE_ARGUMENTS,
    TABLE_FUNCTIONS,
    TEMPLATE_FUNCTIONS,
)

__all__ = [
    "NESTED_EXPRESSIONS_MAX",
    "SIZE_ARGUMENT_MAX",
    "TREE_DEPTH_MAX",
    "TREE_NODES_MAX",
    "SqlInvalid",
    "SqlRefused",
    "check_sql",
    "check_tree",
]

TREE_DEPTH_MAX = 120
"""Nodes inside one another, from the statement down."""
TREE_NODES_MAX = 5_000
"""Nodes of one statement; constants do not count, so a long IN list is no problem."""
NESTED_EXPRESSIONS_MAX = 10
"""Lambdas, JSON arrows and subqueries in expressions inside one another."""
SIZE_ARGUMENT_MAX = 1_000
"""The largest length that lpad, rpad and repeat may be asked for, and format's widest field."""

_DESCRIBING_VIEWS = frozenset(("duckdb_columns", "duckdb_tables", "duckdb_views"))
_INFORMATION_SCHEMA = frozenset(("columns", "schemata", "tables"))
_SHOWN = frozenset(('"tables"', "__show_tables_expanded"))

_EXPRESSION_NAMES = """
    BETWEEN CASE CAST COLLATE COLUMN_REF COMPARISON CONJUNCTION CONSTANT FUNCTION LAMBDA LAMBDA_REF
    OPERATOR PARAMETER POSITIONAL_REFERENCE STAR SUBQUERY TYPE WINDOW
"""
_EXPRESSIONS = frozenset(_EXPRESSION_NAMES.split())
_OTHER_NAMES = """
    SELECT_NODE SET_OPERATION_NODE RECURSIVE_CTE_NODE CTE_NODE
    BASE_TABLE EMPTY EXPRESSION_LIST JOIN PIVOT SHOW_REF SUBQUERY TABLE_FUNCTION
    DISTINCT_MODIFIER LIMIT_MODIFIER LIMIT_PERCENT_MODIFIER ORDER_MODIFIER
    ORDER_ASCENDING ORDER_DEFAULT ORDER_DESCENDING ASCENDING DESCENDING
"""
_OTHER_NODES = frozenset(_OTHER_NAMES.split())
_PIVOT = re.compile(r"\bpivot\b", re.IGNORECASE)
_WORD = re.compile(r"^\s*([A-Za-z]+)")
_WIDE_FIELD = re.compile(r"\d{4,}|\*|\{[^}]*\{")


class SqlRefused(TallygateError):
    """The text is not one harmless SELECT; the message says what is refused and what to do."""


class SqlInvalid(TallygateError):
    """DuckDB cannot read the text; the message is DuckDB's."""


def check_sql(
    connection: duckdb.DuckDBPyConnection,
    text: str,
    tables: Collection[str],
    database: str,
    further_check: Callable[[dict[str, Any]], None] | None = None,
) -> duckdb.Statement:
    """Return `text` as DuckDB's statement where it is one harmless SELECT.

    `tables` are the names that may be read in the schema main of `database`. `further_check` is
    called with the tree that passed. Raises SqlRefused, or SqlInvalid where DuckDB's parser fails.
    """
    if len(text.encode("utf-8", "replace")) > QUERY_SQL_BYTES_MAX:
        raise SqlRefused(
            f"the query is longer than {QUERY_SQL_BYTES_MAX} bytes (QUERY_SQL_BYTES_MAX): "
            "give long lists as parameters"
        )
    if "\0" in text:
        raise SqlRefused("the query holds a zero byte: DuckDB would read no further than to it")
    tree = _tree(connection, text)
    check_tree(tree, tables, database)
    if further_check is not None:
        further_check(tree)
    # Only now: for PRAGMA and IMPORT this call already runs SQL and reads files.
    statements = connection.extract_statements(text)
    assert len(statements) == 1
    assert statements[0].type == duckdb.StatementType.SELECT
    return statements[0]


def _tree(connection: duckdb.DuckDBPyConnection, text: str) -> dict[str, Any]:
    row = connection.execute(
        "SELECT json_serialize_sql($1, skip_null := true, skip_empty := true)", [text]
    ).fetchone()
    assert row is not None
    try:
        tree: dict[str, Any] = msgspec.json.decode(row[0])
    except RecursionError:
        raise _too_deep() from None
    if tree["error"]:
        if tree["error_type"] == "not implemented":
            raise _no_select(text)
        place = f" (at character {int(tree['position']) + 1})" if "position" in tree else ""
        raise SqlInvalid(f"Parser Error: {tree['error_message']}{place}")
    count = len(tree["statements"])
    if count == 0:
        raise SqlRefused("the query is empty: write one SELECT")
    if count > 1:
        raise SqlRefused(f"the query holds {count} statements: send them one by one")
    return tree


def _no_select(text: str) -> SqlRefused:
    if _PIVOT.search(text):
        return SqlRefused(
            "a PIVOT that finds its columns by itself would write: list them, "
            "as in PIVOT … ON model IN ('a', 'b') USING …"
        )
    word = _WORD.search(text)
    what = f"{word[1].upper()} is refused" if word else "the query is refused"
    if ";" in text:
        what = "the query is refused (it may hold several statements)"
    return SqlRefused(
        f"{what}: one SELECT is allowed here, nothing that changes data, settings or files"
    )


def check_tree(tree: dict[str, Any], tables: Collection[str], database: str) -> None:
    """Check the tree of `json_serialize_sql`; pure. Raises SqlRefused."""
    walk = _Walk({name.lower() for name in tables}, database.lower())
    for statement in tree["statements"]:
        walk.check(statement["node"])


class _Place:
    """Where a node stands: names of common table expressions in sight, and how deep it is."""

    __slots__ = ("depth", "names", "nested")

    def __init__(self, names: frozenset[str], depth: int = 0, nested: int = 0) -> None:
        self.names = names
        self.depth = depth
        self.nested = nested

    def below(self, *names: str, nested: bool = False) -> "_Place":
        """Return the place one node further down, with more names in sight."""
        more = self.names.union(names) if names else self.names
        place = _Place(more, self.depth + 1, self.nested + nested)
        if place.depth > TREE_DEPTH_MAX:
            raise _too_deep()
        if place.nested > NESTED_EXPRESSIONS_MAX:
            raise SqlRefused(
                f"lambdas, -> and subqueries in expressions are nested deeper than "
                f"{NESTED_EXPRESSIONS_MAX} (NESTED_EXPRESSIONS_MAX): use WITH or json_extract"
            )
        return place


def _too_deep() -> SqlRefused:
    return SqlRefused(
        f"the query is nested deeper than {TREE_DEPTH_MAX} levels (TREE_DEPTH_MAX): "
        "use WITH, lists, or several queries"
    )


class _Walk:
    """Walks one tree with a stack of its own, so that depth cannot exhaust Python's."""

    def __init__(self, tables: Collection[str], database: str) -> None:
        self._tables = tables
        self._database = database
        self._stack: list[tuple[Any, _Place]] = []
        self._nodes = 0

    def check(self, root: dict[str, Any]) -> None:
        """Check every node below and with `root`."""
        self._stack.append((root, _Place(frozenset())))
        while self._stack:
            value, place = self._stack.pop()
            if isinstance(value, list):
                self._stack.extend((item, place) for item in value)
            elif isinstance(value, dict) and value.get("class") != "CONSTANT":
                self._nodes += 1
                if self._nodes > TREE_NODES_MAX:
                    raise SqlRefused(
                        f"the query has more than {TREE_NODES_MAX} parts (TREE_NODES_MAX): "
                        "make it several queries, or give lists as parameters"
                    )
                self._node(value, place)

    def _node(self, node: dict[str, Any], place: _Place) -> None:
        kind = _kind(node)
        if kind == "TABLE_FUNCTION":
            _check_function(node["function"], TABLE_FUNCTIONS, "table function")
            self._below(node["function"], place.below())
            self._below({key: node[key] for key in node if key != "function"}, place)
            return
        if "function_name" in node:
            _check_function(node, FUNCTIONS, "function")
        if kind == "BASE_TABLE":
            self._check_table(node, place)
        elif kind == "SHOW_REF":
            _check_show(node)
        elif "table_name" in node:
            raise SqlRefused(f"tables inside {kind} are refused: read them in FROM")
        if "cte_map" in node:
            node, place = self._with(node, place)
        if kind == "RECURSIVE_CTE_NODE":
            place = _Place(place.names | {node["cte_name"].lower()}, place.depth, place.nested)
        nested = node.get("class") in ("LAMBDA", "SUBQUERY")
        self._below(node, place.below(nested=nested))

    def _below(self, node: dict[str, Any], place: _Place) -> None:
        self._stack.extend((value, place) for value in node.values())

    def _with(self, node: dict[str, Any], place: _Place) -> tuple[dict[str, Any], _Place]:
        """Put the node's WITH queries on the stack; each sees the ones before it."""
        for entry in node["cte_map"].get("map", ()):
            self._stack.append((entry["value"], place.below()))
            place = _Place(place.names | {entry["key"].lower()}, place.depth, place.nested)
        return {key: node[key] for key in node if key != "cte_map"}, place

    def _check_table(self, node: dict[str, Any], place: _Place) -> None:
        name = node["table_name"].lower()
        schema = node.get("schema_name", "").lower()
        catalog = node.get("catalog_name", "").lower()
        if "at_clause" in node:
            raise SqlRefused("AT (…) is refused: the ledger keeps no older versions of a table")
        own = catalog in ("", self._database)
        if own and schema in ("", "main") and name in self._tables:
            return
        if not catalog and schema == self._database and name in self._tables:
            return
        if own and schema == "information_schema" and name in _INFORMATION_SCHEMA:
            return
        if not catalog and not schema and (name in place.names or name in _DESCRIBING_VIEWS):
            return
        full = ".".join(part for part in (catalog, schema, name) if part)
        raise SqlRefused(
            f'the table "{full}" is not one of the ledger\'s: SHOW TABLES lists them '
            "(files, addresses and other databases cannot be read here)"
        )


def _kind(node: dict[str, Any]) -> str:
    """Return what kind of node this is; raises SqlRefused for a kind that is not listed."""
    expression = node.get("class")
    if isinstance(expression, str):
        if expression not in _EXPRESSIONS:
            raise SqlRefused(f"an expression of kind {expression} is refused")
        return f"{expression} expression"
    kind = node.get("type")
    if isinstance(kind, str):
        if kind not in _OTHER_NODES and not kind.endswith("_TYPE_INFO"):
            raise SqlRefused(f"a part of kind {kind} is refused")
        return kind
    return ""


def _check_function(node: dict[str, Any], allowed: Collection[str], what: str) -> None:
    name = node["function_name"].lower()
    if name not in allowed:
        raise SqlRefused(
            f"the {what} {name} is refused: it is not on the list of harmless ones"
            + (
                " that may stand in FROM"
                if name in FUNCTIONS
                else "; in FROM it is allowed"
                if name in TABLE_FUNCTIONS and allowed is FUNCTIONS
                else ""
            )
        )
    arguments = node.get("children", [])
    if "arguments" in node:
        # DuckDB 2 names each of them.
        arguments = [each["expression"] for each in node["arguments"]]
    if name in SIZE_ARGUMENTS:
        size = _literal(node, arguments, SIZE_ARGUMENTS[name])
        if not isinstance(size, int) or size > SIZE_ARGUMENT_MAX:
            raise SqlRefused(
                f"{name} needs a length written as a number of at most {SIZE_ARGUMENT_MAX} "
                f"(SIZE_ARGUMENT_MAX): larger ones would fill the memory"
            )
    if name in TEMPLATE_FUNCTIONS:
        template = _literal(node, arguments, 0)
        if not isinstance(template, str) or _WIDE_FIELD.search(template):
            raise SqlRefused(
                f"{name} needs its template written as a text, with widths below "
                f"{SIZE_ARGUMENT_MAX}: larger ones would fill the memory"
            )


def _literal(node: dict[str, Any], arguments: list[Any], index: int) -> object:
    """Return the value of an argument that is a constant, else None.

    In the form `column.function(…)`, which reads as a schema here, arguments stand elsewhere.
    """
    if node.get("schema", "") not in ("", "main") or index >= len(arguments):
        return None
    argument = arguments[index]
    if argument.get("class") != "CONSTANT":
        return None
    if "literal" in argument:
        # DuckDB 2 keeps a number as it was written.
        text: str = argument["literal"].get("text", "")
        kind = argument["literal"].get("kind")
        return text if kind == "STRING" else int(text) if text.isdecimal() else None
    value: object = argument["value"].get("value")
    return value


def _check_show(node: dict[str, Any]) -> None:
    if "query" in node or node.get("table_name") in _SHOWN:
        return
    raise SqlRefused("of SHOW, only SHOW TABLES and SHOW ALL TABLES are allowed")
