"""The page SQL: any question to the ledger, its answer as a table, a chart and a file.

A query stands in the page's address, as filters do elsewhere: it changes nothing, so it can be
linked, and the button back works. Who may ask is who may at POST /ledger/sql.
"""

from typing import Any

from litestar import Request, Response, get
from litestar.response import Stream

from schemas.errors import ApiError, BadRequest, NotFound
from schemas.rpc import QUERY_PARTS_ROWS_MAX, QUERY_ROWS_MAX, QUERY_TIMEOUT_S, QueryReply
from services.admin.analysts import team_seen_by
from services.admin.bodies import SqlQuery
from services.admin.key_types import refuse_other_routes
from services.admin.sql_answers import TRUNCATED_HEADER, answer_sql, unless_left
from services.admin.state import AdminState, now_us
from services.admin.ui.access import viewer_of
from services.admin.ui.asking import Row, rows_from
from services.admin.ui.pages import HEADERS, page
from services.admin.ui.sheets import as_sheet
from services.admin.ui.sql_examples import EXAMPLES
from services.admin.ui.sql_files import parquet_of
from services.admin.ui.sql_result import cells_of, picture_of

__all__ = ["SQL_ROUTES"]

QUERY_CHARS_MAX = 8_000
"""A query that stands in an address is at most so long; POST /ledger/sql takes longer ones."""
ROWS_SHOWN_MAX = 500
"""The page shows so many rows; the files have all of them, up to the ledger's own limit."""
_DESCRIPTION = """
SELECT c.table_name, t.comment AS table_comment, c.column_name, c.data_type, c.comment
FROM duckdb_columns() AS c
JOIN (SELECT table_name, comment FROM duckdb_tables()
      UNION ALL SELECT view_name, comment FROM duckdb_views()) AS t USING (table_name)
WHERE NOT c.internal AND t.comment IS NOT NULL
ORDER BY c.table_name, c.column_index
"""
_FIRST = ("requests", "spend_by_day", "sessions", "prices", "keys", "users", "teams")
"""The tables that are asked most come first."""
_Request = Request[Any, Any, Any]


@get("/sql")
async def sql_page(request: _Request, admin: AdminState) -> Response[bytes]:
    """Show the editor, and the answer to the query in the address."""
    team_id = _team_of(request)
    query = request.query_params.get("q", "").strip()
    shown: dict[str, Any] = {"reply": None, "problem": "", "picture": None, "rows": []}
    if query:
        try:
            _check(query)
            reply = await unless_left(
                request, admin.ledger.query(query, rows_max=ROWS_SHOWN_MAX, team_id=team_id)
            )
        except ApiError as error:
            shown["problem"] = error.message
        else:
            if not isinstance(reply, QueryReply):
                return reply
            shown["reply"] = reply
            shown["rows"] = [cells_of(reply.columns, row) for row in reply.rows]
            shown["picture"] = picture_of(reply.columns, reply.rows)
    return page(
        request,
        "sql.html",
        query_text=query or EXAMPLES[0][1],
        is_asked=bool(query),
        team_id=team_id,
        examples=EXAMPLES,
        tables=await _tables(admin),
        rows_shown_max=ROWS_SHOWN_MAX,
        rows_max=QUERY_ROWS_MAX,
        file_rows_max=QUERY_PARTS_ROWS_MAX,
        timeout_s=QUERY_TIMEOUT_S,
        **shown,
    )


@get("/sql/{name:str}")
async def sql_file(request: _Request, admin: AdminState, name: str) -> Response[Any] | Stream:
    """Return an answer as a file: result.csv, result.arrow or result.parquet."""
    team_id = _team_of(request)
    query = request.query_params.get("q", "").strip()
    _check(query)
    body = SqlQuery(query=query)
    headers = {**HEADERS, "content-disposition": f'attachment; filename="{name}"'}
    answer: Response[Any] | Stream
    match name:
        case "result.csv":
            answer = await unless_left(request, answer_sql(admin.ledger, body, "csv", team_id))
            return as_sheet(answer, name)
        case "result.arrow":
            answer = await unless_left(request, answer_sql(admin.ledger, body, "arrow", team_id))
        case "result.parquet":
            _, contents = await admin.ledger.query_in_parts(
                query,
                (),
                rows_max=QUERY_PARTS_ROWS_MAX,
                answer_format="arrow",
                team_id=team_id,
            )
            parts, is_cut = await parquet_of(contents)
            answer = Stream(parts, media_type="application/vnd.apache.parquet")
            headers[TRUNCATED_HEADER] = "true" if is_cut else "false"
        case _:
            raise NotFound("There is no such file: there are result.csv, .arrow and .parquet.")
    answer.headers.update(headers)
    return answer


SQL_ROUTES = (sql_page, sql_file)


def _team_of(request: _Request) -> str | None:
    """Return the team whose rows alone the viewer may ask for; None: all. Raises Forbidden."""
    caller = viewer_of(request).caller
    refuse_other_routes(caller.key, "POST", "/ledger/sql")
    return team_seen_by(caller, now_us())


def _check(query: str) -> None:
    """Raise BadRequest for a query that is none, or is too long for an address."""
    if not query:
        raise BadRequest("write a query first")
    if len(query) > QUERY_CHARS_MAX:
        raise BadRequest(
            f"this query has {len(query)} characters, and here are {QUERY_CHARS_MAX} at most: "
            "send longer ones to POST /ledger/sql or with `tallygate sql`"
        )


async def _tables(admin: AdminState) -> list[Row]:
    """Return the ledger's documented tables with their columns; none where it cannot say."""
    try:
        rows = rows_from(await admin.ledger.query(_DESCRIPTION))
    except ApiError:
        return []  # the answer's own place says what is wrong
    tables: dict[str, Row] = {}
    for row in rows:
        table = tables.setdefault(
            row["table_name"],
            {"name": row["table_name"], "comment": row["table_comment"], "columns": []},
        )
        table["columns"].append(row)
    rank = {name: place for place, name in enumerate(_FIRST)}
    return sorted(
        tables.values(), key=lambda each: (rank.get(each["name"], len(rank)), each["name"])
    )
