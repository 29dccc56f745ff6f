"""Keeps what was asked and answered, word for word, for those who ask for that.

A request whose key (or the configuration) says `store_prompts` goes through a `Keeping`, a
transport that takes a copy of what passes; no other request meets any of this. Copies wait in
memory, up to a limit, and are published to PROMPTS one by one. They are no numbers that must be
proved: what finds no room, or is not stored in PUBLISH_TRIES, is left out, counted and logged, and
the request is served and booked all the same.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable

from schemas.prompts import PROMPT_BODY_BYTES_MAX, StoredPrompt, encode_prompt
from schemas.streams import prompt_subject
from services.proxy.headers import RawHeaders, header_values
from services.proxy.upstream import Transport, UpstreamRequest, UpstreamResponse
from services.runtime.bus import Bus, BusError
from services.runtime.metrics import Sample, sample

__all__ = ["PROMPTS_WAITING_BYTES_MAX", "Keeping", "Prompts"]

log = logging.getLogger(__name__)

PROMPTS_WAITING_BYTES_MAX = 64 * 1024 * 1024
"""So much waits in memory for being published; what comes beyond that is left out."""
PUBLISH_TRIES = 5
RETRY_WAIT_S = 1.0
FLUSH_LOOK_INTERVAL_S = 0.02


class Prompts:
    """What waits for being published."""

    def __init__(self) -> None:
        self._waiting: deque[StoredPrompt] = deque()
        self._bytes = 0
        self._due = asyncio.Event()
        self.stored = 0
        self.left_out = 0

    def put(self, prompt: StoredPrompt) -> None:
        """Take a copy, where there is room for it."""
        size = _size(prompt)
        if self._bytes + size > PROMPTS_WAITING_BYTES_MAX:
            self._leave_out("there is no room for it: NATS takes them too slowly, or is not there")
            return
        self._bytes += size
        self._waiting.append(prompt)
        self._due.set()

    async def publish_for_ever(self, bus: Bus) -> None:
        """Publish what waits, one by one, for as long as the process lives."""
        while True:
            if not self._waiting:
                self._due.clear()
                await self._due.wait()
            prompt = self._waiting.popleft()
            # Packing takes a millisecond for 100 KB: not in the thread that serves requests.
            payload = await asyncio.to_thread(encode_prompt, prompt)
            await self._publish(bus, prompt.request_id, payload)
            self._bytes -= _size(prompt)

    async def _publish(self, bus: Bus, request_id: str, payload: bytes) -> None:
        for tried in range(1, PUBLISH_TRIES + 1):
            try:
                await bus.publish(prompt_subject(request_id), payload, message_id=request_id)
            except BusError as error:
                if tried == PUBLISH_TRIES:
                    self._leave_out(str(error))
                    return
                await asyncio.sleep(RETRY_WAIT_S)
            else:
                self.stored += 1
                return

    async def flush(self, timeout_s: float) -> None:
        """Wait until nothing waits any more, at most so long."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._bytes:  # noqa: ASYNC110 - at the end of the process alone
                    await asyncio.sleep(FLUSH_LOOK_INTERVAL_S)
        except TimeoutError:
            log.warning("%d bytes of prompts are not stored", self._bytes)

    def _leave_out(self, reason: str) -> None:
        self.left_out += 1
        log.warning("a prompt is not stored: %s", reason)

    def samples(self) -> list[Sample]:
        """Return how many were stored and left out."""
        return [
            sample("tallygate_prompts_stored_total", self.stored),
            sample("tallygate_prompts_left_out_total", self.left_out),
            sample("tallygate_prompts_waiting_bytes", self._bytes),
        ]


def _size(prompt: StoredPrompt) -> int:
    return len(prompt.request) + len(prompt.response)


class Keeping:
    """A transport for one client's request: keeps the body, and the answer to it. Is a Transport.

    `request_id` says under which id the attempt that is being sent is booked.
    """

    def __init__(
        self,
        transport: Transport,
        prompts: Prompts,
        *,
        request_id: Callable[[], str],
        key_id: str | None,
        started_at_us: int,
    ) -> None:
        self._transport = transport
        self._prompts = prompts
        self._request_id = request_id
        self._key_id = key_id
        self._started_at_us = started_at_us

    async def handle_async_request(self, request: UpstreamRequest) -> UpstreamResponse:
        """Send a request; see Transport."""
        prompt = StoredPrompt(
            request_id=self._request_id(),
            started_at_us=self._started_at_us,
            key_id=self._key_id,
            request=request.body[:PROMPT_BODY_BYTES_MAX],
            is_request_cut=len(request.body) > PROMPT_BODY_BYTES_MAX,
        )
        try:
            response = await self._transport.handle_async_request(request)
        except BaseException:
            self._prompts.put(prompt)
            raise
        return _Kept(response, prompt, self._prompts)

    async def aclose(self) -> None:
        """Do nothing: the connections are another's."""


class _Kept:
    """An answer of which a copy is taken while it passes."""

    def __init__(self, response: UpstreamResponse, prompt: StoredPrompt, prompts: Prompts) -> None:
        self._response = response
        self._prompt: StoredPrompt | None = prompt
        self._prompts = prompts
        self._body = bytearray()
        self._is_cut = False
        # A connection that is given back forgets its answer.
        self.status: int = response.status
        self.headers: RawHeaders = response.headers

    async def chunks(self) -> AsyncIterator[tuple[bytes, bool]]:
        """Yield what comes; see UpstreamResponse."""
        async for chunk, is_last in self._response.chunks():
            room = PROMPT_BODY_BYTES_MAX - len(self._body)
            self._body += chunk[:room]
            self._is_cut = self._is_cut or len(chunk) > room
            yield chunk, is_last

    async def aclose(self) -> None:
        """Give the connection back, and the copy on."""
        prompt, self._prompt = self._prompt, None
        headers = self.headers
        if prompt is not None:
            self._prompts.put(
                StoredPrompt(
                    request_id=prompt.request_id,
                    started_at_us=prompt.started_at_us,
                    key_id=prompt.key_id,
                    request=prompt.request,
                    is_request_cut=prompt.is_request_cut,
                    status=self.status,
                    response=bytes(self._body),
                    response_type=_text(headers, b"content-type"),
                    response_coding=_text(headers, b"content-encoding"),
                    is_response_cut=self._is_cut,
                )
            )
        await self._response.aclose()


def _text(headers: RawHeaders, name: bytes) -> str:
    values = header_values(headers, name)
    return values[0].decode("latin-1")[:256] if values else ""
