"""Where the change comes from that a request asks for: noted once, read wherever events are made.

The guard notes it for the task that serves the request, so no route can forget it, and none has to
hand it on.
"""

from contextvars import ContextVar

import msgspec

__all__ = ["Origin", "current_origin", "note_origin"]

ROUTE_LENGTH_MAX = 256


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """The client's address, the route that it asked (`POST /key/update`), and its request's id.

    All are None where no request asked: what a signal or a start brought about.
    """

    client_address: str | None = None
    route: str | None = None
    request_id: str | None = None


_NOBODY = Origin()
_current: ContextVar[Origin] = ContextVar("origin", default=_NOBODY)


def note_origin(client_address: str, method: str, path_template: str, request_id: str) -> None:
    """Note who asks for what, for all that this task does from now on.

    `path_template` is the route's own path: what stands in its place may be a key.
    """
    route = f"{method} {path_template}"[:ROUTE_LENGTH_MAX]
    origin = Origin(client_address=client_address, route=route, request_id=request_id)
    _current.set(origin)


def current_origin() -> Origin:
    """Return where the change comes from that is being made."""
    return _current.get()
