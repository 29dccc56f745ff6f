"""POST /v1/messages and POST /v1/messages/count_tokens: the hot path, as a raw ASGI application."""

import logging

from schemas.errors import ApiError, InternalError
from schemas.events import Endpoint
from services.proxy.admission import Admission, ClientGone
from services.proxy.answers import Receive, Scope, Send, send_error
from services.proxy.draft import Admitted, Draft, new_request_id, now_us
from services.proxy.exchange import Exchange
from services.proxy.guarding import Guarding
from services.proxy.outbox import Outbox
from services.proxy.paths import PREFIX, MethodNotAllowed
from services.proxy.prompts import Keeping, Prompts
from services.proxy.quota import Quotas
from services.proxy.refusals import Refusals
from services.proxy.upstream import Transport
from services.runtime.http_server import CLIENT, Client

__all__ = ["HOT_PATHS", "Messages"]

log = logging.getLogger(__name__)

_ENDPOINTS: dict[bytes, Endpoint] = {
    b"/v1/messages": "messages",
    b"/v1/messages/count_tokens": "count_tokens",
}
HOT_PATHS: dict[bytes, tuple[bytes, Endpoint]] = {
    prefix + path: (path, endpoint)
    for prefix in (b"", PREFIX)
    for path, endpoint in _ENDPOINTS.items()
}
"""The raw paths that are served here, each with its path upstream and its endpoint."""


class Messages:
    """Admits requests, forwards them, books refusals."""

    def __init__(
        self,
        *,
        admission: Admission,
        outbox: Outbox,
        transport: Transport,
        refusals: Refusals,
        prompts: Prompts,
        guarding: Guarding,
    ) -> None:
        self._admission = admission
        self._outbox = outbox
        self._transport = transport
        self._refusals = refusals
        self._prompts = prompts
        self._guarding = guarding
        self._quotas = Quotas()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        started_at_us = now_us()
        draft = self._admission.draft(new_request_id(started_at_us), started_at_us, "messages")
        try:
            admitted = await self._admit(scope, receive, draft)
        except ApiError as error:
            draft.let_go()
            self._refusals.book(error, draft)
            await send_error(send, error, draft.request_id)
            return
        except ClientGone:
            draft.let_go()
            return
        except Exception:
            log.exception("a request could not be admitted")
            draft.let_go()
            fault = InternalError("The gateway failed; its log says how")
            await send_error(send, fault, draft.request_id)
            return
        transport = self._transport
        if draft.is_stored:
            transport = Keeping(
                transport,
                self._prompts,
                request_id=lambda: exchange.request_id,
                key_id=admitted.facts.key_id,
                started_at_us=started_at_us,
            )
        if draft.guardrails:
            transport = self._guarding.hearing(transport, draft, lambda: exchange.request_id)
        exchange = Exchange(
            admitted,
            outbox=self._outbox,
            transport=transport,
            quotas=self._quotas,
            permit=draft.permit,
            held=draft.held,
        )
        await exchange.run(receive, send, scope.get(CLIENT))

    async def _admit(self, scope: Scope, receive: Receive, draft: Draft) -> Admitted:
        path, draft.endpoint = HOT_PATHS[scope["raw_path"]]
        if scope["method"] != "POST":
            raise MethodNotAllowed(("POST",))
        query: bytes = scope["query_string"]
        target = path + b"?" + query if query else path
        client: Client | None = scope.get(CLIENT)
        is_whole = client is not None and client.is_whole
        headers = list(scope["headers"])
        return await self._admission.admit(target, headers, receive, draft, is_whole=is_whole)
