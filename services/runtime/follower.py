"""Following a stream: a pull consumer that is made anew whenever anything looks wrong."""

import asyncio
import contextlib
import logging

import msgspec
import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from services.runtime.link import Link, reason
from services.runtime.waiting import WaitTeller

__all__ = ["Follower", "StreamBatch", "StreamMessage"]

log = logging.getLogger(__name__)

FOLLOW_MESSAGES_MAX = 500
"""A follower asks for at most so many messages at a time …"""
FOLLOW_BYTES_MAX = 8 * 1024 * 1024
"""… and at most so many bytes: the bound of what waits in its memory. A single message that is
larger is asked for by itself."""
FOLLOW_EXPIRES_S = 30.0
FOLLOW_HEARTBEAT_S = 2.0
FOLLOW_SILENCE_MAX_S = 3 * FOLLOW_HEARTBEAT_S
"""Without a message or a heartbeat for so long a follower asks anew with a new consumer."""
FOLLOW_RETRY_WAIT_S = 0.2
CONSUMER_INACTIVE_S = 60.0
CONSUMER_TIMEOUT_S = 2.0

_NANOS = 1_000_000_000


class StreamMessage(msgspec.Struct, frozen=True):
    """One stored message: its sequence in the stream, its subject and its bytes.

    `stored_at_us` is the server's time when it was stored: a fact of the stream, the same for
    whoever reads it and whenever.
    """

    sequence: int
    subject: str
    payload: bytes
    stored_at_us: int = 0


class StreamBatch(msgspec.Struct, frozen=True):
    """Messages that arrived together; `pending` more are waiting on the server (0: caught up)."""

    messages: tuple[StreamMessage, ...]
    pending: int


