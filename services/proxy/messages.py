"""POST /v1/messages and POST /v1/messages/count_tokens: the hot path, as a raw ASGI application."""

import logging

import msgspec

from schemas.errors import ApiError, InternalError, NotFound, Unauthenticated
from schemas.events import Endpoint, Rejection
from services.proxy.admission import (
    Admission,
    Admitted,
    ClientGone,
    Draft,
    new_request_id,
    now_us,
)
from services.proxy.answers import Receive, Scope, Send, send_error
from services.proxy.exchange import Exchange
from services.proxy.outbox import Outbox
from services.proxy.upstream import Transport

__all__ = ["Messages"]

log = logging.getLogger(__name__)

UNIDENTIFIED_EVENTS_PER_S = 10
"""Refusals of requests without a known key that are booked; a flood of more is only counted."""

_ENDPOINTS: dict[bytes, Endpoint] = {
    b"/v1/messages": "messages",
    b"/v1/messages/count_tokens": "count_tokens",
}


class MethodNotAllowed(ApiError):
    """405: this path takes POST alone."""

    http_status = 405
    error_type = "invalid_request_error"


class Messages:
    """Admits requests, forwards them, books refusals."""

    def __init__(self, *, admission: Admission, outbox: Outbox, transport: Transport) -> None:
        self._admission = admission
        self._outbox = outbox
        self._transport = transport
        self._unidentified_second = 0
        self._unidentified_count = 0
        self.unidentified_unbooked = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        started_at_us = now_us()
        draft = self._admission.draft(new_request_id(started_at_us), started_at_us, "messages")
        try:
            admitted = await self._admit(scope, receive, draft)
        except ApiError as error:
            self._book_refusal(error, draft)
            await send_error(send, error, draft.request_id)
            return
        except ClientGone:
            return
        except Exception:
            log.exception("a request could not be admitted")
            fault = InternalError("The gateway failed; its log says how")
            await send_error(send, fault, draft.request_id)
            return
        exchange = Exchange(admitted, outbox=self._outbox, transport=self._transport)
        await exchange.run(receive, send)

    async def _admit(self, scope: Scope, receive: Receive, draft: Draft) -> Admitted:
        path: bytes = scope["raw_path"].split(b"?", 1)[0]
        endpoint = _ENDPOINTS.get(path)
        if endpoint is None:
            raise NotFound(f"There is no {path.decode('latin-1')[:100]} here")
        if scope["method"] != "POST":
            raise MethodNotAllowed("This path takes POST alone", {"allow": "POST"})
        draft.endpoint = endpoint
        query: bytes = scope["query_string"]
        target = path + b"?" + query if query else path
        return await self._admission.admit(target, list(scope["headers"]), receive, draft)

    def _book_refusal(self, error: ApiError, draft: Draft) -> None:
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
                reason=error.message[:1024],
            )
        )

    def _may_book_unidentified(self, at_us: int) -> bool:
        second = at_us // 1_000_000
        if second != self._unidentified_second:
            self._unidentified_second = second
            self._unidentified_count = 0
        self._unidentified_count += 1
        return self._unidentified_count <= UNIDENTIFIED_EVENTS_PER_S
