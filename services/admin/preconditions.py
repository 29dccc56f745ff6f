"""Conditional changes: `If-Match` names the state that a change was decided on (RFC 9110 §13.1.1).

The ETag of a key, team, user or model is the stream sequence of its last event, which no other
record ever had. The guard notes what a request demands for the task that serves it, and the
registry's writer compares: a route that changes a record cannot forget it.
"""

import re
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any

import msgspec
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from schemas.errors import ApiError, BadRequest
from services.admin.describing import Description

__all__ = [
    "ETAGS_MAX",
    "Condition",
    "PreconditionFailed",
    "condition_in",
    "current_condition",
    "etag_header",
    "note_condition",
]

ETAGS_MAX = 100
"""So many entity tags in one request: as many as records that one request can delete."""
_STATUS = 412
_ETAG = re.compile(r'(?:W/)?"([\x21\x23-\x7e]*)"')
_SEQUENCE = re.compile(r"[1-9][0-9]{0,18}")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class PreconditionFailed(ApiError):
    """412: the record is not in the state that `If-Match` names, so nothing was changed."""

    http_status = _STATUS
    error_type = "precondition_error"

    def __init__(self, kind: str) -> None:
        look = f"GET /{kind}/info"
        super().__init__(
            f"the {kind} is no longer as the ETag in If-Match says: somebody changed it since. "
            f"Nothing was changed. Read it with {look}, and decide anew with the ETag that it has",
            param="If-Match",
        )


class Condition(msgspec.Struct, frozen=True):
    """What a request demands of the record that it changes.

    `sequences` are those that its ETags name, None where any will do (`If-Match: *`).
    """

    sequences: frozenset[int] | None

    def admits(self, sequence: int) -> bool:
        """Tell whether a record whose last event is at `sequence` (0: none) may be changed."""
        return sequence > 0 and (self.sequences is None or sequence in self.sequences)

    @property
    def newest(self) -> int:
        """The highest sequence that is named, 0 where none is."""
        return max(self.sequences or (), default=0)


_current: ContextVar[Condition | None] = ContextVar("condition", default=None)


def current_condition() -> Condition | None:
    """Return what the request demands that is being served; None where it demands nothing."""
    return _current.get()


def etag_header(sequence: int) -> dict[str, str]:
    """Return the header that tells a record's state."""
    return {"etag": f'"{sequence}"'}


def condition_in(headers: Iterable[tuple[bytes, bytes]]) -> Condition | None:
    """Return what the header `If-Match` demands. Raises BadRequest where it is malformed.

    An entity tag of somebody else's making is well formed and fits no record. A weak one counts
    as its strong form: on their way through compressing proxies ETags are made weak.
    """
    values = [value.decode("latin-1").strip() for name, value in headers if name == b"if-match"]
    if not values:
        return None
    if values == ["*"]:
        return Condition(None)
    texts = [text.strip() for text in ",".join(values).split(",") if text.strip()]
    found = [_ETAG.fullmatch(text) for text in texts]
    if not texts or len(texts) > ETAGS_MAX or not all(found):
        raise BadRequest(
            'If-Match must hold ETags as they were answered, with their quotes ("123"), separated '
            f"by commas and {ETAGS_MAX} at most, or *",
            param="If-Match",
        )
    named = (each[1] for each in found if each is not None)
    return Condition(frozenset(int(text) for text in named if _SEQUENCE.fullmatch(text)))


def note_condition(
    connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler
) -> Condition | None:
    """Note and return what a request demands, for all that this task does from now on.

    Raises BadRequest where the route does not compare (its description lists no 412): a demand
    that is passed over would be worse than none.
    """
    condition = condition_in(connection.scope["headers"])
    if condition is not None:
        if connection.scope.get("method") in _SAFE_METHODS:
            condition = None
        elif not _compares(handler):
            raise BadRequest("this route does not take If-Match", param="If-Match")
    _current.set(condition)
    return condition


def _compares(handler: BaseRouteHandler) -> bool:
    description: Description | None = handler.opt.get("description")
    return description is not None and _STATUS in description.errors
