"""One forwarded request: the answer goes to the client as it comes, and is booked exactly once.

The order is the promise: what a request used is in the outbox before the last byte of its answer
goes to the client, so whoever has a whole answer is in the ledger. All other bytes go first and
are metered after.
"""

import asyncio
import logging
from collections.abc import Callable

import msgspec

from schemas.errors import ApiError, InternalError, UpstreamUnreachable, error_body
from schemas.events import QuotaSeen, RequestFacts, RequestStatus, UsageRecord
from schemas.usage import Usage
from services.proxy.answers import Receive, Send, send_error
from services.proxy.draft import Admitted, Attempts, now_us
from services.proxy.headers import forwardable_response_headers, header_values
from services.proxy.meter import Meter, NoMeter, StreamMeter
from services.proxy.metering import meter_for
from services.proxy.outbox import Outbox
from services.proxy.quota import Quotas
from services.proxy.rate_permit import Permit
from services.proxy.reservations import Held
from services.proxy.upstream import Transport, UpstreamBroke, UpstreamResponse
from services.runtime.http_server import Client

__all__ = ["ERROR_BYTES_MAX", "ERROR_S_MAX", "Exchange"]

log = logging.getLogger(__name__)

ERROR_BYTES_MAX = 64 * 1024
ERROR_S_MAX = 1.0
"""Of an error that the client is not shown, so much is read, for so long."""

_BYTES_PER_TOKEN = 4
_END_MARK = b"message_stop"
_BODILESS = frozenset({204, 304})


