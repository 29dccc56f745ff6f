"""One question to the ledger, and its answer printed: as a table, JSON, CSV or Arrow."""

import sys
from typing import Any

import msgspec

from schemas.rpc import Column
from services.client.gateway import ClientError, Gateway
from services.client.output import csv_text, note, print_json, print_table

__all__ = ["SQL_PATH", "Answer", "ask", "print_answer", "print_arrow"]

SQL_PATH = "/ledger/sql"
_NUMERIC = ("DECIMAL", "DOUBLE", "FLOAT", "BIGINT", "INTEGER", "HUGEINT", "SMALLINT", "TINYINT")


class Answer(msgspec.Struct):
    """What POST /ledger/sql answers; `content` is the whole of it as it came."""

    columns: list[Column]
    rows: list[list[Any]]
    truncated: bool = False
    duration_ms: float = 0.0
    content: bytes = b""


def ask(gateway: Gateway, body: dict[str, Any]) -> Answer:
    """Return the answer to a question. Raises ClientError."""
    content = gateway.post(SQL_PATH, body)
    answer = msgspec.json.decode(content, type=Answer)
    answer.content = content
    return answer


def print_answer(answer: Answer, output: str, *, raw: bool) -> None:
    """Print an answer as `output` says (table, json or csv), and a note where rows were cut."""
    names = [(column.name, column.type) for column in answer.columns]
    if output == "json":
        print_json(answer.content)
    elif output == "csv":
        sys.stdout.write(csv_text(names, answer.rows, raw=raw))
    else:
        right = frozenset(
            number
            for number, (_, kind) in enumerate(names)
            if kind.lstrip("U").startswith(_NUMERIC)
        )
        print_table([name for name, _ in names], answer.rows, right=right)
    if answer.truncated:
        note(f"note: cut after {len(answer.rows)} rows; there are more")


_CUT_MARK = b"tallygate.truncated"
_END_BYTES = 64 * 1024
"""The last batch of a cut answer, without rows, and the end of the stream are shorter than this."""


def print_arrow(gateway: Gateway, body: dict[str, Any]) -> None:
    """Write an Arrow IPC stream to standard output. Raises ClientError where that is a screen."""
    if sys.stdout.isatty():
        raise ClientError("an Arrow stream is not for a screen: redirect it, as in > answer.arrows")
    end = b""
    with gateway.streamed_post(SQL_PATH, body | {"format": "arrow"}) as (headers, chunks):
        for chunk in chunks:
            sys.stdout.buffer.write(chunk)
            end = (end + chunk)[-_END_BYTES:]
    sys.stdout.buffer.flush()
    truncated = headers.get("x-tallygate-truncated")
    if truncated == "true" or (truncated == "at-end" and _CUT_MARK in end):
        note("note: the answer was cut; there are more rows")
