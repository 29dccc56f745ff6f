"""How fast the dashboard's queries are on a large ledger while it takes requests in: by hand.

`python -m bench.ledger_queries --requests 10000000` fills the reader's file with requests of 90
days (200 keys of 200 users in 20 teams, 12 models, answers, refusals and failures), then starts the
reader on it, as a process of its own, and a producer that goes on sending it requests. Each query
is asked over NATS, as the admin service asks it, again and again; the rows that came in meanwhile
show that the ledger took in all the time.

The rows are made by SQL, in the order in which they would have come, and counted in the rollups a
day at a time, as the ledger does. What a made-up request costs is not what the price book says.
"""

import argparse
import asyncio
import hashlib
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bench.ledger_ingest import nats
from schemas.rpc import QUERY_ROWS_MAX, QueryReply, QueryRequest
from schemas.streams import QUERY_SUBJECT
from services.admin import activity_sql, newest_logs, report_sql, spend_sql
from services.ledger import rollups
from services.ledger.rows import REQUEST_COLUMNS
from services.ledger.store import Store
from services.runtime.bus import Bus
from services.runtime.folder import DataFolder
from tests.support.ledger import LedgerProcess, run
from tests.support.made_up import START_US, made_up_messages

DAYS = 90
FED_REQUESTS = 30_000
"""So many the producer has; it sends them at a pace for as long as it is asked to."""
FED_AT_ONCE = 50
FED_INTERVAL_S = 0.25
READY_TIMEOUT_S = 120.0
_DAY_US = 86_400_000_000
_LAST_DAY = datetime.fromtimestamp(START_US / 1e6, UTC).date()


def _chance(salt: int, below: int) -> str:
    """Return SQL for a number below `below` that is a matter of chance, the same in every run."""
    return f"(hash(i, {salt}) % {below})::BIGINT"


# Columns of the made-up rows, by the number `i` of the request and its moment `came_at`. A key's
# share of the requests falls with its number, as that of people does.
_BASE = f"""
SELECT i, came_at, least({_chance(1, 200)}, {_chance(2, 200)}) AS key, {_chance(3, 100)} AS fate,
    {_chance(4, 12)} AS model_number, {_chance(5, 60)} AS session_number,
    {_chance(6, 30_000)} + 1 AS input, {_chance(7, 3_000)} + 1 AS output,
    {_chance(8, 150_000)} AS cache_read, {_chance(9, 4_000)} AS cache_write,
    300 + {_chance(10, 4_000)} AS ttfb, {_chance(11, 40_000)} AS rest, {_chance(12, 3)} AS seat
FROM (SELECT i, make_timestamp(? + ((i - ?) * ?)::BIGINT) AS came_at FROM range(?, ?) AS made(i))
"""
_TEXT: dict[str, str] = {
    "request_id": "printf('tg_%014x', epoch_us(came_at)) || left(md5(i::VARCHAR), 18)",
    "started_at": "came_at",
    "first_byte_at": "CASE WHEN fate >= 4 THEN came_at + to_milliseconds(ttfb) END",
    "ended_at": "came_at + to_milliseconds(ttfb + rest)",
    "duration_ms": "ttfb + rest",
    "ttfb_ms": "CASE WHEN fate >= 4 THEN ttfb END",
    "endpoint": "CASE WHEN fate = 99 THEN 'count_tokens' ELSE 'messages' END",
    "key_id": "'key_' || printf('%04d', key)",
    "key_alias": "'developer-' || key",
    "user_id": "'user_' || key",
    "team_id": "'team_' || key % 20",
    "model_name": "'claude-' || model_number",
    "model": "'claude-' || model_number",
    "response_model": "CASE WHEN fate >= 4 THEN 'claude-' || model_number END",
    "deployment": "'claude-' || model_number",
    "billing": "CASE WHEN seat = 0 THEN 'api' ELSE 'subscription' END",
    "stream": "fate <> 99",
    "status": "CASE WHEN fate < 2 THEN 'refused' WHEN fate < 4 THEN 'failure' ELSE 'success' END",
    "http_status": "CASE WHEN fate < 2 THEN 429 WHEN fate < 4 THEN 529 ELSE 200 END",
    "error_type": "CASE WHEN fate < 2 THEN 'billing_error' "
    "WHEN fate < 4 THEN 'overloaded_error' END",
    "reason": "CASE WHEN fate < 2 THEN 'budget' END",
    "input_tokens": "input",
    "output_tokens": "output",
    "cache_read_tokens": "cache_read",
    "cache_write_5m_tokens": "cache_write",
    "prompt_tokens": "input + cache_read + cache_write",
    "total_tokens": "input + cache_read + cache_write + output",
    "service_tier": "'standard'",
    "cost_usd": "((30 * input + 150 * output + 3 * cache_read + 38 * cache_write)::DECIMAL(18, 0) "
    "* 0.0000001)::DECIMAL(18, 12)",
    "unpriced": "false",
    "estimated": "fate = 5",
    "session_id": "printf('%08x-0000-4000-8000-%012x', key * 60 + session_number, "
    "epoch(came_at)::BIGINT // 14400)",
    "user_agent": "'claude-cli/2.1.' || model_number || ' (external, cli)'",
    "stop_reason": "CASE WHEN fate >= 4 THEN 'end_turn' END",
    "upstream_request_id": "'req_' || md5(i::VARCHAR)",
    "message_id": "'msg_' || md5((-i)::VARCHAR)",
    "request_bytes": "4 * (input + cache_read)",
    "response_bytes": "400 * output",
    "producer": "'/proxy/made-up'",
    "producer_sequence": "i",
    "stream_sequence": "1",
    "priced_sequence": "1",
}
_ZERO = frozenset({"cache_write_1h_tokens", "web_search_requests", "web_fetch_requests"})