class Follower:
    """A pull consumer that is thrown away and made anew whenever anything looks wrong."""

    def __init__(
        self, link: Link, stream: str, start_sequence: int, *, last_per_subject: bool
    ) -> None:
        self._link = link
        self._stream = stream
        self._next_sequence = start_sequence
        self._last_per_subject = last_per_subject
        self._inbox: asyncio.Queue[Msg | None] = asyncio.Queue()
        self._subscription: Subscription | None = None
        self._consumer: str | None = None
        self._generation = -1
        self._requested = False
        self._received = 0
        self._delivered = 0
        self._is_next_too_large = False
        self._told_caught_up = False
        self._teller: WaitTeller | None = None
        link.listeners.add(self.wake)

    def wake(self) -> None:
        """Notice at once that the connection is a new one: its consumer may be gone."""
        self._inbox.put_nowait(None)

    async def next_batch(self) -> StreamBatch:
        """Return what has arrived, waiting for something; see services.runtime.bus.Bus.follow."""
        while True:
            if self._consumer is None or self._generation != self._link.generation:
                if not await self._open():
                    await asyncio.sleep(FOLLOW_RETRY_WAIT_S)
                    continue
                if not self._told_caught_up and self._pending_at_open == 0:
                    self._told_caught_up = True
                    return StreamBatch((), 0)
            if not self._requested and not await self._request():
                continue
            batch = await self._collect()
            if batch is not None:
                self._told_caught_up = batch.pending == 0
                return batch

    async def _open(self) -> bool:
        await self._drop()
        await self._link.wait_connected()
        self._generation = self._link.generation
        self._inbox = asyncio.Queue()
        if self._last_per_subject:
            policy, start = DeliverPolicy.LAST_PER_SUBJECT, None
        else:
            policy, start = DeliverPolicy.BY_START_SEQUENCE, max(1, self._next_sequence)
        try:
            self._subscription = await self._link.client.subscribe(
                self._link.client.new_inbox(), cb=self._inbox.put
            )
            info = await self._link.js.add_consumer(
                self._stream,
                ConsumerConfig(
                    name=f"{self._link.name}-{self._link.client.new_inbox()[-12:]}",
                    deliver_policy=policy,
                    opt_start_seq=start,
                    ack_policy=AckPolicy.NONE,
                    mem_storage=True,
                    num_replicas=1,
                    inactive_threshold=CONSUMER_INACTIVE_S,
                    filter_subject=">" if self._last_per_subject else None,
                ),
                timeout=CONSUMER_TIMEOUT_S,
            )
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError) as error:
            self._teller = self._teller or WaitTeller()
            if self._teller.is_due():
                is_missing = isinstance(error, nats.js.errors.NotFoundError)
                log.warning(
                    "the stream %s cannot be followed at the moment (%s)%s. Trying on",
                    self._stream,
                    reason(error),
                    ": the ledger's writer makes it, does that run?" if is_missing else "",
                )
            await self._drop()
            return False
        self._teller = None
        self._consumer = info.name
        self._pending_at_open = info.num_pending or 0
        self._requested = False
        self._delivered = 0
        return True

    async def _request(self) -> bool:
        """Ask for the next messages; False where the connection went away."""
        self._batch_max = 1 if self._is_next_too_large else FOLLOW_MESSAGES_MAX
        request = {
            "batch": self._batch_max,
            "expires": int(FOLLOW_EXPIRES_S * _NANOS),
            "idle_heartbeat": int(FOLLOW_HEARTBEAT_S * _NANOS),
        }
        if not self._is_next_too_large:
            request["max_bytes"] = FOLLOW_BYTES_MAX
        self._is_next_too_large = False
        assert self._subscription is not None
        try:
            await self._link.client.publish(
                f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}",
                msgspec.json.encode(request),
                reply=self._subscription.subject,
            )
        except (nats.errors.Error, OSError):
            self._consumer = None
            await asyncio.sleep(FOLLOW_RETRY_WAIT_S)
            return False
        self._requested = True
        self._received = 0
        return True

    async def _collect(self) -> StreamBatch | None:
        """Return what has arrived, waiting for the first; None where the request is over."""
        try:
            async with asyncio.timeout(FOLLOW_SILENCE_MAX_S):
                message = await self._inbox.get()
        except TimeoutError:
            message = None
        if message is None:
            self._consumer = None
            return None
        messages: list[StreamMessage] = []
        pending = 0
        while message is not None:
            status = message.headers.get("Status") if message.headers else None
            if status is not None and not message.reply.startswith("$JS.ACK"):
                if self._status(status, message) and messages:
                    break
            else:
                sequence, delivered, stored_at_us, pending = _positions(message.reply)
                self._delivered += 1
                if delivered != self._delivered:
                    # One was lost on the way (a slow client drops some): they are asked for anew.
                    log.warning("messages were lost on the way", extra={"stream": self._stream})
                    self._consumer = None
                    break
                # A repeat is possible when a consumer was made anew; a follower never goes back.
                if sequence >= self._next_sequence or self._last_per_subject:
                    messages.append(
                        StreamMessage(sequence, message.subject, message.data, stored_at_us)
                    )
                    self._next_sequence = sequence + 1
                self._received += 1
                if self._received >= self._batch_max:
                    self._requested = False
            if not self._requested or self._consumer is None or self._inbox.empty():
                break
            message = self._inbox.get_nowait()
        if not messages:
            return None
        if pending == 0:
            # The state of every subject is known: from here on it is an ordinary sequence.
            self._last_per_subject = False
        return StreamBatch(tuple(messages), pending)

    def _status(self, status: str, message: Msg) -> bool:
        """Take a status message in; True where the request is over."""
        if status == "100":
            return False
        description = (message.headers or {}).get("Description", "")
        self._requested = False
        if "MaxBytes" in description:
            self._is_next_too_large = self._received == 0
        elif status not in {"404", "408"}:
            # The consumer or its stream is gone, or the server is changing its leader.
            log.debug("consumer ended", extra={"stream": self._stream, "reason": description})
            self._consumer = None
        return True

    async def close(self) -> None:
        """Follow no more."""
        self._link.listeners.discard(self.wake)
        await self._drop()

    async def _drop(self) -> None:
        """Drop the subscription and the consumer (the server drops an idle one by itself)."""
        subscription, self._subscription = self._subscription, None
        consumer, self._consumer = self._consumer, None
        if subscription is None:
            return
        with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
            await subscription.unsubscribe()
        if consumer is not None and self._link.is_connected:
            with contextlib.suppress(nats.errors.Error, OSError):
                await self._link.client.publish(
                    f"$JS.API.CONSUMER.DELETE.{self._stream}.{consumer}", b""
                )


def _positions(reply: str) -> tuple[int, int, int, int]:
    """Return (stream sequence, consumer sequence, time stored in µs, messages pending).

    They are in its reply subject, of the form `$JS.ACK.<stream>.<consumer>.<delivered>.
    <stream seq>.<consumer seq>.<time>.
    <pending>`, with domain and account hash after `ACK` and a random token at the end in the
    longer form.
    """
    tokens = reply.split(".")
    if len(tokens) == 9:  # noqa: PLR2004
        return int(tokens[5]), int(tokens[6]), int(tokens[7]) // 1000, int(tokens[8])
    return int(tokens[7]), int(tokens[8]), int(tokens[9]) // 1000, int(tokens[10])
