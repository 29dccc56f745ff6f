"""Exchanges of the endpoints that are not metered as messages: batches, files, pass-through."""

from collections.abc import Callable

import msgspec

from schemas.events import UsageRecord
from services.proxy.batch_results import BatchResult, ResultsMeter, result_request_id
from services.proxy.draft import Admitted, now_us
from services.proxy.exchange import Exchange
from services.proxy.meter import Meter, NoMeter
from services.proxy.metering import Unpacker
from services.proxy.outbox import Outbox
from services.proxy.rate_permit import Permit
from services.proxy.upstream import Transport

__all__ = ["PassingExchange", "ResultsExchange"]

_TEXT_MAX = 256
_ERROR_STATUS_MIN = 400
_OK = 200


class _Made(msgspec.Struct):
    id: str


_made_decoder = msgspec.json.Decoder(_Made)
Feed = Callable[[bytes], None]


class PassingExchange(Exchange):
    """Passes an answer on without looking for usage in it; of errors it reads the type."""

    def __init__(
        self,
        admitted: Admitted,
        *,
        outbox: Outbox,
        transport: Transport,
        permit: Permit | None = None,
    ) -> None:
        super().__init__(admitted, outbox=outbox, transport=transport, permit=permit)
        # Without usage there is nothing to be had from reading on for a client that left.
        self._drain_timeout_s = None

    def _choose_meter(self, kind: bytes, encoding: bytes) -> tuple[Meter, Feed]:
        if self._status >= _ERROR_STATUS_MIN:
            return super()._choose_meter(kind, encoding)
        meter = NoMeter()
        return meter, meter.feed

    def learn_batch(self, answer: bytes) -> None:
        """Take the id of a new batch from the answer, for the record of the request."""
        try:
            made = _made_decoder.decode(answer)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        self._facts = msgspec.structs.replace(self._facts, batch_id=made.id[:_TEXT_MAX])


class ResultsExchange(PassingExchange):
    """Passes a batch's results on; each that succeeded is booked before it goes to the client."""

    def _choose_meter(self, kind: bytes, encoding: bytes) -> tuple[Meter, Feed]:
        if self._status != _OK:
            return super()._choose_meter(kind, encoding)
        meter = ResultsMeter(self._book_result, self._metered_bytes_max)
        is_packed = encoding.strip().lower() not in {b"", b"identity"}
        return meter, Unpacker(meter).feed if is_packed else meter.feed

    def _book_result(self, result: BatchResult) -> None:
        facts = self._facts
        batch_id = facts.batch_id or ""
        # The result belongs to the moment in which it was fetched: no other one is told.
        at_us = max(now_us(), facts.started_at_us)
        basis = result.estimate_basis
        if result.usage is None:
            basis = "the line of this batch result was too long, or told no usage"
        self._outbox.usage_recorded(
            UsageRecord(
                request_id=result_request_id(batch_id, result.custom_id),
                started_at_us=at_us,
                ended_at_us=at_us,
                endpoint="batch_result",
                key_id=facts.key_id,
                key_alias=facts.key_alias,
                user_id=facts.user_id,
                team_id=facts.team_id,
                model=result.model,
                response_model=result.model,
                deployment=facts.deployment,
                billing=facts.billing,
                user_agent=facts.user_agent,
                batch_id=batch_id,
                custom_id=result.custom_id[:_TEXT_MAX],
                usage=result.usage,
                estimated=basis is not None,
                estimate_basis=basis,
                message_id=result.message_id,
                stop_reason=result.stop_reason,
                upstream_request_id=self._upstream_request_id,
                response_bytes=result.line_bytes,
            )
        )