def fill(path: Path, requests: int, end_us: int = START_US + _DAY_US) -> None:
    """Put made-up requests into books that have a schema, and count them in the rollups.

    They are those of DAYS days before a moment.
    """
    columns = ", ".join(
        f"{_TEXT.get(name, '0' if name in _ZERO else 'NULL')} AS {name}"
        for name, _ in REQUEST_COLUMNS
    )
    names = ", ".join(name for name, _ in REQUEST_COLUMNS)
    store = Store(path)
    merging = rollups.Rollups(store.connection)
    a_day = requests // DAYS
    for day in range(DAYS):
        began_us = end_us + (day - DAYS) * _DAY_US
        first = day * a_day
        store.connection.execute("BEGIN")
        store.connection.execute(
            f"INSERT INTO requests ({names}) SELECT {columns} FROM ({_BASE})",
            [began_us, first, _DAY_US / a_day, first, first + a_day],
        )
        rollups.count(
            store.connection,
            "in",
            where="started_at >= make_timestamp(?)",
            parameters=[began_us],
        )
        merging.merge()
        store.connection.execute("COMMIT")
    store.connection.execute("CHECKPOINT")
    store.close()


_SUMS = "sum(requests) AS requests, sum(total_tokens) AS tokens, sum(cost_usd) AS cost_usd"


