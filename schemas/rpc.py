"""Requests and replies on NATS: of the admin service to the ledger's reader and to everyone."""

from typing import Any, Literal

import msgspec

__all__ = [
    "QUERY_PARTS_BYTES_MAX",
    "QUERY_PARTS_ROWS_MAX",
    "QUERY_ROWS_MAX",
    "QUERY_SQL_BYTES_MAX",
    "QUERY_TIMEOUT_S",
    "Column",
    "ConfigState",
    "QueryControl",
    "QueryReply",
    "QueryRequest",
    "ReaderState",
]

QUERY_SQL_BYTES_MAX = 64 * 1024
QUERY_ROWS_MAX = 10_000
QUERY_TIMEOUT_S = 10.0
QUERY_PARTS_ROWS_MAX = 1_000_000
"""An answer in CSV or Arrow, which may come in parts, has at most so many rows; then it is cut."""
QUERY_PARTS_BYTES_MAX = 256 * 1024 * 1024
"""And it is at most about this long (a part more); then it is cut, too."""


class QueryRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One SELECT over the ledger's tables. `parameters` fill its `$1`, `$2`, … (or `?`) marks.

    With a `team_id` it sees the rows of that team alone; None: all rows. By its `query_id`, a
    random text, it can be cancelled. With `in_parts` an answer in CSV or Arrow may come in parts,
    of which each further one is asked for with a QueryControl.
    """

    query: str
    parameters: tuple[Any, ...] = ()
    rows_max: int = QUERY_ROWS_MAX
    timeout_s: float = QUERY_TIMEOUT_S
    format: Literal["json", "csv", "arrow"] = "json"
    team_id: str | None = None
    query_id: str = ""
    in_parts: bool = False


class QueryControl(msgspec.Struct, frozen=True, kw_only=True):
    """About the query with this id: ask for its `next` part, or `cancel` it."""

    query_id: str
    action: Literal["next", "cancel"]


class Column(msgspec.Struct, frozen=True):
    """A column of an answer: its name and DuckDB's type."""

    name: str
    type: str


class QueryReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer: columns and rows, or an error.

    Cells are JSON values: DECIMAL and 64-bit-exceeding integers as strings (exact), timestamps as
    RFC 3339 strings in UTC. `truncated` says that `rows_max` cut the answer. `error_kind` is
    `refused` (not a single SELECT, or a function that is not allowed), `invalid` (DuckDB could not
    run it), `timeout`, `too_large`, `cancelled` or `unavailable`. `content` is the answer in CSV or
    as Arrow's IPC stream, where that was asked for, in place of `rows`. `team_id` repeats that of
    the request: a reader of an older version, which does not know it and reads all rows, is told by
    that. `more` says that a further part can be asked for; only the last one knows of `truncated`.
    """

    columns: tuple[Column, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
    truncated: bool = False
    duration_ms: float = 0.0
    stream_sequence: int = 0
    content: bytes = b""
    more: bool = False
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
