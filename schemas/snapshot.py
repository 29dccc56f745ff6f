"""What the ledger's writer says when it is asked for a snapshot of its books.

A snapshot may take longer than NATS waits for an answer, so it is asked for again and again under
one id, until it is there. A request names no file: the writer makes it in its own data folder.
"""

import msgspec

__all__ = ["Snapshot", "SnapshotReply", "SnapshotRequest"]


class SnapshotRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Ask for a snapshot, or for one that was begun under this id."""

    id: str


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A whole copy of the books, of one moment.

    `path` is where it was made, on the writer's disk. `sequence` is the message of the stream made
    at `stream_created` up to which it holds everything (0: nothing was taken in yet), and `digest`
    that of its facts. `held_ms` is for how long the books could not take anything in.
    """

    path: str
    sequence: int
    stream_created: str
    digest: str
    requests: int
    size_bytes: int
    held_ms: float
    duration_s: float


class SnapshotReply(msgspec.Struct, frozen=True, kw_only=True):
    """The snapshot, or `running`: ask again under the same id. `error`: there will be none."""

    snapshot: Snapshot | None = None
    running: bool = False
    error: str | None = None