def queries(requests: int) -> dict[str, str]:
    """Return what the dashboard asks, by what it is for."""
    today, week, month = (f"day > DATE '{_LAST_DAY}' - {days}" for days in (1, 7, 30))
    at = f"TIMESTAMP '{_LAST_DAY}'"
    page = (
        "SELECT request_id, started_at, key_alias, model, status, total_tokens, cost_usd, "
        "duration_ms FROM requests WHERE {} ORDER BY started_at DESC, request_id LIMIT 50"
    )
    some = requests // DAYS * (DAYS // 2)
    middle_us = START_US + (DAYS // 2 - DAYS + 1) * 86_400_000_000
    one = f"tg_{middle_us:014x}{hashlib.md5(str(some).encode()).hexdigest()[:18]}"
    key_month = f"key_id = 'key_0007' AND day >= date_trunc('month', DATE '{_LAST_DAY}')"
    top = (
        "SELECT {0}, "
        + _SUMS
        + f" FROM spend_by_day WHERE {month} GROUP BY {{0}} "
        + ("ORDER BY cost_usd DESC LIMIT 10")
    )
    of_status = f"SELECT status, {_SUMS} FROM spend_by_day WHERE {{}} GROUP BY status"
    this_week = f"started_at > {at} - INTERVAL 6 DAY"
    return {
        "overview, today": of_status.format(today),
        "overview, week": of_status.format(week),
        "overview, month": of_status.format(month),
        "days and models, month": f"SELECT day, model, {_SUMS} FROM spend_by_day WHERE {month} "
        "GROUP BY day, model ORDER BY day, model",
        "days, all": f"SELECT day, {_SUMS} FROM spend_by_day GROUP BY day ORDER BY day",
        "top keys, month": top.format("key_id"),
        "top users, month": top.format("user_id"),
        "top teams, month": top.format("team_id"),
        "top models, month": top.format("model"),
        "log, newest": page.format(f"started_at > {at}"),
        "log of a key, a week": page.format(
            f"started_at > {at} - INTERVAL 6 DAY AND key_id = 'key_0150'"
        ),
        "log, failures of a week": page.format(f"{this_week} AND status = 'failure'"),
        "log, a page of two months ago": page.format(
            f"started_at BETWEEN {at} - INTERVAL 61 DAY AND {at} - INTERVAL 60 DAY"
        ),
        "a request by its id": f"SELECT * FROM requests WHERE request_id = '{one}'",
        "a session's requests": "SELECT request_id, started_at, model, cost_usd FROM requests "
        "WHERE session_id = (SELECT session_id FROM requests WHERE request_id = "
        f"'{one}') AND started_at BETWEEN make_timestamp({middle_us}) - INTERVAL 1 DAY AND "
        f"make_timestamp({middle_us}) + INTERVAL 1 DAY ORDER BY started_at",
        "dearest sessions, today": "SELECT session_id, count(*), sum(cost_usd) AS cost_usd FROM "
        f"requests WHERE started_at >= {at} GROUP BY session_id ORDER BY cost_usd DESC LIMIT 20",
        "a budget's month by day": f"SELECT day, {_SUMS} FROM spend_by_day WHERE {key_month} "
        "GROUP BY day ORDER BY day",
        "times to the first byte, month": "SELECT model, min(ttfb_below_ms) FILTER (below >= "
        "0.5 * of_all) AS p50_ms, min(ttfb_below_ms) FILTER (below >= 0.99 * of_all) AS p99_ms "
        "FROM (SELECT model, ttfb_below_ms, sum(sum(requests)) OVER (PARTITION BY model ORDER BY "
        "ttfb_below_ms) AS below, sum(sum(requests)) OVER (PARTITION BY model) AS of_all FROM "
        f"ttfb_by_day WHERE {month} GROUP BY model, ttfb_below_ms) GROUP BY model",
        "quotas of seats": "SELECT * FROM quota_now",
        **_reports(f"WHERE {month}"),
    }


def _reports(month: str) -> dict[str, str]:
    """Return what the routes about spend ask."""
    newest = f"LIMIT {newest_logs.LOGS_AT_ONCE_MAX + 1}"
    return {
        "/spend/keys, month": report_sql.spend_of_all_keys(month),
        "/spend/users, ever": report_sql.spend_of_all_users(""),
        "/spend/logs, newest quarter": f"{spend_sql.spend_logs('')} {newest}",
        "/spend/logs, by day, month": spend_sql.spend_by_day(month),
        "/spend/logs/v2, dearest of all": f"{spend_sql.spend_logs('', 'spend')} LIMIT 50",
        "/global/spend/report, month": report_sql.report_by_team(month),
        "... by key, ever": report_sql.report_by_group("", "key_id"),
        "/user/daily/activity, month": activity_sql.activity_parts(month, "user_id"),
    }


async def _ask(bus: Bus, sql: str) -> QueryReply:
    request = QueryRequest(
        query=sql, parameters=(), rows_max=QUERY_ROWS_MAX, timeout_s=30.0, format="json"
    )
    payload = await bus.request(QUERY_SUBJECT, msgspec.json.encode(request), timeout_s=40.0)
    reply = msgspec.json.decode(payload, type=QueryReply)
    assert reply.error is None, reply.error
    return reply


async def _count(bus: Bus) -> int:
    reply = await _ask(bus, "SELECT count(*) FROM requests")
    return int(json.loads(msgspec.json.encode(reply.rows))[0][0])


async def _feed(bus: Bus, messages: Sequence[bytes], end: asyncio.Event) -> None:
    for message in messages:
        if end.is_set():
            return
        await bus.publish("usage.0", message)
        await asyncio.sleep(FED_INTERVAL_S)


async def ask_all(
    proxy_url: str, admin_url: str, requests: int, repeats: int
) -> tuple[dict[str, list[float]], float]:
    """Return the times of every query in ms, and how many requests came in a second meanwhile."""
    proxy, admin = await Bus.connect(proxy_url, "proxy"), await Bus.connect(admin_url, "admin")
    end = asyncio.Event()
    messages = list(made_up_messages(FED_REQUESTS, plain=True, events_per_message=2 * FED_AT_ONCE))
    feeding = asyncio.create_task(_feed(proxy, messages[1:], end))
    times: dict[str, list[float]] = {}
    try:
        before, began_s = await _count(admin), time.monotonic()
        for _ in range(repeats):
            for name, sql in queries(requests).items():
                asked_s = time.monotonic()
                reply = await _ask(admin, sql)
                assert reply.rows or name == "quotas of seats", name
                times.setdefault(name, []).append(1000 * (time.monotonic() - asked_s))
                await asyncio.sleep(0.02)
        came = await _count(admin) - before
        took_s = time.monotonic() - began_s
    finally:
        end.set()
        await feeding
        await proxy.close()
        await admin.close()
    return times, came / took_s


def measure(folder: Path, requests: int, repeats: int) -> None:
    """Fill, ask and print. Raises AssertionError where a query is refused."""
    data = DataFolder(folder / "data")

    async def begin(bus: Bus) -> None:
        await bus.ensure_streams()

    async def first(bus: Bus) -> None:
        await bus.publish("usage.0", next(made_up_messages(1, plain=True)))

    with nats(data) as server:
        run(begin, server.url("ledger-writer"), "ledger-writer")
        run(first, server.url("proxy"), "proxy")
        reader = LedgerProcess(folder, server.url("ledger-reader"), "reader")
        reader.catch_up()
        began_s = time.monotonic()
        fill(reader.database, requests)
        size = reader.database.stat().st_size
        print(
            f"{requests:,} requests made in {time.monotonic() - began_s:.0f} s; "
            f"{size / requests:.0f} bytes a row",
            flush=True,
        )
        reader.start()
        try:
            reader.wait_ready()
            times, rate = asyncio.run(
                ask_all(server.url("proxy"), server.url("admin"), requests, repeats)
            )
        finally:
            assert reader.stop() == 0
    resident = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{rate:.0f} requests/s came in meanwhile; the reader held {resident:.0f} MiB at most")
    for name, found in times.items():
        print(f"  {name:32} p50 {statistics.median(found):6.0f} ms   max {max(found):6.0f} ms")


def main() -> None:
    """Measure, and print a table of it."""
    parser = argparse.ArgumentParser(prog="python -m bench.ledger_queries")
    parser.add_argument("--requests", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--smoke", action="store_true", help="few requests: only see that it works")
    values = parser.parse_args()
    requests, repeats = (9_000, 1) if values.smoke else (values.requests, values.repeats)
    with tempfile.TemporaryDirectory(prefix="tallygate-queries-") as folder:
        measure(Path(folder), requests, repeats)


if __name__ == "__main__":
    main()
