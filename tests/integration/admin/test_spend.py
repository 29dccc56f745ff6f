"""Spend and SQL through the management API, answered by the ledger's own query service."""

import contextlib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.support.admin import RunningAdmin
from tests.support.nats import NatsServer
from tests.support.query_reader import request_row, running_query_reader

WINDOW_SPEND = "0.249753600001"
OLD_SPEND = "1000000.000000000001"


@pytest.fixture(scope="module")
def key(admin: RunningAdmin) -> dict[str, Any]:
    """A key with a budget that begins anew each month."""
    return admin.generate(key_alias="spender", max_budget=10, budget_duration="monthly")


@pytest.fixture(scope="module", autouse=True)
def _reader(
    admin: RunningAdmin,
    nats: NatsServer,
    key: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[None]:
    created = str(key["created_at"]).replace("T", " ").removesuffix("Z")
    mine = {"key_id": key["key_id"], "key_alias": "spender", "user_id": "u1", "team_id": "t"}
    rows = [
        request_row(
            request_id="tg_now",
            end_user_id="user-alice",
            agent_id="a-1",
            started_at=created,
            first_byte_at=created,
            ended_at=created,
            cost_usd=WINDOW_SPEND,
            **mine,
        ),
        request_row(
            request_id="tg_old",
            started_at="2024-02-29 23:59:59.999999",
            ended_at="2024-03-01 00:00:01",
            cost_usd="999999.999999999999",
            **mine,
        ),
        request_row(
            request_id="tg_old_2",
            started_at="2024-02-29 00:00:00",
            cost_usd="0.000000000002",
            model="claude-opus-4-5",
            **{**mine, "user_id": "'; DROP TABLE requests; --"},
        ),
        request_row(
            request_id="tg_unpriced",
            started_at="2024-03-01 00:00:00",
            cost_usd=None,
            unpriced=True,
            status="failure",
            http_status=500,
            **mine,
        ),
    ]
    folder: Path = tmp_path_factory.mktemp("reader")
    with running_query_reader(folder, nats.url, rows):
        yield


def test_key_info_shows_window_and_whole_spend_exactly(
    admin: RunningAdmin, key: dict[str, Any]
) -> None:
    # Given spend in this month and long ago, when the key is shown,
    response = admin.http.get("/key/info", params={"key": key["key"]})
    # Then both sums are exact to the last of twelve decimals, as numbers.
    assert f'"spend":{WINDOW_SPEND},' in response.text
    assert '"total_spend":1000000.249753600002,' in response.text
    assert response.json()["info"]["spend_error"] is None
    assert response.json()["info"]["last_active"].startswith("20")


def test_list_shows_the_spend_of_each_key(admin: RunningAdmin, key: dict[str, Any]) -> None:
    # Given a key that spent and one that did not, when they are listed, then each has its sum.
    admin.generate(key_alias="saver")
    rows = admin.http.get("/key/list", params={"return_full_object": "true"}).json()["keys"]
    spends = {row["key_alias"]: row["total_spend"] for row in rows}
    assert spends == {"spender": 1000000.249753600002, "saver": 0}


def test_spend_logs_are_litellms_rows(admin: RunningAdmin, key: dict[str, Any]) -> None:
    # Given a request of 64,679 prompt tokens and 333 output tokens, when it is looked up,
    rows = admin.http.get("/spend/logs", params={"request_id": "tg_now"}).json()
    # Then it is LiteLLM's row, with our facts in its metadata.
    assert len(rows) == 1
    row = rows[0]
    assert (row["prompt_tokens"], row["completion_tokens"], row["total_tokens"]) == (
        64679,
        333,
        65012,
    )
    assert row["api_key"] == key["token"]
    assert (row["model"], row["model_group"]) == ("claude-sonnet-4-20250514", "anthropic-claude")
    assert (row["status"], row["user"], row["team_id"]) == ("success", "u1", "t")
    assert (row["end_user"], row["agent_id"]) == ("user-alice", "a-1")
    assert row["call_type"] == "anthropic_messages"
    assert row["startTime"].endswith("Z")
    assert row["metadata"]["usage_object"]["cache_read_input_tokens"] == 25142
    assert row["metadata"]["billing"] == "api"


def test_unpriced_request_has_no_spend_rather_than_zero(admin: RunningAdmin) -> None:
    # Given a request whose model has no known price, when it is looked up, then spend is null.
    row = admin.http.get("/spend/logs", params={"request_id": "tg_unpriced"}).json()[0]
    assert row["spend"] is None
    assert row["metadata"]["unpriced"] is True
    assert row["status"] == "failure"


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ({}, ["tg_now", "tg_unpriced", "tg_old", "tg_old_2"]),
        ({"user_id": "u1"}, ["tg_now", "tg_unpriced", "tg_old"]),
        ({"user_id": "'; DROP TABLE requests; --"}, ["tg_old_2"]),
        ({"user_id": "' OR 1=1 --"}, []),
        ({"request_id": "' OR ''='"}, []),
        ({"end_date": "2024-02-29"}, ["tg_old", "tg_old_2"]),
        ({"start_date": "2024-03-01"}, ["tg_now", "tg_unpriced"]),
        (
            {"start_date": "2024-02-29", "end_date": "2024-02-29", "summarize": "false"},
            ["tg_old", "tg_old_2"],
        ),
    ],
)
def test_spend_logs_are_filtered_by_values_never_by_sql(
    admin: RunningAdmin, query: dict[str, str], ids: list[str]
) -> None:
    # Given filters, hostile ones among them, when rows are asked for, then values are values.
    rows = admin.http.get("/spend/logs", params=query).json()
    assert [row["request_id"] for row in rows] == ids


