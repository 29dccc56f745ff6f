"""Requests and replies on NATS: of the admin service to the ledger's reader and to everyone."""

from typing import Any, Literal

import msgspec

__all__ = [
    "QUERY_ROWS_MAX",
    "QUERY_SQL_BYTES_MAX",
    "QUERY_TIMEOUT_S",
    "Column",
    "ConfigState",
    "QueryReply",
    "QueryRequest",
    "ReaderState",
]

QUERY_SQL_BYTES_MAX = 64 * 1024
QUERY_ROWS_MAX = 10_000
QUERY_TIMEOUT_S = 10.0


class QueryRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One SELECT over the ledger's tables. `parameters` fill its `$1`, `$2`, … (or `?`) marks.

    With a `team_id` it sees the rows of that team alone; None: all rows.
    """

    query: str
    parameters: tuple[Any, ...] = ()
    rows_max: int = QUERY_ROWS_MAX
    timeout_s: float = QUERY_TIMEOUT_S
    format: Literal["json", "csv", "arrow"] = "json"
    team_id: str | None = None


class Column(msgspec.Struct, frozen=True):
    """A column of an answer: its name and DuckDB's type."""

    name: str
    type: str


class QueryReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer: columns and rows, or an error.

    Cells are JSON values: DECIMAL and 64-bit-exceeding integers as strings (exact), timestamps as
    RFC 3339 strings in UTC. `truncated` says that `rows_max` cut the answer. `error_kind` is
    `refused` (not a single SELECT, or a function that is not allowed), `invalid` (DuckDB could not
    run it), `timeout`, `too_large` or `unavailable`. `content` is the answer in CSV or as Arrow's
    IPC stream, where that was asked for, in place of `rows`. `team_id` repeats that of the request:
    a reader of an older version, which does not know it and reads all rows, is told by that.
    """

    columns: tuple[Column, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
    truncated: bool = False
    duration_ms: float = 0.0
    stream_sequence: int = 0
    content: bytes = b""
    team_id: str | None = None
    error: str | None = None
    error_kind: str | None = None


class ReaderState(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger's reader says of itself.

    `uptime_s`: for how long it has taken queries. While `rebuilding`, it has taken in the stream up
    to the message `sequence`, and refuses queries until that is `last_sequence`.
    """

    uptime_s: float
    rebuilding: bool = False
    sequence: int = 0
    last_sequence: int = 0


class ConfigState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which configuration a process has in force; every process answers with it.

    `process` is a random name of this life of the process. `sha256` is the digest of the file's
    content in force. `handled_sequence` is that of the last `config.changed` event that the
    process has dealt with; `problem` says why it was not taken. `restart_needed` are settings
    whose new values wait for a restart, `unusable_models` the ids of models of the registry that
    this process cannot serve.
    """

    part: str
    process: str
    path: str
    sha256: str
    handled_sequence: int
    problem: str | None = None
    restart_needed: tuple[str, ...] = ()
    unusable_models: tuple[str, ...] = ()
