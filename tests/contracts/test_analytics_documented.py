"""docs/analytics.md is a subject of tests: its questions run, its limits are the real ones."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import msgspec
import pytest

from schemas import rpc
from schemas.rpc import QueryReply
from services.admin import activity_sql, report_sql, spend_sql, spends
from services.admin.newest_logs import BELOW
from services.ledger import query, query_watch, sql_rules
from services.ledger.query import QueryService
from services.ledger.rollups import count

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "analytics.md").read_text()
SCHEMA = "\n".join(
    path.read_text() for path in sorted((ROOT / "services" / "ledger" / "sql").glob("*.sql"))
)
QUESTIONS = dict(
    re.findall(r"^### ([^\n]*\?)\n+```sql\n(.*?)```", DOCUMENT, re.MULTILINE | re.DOTALL)
)
LIMITS = dict(re.findall(r"^\| `([A-Z][A-Z_]+)` \| ([\d.]+)", DOCUMENT, re.MULTILINE))
ROWS = 1000
STATES = "['success', 'failure', 'refused', 'client_closed']"
MADE_UP = {
    "started_at": "now()::TIMESTAMP - INTERVAL 1 MINUTE * n",
    "ended_at": "now()::TIMESTAMP - INTERVAL 1 MINUTE * n + INTERVAL 2 SECOND",
    "status": f"{STATES}[1 + n % 4]",
    "endpoint": "['messages', 'batches', 'batch_result', 'pass_through'][1 + n % 4]",
    "billing": "['api', 'subscription'][1 + n % 2]",
    "cost_usd": "n * 0.000001",
    "key_id": "'key-' || n % 3",
    "purpose": "['main', 'agent', 'title', 'quota_probe', 'count_tokens'][1 + n % 5]",
    "session_id": "'session-' || n % 10",
    "max_budget_usd": "5",
    "deleted": "false",
    "scope": "['key', 'global'][1 + n % 2]",
    "scope_id": "['key-0', 'all'][1 + n % 2]",
    "budget_duration": "'monthly'",
    "changed_fields": "['max_budget_usd']",
    "before": """'{"max_budget_usd": "5"}'""",
    "after": """'{"max_budget_usd": "7"}'""",
    "valid_from": "current_date - 400",
    "valid_to": "NULL",
    "seat": "'seat-' || n % 3",
    "event": "'exceeded'",
    "attempt_of": "CASE WHEN n % 3 = 1 THEN 'attempt-' || n END",
    "error_type": "['rate_limit_error', 'overloaded_error'][1 + n % 2]",
    "route_reason": "[NULL, 'quota_exhausted'][1 + n % 2]",
    "five_hour_utilization": "0.9",
    "seven_day_utilization": "0.5",
    "five_hour_resets_at": "now()::TIMESTAMP + INTERVAL 2 HOUR",
    "seven_day_resets_at": "now()::TIMESTAMP + INTERVAL 3 DAY",
    "observed_at": "now()::TIMESTAMP - INTERVAL 1 MINUTE * n",
}
"""The columns of a made-up request for which any value of the type would not do."""


def made_up(name: str, kind: str) -> str:
    """Return SQL for a cell of a made-up row with the number n."""
    if name in MADE_UP:
        return MADE_UP[name]
    if kind.endswith("[]"):
        return "[]"
    plain = {
        "VARCHAR": f"'{name}-' || n % 5",
        "BOOLEAN": "n % 7 = 0",
        "TIMESTAMP": "now()::TIMESTAMP",
        "DATE": "current_date",
        "BLOB": "''::BLOB",
    }
    return plain.get(kind, f"n % 100::{kind}")


def fill(connection: duckdb.DuckDBPyConnection, table: str, rows: int) -> None:
    columns = connection.execute(f"DESCRIBE {table}").fetchall()
    cells = ", ".join(made_up(row[0], row[1]) for row in columns)
    connection.execute(f"INSERT INTO {table} SELECT {cells} FROM range({rows}) AS t(n)")


@pytest.fixture(scope="module")
def service() -> Iterator[QueryService]:
    connection = duckdb.connect(":memory:")
    connection.execute(SCHEMA)
    fill(connection, "requests", ROWS)
    count(connection, "in")
    fill(connection, "keys", 3)
    fill(connection, "quota_observations", 20)
    fill(connection, "seats", 2)
    fill(connection, "repricings", 8)
    fill(connection, "budget_events", 8)
    fill(connection, "budgets", 8)
    fill(connection, "guardrail_events", 8)
    fill(connection, "registry_changes", 8)
    service = QueryService(connection, memory_bytes_max=512 * 1024 * 1024)
    yield service
    service.close()
    connection.close()


def ask(service: QueryService, text: str, *parameters: object) -> QueryReply:
    payload = msgspec.json.encode({"query": text, "parameters": parameters})
    return msgspec.json.decode(service.answer(payload), type=QueryReply)


def test_there_are_enough_worked_questions() -> None:
    # given the document, when its questions are counted, then none was lost by a slip of form
    assert len(QUESTIONS) == DOCUMENT.count("```sql") >= 20


@pytest.mark.parametrize("question", QUESTIONS)
def test_worked_question_is_answered(service: QueryService, question: str) -> None:
    # given requests of many kinds, when the question is asked, then rows come, with names
    reply = ask(service, QUESTIONS[question])
    assert reply.error is None, reply.error
    assert reply.rows
    assert not reply.truncated
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", column.name) for column in reply.columns)


def test_documented_limits_are_the_real_ones() -> None:
    # given the table of limits, when it is compared with the code, then every figure is right
    assert len(LIMITS) >= 12
    for name, figure in LIMITS.items():
        module = next(m for m in (rpc, query, query_watch, sql_rules) if hasattr(m, name))
        assert float(figure) == getattr(module, name), name


def test_every_table_and_column_can_be_found_with_its_comment(service: QueryService) -> None:
    # given the ways to look around that the document names, when they are asked, then every
    # column of requests has its comment
    reply = ask(
        service, "SELECT column_name, comment FROM duckdb_columns() WHERE table_name = 'requests'"
    )
    assert len(reply.rows) > 50
    assert [name for name, comment in reply.rows if not comment] == []


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        spends.spend_sql("key_id", ["key-1", "key-2"], [0, 1_790_000_000_000_000]),
        spends.last_active_sql("key_id", ["key-1"], [datetime.now(UTC).date()]),
        (spend_sql.global_spend_sql(""), ()),
        (spend_sql.spend_logs("WHERE key_id = $1"), ("key-1",)),
        (spend_sql.spend_by_day(""), ()),
        (spend_sql.all_logs(""), ()),
        (
            spend_sql.spend_logs(f"WHERE {BELOW.format('$1', '$2')}") + " LIMIT 2501",
            (2**52, "request_id-1"),
        ),
        (report_sql.spend_of_all_keys(""), ()),
        (report_sql.spend_of_all_users(""), ()),
        (report_sql.report_by_team(""), ()),
        (report_sql.report_by_customer("WHERE end_user_id IS NOT NULL"), ()),
        (report_sql.report_by_group("", "key_id"), ()),
        (activity_sql.activity_parts("", "team_id"), ()),
        (activity_sql.activity_table("", "user_id"), ()),
    ],
)
def test_questions_of_the_admin_service_may_be_asked(
    service: QueryService, text: str, parameters: tuple[object, ...]
) -> None:
    # given the SQL of the admin service, when the reader gets it, then its rules let it pass
    reply = ask(service, text, *parameters)
    assert reply.error is None, reply.error
    assert reply.rows
