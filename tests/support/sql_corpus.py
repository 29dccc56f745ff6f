"""SQL texts: attacks that the query service must refuse, and questions that it must answer.

They speak of the tables `requests` and `keys`. Each has a name that says what it tries. All doors
into the ledger run through them: the rules, the query service, Quack, `POST /ledger/sql` and
`tallygate sql`.
"""

import re
from pathlib import Path
from typing import Any

import duckdb

__all__ = ["ALLOWED", "INVALID", "REFUSED", "harm_state", "names_what_is_wrong"]

_THINGS = re.compile(
    r"^(?P<statement>[A-Z]+) is refused: one SELECT|function (?P<function>\S+) is refused"
    r'|the table "(?P<table>.+)" is not one of the ledger'
    r"|^(?P<size>\w+) needs (?:a length|its template)"
    r"|^of (?P<show>SHOW), only|^a (?P<pivot>PIVOT) that|^(?P<travel>AT) \("
)
_REASONS = re.compile(
    r"\([A-Z_]+_MAX\)|holds \d+ statements|several statements|zero byte|query is empty"
    r"|^query: Expected|near \"|A CTE needs a SELECT|kind DELETE"
)


def names_what_is_wrong(text: str, message: str) -> bool:
    """Tell whether a refusal names what in the text it is about, or the limit that is passed."""
    thing = _THINGS.search(message)
    if thing is None:
        return _REASONS.search(message) is not None
    named = str(next(filter(None, thing.groups()))).lower()
    return all(part in text.lower() for part in named.split("."))


def harm_state(connection: duckdb.DuckDBPyConnection, folder: Path) -> list[Any]:
    """Return all that an attack might change: rows, what there is, settings, files."""
    cursor = connection.cursor()
    names = cursor.execute(
        "SELECT table_name FROM duckdb_tables() WHERE NOT internal ORDER BY ALL"
    ).fetchall()
    state: list[Any] = [
        cursor.execute(
            f"SELECT '{name}', count(*), bit_xor(hash(t)), sum(hash(t)) FROM \"{name}\" AS t"
        ).fetchall()
        for (name,) in names
    ]
    state += [
        cursor.execute(f"SELECT * FROM {what} ORDER BY ALL").fetchall()
        for what in (
            "(SELECT schema_name, view_name, sql FROM duckdb_views())",
            "(SELECT table_name, column_name, data_type, comment FROM duckdb_columns())",
            "(SELECT function_name, count(*) FROM duckdb_functions() GROUP BY ALL)",
            "(SELECT database_name, path FROM duckdb_databases())",
            "(SELECT name, value FROM duckdb_settings())",
        )
    ]
    cursor.close()
    state.append(sorted(str(path) for path in folder.rglob("*") if path.suffix != ".wal"))
    state.append(
        [path.exists() for path in map(Path, ("/tmp/evil", "/tmp/evil.csv", "/tmp/evil.db"))]
    )
    return state