def test_spend_logs_of_a_key_by_each_of_its_names(admin: RunningAdmin, key: dict[str, Any]) -> None:
    # Given a key, when its rows are asked for by the key, its hash or its id, then all come.
    for name in ("key", "token", "key_id"):
        assert len(admin.http.get("/spend/logs", params={"api_key": key[name]}).json()) == 4


def test_spend_by_day_sums_exactly_in_utc_days(admin: RunningAdmin) -> None:
    # Given both dates, when spend is asked for, then there is one exact row a day.
    query = {"start_date": "2024-02-01", "end_date": "2024-03-31"}
    response = admin.http.get("/spend/logs", params=query)
    assert '"spend":1000000.000000000001' in response.text
    first, second = response.json()
    assert first["startTime"] == "2024-02-29"
    assert set(first["models"]) == {"claude-sonnet-4-20250514", "claude-opus-4-5"}
    assert set(first["users"]) == {"u1", "'; DROP TABLE requests; --"}
    assert second == {
        "startTime": "2024-03-01",
        "spend": 0,
        "users": {"u1": 0},
        "models": {"claude-sonnet-4-20250514": 0},
        "requests": 1,
        "unpriced_requests": 1,
    }


def test_global_spend_is_the_sum_of_all(admin: RunningAdmin) -> None:
    # Given four requests, when all spend is asked for, then it is exact.
    assert '"spend":1000000.249753600002' in admin.http.get("/global/spend").text


def test_sql_answers_columns_and_rows(admin: RunningAdmin) -> None:
    # Given the ledger, when a SELECT is posted, then columns have types and money stays exact.
    body = {
        "query": "SELECT request_id, cost_usd, started_at FROM requests WHERE cost_usd < $1 "
        "ORDER BY cost_usd",
        "parameters": [0.1],
    }
    answer = admin.http.post("/ledger/sql", json=body).json()
    assert answer["columns"] == [
        {"name": "request_id", "type": "VARCHAR"},
        {"name": "cost_usd", "type": "DECIMAL(18,12)"},
        {"name": "started_at", "type": "TIMESTAMP"},
    ]
    assert answer["rows"] == [["tg_old_2", "0.000000000002", "2024-02-29T00:00:00Z"]]
    assert answer["truncated"] is False


