"""The outermost layer: an id for every request, and limits that the HTTP server does not set."""

from typing import Any

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from services.admin.errors import JSON, new_request_id, render_error
from services.runtime.metrics import Sample, sample

__all__ = ["HEADERS_MAX", "HEADER_BYTES_MAX", "REQUESTS_RUNNING_MAX", "RequestCounts", "limited"]

HEADERS_MAX = 100
HEADER_BYTES_MAX = 64 * 1024
"""Header names and values together; more is answered 400."""
REQUESTS_RUNNING_MAX = 200
"""So many requests run at the same time; a further one is answered 503 at once."""


class RequestCounts:
    """Answers by status, and how many requests run."""

    def __init__(self) -> None:
        self.running = 0
        self._answers: dict[int, int] = {}

    def answered(self, status: int) -> None:
        """Count an answer."""
        self._answers[status] = self._answers.get(status, 0) + 1

    async def metrics(self) -> list[Sample]:
        """Return all of it."""
        return [
            *(
                sample("tallygate_admin_requests_total", count, str(status))
                for status, count in self._answers.items()
            ),
            sample("tallygate_admin_requests_in_flight", self.running),
        ]


def limited(app: ASGIApp, counts: RequestCounts | None = None) -> ASGIApp:
    """Return the application behind the limits. Every answer carries its `request-id`.

    `counts` hears of every answer.
    """
    counts = counts if counts is not None else RequestCounts()
    running = 0

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal running
        request_id = new_request_id()
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                message["headers"] = [*headers, (b"request-id", request_id.encode())]
                counts.answered(message["status"])
            await send(message)

        refusal = _refusal(scope, running)
        if refusal is not None:
            await _answer(send_with_id, request_id, *refusal)
            return
        running += 1
        counts.running = running
        try:
            await app(scope, receive, send_with_id)
        finally:
            running -= 1
            counts.running = running

    return serve


def _refusal(scope: Scope, running: int) -> tuple[int, str, str] | None:
    """Return status, type and message where a request goes beyond a limit."""
    headers = list(scope["headers"])
    if len(headers) > HEADERS_MAX:
        return 400, "invalid_request_error", f"more than {HEADERS_MAX} headers"
    if sum(len(name) + len(value) for name, value in headers) > HEADER_BYTES_MAX:
        return 400, "invalid_request_error", f"headers longer than {HEADER_BYTES_MAX} bytes"
    if running >= REQUESTS_RUNNING_MAX:
        return 503, "overloaded_error", f"{REQUESTS_RUNNING_MAX} requests are running: try again"
    return None


async def _answer(send: Any, request_id: str, status: int, error_type: str, message: str) -> None:
    body = render_error(status, error_type, message, None, request_id)
    headers = [(b"content-type", JSON.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