class Exchange:
    """Forwards one admitted request, under the settings that it was admitted with.

    A client that takes nothing of what waits for it for `idle_timeout_s` (twice that at most) is
    given up. Where the request has further ways to go, it may be sent again until the answer begins
    (services.proxy.attempts); each attempt is booked by itself.
    """

    def __init__(
        self,
        admitted: Admitted,
        *,
        outbox: Outbox,
        transport: Transport,
        quotas: Quotas | None = None,
        permit: Permit | None = None,
        held: Held | None = None,
    ) -> None:
        settings = admitted.setup.settings
        self._quotas = quotas
        self._permit = permit
        self._held = held
        self._outbox = outbox
        self._transport = transport
        self._metered_bytes_max = settings.response_bytes_metered_max
        is_drained = settings.client_disconnect == "drain"
        self._drain_timeout_s = settings.disconnect_drain_timeout_s if is_drained else None
        self._client_stall_s = settings.idle_timeout_s
        self._sends = 0
        self._is_client_gone = False
        self._is_started = False
        self._is_waiting = False
        self._attempts = admitted.attempts
        self._task: asyncio.Task[object] | None = None
        self._drain_timer: asyncio.TimerHandle | None = None
        self._set(admitted, admitted.facts)

    @property
    def request_id(self) -> str:
        """The id of the attempt that is under way, under which it is booked."""
        return self._facts.request_id

    def _set(self, admitted: Admitted, facts: RequestFacts) -> None:
        """Make ready for one attempt."""
        self._facts = facts
        self._request = admitted.upstream
        self._metadata = admitted.metadata
        self._quota: QuotaSeen | None = None
        self._meter: Meter = NoMeter()
        self._status = 0
        self._response_bytes = 0
        self._first_byte_at_us: int | None = None
        self._upstream_request_id: str | None = None
        self._is_booked = False

    async def run(self, receive: Receive, send: Send, client: Client | None = None) -> None:
        """Forward the request and the answer; book what it used.

        That the client has gone is heard from `client`, where that is known, else from `receive`.
        """
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._write_start()
        watch = asyncio.create_task(self._watch(receive)) if client is None else None
        self._look_for_stall(task, -1)
        try:
            if client is not None:
                client.listen(self._client_left)
            await self._forward(send)
        except asyncio.CancelledError:
            if not self._is_client_gone:
                self._book("failure", error_type="gateway_stopped")
                raise
            task.uncancel()
            self._book("client_closed")
        except Exception:
            log.exception("a request failed inside the gateway")
            self._book("failure", error_type="gateway_fault")
            if not self._is_started:
                error = InternalError("The gateway failed; its log says how")
                await send_error(send, error, self._facts.request_id)
        finally:
            if client is not None:
                client.forget(self._client_left)
            if watch is not None:
                watch.cancel()
            if self._drain_timer is not None:
                self._drain_timer.cancel()
            self._stall_timer.cancel()
            if self._attempts is not None:
                self._attempts.over()
            if self._permit is not None:
                self._permit.ended()
            if self._held is not None:
                self._held.over()

    def _write_start(self) -> None:
        if self._facts.endpoint != "count_tokens":
            number = self._outbox.request_started(self._facts)
            if self._held is not None:
                self._held.started(number)

    def _look_for_stall(self, task: asyncio.Task[object], sends_before: int) -> None:
        """Give the client up where it is still at the same send as at the last look."""
        # The number is odd while bytes are being handed over.
        if self._sends == sends_before and self._sends % 2:
            self._is_client_gone = True
            task.cancel()
            return
        self._stall_timer = asyncio.get_running_loop().call_later(
            self._client_stall_s, self._look_for_stall, task, self._sends
        )

    async def _watch(self, receive: Receive) -> None:
        """Wait for the client to go away."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._client_left()

    def _client_left(self) -> None:
        """Stop the request, at once or when it has been read on for long enough."""
        assert self._task is not None
        self._is_client_gone = True
        if self._is_booked and not self._is_waiting:
            return
        if self._drain_timeout_s is None or self._is_waiting:
            self._task.cancel()
            return
        loop = asyncio.get_running_loop()
        self._drain_timer = loop.call_later(self._drain_timeout_s, self._task.cancel)

    async def _forward(self, send: Send) -> None:
        following = await self._attempt(send)
        while following is not None:
            assert self._attempts is not None
            if self._attempts.wait_s:
                self._is_waiting = True
                await asyncio.sleep(self._attempts.wait_s)
                self._is_waiting = False
            if self._is_client_gone:
                return
            self._set(following, msgspec.structs.replace(following.facts, started_at_us=now_us()))
            self._write_start()
            following = await self._attempt(send)

    async def _attempt(self, send: Send) -> Admitted | None:
        """Send the request to one deployment; return the attempt that is to follow, if any."""
        attempts = self._attempts
        try:
            response = await self._transport.handle_async_request(self._request)
        except ApiError as error:
            self._status = error.http_status
            self._book("failure", error_type=getattr(error, "kind", error.error_type))
            if attempts is not None and not self._is_client_gone:
                following = attempts.after_error(error)
                if following is not None:
                    self._hold_on()
                    return following
                error = attempts.told(error)
            await send_error(send, error, self._facts.request_id)
            return None
        try:
            if attempts is not None:
                following = self._after_head(attempts, response)
                if following is not None:
                    await self._read_error(response)
                    self._hold_on()
                    return following
            if 300 <= response.status < 400:  # noqa: PLR2004
                # Whoever followed it would send a credential to a place that nobody configured.
                await self._refuse_redirect(response.status, send)
            else:
                await self._answer(response, send)
        except UpstreamBroke as broke:
            self._book("failure", error_type=broke.kind)
            if attempts is not None:
                attempts.broke_off()
            await self._end_broken(broke, send)
        finally:
            await response.aclose()
        return None

    def _hold_on(self) -> None:
        """Keep the request's place among those under way: it was booked and is sent once more."""
        if self._permit is not None:
            self._permit.again()

    def _after_head(self, attempts: Attempts, response: UpstreamResponse) -> Admitted | None:
        """Return the attempt to make instead of passing this answer on, if there is one."""
        if 200 <= response.status < 300:  # noqa: PLR2004
            attempts.succeeded()
            return None
        return (
            None
            if self._is_client_gone
            else attempts.after_answer(response.status, response.headers)
        )

    async def _read_error(self, response: UpstreamResponse) -> None:
        """Read an error that the client is not shown, and book it.

        Where it ends soon, the connection can be used again.
        """
        feed, _ = self._begin_metering(response)
        try:
            async with asyncio.timeout(ERROR_S_MAX):
                async for chunk, is_last in response.chunks():
                    self._response_bytes += len(chunk)
                    feed(chunk)
                    if is_last:
                        self._meter.finish()
                    if self._response_bytes > ERROR_BYTES_MAX:
                        break
        except (TimeoutError, UpstreamBroke):
            pass
        self._book_end()

    async def _refuse_redirect(self, status: int, send: Send) -> None:
        error = UpstreamUnreachable(
            f"The deployment answered with a redirect ({status}), which is not followed: "
            "your administrator must correct its api_base",
            kind="redirect",
            was_sent=True,
        )
        self._status = error.http_status
        self._book("failure", error_type="redirect")
        await send_error(send, error, self._facts.request_id)

    def _begin_metering(self, response: UpstreamResponse) -> tuple[Callable[[bytes], None], bool]:
        """Return what the answer's bytes are to be fed to, and whether they are packed."""
        headers = response.headers
        self._status = response.status
        encodings = header_values(headers, b"content-encoding")
        encoding = encodings[0] if encodings else b""
        kinds = header_values(headers, b"content-type")
        self._meter, feed = self._choose_meter(kinds[0] if kinds else b"", encoding)
        # In packed bytes the end of a stream cannot be seen without unpacking them first.
        is_packed = bool(encoding) and encoding != b"identity"
        if is_packed:
            self._meter.boundary = False
        ids = header_values(headers, b"request-id")
        self._upstream_request_id = ids[0].decode("latin-1")[:256] if ids else None
        if self._quotas is not None:
            self._quota = self._quotas.seen(
                headers,
                status=self._status,
                credential=self._request.headers[-1][1],
                metadata=self._metadata,
                now_us=now_us(),
            )
        return feed, is_packed

    async def _answer(self, response: UpstreamResponse, send: Send) -> None:
        feed, is_packed = self._begin_metering(response)
        await self._send_head(response, send)
        noted = 0
        async for chunk, is_last in response.chunks():
            if self._first_byte_at_us is None:
                self._first_byte_at_us = now_us()
            self._response_bytes += len(chunk)
            is_metered_first = is_last or is_packed or not self._meter.boundary
            if not is_metered_first and _END_MARK not in chunk:
                await self._send_body(send, chunk, more=True)
                feed(chunk)
            else:
                feed(chunk)
                if is_last:
                    self._meter.finish()
                if is_last or self._meter.complete:
                    self._book_end()
                await self._send_body(send, chunk, more=not is_last)
            if self._meter.revision != noted and not self._is_booked:
                noted = self._meter.revision
                usage, _ = self._meter.usage()
                if usage is not None:
                    self._outbox.usage_seen(self._facts.request_id, usage)

    def _choose_meter(self, kind: bytes, encoding: bytes) -> tuple[Meter, Callable[[bytes], None]]:
        """Return the meter of an answer of this type and coding, and what its bytes are fed to."""
        return meter_for(kind, encoding, self._metered_bytes_max)

    async def _send_head(self, response: UpstreamResponse, send: Send) -> None:
        headers = forwardable_response_headers(response.headers)
        if response.status in _BODILESS:
            headers = [header for header in headers if header[0] != b"content-length"]
        headers.append((b"x-tallygate-request-id", self._facts.request_id.encode()))
        if self._attempts is not None and self._attempts.count > 1:
            headers.append((b"x-tallygate-attempts", b"%d" % self._attempts.count))
        if self._facts.route_reason is not None:
            headers.append((b"x-tallygate-route-reason", self._facts.route_reason.encode()))
        if self._permit is not None:
            headers += self._permit.headers()
        if self._held is not None and 200 <= response.status < 300:  # noqa: PLR2004
            headers = self._held.told(headers, now_us())
        self._is_started = True
        self._sends += 1
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        self._sends += 1

    async def _send_body(self, send: Send, body: bytes, *, more: bool) -> None:
        self._sends += 1
        await send({"type": "http.response.body", "body": body, "more_body": more})
        self._sends += 1

    async def _end_broken(self, broke: UpstreamBroke, send: Send) -> None:
        """End an answer that broke off, so that the client notices and repeats at once.

        Between two events of a stream Anthropic's own error event says it (Claude Code then
        repeats without streaming: measured). Elsewhere the connection is cut by returning early.
        """
        if not isinstance(self._meter, StreamMeter) or not self._meter.boundary:
            return
        message = f"The answer broke off: {broke.reason}"
        event = b"event: error\ndata: " + error_body("api_error", message, None) + b"\n\n"
        await self._send_body(send, event, more=False)

    # ------------------------------------------------------------------------------ booking

    def _book_end(self) -> None:
        """Book an answer that has come to its own end."""
        meter = self._meter
        if self._is_client_gone:
            self._book("client_closed")
        elif not 200 <= self._status < 300:  # noqa: PLR2004
            self._book("failure", error_type=meter.error_type or f"http_{self._status}")
        elif meter.error_type is not None:
            self._book("failure", error_type=meter.error_type)
        elif isinstance(meter, NoMeter) and self._facts.endpoint == "messages":
            # A page of some other server: nothing that a model said.
            self._book("failure", error_type="not_an_answer")
        elif not meter.complete:
            self._book("failure", error_type="incomplete_answer")
        else:
            self._book("success")

    def _book(self, status: RequestStatus, *, error_type: str | None = None) -> None:
        """Write the one record of this request. Later calls change nothing."""
        if self._is_booked:
            return
        self._is_booked = True
        usage, basis = self._usage()
        if self._attempts is not None:
            self._attempts.used(usage)
        if self._permit is not None:
            # Before the last byte goes out: whoever has the whole answer is counted.
            self._permit.ended(usage)
        meter = self._meter
        record = UsageRecord(
            **msgspec.structs.asdict(self._facts),
            ended_at_us=max(now_us(), self._facts.started_at_us),
            first_byte_at_us=self._first_byte_at_us,
            status=status,
            http_status=self._status,
            error_type=error_type,
            usage=usage,
            estimated=basis is not None,
            estimate_basis=basis,
            response_model=meter.model,
            upstream_request_id=self._upstream_request_id,
            message_id=meter.message_id,
            stop_reason=meter.stop_reason,
            response_bytes=self._response_bytes,
            quota=self._quota,
        )
        number = self._outbox.usage_recorded(record)
        if self._held is not None:
            self._held.ended(number, record)

    def _usage(self) -> tuple[Usage | None, str | None]:
        """Return what was used and how far that is an estimate."""
        if self._facts.endpoint != "messages":
            return None, None
        meter = self._meter
        usage, basis = meter.usage()
        if usage is not None:
            return usage, basis
        if self._status == 0:
            return None, "the client left before the deployment answered: nothing was reported"
        is_answer = 200 <= self._status < 300 and not isinstance(meter, NoMeter)  # noqa: PLR2004
        if not is_answer or meter.error_type is not None:
            return None, None  # An error costs nothing.
        estimate = Usage(
            input_tokens=-(-self._facts.request_bytes // _BYTES_PER_TOKEN),
            output_tokens=-(-meter.text_bytes // _BYTES_PER_TOKEN),
        )
        return estimate, "the answer told no usage: tokens from the bytes of both bodies, 4 each"