def test_sql_rows_are_cut_where_asked(admin: RunningAdmin) -> None:
    # Given four rows, when two are wanted, then two come and the answer says that it was cut.
    body = {"query": "SELECT request_id FROM requests", "rows_max": 2}
    answer = admin.http.post("/ledger/sql", json=body).json()
    assert (len(answer["rows"]), answer["truncated"]) == (2, True)


@pytest.mark.parametrize(
    "query",
    [
        "DROP TABLE requests",
        "DELETE FROM requests",
        "SELECT 1; SELECT 2",
        "COPY requests TO '/tmp/stolen.csv'",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM no_such_table",
        "SELEC 1",
        "SELECT 1 FROM requests WHERE",
    ],
)
def test_sql_that_is_no_harmless_select_is_400(admin: RunningAdmin, query: str) -> None:
    # Given SQL that is refused or wrong, when it is posted, then 400 says why, and all is there.
    response = admin.http.post("/ledger/sql", json={"query": query})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "query"
    count = admin.http.post("/ledger/sql", json={"query": "SELECT count(*) FROM requests"})
    assert count.json()["rows"] == [[4]]


def test_sql_answers_in_csv_and_arrow_with_exact_money(admin: RunningAdmin) -> None:
    # Given one question, when it is asked in CSV and in Arrow, then both hold exact decimals, and
    # a header says whether rows were cut.
    query = "SELECT 0.249754::DECIMAL(18,12) AS cost, 'a,b' AS name, NULL::INT AS n FROM range(3)"
    body = {"query": query, "rows_max": 2}
    answer = admin.http.post("/ledger/sql", json=body | {"format": "csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["x-tallygate-truncated"] == "true"
    assert answer.text == "cost,name,n\r\n" + '0.249754000000,"a,b",\r\n' * 2
    answer = admin.http.post("/ledger/sql", json=body | {"format": "arrow"})
    assert answer.headers["content-type"] == "application/vnd.apache.arrow.stream"
    assert answer.headers["x-tallygate-truncated"] == "true"
    table = pa.ipc.open_stream(answer.content).read_all()
    assert table.schema.field("cost").type == pa.decimal128(18, 12)
    assert table["cost"].to_pylist() == [Decimal("0.249754")] * 2
    whole = admin.http.post("/ledger/sql", json={"query": query, "format": "arrow"})
    assert whole.headers["x-tallygate-truncated"] == "false"
    assert pa.ipc.open_stream(whole.content).read_all().num_rows == 3
    # A row that no message could hold is refused, in any form.
    cell = "list_transform(l, lambda x: repeat('x', 1000))"
    large = {"query": f"SELECT {cell} FROM (SELECT list(range) AS l FROM range(9000))"}
    for form in ("json", "csv", "arrow"):
        refused = admin.http.post("/ledger/sql", json=large | {"format": form})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "query"), form


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("text/csv", "text/csv; charset=utf-8"),
        ("application/vnd.apache.arrow.stream", "application/vnd.apache.arrow.stream"),
        ("application/json;q=0.5, text/csv", "text/csv; charset=utf-8"),
        ("text/csv;q=0.1, */*", "application/json"),
        ("text/html", "application/json"),
    ],
)
def test_accept_decides_where_the_body_does_not(
    admin: RunningAdmin, accept: str, media_type: str
) -> None:
    # Given a header Accept, when a query names no format, then its answer has the one that is
    # liked best; a format in the body goes before the header.
    headers = {"Accept": accept}
    answer = admin.http.post("/ledger/sql", json={"query": "SELECT 1 AS n"}, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    body = {"query": "SELECT 1 AS n", "format": "json"}
    answer = admin.http.post("/ledger/sql", json=body, headers=headers)
    assert answer.json()["rows"] == [[1]]


def test_a_long_answer_comes_in_parts_and_says_at_its_end_that_it_was_cut(
    admin: RunningAdmin,
) -> None:
    # Given an answer of many parts, when it is asked for whole, then every row is there.
    query = "SELECT range AS n, repeat('x', 100) AS text FROM range(50000)"
    whole = admin.http.post("/ledger/sql", json={"query": query, "format": "csv"})
    lines = whole.text.split("\r\n")
    assert whole.headers["x-tallygate-truncated"] == "at-end"
    assert (len(lines), lines[-2].partition(",")[0], lines[-1]) == (50002, "49999", "")
    arrow = admin.http.post("/ledger/sql", json={"query": query, "format": "arrow"})
    table = pa.ipc.open_stream(arrow.content).read_all()
    assert table["n"].to_pylist() == list(range(50000))
    # When it is cut, then its end says so, in each form; JSON has its own limit.
    cut = {"query": query, "rows_max": 30001}
    lines = admin.http.post("/ledger/sql", json=cut | {"format": "csv"}).text.split("\r\n")
    assert len(lines) == 1 + 30001 + 1 + 1
    assert lines[-2] == "# truncated after 30001 rows"
    arrow = admin.http.post("/ledger/sql", json=cut | {"format": "arrow"})
    reader = pa.ipc.open_stream(arrow.content)
    batches = []
    with contextlib.suppress(StopIteration):
        while True:
            batches.append(reader.read_next_batch_with_custom_metadata())
    assert sum(batch.num_rows for batch, _ in batches) == 30001
    assert dict(batches[-1][1]) == {b"tallygate.truncated": b"after 30001 rows"}
    refused = admin.http.post("/ledger/sql", json=cut | {"format": "json"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "rows_max")


def test_analysts_keys_see_their_team_or_all_and_no_other_key_sees_anything(
    admin: RunningAdmin,
) -> None:
    # Given keys of a team with rows, of another team, of all rows, and one without permission,
    def asked_with(key: object) -> tuple[int, Any]:
        body = {"query": "SELECT count(*) FROM requests"}
        headers = {"Authorization": f"Bearer {key}"}
        response = admin.http.post("/ledger/sql", json=body, headers=headers)
        return response.status_code, response.json().get("rows", response.json().get("error"))

    team = admin.generate(team_id="t", analyst=True)
    other = admin.generate(team_id="nobody", analyst="team")
    everything = admin.generate(analyst="all")
    plain = admin.generate(team_id="t")
    # When each asks, then it sees the rows that it may see, and the plain key sees none.
    assert asked_with(team["key"]) == (200, [[4]])
    assert asked_with(other["key"]) == (200, [[0]])
    assert asked_with(everything["key"]) == (200, [[4]])
    status, error = asked_with(plain["key"])
    assert (status, error["type"]) == (403, "permission_error")
    assert "permission `analyst`" in error["message"]
    # When a key is moved, blocked, or has its permission taken away, then that holds at once.
    assert (team["analyst"], everything["analyst"], plain["analyst"]) == ("team", "all", None)
    moved = admin.http.post("/key/update", json={"key": other["key"], "team_id": "t"})
    assert moved.status_code == 200
    assert asked_with(other["key"]) == (200, [[4]])
    homeless = admin.http.post("/key/update", json={"key": other["key"], "team_id": None})
    assert (homeless.status_code, homeless.json()["error"]["param"]) == (400, "analyst")
    admin.http.post("/key/block", json={"key": team["key"]})
    assert asked_with(team["key"])[0] == 403
    admin.http.post("/key/update", json={"key": everything["key"], "analyst": None})
    assert asked_with(everything["key"])[0] == 403
    # When all rows are not asked for in so many words, then a key without a team gets none.
    refused = admin.http.post("/key/generate", json={"analyst": True})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "analyst")