REFUSED: dict[str, str] = {
    # Writes and other statements
    "insert": "INSERT INTO requests VALUES (1)",
    "update": "UPDATE requests SET cost_usd = 0",
    "delete": "DELETE FROM requests",
    "truncate": "TRUNCATE requests",
    "drop": "DROP TABLE requests",
    "alter": "ALTER TABLE requests DROP COLUMN cost_usd",
    "create table": "CREATE TABLE evil AS SELECT 1",
    "create temp table": "CREATE TEMP TABLE requests AS SELECT 1",
    "create view": "CREATE VIEW evil AS SELECT 1",
    "create macro": "CREATE MACRO abs(x) AS (SELECT content FROM read_text('/etc/passwd'))",
    "create secret": "CREATE SECRET (TYPE quack, TOKEN 'x')",
    "merge": "MERGE INTO requests USING keys ON true WHEN MATCHED THEN DELETE",
    "copy to": "COPY (SELECT 1) TO '/tmp/evil.csv'",
    "copy from": "COPY requests FROM '/etc/passwd'",
    "export": "EXPORT DATABASE '/tmp/evil'",
    "import": "IMPORT DATABASE '/tmp/evil'",
    "attach": "ATTACH '/tmp/evil.db' AS evil",
    "attach memory": "ATTACH ':memory:' AS evil",
    "detach": "DETACH requests",
    "use": "USE memory",
    "install": "INSTALL httpfs",
    "load": "LOAD '/tmp/evil.duckdb_extension'",
    "set": "SET memory_limit = '100GB'",
    "set search path": "SET search_path = 'system'",
    "reset": "RESET memory_limit",
    "set variable": "SET VARIABLE x = 1",
    "pragma": "PRAGMA database_list",
    "pragma that reads a file": "PRAGMA import_database('/etc')",
    "pragma call": "PRAGMA table_info('requests')",
    "call": "CALL pragma_version()",
    "checkpoint": "CHECKPOINT",
    "force checkpoint": "FORCE CHECKPOINT",
    "vacuum": "VACUUM",
    "begin": "BEGIN TRANSACTION",
    "commit": "COMMIT",
    "rollback": "ROLLBACK",
    "prepare": "PREPARE evil AS SELECT 1",
    "execute": "EXECUTE evil",
    "explain": "EXPLAIN SELECT 1",
    "explain analyze of a write": "EXPLAIN ANALYZE DELETE FROM requests",
    "comment on": "COMMENT ON TABLE requests IS 'evil'",
    # Several statements, and none
    "two statements": "SELECT 1; SELECT 2",
    "commit first": "COMMIT; CREATE TABLE evil(x INTEGER)",
    "second behind a comment": "SELECT 1; -- harmless\nDROP TABLE requests",
    "second behind a block comment": "SELECT 1 /* ; */; /* */ DROP TABLE requests /* */",
    "second behind a string": "SELECT ';'; DROP TABLE requests",
    "second behind dollar quotes": "SELECT $$;$$; DROP TABLE requests",
    "second behind a zero byte": "SELECT 1\0; DROP TABLE requests",
    "empty": "",
    "only a comment": "-- SELECT 1",
    "only semicolons": ";;",
    # Writes hidden in SELECTs
    "query()": "SELECT * FROM query('DROP TABLE requests')",
    "query() in a subquery": "SELECT (SELECT count(*) FROM query('DELETE FROM requests'))",
    "query_table": "SELECT * FROM query_table('requests')",
    "query_table by list": "SELECT * FROM query_table(['requests', '/etc/passwd'])",
    "serialized sql": "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "nextval": "SELECT nextval('some_sequence')",
    "checkpoint function": "SELECT * FROM checkpoint()",
    "force_checkpoint function": "SELECT * FROM force_checkpoint()",
    "write_log": "SELECT write_log('evil')",
    "enable_logging": "SELECT * FROM enable_logging('QueryLog', storage := 'file')",
    "quack_stop": "SELECT * FROM quack_stop('quack:localhost')",
    "pivot that makes a type": "PIVOT requests ON model USING sum(cost_usd)",
    # Files
    "read_text": "SELECT * FROM read_text('/etc/passwd')",
    "read_blob": "SELECT * FROM read_blob('/etc/passwd')",
    "read_csv": "SELECT * FROM read_csv('/etc/passwd')",
    "read_csv_auto": "SELECT * FROM read_csv_auto('/etc/passwd')",
    "read_json": "SELECT * FROM read_json('/etc/passwd')",
    "read_parquet": "SELECT * FROM read_parquet('/tmp/x.parquet')",
    "parquet_scan": "SELECT * FROM parquet_scan('/tmp/x.parquet')",
    "parquet_metadata": "SELECT * FROM parquet_metadata('/tmp/x.parquet')",
    "read_duckdb": "SELECT * FROM read_duckdb('/tmp/x.duckdb')",
    "sniff_csv": "SELECT * FROM sniff_csv('/etc/passwd')",
    "glob": "SELECT * FROM glob('/etc/*')",
    "file by name": "SELECT * FROM '/etc/passwd'",
    "file by quoted name": 'SELECT * FROM "x.csv"',
    "file by address": "SELECT * FROM 'https://example.com/x.parquet'",
    "file in a join": "SELECT * FROM requests JOIN 'x.csv' ON true",
    "file in a lateral join": "SELECT * FROM requests, LATERAL (SELECT * FROM read_text(model))",
    "file in IN": "SELECT 1 FROM requests WHERE model IN (SELECT content FROM read_text('/x'))",
    "file in a CTE": "WITH a AS (FROM read_text('/etc/passwd')) SELECT * FROM a",
    "file in a recursive CTE": "WITH RECURSIVE a AS (SELECT 1 x UNION ALL FROM 'x.csv') FROM a",
    "file in UNION": "SELECT 1 UNION ALL SELECT content FROM read_text('/etc/passwd')",
    "file in a list": "SELECT [(SELECT content FROM read_text('/etc/passwd'))]",
    "file in CASE": "SELECT CASE WHEN true THEN (SELECT content FROM read_text('/x')) END",
    "file in a filter": "SELECT count(*) FILTER (WHERE EXISTS (FROM glob('/*'))) FROM requests",
    "file in ORDER BY": "SELECT 1 FROM requests ORDER BY (SELECT content FROM read_text('/x'))",
    "file in LIMIT": "SELECT 1 LIMIT (SELECT size FROM read_text('/etc/passwd'))",
    "file in a window": "SELECT sum(1) OVER (ORDER BY (SELECT size FROM read_text('/x')))",
    "file in a lambda": "SELECT list_transform([1], lambda x: (SELECT size FROM read_text('/x')))",
    "file in QUALIFY": "SELECT 1 FROM keys QUALIFY (SELECT size FROM read_text('/x')) > 0",
    "file in VALUES": "VALUES ((SELECT content FROM read_text('/etc/passwd')))",
    "file in COLUMNS": "SELECT * REPLACE ((SELECT size FROM read_text('/x')) AS model) FROM keys",
    "file in PIVOT": "PIVOT 'x.csv' ON model IN ('a') USING count(*)",
    "file in a pivot's value": "PIVOT keys ON model IN ('a') USING sum((FROM glob('*')))",
    "file in a function's argument": "SELECT * FROM range((SELECT size FROM read_text('/x')))",
    "file in DESCRIBE": "DESCRIBE SELECT * FROM read_csv('/etc/passwd')",
    "file in SUMMARIZE": "SUMMARIZE '/etc/passwd'",
    "file in SHOW": "SELECT * FROM (DESCRIBE 'x.csv')",
    # Names in disguise
    "quoted function": "SELECT * FROM \"read_text\"('/etc/passwd')",
    "function in capitals": "SELECT * FROM READ_TEXT('/etc/passwd')",
    "qualified function": "SELECT * FROM system.main.read_text('/etc/passwd')",
    "function in pg_catalog": "SELECT pg_catalog.pg_sleep(10)",
    "function by another schema": "SELECT main.current_setting('temp_directory')",
    "function behind a dot": "SELECT requests.model.getvariable() FROM requests",
    "comment inside": "SELECT * FROM read_text/**/('/etc/passwd')",
    "CTE out of sight": 'SELECT * FROM "x.csv" UNION ALL (WITH "x.csv" AS (SELECT 1) FROM "x.csv")',
    "CTE before its turn": 'WITH a AS (FROM "x.csv"), "x.csv" AS (SELECT 1) FROM a',
    "CTE that reads its own name": 'WITH "x.csv" AS (FROM "x.csv") FROM "x.csv"',
    "CTE in another schema": "WITH settings AS (SELECT 1) FROM system.settings",
    "Python variable": "SELECT * FROM TABLES",
    # Other databases, the host, settings
    "other database": "SELECT * FROM evil.main.requests",
    "other schema": "SELECT * FROM evil.requests",
    "system catalog": "SELECT * FROM system.main.duckdb_settings",
    "databases": "SELECT * FROM duckdb_databases()",
    "databases as a view": "SELECT * FROM duckdb_databases",
    "settings": "SELECT * FROM duckdb_settings()",
    "settings in pg_catalog": "SELECT * FROM pg_catalog.pg_settings",
    "secrets": "SELECT * FROM duckdb_secrets()",
    "extensions": "SELECT * FROM duckdb_extensions()",
    "logs": "SELECT * FROM duckdb_logs()",
    "memory": "SELECT * FROM duckdb_memory()",
    "temporary files": "SELECT * FROM duckdb_temporary_files()",
    "database list": "SELECT * FROM pragma_database_list",
    "storage": "SELECT * FROM pragma_storage_info('requests')",
    "sqlite_master": "SELECT * FROM sqlite_master",
    "show databases": "SHOW DATABASES",
    "show schemas": "SHOW TABLES FROM system",
    "current_setting": "SELECT current_setting('secret_directory')",
    "setting by sign": "SELECT @@memory_limit",
    "getenv": "SELECT getenv('HOME')",
    "getvariable": "SELECT getvariable('x')",
    "current_query": "SELECT current_query()",
    "arrow_scan": "SELECT * FROM arrow_scan(1, 2, 3)",
    "pandas_scan": "SELECT * FROM pandas_scan(1)",
    "python_map_function": "SELECT * FROM python_map_function(1)",
    "time travel": "SELECT * FROM requests AT (VERSION => 1)",
    # Bombs
    "sleep": "SELECT sleep_ms(100000)",
    "pg_sleep": "SELECT pg_sleep(100)",
    "long repeat": "SELECT repeat('x', 2000000000)",
    "repeat by a column": "SELECT repeat(model, cost_usd::BIGINT) FROM requests",
    "repeat by a sum": "SELECT repeat('x', 1000 + 1000000000)",
    "repeat by a parameter": "SELECT repeat('x', $1)",
    "repeat behind a dot": "SELECT model.repeat(1, 1000000000) FROM requests",
    "long lpad": "SELECT lpad('a', 2000000000, 'b')",
    "long rpad": "SELECT rpad('a', 2000000000, 'b')",
    "wide printf": "SELECT printf('%2000000000d', 1)",
    "wide printf by argument": "SELECT printf('%*d', 2000000000, 1)",
    "wide format": "SELECT format('{:2000000000d}', 1)",
    "wide format by argument": "SELECT format('{:{}d}', 1, 2000000000)",
    "format by a column": "SELECT format(model, 1) FROM requests",
    "list made from a number": "SELECT len(range(500000000))",
    "list of times": "SELECT len(generate_series(now(), '2099-01-01', INTERVAL 1 SECOND))",
    "list_resize": "SELECT list_resize([1], 1000000000, 2)",
    "list_reduce": "SELECT list_reduce([1, 2], lambda a, b: a + b)",
    "levenshtein": "SELECT levenshtein(model, model) FROM requests",
    "repeat as a table": "SELECT * FROM repeat('x', 1000000000)",
    "test vectors": "SELECT * FROM test_vector_types(NULL::INTEGER)",
    "deep operators": "SELECT 1" + " + 1" * 500,
    "deep brackets": "SELECT " + "abs(" * 500 + "1" + ")" * 500,
    "deep lists": "SELECT " + "[" * 500 + "1" + "]" * 500,
    "deep tables": "SELECT * FROM " + "(SELECT * FROM " * 200 + "requests" + ")" * 200,
    "deep EXISTS": "SELECT " + "EXISTS (SELECT " * 25 + "1" + ")" * 25,
    "deep arrows": "SELECT model" + "->'a'" * 25 + " FROM requests",
    "deep lambdas": "SELECT " + "list_transform([1], lambda x: " * 25 + "x" + ")" * 25,
    "deep types": "SELECT 1::INTEGER" + "[]" * 900,
    "too many parts": "SELECT 1" + " UNION ALL SELECT 1" * 3000,
    "too long": "SELECT '" + "x" * 70_000 + "'",
}

