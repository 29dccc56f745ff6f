"""An analyst who is limited to a team sees nothing of another one, by whatever way."""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

from schemas.rpc import QueryReply
from services.ledger.query import QueryService
from services.ledger.team_scope import TeamScope
from tests.support.query_reader import request_row

OURS = "o'urs"
THEIRS = "theirs"
MARK = "zz_secret_zz"
"""Stands in every text of the other team's rows, and in no other."""
COUNTED = 777.125
"""What the other team's request cost; no sum of ours gives it."""
OPEN_TABLES = (
    "guardrail_events",
    "keys",
    "open_requests",
    "quota_observations",
    "requests",
    "spend_parts",
    "team_members",
    "teams",
)
OPEN_VIEWS = ("quota_now", "rejections", "sessions", "spend_by_billing_day", "spend_by_day")


def _filled(path: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(str(path))
    connection.execute(files("services.ledger.sql").joinpath("schema.sql").read_text())
    tables = connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
    for (table,) in tables:
        columns = connection.execute(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = $1", [table]
        ).fetchall()
        for team, text, cost in ((OURS, "our", "1.5"), (THEIRS, MARK, str(COUNTED))):
            cells: dict[str, Any] = {}
            for name, kind in columns:
                if kind == "VARCHAR":
                    cells[name] = team if name == "team_id" else text
                elif kind == "VARCHAR[]":
                    cells[name] = [text]
                elif kind.startswith("DECIMAL"):
                    cells[name] = cost
                elif kind in {"TIMESTAMP", "DATE"}:
                    cells[name] = "2026-11-20"
                elif kind == "BLOB":
                    cells[name] = text.encode()
                elif kind.startswith("MAP"):
                    cells[name] = {text: 1}
                else:
                    cells[name] = 1
            rows = [cells]
            if table == "requests":
                plain = {k: v for k, v in request_row().items() if not isinstance(v, str)}
                success = cells | plain | {"status": "success", "endpoint": "messages"}
                rows = [success, success | {"status": "refused"}]
            for row in rows:
                names, marks = ", ".join(row), ", ".join("?" for _ in row)
                connection.execute(
                    f"INSERT INTO {table} ({names}) VALUES ({marks})", [*row.values()]
                )
    return connection


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QueryService]:
    connection = _filled(tmp_path_factory.mktemp("books") / "books.duckdb")
    service = QueryService(connection, memory_bytes_max=512 * 1024 * 1024)
    yield service
    service.close()
    connection.close()


def ask(service: QueryService, text: str, team: str | None = OURS, **more: Any) -> QueryReply:
    request = {"query": text, "team_id": team, **more}
    return msgspec.json.decode(service.answer(msgspec.json.encode(request)), type=QueryReply)


def names_in(service: QueryService, kind: str) -> set[str]:
    """Return all names of the ledger's tables or views."""
    reply = ask(service, f"SELECT {kind}_name FROM duckdb_{kind}s() WHERE NOT internal", None)
    return {row[0] for row in reply.rows}


@pytest.mark.parametrize("name", OPEN_TABLES + OPEN_VIEWS)
def test_open_tables_hold_the_rows_of_the_team_and_no_others(
    service: QueryService, name: str
) -> None:
    # given rows of two teams in every table, when one is read by both teams and by everyone,
    ours = ask(service, f"SELECT * FROM {name}")
    theirs = ask(service, f"SELECT * FROM {name}", THEIRS)
    everyone = ask(service, f"SELECT * FROM {name}", None)
    # then each team has its own rows, and together they are all of them.
    assert ours.error is None, ours.error
    assert len(ours.rows) == len(theirs.rows) > 0
    assert len(ours.rows) + len(theirs.rows) == len(everyone.rows)
    assert MARK not in str(ours.rows)
    assert "our" not in str(theirs.rows).replace("hour", "")
    assert (ours.team_id, everyone.team_id) == (OURS, None)


def test_every_table_is_either_known_here_as_open_or_refused_by_name(
    service: QueryService,
) -> None:
    # given all tables and views, when a limited analyst reads them, then those that do not tell
    # whose a row is are refused by name, and nothing becomes open without its name in this test.
    refused = set()
    for name in names_in(service, "table") | names_in(service, "view"):
        reply = ask(service, f"SELECT * FROM {name}")
        if reply.error is not None:
            assert reply.error_kind == "refused"
            assert f'"{name}" is not open to this key' in reply.error
            refused.add(name)
    everything = names_in(service, "table") | names_in(service, "view")
    assert everything - refused == {*OPEN_TABLES, *OPEN_VIEWS}


