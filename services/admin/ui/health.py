"""Health: do all processes run, do the books keep up, and is anything missing from them."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import msgspec
from litestar import Request, Response, get

from schemas.errors import ApiError
from schemas.rpc import ReaderState
from schemas.streams import ALERT, BUDGET, READER_STATE_SUBJECT, REGISTRY, USAGE
from services.admin.bodies_config import ProcessStanding
from services.admin.state import AdminState
from services.admin.ui.asking import Row, ask
from services.admin.ui.pages import is_part, page
from services.runtime.bus import BusError, BusUnavailable
from services.runtime.metrics import Series, parsed
from services.runtime.metrics_server import gather

__all__ = ["HEALTH_PAGE_ROUTES", "Complaint", "complaints_of"]

ASK_TIMEOUT_S = 2.0
LAG_MESSAGES_WANTED = 1000
"""The ledger is behind, for people, where more messages than this wait."""
OUTBOX_SHARE_WANTED = 10.0
"""An outbox of which more percent than this are full has not been able to publish for a while."""
GAPS_MAX = 50
_Request = Request[Any, Any, Any]

_BOOKS = """
SELECT sequence, stream_time, events, repeats, started, ends, closed, lost, corrected,
       (SELECT count(*) FROM open_requests) AS open_requests,
       (SELECT min(opened_at) FROM open_requests) AS oldest_open,
       (SELECT coalesce(sum(last_missing - first_missing + 1), 0) FROM gaps)::BIGINT AS missing,
       (SELECT count(*) FROM dead_letters) AS dead_letters,
       (SELECT count(*) FROM producers) AS producers
FROM checkpoints WHERE stream = 'USAGE'
"""
_MISSING = f"SELECT producer, first_missing, last_missing FROM gaps LIMIT {GAPS_MAX}"


class Complaint(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as it should be: `kind` is bad or warn; `text` says what to do."""

    kind: str
    title: str
    text: str


@get("/health", opt={"needs": "sees_all"})
async def health(request: _Request, admin: AdminState) -> Response[bytes]:
    """Show the processes, the streams, the books and what is wrong with them.

    Processes elsewhere are asked by NATS, which takes half a second: the page comes without them
    and fetches the part that has them.
    """
    processes, metrics, streams, books, reader = await asyncio.gather(
        _processes(admin) if is_part(request) else _none(),
        gather(admin.folder / "run" / "metrics"),
        _streams(admin),
        _books(admin),
        _reader(admin),
    )
    series = {part: _values(parsed(text)) for part, text in metrics.items()}
    rows = _rows(processes, series)
    last = next((each["last"] for each in streams if each["name"] == USAGE.name), None)
    lag = None if books is None or last is None else max(0, last - books["sequence"])
    complaints = complaints_of(
        connected=admin.bus.is_connected, rows=rows, books=books, lag=lag, reader=reader
    )
    missing = [] if books is None or not books["missing"] else await _missing(admin)
    return page(
        request,
        "health_parts.html" if is_part(request) else "health.html",
        complaints=complaints,
        rows=rows,
        streams=streams,
        books=books,
        lag=lag,
        missing=missing,
        asked_at=datetime.now(UTC),
    )


HEALTH_PAGE_ROUTES = (health,)


def complaints_of(
    *,
    connected: bool,
    rows: list[Row],
    books: Row | None,
    lag: int | None,
    reader: ReaderState | None,
) -> list[Complaint]:
    """Return what is wrong, the worst first. Pure."""
    found: list[Complaint] = []

    def bad(title: str, text: str) -> None:
        found.append(Complaint(kind="bad", title=title, text=text))

    def warn(title: str, text: str) -> None:
        found.append(Complaint(kind="warn", title=title, text=text))

    if not connected:
        bad(
            "NATS cannot be reached",
            "Requests go on and their events wait in the proxies' outboxes. Bring NATS back: "
            "nothing is lost, and what waits is booked then.",
        )
    for row in rows:
        if row["problem"]:
            bad(f"{row['part']} has not taken the configuration", row["problem"])
        if row["is_up"] is False:
            bad(
                f"{row['part']} does not answer", "Its log says why; tallygate doctor looks closer."
            )
        if row["events_lost"]:
            bad(f"{row['part']} lost events", "The disk of its data folder is full: make room.")
        elif row["outbox_share"] is not None and row["outbox_share"] > OUTBOX_SHARE_WANTED:
            warn(
                f"The outbox of {row['part']} is filling up",
                "Its events cannot be published: see NATS.",
            )
    if reader is not None and reader.rebuilding:
        warn(
            "The ledger is being rebuilt",
            f"It is at message {reader.sequence:,} of {reader.last_sequence:,}; totals come back "
            "when it is done.",
        )
    elif books is None and connected:
        bad(
            "The ledger's reader does not answer",
            "Totals cannot be shown. Requests go on and are counted.",
        )
    if books is not None and books["missing"]:
        bad(
            f"{books['missing']:,} events are missing",
            "A proxy numbered them and they never arrived: its disk or outbox may be lost. "
            "tallygate verify tells which.",
        )
    if books is not None and books["dead_letters"]:
        warn(
            f"{books['dead_letters']:,} messages could not be read",
            "They are kept in the table dead_letters with the reason.",
        )
    if lag is not None and lag > LAG_MESSAGES_WANTED:
        warn("The ledger is behind", f"{lag:,} messages wait to be booked; totals lag by that.")
    return sorted(found, key=lambda each: each.kind)


