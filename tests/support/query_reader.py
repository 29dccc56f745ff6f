"""The ledger's query service over a table that a test fills: answers on NATS, in a thread."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from schemas.rpc import ReaderState
from schemas.streams import QUERY_CONTROL_SUBJECT, QUERY_SUBJECT, READER_STATE_SUBJECT
from services.ledger.query import QueryService
from services.ledger.rollups import count
from services.runtime.bus import Bus

__all__ = ["fill", "request_row", "running_query_reader"]

START_TIMEOUT_S = 60.0
_MEMORY_BYTES_MAX = 256 * 1024 * 1024


def request_row(**cells: Any) -> dict[str, Any]:
    """Return a row of the table `requests`; what is not given is plausible, or empty."""
    row: dict[str, Any] = {
        "request_id": "tg_1",
        "started_at": "2026-11-20 10:00:00",
        "first_byte_at": "2026-11-20 10:00:01",
        "ended_at": "2026-11-20 10:00:02",
        "duration_ms": 2000,
        "endpoint": "messages",
        "model_name": "anthropic-claude",
        "model": "claude-sonnet-4-20250514",
        "billing": "api",
        "stream": True,
        "status": "success",
        "http_status": 200,
        "input_tokens": 2,
        "output_tokens": 333,
        "cache_read_tokens": 25142,
        "cache_write_5m_tokens": 0,
        "cache_write_1h_tokens": 39535,
        "prompt_tokens": 64679,
        "total_tokens": 65012,
        "web_search_requests": 0,
        "web_fetch_requests": 0,
        "cost_usd": "0.249753600000",
        "unpriced": False,
        "estimated": False,
        "request_bytes": 1,
        "response_bytes": 1,
        "producer": "p",
        "producer_sequence": 1,
        "stream_sequence": 1,
    }
    return row | cells


@contextmanager
def running_query_reader(
    folder: Path,
    nats_url: str,
    rows: list[dict[str, Any]],
    others: dict[str, list[dict[str, Any]]] | None = None,
    *,
    sequence_query: str | None = None,
) -> Iterator[QueryService]:
    """Answer queries on QUERY_SUBJECT from the ledger's own schema, for a with statement.

    `rows` are requests, `others` rows of other tables by their names. `sequence_query` tells what
    answers say of the stream's message that they stand at.
    """
    folder.mkdir(parents=True, exist_ok=True)
    connection = duckdb.connect(str(folder / "reader.duckdb"))
    connection.execute(files("services.ledger.sql").joinpath("schema.sql").read_text())
    connection.begin()
    for table, filled in {"requests": rows, **(others or {})}.items():
        fill(connection, table, filled)
    connection.commit()
    count(connection, "in")
    service = QueryService(
        connection, memory_bytes_max=_MEMORY_BYTES_MAX, sequence_query=sequence_query
    )
    loop = asyncio.new_event_loop()
    serving, stop = threading.Event(), asyncio.Event()

    async def serve() -> None:
        bus = await Bus.connect(nats_url, "ledger-reader")

        async def answer(payload: bytes) -> bytes:
            return await asyncio.to_thread(service.answer, payload)

        async def control(payload: bytes) -> bytes:
            return await asyncio.to_thread(service.control, payload)

        async def tell(_: bytes) -> bytes:
            return msgspec.json.encode(ReaderState(uptime_s=loop.time() - began_at_s))

        began_at_s = loop.time()
        await bus.serve(READER_STATE_SUBJECT, tell)
        await bus.serve(QUERY_SUBJECT, answer)
        await bus.serve(QUERY_CONTROL_SUBJECT, control)
        await bus.flush()
        serving.set()
        await stop.wait()
        await bus.close()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert serving.wait(START_TIMEOUT_S), "the query service did not start"
    try:
        yield service
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(START_TIMEOUT_S)
        service.close()  # stops what still runs
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        connection.close()


def fill(connection: duckdb.DuckDBPyConnection, table: str, rows: list[dict[str, Any]]) -> None:
    """Insert rows; columns that need a value and are given none are empty."""
    needed = connection.execute(
        "SELECT column_name, data_type FROM duckdb_columns() "
        "WHERE table_name = ? AND NOT is_nullable",
        [table],
    ).fetchall()
    of_kind: dict[str, Any] = {"VARCHAR": "", "VARCHAR[]": []}
    empty = {name: of_kind.get(kind, 0) for name, kind in needed}
    for row in rows:
        cells = empty | row
        names, marks = ", ".join(cells), ", ".join("?" for _ in cells)
        connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", [*cells.values()])
