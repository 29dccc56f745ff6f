"""What a look at the books found, before it is an event."""

from collections.abc import Callable

import msgspec

from schemas.alerts import AlertEvent

__all__ = ["Finding"]


class Finding(msgspec.Struct, frozen=True):
    """Something to raise: the event's type, its subject and its data."""

    kind: Callable[..., AlertEvent]
    data: msgspec.Struct
    subject: str | None = None