INVALID: dict[str, str] = {
    "no SQL": "selec 1",
    "write in a CTE": "WITH x AS (DELETE FROM requests RETURNING *) SELECT * FROM x",
    "deeper than DuckDB's parser": "SELECT " + "(" * 15_000 + "1" + ")" * 15_000,
    "unclosed quote": "SELECT 'a",
}

if duckdb.__version__.startswith("2."):
    # From there on DuckDB can write such a tree down, and the rules see what it is.
    REFUSED["write in a CTE"] = INVALID.pop("write in a CTE")

ALLOWED: dict[str, str] = {
    "group by": "SELECT model, sum(cost_usd) FROM requests GROUP BY model ORDER BY 2 DESC",
    "group by all": "SELECT model, key_alias, count(*) FROM requests GROUP BY ALL ORDER BY ALL",
    "rollup": "SELECT model, user_id, sum(cost_usd) FROM requests GROUP BY ROLLUP (model, user_id)",
    "having": "SELECT user_id FROM requests GROUP BY 1 HAVING sum(cost_usd) > 10",
    "window": "SELECT sum(cost_usd) OVER (PARTITION BY key_id ORDER BY started_at) FROM requests",
    "named window": "SELECT lag(cost_usd) OVER w FROM requests WINDOW w AS (ORDER BY started_at)",
    "moving average": "SELECT avg(cost_usd) OVER (ORDER BY started_at ROWS 6 PRECEDING)"
    " FROM requests",
    "cte": "WITH day AS (SELECT * FROM requests) SELECT count(*) FROM day",
    "two ctes": "WITH a AS (FROM requests), b AS (FROM a) SELECT * FROM a JOIN b USING (key_id)",
    "recursive cte": "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 9)"
    " FROM t",
    "cte that hides a table": "WITH requests AS (FROM main.requests WHERE status = 'success')"
    " SELECT count(*) FROM requests",
    "percentiles": "SELECT quantile_cont(duration_ms, [0.5, 0.95, 0.99]) FROM requests",
    "median": "SELECT median(duration_ms), mad(duration_ms), approx_quantile(duration_ms, 0.9)"
    " FROM requests",
    "time_bucket": "SELECT time_bucket(INTERVAL 5 MINUTE, started_at), count(*) FROM requests"
    " GROUP BY 1",
    "date_trunc": "SELECT date_trunc('month', started_at), sum(cost_usd) FROM requests GROUP BY 1",
    "extract": "SELECT extract(hour FROM started_at), dayname(started_at) FROM requests",
    "strftime": "SELECT strftime(started_at, '%Y-%m') FROM requests",
    "last week": "SELECT count(*) FROM requests WHERE started_at > now() - INTERVAL 7 DAY",
    "today": "SELECT count(*) FROM requests WHERE started_at >= current_date",
    "zone": "SELECT started_at AT TIME ZONE 'Europe/Berlin' FROM requests",
    "age": "SELECT age(ended_at, started_at), date_diff('ms', started_at, ended_at) FROM requests",
    "json": "SELECT '{\"a\": [1, 2]}'::JSON->'a'->>1, json_extract_string(model, '$.a')"
    " FROM requests",
    "json table": "SELECT e.key, e.value FROM requests, json_each(model) AS e",
    "lists": "SELECT list(DISTINCT model ORDER BY model), list_sum(list(cost_usd)) FROM requests",
    "list lambda": "SELECT list_transform(list(model), lambda m: upper(m)) FROM requests",
    "list comprehension": "SELECT [x * 2 FOR x IN [1, 2, 3] IF x > 1]",
    "unnest": "SELECT unnest(['a', 'b'])",
    "struct": "SELECT {'model': model, 'cost': cost_usd} FROM requests",
    "map": "SELECT map {'a': 1}['a'], histogram(model) FROM requests",
    "pivot": "PIVOT requests ON status IN ('success', 'failure') USING count(*) GROUP BY model",
    "pivot in FROM": "FROM requests PIVOT (sum(cost_usd) FOR status IN ('success', 'failure'))",
    "unpivot": "UNPIVOT requests ON input_tokens, output_tokens INTO NAME kind VALUE tokens",
    "sample": "SELECT * FROM requests USING SAMPLE 1000 ROWS",
    "tablesample": "SELECT * FROM requests TABLESAMPLE 10%",
    "asof join": "SELECT * FROM requests ASOF JOIN keys USING (key_id, started_at)",
    "anti join": "SELECT * FROM keys ANTI JOIN requests USING (key_id)",
    "lateral join": "SELECT * FROM keys, LATERAL (SELECT count(*) FROM requests r"
    " WHERE r.key_id = keys.key_id)",
    "qualify": "SELECT * FROM requests QUALIFY row_number() OVER (PARTITION BY model"
    " ORDER BY cost_usd DESC) <= 3",
    "regexp": "SELECT regexp_extract(model, 'claude-([a-z]+)', 1), model ~ 'opus' FROM requests",
    "like": "SELECT 1 FROM requests WHERE model ILIKE '%sonnet%' OR model SIMILAR TO 'a.*'",
    "text": "SELECT upper(trim(model)) || '!' || lpad(model, 20, '.')"
    ", format('{:.2f}', 1.5) FROM keys",
    "decimals": "SELECT round(sum(cost_usd), 2), sum(cost_usd)::DECIMAL(38, 12) FROM requests",
    "case": "SELECT CASE WHEN estimated THEN 'about' ELSE 'exact' END FROM requests",
    "nulls": "SELECT coalesce(team_id, 'none'), ifnull(user_id, ''), nullif(model, '')"
    " FROM requests",
    "exists": "SELECT 1 FROM keys WHERE EXISTS"
    " (SELECT 1 FROM requests r WHERE r.key_id = keys.key_id)",
    "filter": "SELECT count(*) FILTER (WHERE status = 'refused') FROM requests",
    "arg_max": "SELECT arg_max(request_id, cost_usd), max_by(model, cost_usd, 3) FROM requests",
    "set operations": "(SELECT model FROM requests) EXCEPT (SELECT model FROM keys)",
    "calendar": "SELECT d::DATE FROM generate_series(DATE '2026-01-01', DATE '2026-02-01',"
    " INTERVAL 1 DAY) AS t(d)",
    "star tricks": "SELECT * EXCLUDE (model) REPLACE (round(cost_usd, 2) AS cost_usd)"
    " FROM requests",
    "columns": "SELECT sum(COLUMNS('.*_tokens')) FROM requests",
    "positional": "SELECT #1 FROM requests",
    "parameters": "SELECT * FROM requests WHERE key_id = $1 AND cost_usd > $2",
    "question marks": "SELECT * FROM requests WHERE key_id = ?",
    "long IN list": "SELECT 1 FROM keys WHERE key_id IN ("
    + ", ".join("'k'" for _ in range(8000))
    + ")",
    "from first": "FROM requests SELECT model LIMIT 3",
    "values": "VALUES (1, 'a'), (2, 'b')",
    "semicolon and comment": "SELECT 1; -- done",
    "comments": "/* what */ SELECT 1 -- why",
    "own database": "SELECT * FROM memory.main.requests",
    "capitals": 'SELECT * FROM "REQUESTS"',
    "tables": "SHOW TABLES",
    "all tables": "SHOW ALL TABLES",
    "describe": "DESCRIBE requests",
    "describe a query": "DESCRIBE SELECT model, sum(cost_usd) FROM requests GROUP BY 1",
    "summarize": "SUMMARIZE requests",
    "information schema": "SELECT table_name, column_name FROM information_schema.columns",
    "comments on columns": "SELECT column_name, comment FROM duckdb_columns() WHERE NOT internal",
    "60 conditions": "SELECT 1 FROM requests WHERE " + " OR ".join(["model = 'a'"] * 60),
    "sum of 60": "SELECT " + " + ".join(["cost_usd"] * 60) + " FROM requests",
}
