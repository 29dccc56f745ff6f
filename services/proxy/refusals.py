"""Refusals are booked: who was refused what, and why."""

import msgspec

from schemas.errors import ApiError, Unauthenticated
from schemas.events import Rejection
from services.proxy.draft import Draft, now_us
from services.proxy.outbox import Outbox

__all__ = ["UNIDENTIFIED_EVENTS_PER_S", "Refusals"]

UNIDENTIFIED_EVENTS_PER_S = 10
"""Refusals of requests without a known key that are booked; a flood of more is only counted."""
_REASON_MAX = 1024


class Refusals:
    """Writes the refusals of one worker to its outbox."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._unidentified_second = 0
        self._unidentified_count = 0
        self.unidentified_unbooked = 0

    def book(self, error: ApiError, draft: Draft) -> None:
        """Book a refusal, unless it is one more of a flood without a known key."""
        self._outbox.counts.refused(error.error_type, error.http_status)
        if draft.key is None and not self._may_book_unidentified(draft.started_at_us):
            self.unidentified_unbooked += 1
            return
        if draft.key is None and not isinstance(error, Unauthenticated):
            return
        self._outbox.request_rejected(
            Rejection(
                **msgspec.structs.asdict(draft.facts()),
                ended_at_us=max(now_us(), draft.started_at_us),
                http_status=error.http_status,
                error_type=error.error_type,
                reason=error.message[:_REASON_MAX],
            )
        )

    def _may_book_unidentified(self, at_us: int) -> bool:
        second = at_us // 1_000_000
        if second != self._unidentified_second:
            self._unidentified_second = second
            self._unidentified_count = 0
        self._unidentified_count += 1
        return self._unidentified_count <= UNIDENTIFIED_EVENTS_PER_S
