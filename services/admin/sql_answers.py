"""The answer of POST /ledger/sql: which form it has, how long it may be, and who still waits."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Literal, TypeVar

from litestar import Request, Response
from litestar.response import Stream

from schemas.errors import BadRequest
from schemas.rpc import QUERY_PARTS_ROWS_MAX, QUERY_ROWS_MAX
from services.admin.bodies import SqlAnswer, SqlQuery
from services.admin.ledger_client import LedgerClient
from services.admin.reading import answer_json
from services.runtime.tasks import end_tasks

__all__ = ["TRUNCATED_HEADER", "answer_sql", "answer_table", "chosen_format", "unless_left"]

TRUNCATED_HEADER = "x-tallygate-truncated"
"""`true`: the answer was cut; `false`: it was not; `at-end`: if it was, its end says so."""
CLIENT_LEFT_STATUS = 499
"""Nobody reads this answer; it stands in logs and metrics (nginx's number for it)."""

_Request = Request[Any, Any, Any]
_Format = Literal["json", "csv", "arrow"]
_T = TypeVar("_T")
_MEDIA_TYPES: dict[_Format, str] = {
    "json": "application/json",
    "csv": "text/csv",
    "arrow": "application/vnd.apache.arrow.stream",
}


def chosen_format(given: _Format | None, accept: str | None) -> _Format:
    """Return the form of an answer: as the body says, else what Accept likes best, else JSON."""
    if given is not None:
        return given
    best: _Format = "json"
    best_quality = 0.0
    for position, part in enumerate((accept or "").lower().split(",")):
        kind, *parameters = (text.strip() for text in part.split(";"))
        wanted = next((name for name, media in _MEDIA_TYPES.items() if media == kind), None)
        if wanted is None and kind in {"*/*", "application/*"}:
            wanted = "json"
        elif wanted is None and kind == "text/*":
            wanted = "csv"
        quality = _quality(parameters) - position * 1e-9
        if wanted is not None and quality > best_quality:
            best, best_quality = wanted, quality
    return best


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(1.0, float(value))
            except ValueError:
                return 0.0
    return 1.0


async def answer_sql(
    ledger: LedgerClient, body: SqlQuery, form: _Format, team_id: str | None
) -> Response[bytes] | Stream:
    """Return the answer to a query: whole in JSON, in parts as CSV and Arrow."""
    if form != "json":
        first, contents = await ledger.query_in_parts(
            body.query,
            body.parameters,
            rows_max=body.rows_max or QUERY_PARTS_ROWS_MAX,
            answer_format=form,
            team_id=team_id,
        )
        media_type = _MEDIA_TYPES[form]
        if first.more:
            headers = {TRUNCATED_HEADER: "at-end"}
            return Stream(contents, media_type=media_type, headers=headers)
        headers = {TRUNCATED_HEADER: "true" if first.truncated else "false"}
        return Response(content=first.content, media_type=media_type, headers=headers)
    if body.rows_max is not None and body.rows_max > QUERY_ROWS_MAX:
        raise BadRequest(
            f"rows_max: JSON holds {QUERY_ROWS_MAX} rows at most; CSV and Arrow hold "
            f"{QUERY_PARTS_ROWS_MAX}",
            param="rows_max",
        )
    reply = await ledger.query(
        body.query, body.parameters, rows_max=body.rows_max or QUERY_ROWS_MAX, team_id=team_id
    )
    return answer_json(
        SqlAnswer(
            columns=reply.columns,
            rows=reply.rows,
            truncated=reply.truncated,
            duration_ms=reply.duration_ms,
            stream_sequence=reply.stream_sequence,
        )
    )


async def answer_table(
    request: _Request,
    ledger: LedgerClient,
    sql: str,
    parameters: Sequence[object],
    form: _Format,
) -> Response[bytes] | Stream:
    """Return a report of ours as CSV or Arrow, in parts where it is long."""
    body = SqlQuery(query=sql, parameters=tuple(parameters))
    return await unless_left(request, answer_sql(ledger, body, form, None))


async def unless_left(request: _Request, work: Coroutine[Any, Any, _T]) -> _T | Response[bytes]:
    """Return the result of some work, which is cancelled when the client leaves before it ends.

    The request's body must have been read.
    """
    task = asyncio.create_task(work)
    leaving = asyncio.create_task(_left(request))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        return Response(content=b"", status_code=CLIENT_LEFT_STATUS)
    finally:
        await end_tasks(task, leaving)


async def _left(request: _Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