ATTACKS = {
    "schema": "SELECT * FROM main.requests",
    "catalog": "SELECT * FROM books.main.requests",
    "catalog without schema": "SELECT * FROM books.requests",
    "quoted schema": 'SELECT * FROM "MAIN"."Requests"',
    "temporary catalog": "SELECT * FROM temp.main.requests",
    "subquery": "SELECT (SELECT string_agg(key_alias) FROM main.requests)",
    "bare subquery": "SELECT (SELECT string_agg(key_alias) FROM requests)",
    "correlated": "SELECT k.*, (SELECT max(r.key_alias) FROM requests r WHERE r.cost_usd > "
    "k.max_budget_usd) FROM keys k",
    "exists": "SELECT 'zz_secret_' || 'zz' WHERE EXISTS (FROM requests WHERE cost_usd > 700)",
    "cte of the same name": "WITH requests AS (SELECT * FROM requests) SELECT * FROM requests",
    "cte of another's name": "WITH prices AS (SELECT 1) SELECT * FROM prices",
    "cte hides in a schema": "WITH requests AS (SELECT * FROM main.requests) FROM requests",
    "materialized cte": "WITH a AS MATERIALIZED (SELECT * FROM requests) SELECT * FROM a "
    "WHERE key_alias <> 'our'",
    "recursive cte": "WITH RECURSIVE requests AS (SELECT key_alias, 1 AS n FROM requests UNION ALL "
    "SELECT key_alias, n + 1 FROM requests WHERE n < 3) SELECT * FROM requests",
    "unused cte": "WITH a AS (SELECT * FROM main.requests) SELECT 1",
    "lateral": "SELECT * FROM keys k, LATERAL (FROM requests r WHERE r.key_id != k.key_id)",
    "lateral schema": "SELECT * FROM keys k, LATERAL (SELECT * FROM main.requests) r",
    "union": "SELECT key_alias FROM requests UNION ALL SELECT key_alias FROM keys",
    "except": "SELECT key_alias FROM main.requests EXCEPT SELECT key_alias FROM requests",
    "intersect": "SELECT cost_usd FROM requests INTERSECT SELECT 777",
    "join": "SELECT * FROM requests a RIGHT JOIN keys b ON a.key_id <> b.key_id",
    "positional join": "SELECT * FROM requests POSITIONAL JOIN keys",
    "pivot": "PIVOT requests ON team_id IN ('theirs', 'our') USING max(key_alias)",
    "pivot schema": "PIVOT main.requests ON status IN ('refused') USING string_agg(key_alias)",
    "pivot from": "SELECT * FROM requests PIVOT (sum(cost_usd) FOR status IN ('refused'))",
    "unpivot": "UNPIVOT requests ON key_alias, user_id INTO NAME n VALUE v",
    "summarize": "SUMMARIZE requests",
    "summarize schema": "SUMMARIZE main.requests",
    "summarize hidden": "SUMMARIZE prices",
    "summarize select": "SUMMARIZE SELECT * FROM main.requests",
    "from summarize": "SELECT * FROM (SUMMARIZE requests)",
    "describe": "DESCRIBE requests",
    "describe schema": "DESCRIBE main.requests",
    "show tables": "SHOW TABLES",
    "show all tables": "SHOW ALL TABLES",
    "duckdb_tables": "SELECT estimated_size FROM duckdb_tables()",
    "duckdb_tables as a view": "SELECT estimated_size FROM duckdb_tables",
    "duckdb_views": "SELECT * FROM duckdb_views()",
    "duckdb_columns": "SELECT * FROM duckdb_columns()",
    "information_schema": "SELECT * FROM information_schema.tables",
    "columns of the schema": "SELECT * FROM information_schema.columns",
    "storage info": "SELECT * FROM pragma_storage_info('requests')",
    "table_info": "SELECT * FROM pragma_table_info('requests')",
    "statistics": "SELECT stats(key_alias) FROM requests",
    "query_table": "SELECT * FROM query_table('main.requests')",
    "query": "SELECT * FROM query('SELECT * FROM main.requests')",
    "row ids": "SELECT rowid, * FROM requests",
    "sample": "SELECT * FROM requests TABLESAMPLE 100 PERCENT",
    "samples of a schema": "SELECT * FROM main.requests TABLESAMPLE 100 PERCENT",
    "window": "SELECT max(key_alias) OVER () FROM requests",
    "view": "SELECT * FROM spend_by_day, sessions, rejections",
    "view of a schema": "SELECT * FROM main.sessions",
    "hidden view": "SELECT * FROM seat_value",
    "hidden table": "SELECT * FROM dead_letters",
    "alias": 'SELECT main.requests.key_alias FROM requests AS "main.requests"',
    "columns": "SELECT COLUMNS('.*') FROM requests",
    "values": "VALUES ((SELECT string_agg(key_alias) FROM main.requests))",
    "in": "SELECT 'zz_secret_zz' IN (SELECT key_alias FROM main.requests)",
    "order by": "SELECT 1 ORDER BY (SELECT max(key_alias) FROM main.requests)",
    "limit": "SELECT 1 LIMIT (SELECT count(*) FROM main.requests)",
    "breaks out of the literal": "SELECT * FROM requests WHERE team_id = 'o''urs' OR true",
    "at": "SELECT * FROM requests AT (VERSION => 1)",
    "macro in a schema": "SELECT main.requests(1)",
    "lambda": "SELECT list_transform([1], lambda x: (SELECT max(key_alias) FROM main.requests))",
    # Errors tell values, where a condition runs before the filter
    "cast": "SELECT * FROM requests WHERE CAST(endpoint AS INTEGER) = 1",
    "cast in a view": "SELECT * FROM rejections WHERE CAST(key_alias AS INTEGER) = 1",
    "cast after a guard": "SELECT * FROM requests WHERE key_alias <> 'our' AND "
    "CAST(key_alias AS INTEGER) = 1",
    "cast in a join": "SELECT * FROM requests r JOIN keys k ON CAST(r.key_alias AS INT) = "
    "CAST(k.key_alias AS INT) WHERE r.key_alias <> 'our' AND k.key_alias <> 'our'",
    "cast in an aggregate": "SELECT sum(key_alias::INT) FILTER (key_alias <> 'our') FROM requests",
    "date": "SELECT strptime(key_alias, '%Y') FROM requests WHERE key_alias <> 'our'",
    "division": "SELECT * FROM requests WHERE 1 // (cost_usd - 777)::INT = 5",
    "overflow": "SELECT (cost_usd * 10000)::TINYINT FROM requests WHERE cost_usd > 10",
    "json": "SELECT json_extract(facts, '$.a') FROM open_requests WHERE facts <> 'our'",
    "regular expression": "SELECT regexp_matches('a', key_alias || '(') FROM requests "
    "WHERE key_alias <> 'our'",
    "timestamp": "SELECT * FROM keys WHERE key_name::TIMESTAMP > now() AND key_name <> 'our'",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_limited_analyst_learns_nothing_of_another_team(service: QueryService, name: str) -> None:
    # given an attack, when an analyst of one team sends it, then neither rows nor an error hold
    # anything of the other team's: no text and no amount of it.
    reply = ask(service, ATTACKS[name])
    told = f"{reply.rows} {reply.error}"
    assert MARK not in told
    assert str(COUNTED) not in told
    assert reply.error_kind in (None, "refused", "invalid")


def test_most_attacks_are_understood_by_duckdb(service: QueryService) -> None:
    # given the attacks, when the master key sends them, then most are answered, and show the other
    # team's rows: what a limited analyst is refused is not a typing error.
    answered = [ask(service, text, None) for text in ATTACKS.values()]
    assert sum(MARK in str(reply.rows) for reply in answered) >= 25
    telling = [reply.error for reply in answered if reply.error and MARK in reply.error]
    assert len(telling) >= 5


def test_a_condition_never_runs_on_rows_of_another_team(service: QueryService) -> None:
    # given a condition that fails on the other team's row alone, when a limited analyst asks, then
    # there is no error, by which its value could be guessed bit by bit.
    columns = {"open_requests": "facts", "spend_by_day": "model", "teams": "team_alias"}
    columns["team_members"] = "user_id"
    for name in (*OPEN_TABLES, "spend_by_day", "quota_now"):
        column = columns.get(name, "key_alias")
        condition = f"CASE WHEN {column} = 'our' THEN 1 ELSE CAST({column} AS INTEGER) END = 1"
        ours = ask(service, f"SELECT count(*) FROM {name} WHERE {condition}")
        assert ours.error is None, name
        assert ours.rows[0][0] > 0, name
        everyone = ask(service, f"SELECT count(*) FROM {name} WHERE {condition}", None)
        assert everyone.error_kind == "invalid", name


def test_a_scope_leaves_nothing_behind(service: QueryService) -> None:
    # given queries of two teams and one of everyone, one after the other, when they are counted,
    # then each sees its own rows: no temporary view outlives its query.
    count = "SELECT count(*) FROM requests"
    for team, rows in ((OURS, 2), (None, 4), (THEIRS, 2), (None, 4), ("nobody", 0), ("", 0)):
        assert ask(service, count, team).rows == ((rows,),)
    left = "SELECT count(*) FROM duckdb_views() WHERE database_name = 'temp' AND NOT internal"
    assert ask(service, left, None).rows == ((0,),)


def test_no_condition_is_moved_below_the_wall(tmp_path: Path) -> None:
    # given a condition that DuckDB would give to the scan of a table, when a limited analyst asks
    # with it, then it stands above the view, so rows of other teams never come to it.
    connection = _filled(tmp_path / "books.duckdb")
    plans = {}
    for name in OPEN_TABLES:
        column = {"teams": "team_alias", "team_members": "user_id"}.get(name, "key_id")
        plans[name] = f"EXPLAIN SELECT 1 FROM {name} WHERE {column} <= 'pp'"
        (scanned,) = connection.execute(plans[name]).fetchall()
        assert "'PP'" in scanned[1].upper().partition("SCAN")[2], name
    TeamScope(OURS).open(connection, "books")
    for name, plan in plans.items():
        (walled,) = connection.execute(plan).fetchall()
        above, _, scan = walled[1].upper().partition("SCAN")
        assert "'PP'" in above, name
        assert "TEAM_ID" in scan, name
        assert "'PP'" not in scan, name
    connection.close()
