"""Answers that come part by part: whole, in order, within their limits, and not for ever."""

from collections.abc import Iterator
from typing import Any, Literal

import duckdb
import msgspec
import pyarrow as pa
import pytest

from schemas.rpc import QueryControl, QueryReply
from services.ledger import query_open, query_parts
from services.ledger.query import QueryService

ROWS = 12_000
QUERY = f"SELECT range AS n, repeat('x', 100) AS text FROM range({ROWS})"


@pytest.fixture
def service() -> Iterator[QueryService]:
    connection = duckdb.connect(":memory:")
    connection.execute("CREATE TABLE requests (team_id VARCHAR)")
    service = QueryService(connection, memory_bytes_max=512 * 1024 * 1024)
    yield service
    service.close()
    connection.close()


def begin(service: QueryService, query_id: str = "a", **more: Any) -> QueryReply:
    request = {"query": QUERY, "format": "csv", "in_parts": True, "query_id": query_id, **more}
    return msgspec.json.decode(service.answer(msgspec.json.encode(request)), type=QueryReply)


def control(
    service: QueryService, action: Literal["next", "cancel"], query_id: str = "a"
) -> QueryReply:
    payload = msgspec.json.encode(QueryControl(query_id=query_id, action=action))
    return msgspec.json.decode(service.control(payload), type=QueryReply)


def all_parts(service: QueryService, **more: Any) -> list[QueryReply]:
    parts = [begin(service, **more)]
    while parts[-1].more:
        parts.append(control(service, "next"))
    assert parts[-1].error is None, parts[-1].error
    return parts


@pytest.mark.parametrize("rows_max", [0, 2047, 2048, 9_001, ROWS - 1, ROWS])
@pytest.mark.parametrize("form", ["csv", "arrow"])
def test_parts_are_together_the_answer_cut_where_asked(
    service: QueryService, form: str, rows_max: int
) -> None:
    # given a limit of rows at and around the borders of batches, when all parts are taken,
    parts = all_parts(service, format=form, rows_max=rows_max)
    content = b"".join(part.content for part in parts)
    wanted = list(range(min(ROWS, rows_max)))
    # then they hold those rows, in order and once, and the end says whether there are more.
    if form == "csv":
        lines = content.decode().split("\r\n")[1:-1]
        ends = [line for line in lines if line.startswith("#")]
        assert [int(line.partition(",")[0]) for line in lines if line not in ends] == wanted
        was_said = bool(ends) or (len(parts) == 1 and parts[0].truncated)
        assert was_said == (rows_max < ROWS)
    else:
        assert pa.ipc.open_stream(content).read_all()["n"].to_pylist() == wanted
        assert (b"tallygate.truncated" in content) == (rows_max < ROWS)
    assert parts[-1].truncated == (rows_max < ROWS)
    assert all(len(part.content) <= query_parts.PART_BYTES_MAX for part in parts)


def test_answer_is_cut_at_its_limit_of_bytes(
    service: QueryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a limit of one megabyte, when more is asked for, then little more comes, and is cut.
    monkeypatch.setattr(query_parts, "QUERY_PARTS_BYTES_MAX", 1_000_000)
    parts = all_parts(service)
    assert sum(len(part.content) for part in parts) < 1_000_000 + query_parts.PART_BYTES_MAX
    assert parts[-1].truncated
    assert b"# truncated after " in parts[-1].content


def test_parts_of_a_team_say_whose_they_are(service: QueryService) -> None:
    # given an answer about a team's rows, when its parts are taken, then each repeats the team.
    assert {part.team_id for part in all_parts(service, team_id="blue")} == {"blue"}


def test_open_answers_are_few_and_each_is_asked_for_in_time(
    service: QueryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given as many open answers as there may be, when one more is long, then it is refused; a
    # short one is not.
    monkeypatch.setattr(query_open, "ANSWERS_OPEN_MAX", 2)
    assert begin(service, "a").more
    assert begin(service, "b").more
    assert begin(service, "c").error_kind == "unavailable"
    assert begin(service, "d", query="SELECT 1").error is None
    # when one is cancelled, then it is gone, and there is a place again.
    assert control(service, "cancel", "a").error is None
    assert control(service, "next", "a").error_kind == "unavailable"
    assert begin(service, "c").more
    # when nobody asks on for too long, then all are given up.
    monkeypatch.setattr(query_open, "ANSWER_PAUSE_S", -1.0)
    service.close_given_up()
    assert control(service, "next", "b").error_kind == "unavailable"
    assert control(service, "next", "c").error_kind == "unavailable"


def test_errors_and_limits_of_time_hold_in_every_part(
    service: QueryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a query that fails in a row far down, when its parts are asked for, then the part fails.
    failing = QUERY.replace("repeat", f"CASE WHEN range = {ROWS - 1} THEN error_of END || repeat")
    parts = [begin(service, query=failing.replace("error_of", "'x'::INT::VARCHAR"))]
    while parts[-1].more:
        parts.append(control(service, "next"))
    assert parts[-1].error_kind == "invalid"
    # given a query whose rows do not come, when its time is over, then it is stopped: before the
    # first part, and in the midst of them.
    slow = "SELECT a.range FROM range(100000) a, range(1000000) b WHERE hash(a.range + b.range) = 1"
    assert begin(service, query=slow, timeout_s=0.2).error_kind == "timeout"
    monkeypatch.setattr(query_open, "ANSWER_REST_WORK_S", 0.0)
    assert begin(service, "b").more
    late = control(service, "next", "b")
    assert (late.error_kind, late.content) == ("timeout", b"")
    assert control(service, "next", "b").error_kind == "unavailable"


def test_wide_rows_are_refused_and_not_sent_in_too_long_a_message(service: QueryService) -> None:
    # given rows of a megabyte, when they are asked for, then they come a few at a time; a row that
    # is longer than a message is refused.
    cell = "list_transform(l, lambda x: repeat('x', 1000)) AS cell"
    wide = f"SELECT {cell} FROM (SELECT list(range) AS l FROM range({{rows}})) t, range(5)"
    parts = all_parts(service, query=wide.format(rows=900))
    assert sum(part.content.count(b"\n") for part in parts) == 6
    assert begin(service, query=wide.format(rows=9000)).error_kind == "too_large"