async def _none() -> list[ProcessStanding]:
    return []


async def _processes(admin: AdminState) -> list[ProcessStanding]:
    try:
        return list((await admin.reload.standing()).processes)
    except ApiError:
        return []


async def _streams(admin: AdminState) -> list[Row]:
    async def one(name: str) -> Row | None:
        try:
            state = await admin.bus.stream_state(name)
        except BusError:
            return None
        return {
            "name": name,
            "messages": state.messages,
            "bytes": state.bytes,
            "first": state.first_sequence,
            "last": state.last_sequence,
        }

    # Of PROMPTS this service may not even ask how much there is.
    names = [stream.name for stream in (USAGE, REGISTRY, BUDGET, ALERT)]
    found = await asyncio.gather(*(one(name) for name in names))
    return [each for each in found if each is not None]


async def _books(admin: AdminState) -> Row | None:
    try:
        rows = await ask(admin, _BOOKS)
    except ApiError:
        return None
    return rows[0] if rows else None


async def _missing(admin: AdminState) -> list[Row]:
    try:
        return await ask(admin, _MISSING)
    except ApiError:
        return []


async def _reader(admin: AdminState) -> ReaderState | None:
    try:
        reply = await admin.bus.request(READER_STATE_SUBJECT, b"", timeout_s=ASK_TIMEOUT_S)
    except BusUnavailable:
        return None
    return msgspec.json.decode(reply, type=ReaderState)


def _values(series: list[Series]) -> dict[str, float]:
    """Return a process's numbers by name; those of one name are added up."""
    found: dict[str, float] = {}
    for each in series:
        found[each.name] = found.get(each.name, 0.0) + each.value
    return found


def _rows(processes: list[ProcessStanding], series: dict[str, dict[str, float]]) -> list[Row]:
    """Return the processes that answered by NATS, and those whose metrics are at hand, by part."""
    rows: list[Row] = []
    seen: set[str] = set()
    for process in sorted(processes, key=lambda each: (each.part, each.process)):
        # Two machines may have a proxy-0 each; the metrics at hand are those of this one.
        known = series.get(process.part, {}) if process.part not in seen else {}
        seen.add(process.part)
        rows.append(_row(process.part, known, process))
    rows += [_row(part, known, None) for part, known in series.items() if part not in seen]
    return sorted(rows, key=lambda row: row["part"])


def _row(part: str, known: dict[str, float], process: ProcessStanding | None) -> Row:
    started_s = known.get("tallygate_process_start_time_seconds")
    limit = known.get("tallygate_outbox_limit_bytes")
    waiting = known.get("tallygate_outbox_bytes")
    return {
        "part": part,
        "process": process.process if process is not None else "",
        "is_up": True if process is not None else bool(known.get("tallygate_up")),
        "uptime_ms": None if started_s is None else (time.time() - started_s) * 1000,
        "memory_bytes": known.get("tallygate_process_resident_bytes"),
        "in_flight": known.get("tallygate_requests_in_flight"),
        "outbox_bytes": waiting,
        "outbox_share": None if not limit or waiting is None else waiting / limit * 100,
        "events_lost": known.get("tallygate_outbox_events_lost_total", 0),
        "problem": process.problem if process is not None else None,
        "has_taken": process.taken if process is not None else None,
    }
