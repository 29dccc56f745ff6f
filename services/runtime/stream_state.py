"""What a stream holds, in the server's own words."""

import msgspec

__all__ = ["StreamState", "read_state"]


class StreamState(msgspec.Struct, frozen=True):
    """What a stream holds. `created` tells a stream from another one of the same name.

    `server_time` is the server's clock when it answered (RFC 3339).
    """

    first_sequence: int
    last_sequence: int
    messages: int
    created: str
    bytes: int = 0
    server_time: str = ""


class _StreamInfoState(msgspec.Struct):
    first_seq: int
    last_seq: int
    messages: int
    bytes: int = 0


class _StreamInfo(msgspec.Struct):
    created: str | None = None
    ts: str | None = None
    state: _StreamInfoState | None = None


def read_state(payload: bytes) -> StreamState | None:
    """Return the state in an answer to STREAM.INFO; None where there is no such stream."""
    answer = msgspec.json.decode(payload, type=_StreamInfo)
    if answer.state is None or answer.created is None:
        return None
    state = answer.state
    return StreamState(
        state.first_seq,
        state.last_seq,
        state.messages,
        answer.created,
        state.bytes,
        answer.ts or "",
    )
