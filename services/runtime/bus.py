"""The only NATS code: connect, streams, publish with acknowledgement, follow a stream, ask.

Nothing here trusts delivery state kept by the server. A follower names the sequence it wants to
start at and gets every message from there on, in order, through any number of reconnects and
restarts of the server; whoever follows keeps its own checkpoint.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)

from schemas.errors import TallygateError
from schemas.streams import STREAMS, StreamDefinition

__all__ = [
    "Bus",
    "BusError",
    "BusUnavailable",
    "StreamBatch",
    "StreamMessage",
    "StreamState",
    "WrongLastSequence",
]

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 2
RECONNECT_WAIT_S = 0.2
PING_INTERVAL_S = 10
PUBLISH_TIMEOUT_S = 5.0
REQUEST_TIMEOUT_S = 15.0
FOLLOW_MESSAGES_MAX = 500
"""A follower asks for at most so many messages at a time …"""
FOLLOW_BYTES_MAX = 8 * 1024 * 1024
"""… and at most so many bytes: the bound of what waits in its memory."""
FOLLOW_EXPIRES_S = 30.0
FOLLOW_HEARTBEAT_S = 2.0
FOLLOW_SILENCE_MAX_S = 3 * FOLLOW_HEARTBEAT_S
"""Without a message or a heartbeat for so long a follower asks anew with a new consumer."""
FOLLOW_RETRY_WAIT_S = 0.2
CONSUMER_INACTIVE_S = 60.0

_NANOS = 1_000_000_000


class BusError(TallygateError):
    """NATS refused something; the message says what."""


class BusUnavailable(BusError):
    """NATS cannot be reached, or did not answer in time."""


class WrongLastSequence(BusError):
    """Somebody else published on the subject since it was read."""


class StreamMessage(msgspec.Struct, frozen=True):
    """One stored message: its sequence in the stream, its subject and its bytes."""

    sequence: int
    subject: str
    payload: bytes


class StreamBatch(msgspec.Struct, frozen=True):
    """Messages that arrived together; `pending` more are waiting on the server (0: caught up)."""

    messages: tuple[StreamMessage, ...]
    pending: int


class StreamState(msgspec.Struct, frozen=True):
    """What a stream holds. `created` tells a stream from another one of the same name."""

    first_sequence: int
    last_sequence: int
    messages: int
    created: str


class Bus:
    """One connection to NATS, which reconnects for ever.

    Use `await Bus.connect(...)`; `await close()` at the end. All methods raise BusUnavailable
    where the server cannot be reached within their time-out.
    """

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._js: JetStreamContext = client.jetstream(timeout=PUBLISH_TIMEOUT_S)
        self._name = name
        self._connected = asyncio.Event()
        self._generation = 0
        self._connecting: asyncio.Task[None] | None = None
        self._followers: set[_Follower] = set()

    @classmethod
    async def connect(cls, url: str, name: str, *, wait: bool = True) -> "Bus":
        """Connect to NATS at `url` (may hold user and password) under the client name `name`.

        With `wait` the first connection is awaited for CONNECT_TIMEOUT_S, else BusUnavailable is
        raised. Without it the bus is returned at once and goes on trying in the background.
        """
        client = Client()
        bus = cls(client, name)
        if wait:
            try:
                await bus._open(url)
            except (OSError, nats.errors.Error, TimeoutError) as error:
                raise BusUnavailable(f"NATS cannot be reached: {_reason(error)}") from None
        else:
            bus._connecting = asyncio.create_task(bus._open_until_connected(url))
        return bus

    async def _open(self, url: str) -> None:
        await self._client.connect(
            servers=[url],
            name=f"tallygate {self._name}",
            connect_timeout=CONNECT_TIMEOUT_S,
            reconnect_time_wait=RECONNECT_WAIT_S,  # type: ignore[arg-type]
            max_reconnect_attempts=-1,
            ping_interval=PING_INTERVAL_S,
            inbox_prefix=f"_INBOX.{self._name}",
            pending_size=32 * 1024 * 1024,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_connected,
        )
        await self._on_connected()

    async def _open_until_connected(self, url: str) -> None:
        while True:
            try:
                await self._open(url)
            except (OSError, nats.errors.Error, TimeoutError) as error:
                log.debug("NATS is not there yet", extra={"reason": _reason(error)})
                # A client that failed its first connection is closed for good.
                with contextlib.suppress(Exception):
                    await self._client.close()
                await asyncio.sleep(RECONNECT_WAIT_S)
                self._client = Client()
                self._js = self._client.jetstream(timeout=PUBLISH_TIMEOUT_S)
            else:
                return

    async def _on_error(self, error: Exception) -> None:
        log.debug("NATS connection error", extra={"reason": _reason(error)})

    async def _on_disconnected(self) -> None:
        if self._connected.is_set():
            log.warning("the connection to NATS is lost, reconnecting")
        self._connected.clear()

    async def _on_connected(self) -> None:
        self._generation += 1
        self._connected.set()
        for follower in self._followers:
            follower.wake()
        log.info("connected to NATS")

    @property
    def is_connected(self) -> bool:
        """Whether the connection is up at this moment."""
        return self._connected.is_set()

    async def wait_connected(self, timeout_s: float | None = None) -> None:
        """Wait until the connection is up. Raises BusUnavailable after `timeout_s`."""
        try:
            await asyncio.wait_for(self._connected.wait(), timeout_s)
        except TimeoutError:
            raise BusUnavailable(f"NATS cannot be reached within {timeout_s} s") from None

    async def close(self) -> None:
        """Flush what was sent and close the connection."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._client.is_connected:
            with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
                await self._client.flush(timeout=2)
        with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
            await self._client.close()

    # ------------------------------------------------------------------------------ streams

    async def ensure_streams(
        self, definitions: tuple[StreamDefinition, ...] = STREAMS, *, replicas: int = 1
    ) -> None:
        """Create the streams that are missing. An existing one is left as it is.

        Raises BusError where one exists with other subjects: two programs would then share it.
        """
        await self.wait_connected(REQUEST_TIMEOUT_S)
        for definition in definitions:
            try:
                info = await self._js.stream_info(definition.name)
            except nats.js.errors.NotFoundError:
                await self._create_stream(definition, replicas)
                continue
            except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
                raise BusUnavailable(f"stream {definition.name}: {_reason(error)}") from None
            if set(info.config.subjects or ()) != set(definition.subjects):
                raise BusError(
                    f"NATS has a stream {definition.name} with the subjects "
                    f"{info.config.subjects}, not {list(definition.subjects)}: is this the right "
                    "server? Give tallygate a NATS account of its own"
                )

    async def _create_stream(self, definition: StreamDefinition, replicas: int) -> None:
        config = StreamConfig(
            name=definition.name,
            subjects=list(definition.subjects),
            description=definition.purpose,
            storage=StorageType.FILE,
            retention=RetentionPolicy.LIMITS,
            discard=DiscardPolicy.NEW,
            max_msgs_per_subject=definition.history,
            num_replicas=replicas,
            allow_direct=True,
        )
        try:
            await self._js.add_stream(config)
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
            raise BusUnavailable(f"stream {definition.name}: {_reason(error)}") from None

    async def stream_state(self, stream: str) -> StreamState:
        """Return what a stream holds. Raises BusError where it does not exist."""
        try:
            reply = await self._client.request(f"$JS.API.STREAM.INFO.{stream}", b"", timeout=5)
        except (nats.errors.Error, TimeoutError) as error:
            raise BusUnavailable(f"stream {stream}: {_reason(error)}") from None
        answer = msgspec.json.decode(reply.data, type=_StreamInfo)
        if answer.state is None or answer.created is None:
            raise BusError(f"stream {stream} does not exist")
        state = answer.state
        return StreamState(state.first_seq, state.last_seq, state.messages, answer.created)

    # ------------------------------------------------------------------------------ publish

    async def publish(
        self,
        subject: str,
        payload: bytes,
        *,
        message_id: str | None = None,
        expected_last_subject_sequence: int | None = None,
        timeout_s: float = PUBLISH_TIMEOUT_S,
    ) -> int:
        """Store a message and return its stream sequence once the server says that it is stored.

        `message_id` lets the server drop a repeat within its window (an optimisation only).
        `expected_last_subject_sequence` (0: the subject must be empty) guards against a concurrent
        writer: WrongLastSequence. Raises BusUnavailable where no acknowledgement came: the message
        may be stored or not.
        """
        headers: dict[str, str] = {}
        if message_id is not None:
            headers["Nats-Msg-Id"] = message_id
        if expected_last_subject_sequence is not None:
            headers["Nats-Expected-Last-Subject-Sequence"] = str(expected_last_subject_sequence)
        if not self._connected.is_set():
            raise BusUnavailable("NATS is not connected")
        try:
            ack = await self._js.publish(
                subject, payload, timeout=timeout_s, headers=headers or None
            )
        except nats.js.errors.BadRequestError as error:
            if error.err_code == _WRONG_LAST_SEQUENCE:
                raise WrongLastSequence(str(error.description)) from None
            raise BusError(f"{subject}: {_reason(error)}") from None
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError) as error:
            raise BusUnavailable(f"{subject}: {_reason(error)}") from None
        return ack.seq

    # ------------------------------------------------------------------------------- follow

    async def follow(
        self, stream: str, start_sequence: int = 1, *, last_per_subject: bool = False
    ) -> AsyncIterator[StreamBatch]:
        """Yield the messages of a stream from `start_sequence` on, in order, for ever.

        A batch is whatever has arrived when the caller asks. Once the caller is up to date an
        empty batch with `pending == 0` is yielded, so that it knows. `last_per_subject` starts
        with the last message of every subject instead and goes on with all later ones.
        Lost connections, restarts of the server and a stream that does not exist yet are waited
        out. A gap is possible only where the stream itself has lost messages: the caller, who
        knows the sequences, checks.
        """
        follower = _Follower(self, stream, start_sequence, last_per_subject=last_per_subject)
        self._followers.add(follower)
        try:
            while True:
                yield await follower.next_batch()
        finally:
            self._followers.discard(follower)
            await follower.close()

    # ------------------------------------------------------------------------- request/reply

    async def request(
        self, subject: str, payload: bytes, *, timeout_s: float = REQUEST_TIMEOUT_S
    ) -> bytes:
        """Ask whoever serves `subject` and return the reply's bytes."""
        if not self._connected.is_set():
            raise BusUnavailable("NATS is not connected")
        try:
            reply = await self._client.request(subject, payload, timeout=timeout_s)
        except nats.errors.NoRespondersError:
            raise BusUnavailable(f"nobody serves {subject} at the moment") from None
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise BusUnavailable(f"{subject}: {_reason(error)}") from None
        return reply.data

    async def serve(
        self, subject: str, handler: Callable[[bytes], Awaitable[bytes]], *, parallel_max: int = 8
    ) -> None:
        """Answer requests on `subject` with `handler`, at most `parallel_max` at a time.

        Further requests wait in NATS's own queue of the subscription. The subscription survives
        reconnects. An exception of the handler is a fault: it is logged, the asker times out.
        """
        await self.wait_connected(REQUEST_TIMEOUT_S)
        limit = asyncio.Semaphore(parallel_max)
        tasks: set[asyncio.Task[None]] = set()

        async def answer(message: Msg) -> None:
            try:
                reply = await handler(message.data)
                await message.respond(reply)
            except Exception:
                log.exception("a request could not be answered", extra={"subject": subject})
            finally:
                limit.release()

        async def on_message(message: Msg) -> None:
            await limit.acquire()
            task = asyncio.create_task(answer(message))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        await self._client.subscribe(subject, cb=on_message)


