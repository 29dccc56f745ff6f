"""Which texts may run as a query: the attack corpus, and the questions that must pass."""

import string

import duckdb
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ledger import sql_functions
from services.ledger.sql_rules import SqlInvalid, SqlRefused, check_sql, check_tree
from tests.support.sql_corpus import ALLOWED, INVALID, REFUSED

TABLES = ("requests", "keys", "spend_by_day")


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(":memory:")


@pytest.mark.parametrize("name", REFUSED)
def test_harmful_text_is_refused(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    # given a statement of the attack corpus, when it is checked, then the rules refuse it with a
    # message that says why; DuckDB's parser may be the one that stops it.
    with pytest.raises((SqlRefused, SqlInvalid)) as caught:
        check_sql(connection, REFUSED[name], TABLES, "memory")
    assert len(str(caught.value)) > 20


def test_attack_corpus_is_stopped_by_the_rules_themselves(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    # given the corpus, when each is checked, then at most a few are stopped by the parser alone:
    # a corpus of typing errors would prove nothing.
    by_parser = []
    for name, text in REFUSED.items():
        try:
            check_sql(connection, text, TABLES, "memory")
        except SqlInvalid:
            by_parser.append(name)
        except SqlRefused:
            pass
    assert by_parser == []


@pytest.mark.parametrize("name", INVALID)
def test_text_that_duckdb_cannot_read_is_invalid(
    connection: duckdb.DuckDBPyConnection, name: str
) -> None:
    # given a text that is no SQL, when it is checked, then DuckDB's own message says so
    with pytest.raises(SqlInvalid, match="Error"):
        check_sql(connection, INVALID[name], TABLES, "memory")


@pytest.mark.parametrize("name", ALLOWED)
def test_useful_question_is_allowed(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    # given a question that analysts ask, when it is checked, then it may run
    statement = check_sql(connection, ALLOWED[name], TABLES, "memory")
    assert statement.type == duckdb.StatementType.SELECT


def test_listed_functions_exist_and_none_of_them_is_another_kind(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    # given DuckDB's own list, when ours is compared, then every name of ours is a function there
    rows = connection.execute("SELECT function_name, function_type FROM duckdb_functions()")
    kinds: dict[str, set[str]] = {}
    for name, kind in rows.fetchall():
        kinds.setdefault(name.lower(), set()).add(kind)
    assert not {name for name in sql_functions.FUNCTIONS if name not in kinds}
    assert not {name for name in sql_functions.TABLE_FUNCTIONS if "table" not in kinds[name]}
    harmless = {"scalar", "aggregate", "macro", "table", "table_macro", "window"}
    assert all(kinds[name] <= harmless for name in sql_functions.FUNCTIONS)


@pytest.mark.parametrize(
    "word",
    ["read_", "write_", "scan", "glob", "setting", "secret", "sleep", "pragma", "extension",
     "attach", "query", "serialize", "logging", "checkpoint", "variable", "seed", "nextval",
     "inet_", "env"],
)  # fmt: skip
def test_no_listed_function_sounds_harmful(word: str) -> None:
    # given words that stand for harm, when the lists are searched, then no name holds one
    listed = sql_functions.FUNCTIONS | sql_functions.TABLE_FUNCTIONS
    assert not [name for name in listed if word in name]


def test_unknown_kinds_of_nodes_are_refused() -> None:
    # given trees with an expression, a table or a table name that a later DuckDB might bring,
    # when they are checked, then they are refused, wherever they stand
    def select(**parts: object) -> dict[str, object]:
        return {"statements": [{"node": {"type": "SELECT_NODE", **parts}}]}

    for parts in (
        {"select_list": [{"class": "TELEPORT", "type": "X"}]},
        {"from_table": {"type": "REMOTE_TABLE"}},
        {"from_table": {"type": "JOIN", "left": {"type": "JOIN", "table_name": "x"}}},
        {"modifiers": [{"type": "INTO_FILE_MODIFIER"}]},
    ):
        with pytest.raises(SqlRefused):
            check_tree(select(**parts), TABLES, "memory")


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=string.printable + "é😀\0", max_size=200))
def test_any_text_is_judged_without_another_error(text: str) -> None:
    # given any text, when it is checked, then it is allowed, refused or invalid, nothing else
    connection = duckdb.connect(":memory:")
    try:
        check_sql(connection, text, TABLES, "memory")
    except (SqlRefused, SqlInvalid):
        pass
    finally:
        connection.close()


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(sorted(set(ALLOWED) - {"long IN list"})),
    st.sampled_from(["read_text", "duckdb_settings", "query", "getvariable", "sleep_ms"]),
)
def test_forbidden_function_is_found_in_any_place(name: str, function: str) -> None:
    # given the tree of an allowed question, when any of its functions is another, forbidden one,
    # then the question is refused
    connection = duckdb.connect(":memory:")
    text = connection.execute(
        "SELECT json_serialize_sql($1, skip_null := true, skip_empty := true)", [ALLOWED[name]]
    ).fetchone()
    connection.close()
    assert text is not None
    tree = msgspec.json.decode(text[0])
    check_tree(tree, TABLES, "memory")
    for node in _functions(tree):
        kept = node["function_name"]
        node["function_name"] = function
        with pytest.raises(SqlRefused, match=function):
            check_tree(tree, TABLES, "memory")
        node["function_name"] = kept


def _functions(value: object) -> list[dict[str, str]]:
    if isinstance(value, dict):
        own = [value] if value.get("function_name") else []
        return own + [node for child in value.values() for node in _functions(child)]
    if isinstance(value, list):
        return [node for child in value for node in _functions(child)]
    return []