_WRONG_LAST_SEQUENCE = 10071


class _StreamInfoState(msgspec.Struct):
    first_seq: int
    last_seq: int
    messages: int


class _StreamInfo(msgspec.Struct):
    created: str | None = None
    state: _StreamInfoState | None = None


class _Follower:
    """A pull consumer that is thrown away and made anew whenever anything looks wrong."""

    def __init__(
        self, bus: Bus, stream: str, start_sequence: int, *, last_per_subject: bool
    ) -> None:
        self._bus = bus
        self._stream = stream
        self._next_sequence = start_sequence
        self._last_per_subject = last_per_subject
        self._inbox: asyncio.Queue[Msg | None] = asyncio.Queue()
        self._subscription: Subscription | None = None
        self._consumer: str | None = None
        self._generation = -1
        self._requested = False
        self._told_caught_up = False

    def wake(self) -> None:
        """Notice at once that the connection is a new one: its consumer may be gone."""
        self._inbox.put_nowait(None)

    async def next_batch(self) -> StreamBatch:
        while True:
            if self._consumer is None or self._generation != self._bus._generation:
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
        await self.close()
        await self._bus.wait_connected()
        self._generation = self._bus._generation
        self._inbox = asyncio.Queue()
        if self._last_per_subject:
            policy, start = DeliverPolicy.LAST_PER_SUBJECT, None
        else:
            policy, start = DeliverPolicy.BY_START_SEQUENCE, max(1, self._next_sequence)
        try:
            self._subscription = await self._bus._client.subscribe(
                self._bus._client.new_inbox(), cb=self._inbox.put
            )
            info = await self._bus._js.add_consumer(
                self._stream,
                ConsumerConfig(
                    name=f"{self._bus._name}-{self._bus._client.new_inbox()[-12:]}",
                    deliver_policy=policy,
                    opt_start_seq=start,
                    ack_policy=AckPolicy.NONE,
                    mem_storage=True,
                    num_replicas=1,
                    inactive_threshold=CONSUMER_INACTIVE_S,
                    filter_subject=">" if self._last_per_subject else None,
                ),
                timeout=CONNECT_TIMEOUT_S,
            )
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError) as error:
            log.debug("cannot follow yet", extra={"stream": self._stream, "reason": _reason(error)})
            await self.close()
            return False
        self._consumer = info.name
        self._pending_at_open = info.num_pending or 0
        self._requested = False
        return True

    async def _request(self) -> bool:
        """Ask for the next messages; False where the connection went away."""
        request = {
            "batch": FOLLOW_MESSAGES_MAX,
            "max_bytes": FOLLOW_BYTES_MAX,
            "expires": int(FOLLOW_EXPIRES_S * _NANOS),
            "idle_heartbeat": int(FOLLOW_HEARTBEAT_S * _NANOS),
        }
        assert self._subscription is not None
        try:
            await self._bus._client.publish(
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
            message = await asyncio.wait_for(self._inbox.get(), FOLLOW_SILENCE_MAX_S)
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
                sequence, pending = _positions(message.reply)
                # A repeat is possible when a consumer was made anew; a follower never goes back.
                if sequence >= self._next_sequence or self._last_per_subject:
                    messages.append(StreamMessage(sequence, message.subject, message.data))
                    self._next_sequence = sequence + 1
                self._received += 1
                if self._received >= FOLLOW_MESSAGES_MAX:
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
        if status not in {"404", "408"} and "MaxBytes" not in description:
            # The consumer or its stream is gone, or the server is changing its leader.
            log.debug("consumer ended", extra={"stream": self._stream, "reason": description})
            self._consumer = None
        return True

    async def close(self) -> None:
        """Drop the subscription and the consumer (the server drops an idle one by itself)."""
        subscription, self._subscription = self._subscription, None
        consumer, self._consumer = self._consumer, None
        if subscription is None:
            return
        with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
            await subscription.unsubscribe()
        if consumer is not None and self._bus.is_connected:
            with contextlib.suppress(nats.errors.Error, OSError):
                await self._bus._client.publish(
                    f"$JS.API.CONSUMER.DELETE.{self._stream}.{consumer}", b""
                )


def _positions(reply: str) -> tuple[int, int]:
    """Return (stream sequence, messages pending) from a delivered message's reply subject.

    The form is `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.
    <pending>`, with domain and account hash after `ACK` and a random token at the end in the
    longer form.
    """
    tokens = reply.split(".")
    if len(tokens) == 9:  # noqa: PLR2004
        return int(tokens[5]), int(tokens[8])
    return int(tokens[7]), int(tokens[10])


def _reason(error: BaseException) -> str:
    """Return an error's text without credentials that a NATS URL may hold."""
    text = str(error) or type(error).__name__
    return text.split("@")[-1] if "@" in text else text
