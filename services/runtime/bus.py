"""The bus: streams, publish with acknowledgement, follow a stream, ask and answer.

With its neighbours `link` (the connection) and `follower` this is the only NATS code. Nothing here
trusts delivery state kept by the server. A follower names the sequence it wants to start at and
gets every message from there on, in order, through any number of reconnects and restarts of the
server; whoever follows keeps its own checkpoint.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import msgspec
import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from schemas.streams import STREAMS, StreamDefinition
from services.runtime.follower import Follower, StreamBatch, StreamMessage
from services.runtime.hearing import hear
from services.runtime.link import (
    FLUSH_TIMEOUT_S,
    REQUEST_TIMEOUT_S,
    BusError,
    BusUnavailable,
    Link,
    WrongLastSequence,
    reason,
)
from services.runtime.metrics import Sample, sample
from services.runtime.stream_state import StreamState, read_state

__all__ = [
    "Bus",
    "BusError",
    "BusUnavailable",
    "NobodyServes",
    "StreamBatch",
    "StreamMessage",
    "StreamState",
    "WrongLastSequence",
]

log = logging.getLogger(__name__)

ASK_TIMEOUT_S = 15.0
"""How long another service may take to answer a request."""
_WRONG_LAST_SEQUENCE = 10071


class NobodyServes(BusUnavailable):
    """NATS is there, but no service listens on the subject at the moment."""


class Bus:
    """What a service does on NATS, over one connection that reconnects for ever.

    Use `await Bus.connect(...)`; `await close()` at the end. All methods raise BusUnavailable
    where the server cannot be reached within their time-out.
    """

    def __init__(self, link: Link) -> None:
        self._link = link

    @classmethod
    async def connect(cls, url: str, name: str, *, wait: bool = True) -> "Bus":
        """Connect to NATS at `url` (may hold user and password) under the client name `name`.

        With `wait` the first connection is awaited for some seconds, else BusUnavailable is
        raised. Without it the bus is returned at once and goes on trying in the background.
        """
        link = Link(name)
        if wait:
            await link.open(url)
        else:
            link.open_in_background(url)
        return cls(link)

    @property
    def is_connected(self) -> bool:
        """Whether the connection is up at this moment."""
        return self._link.is_connected

    @property
    def trouble(self) -> str | None:
        """What the server said last that was no answer, a refused permission for example."""
        return self._link.trouble

    async def metrics(self) -> list[Sample]:
        """Return the metrics of the connection."""
        return [
            sample("tallygate_nats_connected", int(self.is_connected)),
            sample("tallygate_nats_disconnected_seconds", self._link.away_s),
        ]

    async def wait_connected(self, timeout_s: float | None = None) -> None:
        """Wait until the connection is up. Raises BusUnavailable after `timeout_s`."""
        await self._link.wait_connected(timeout_s)

    async def flush(self) -> None:
        """Wait until the server has taken in what was sent to it so far."""
        try:
            await self._link.client.flush(timeout=FLUSH_TIMEOUT_S)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise BusUnavailable(f"NATS does not answer: {reason(error)}") from None

    async def close(self) -> None:
        """Flush what was sent and close the connection."""
        await self._link.close()

    # ------------------------------------------------------------------------------ streams

    async def ensure_streams(
        self, definitions: tuple[StreamDefinition, ...] = STREAMS, *, replicas: int = 1
    ) -> None:
        """Create the streams that are missing.

        An existing one that lacks subjects, since an older version made it, gets them; nothing
        else of it is changed. One that has more, since a newer version made it, is left as it is.
        Raises BusError where one has subjects of another kind: two programs would then share it.
        """
        await self.wait_connected(ASK_TIMEOUT_S)
        for definition in definitions:
            try:
                info = await self._link.js.stream_info(definition.name)
            except nats.js.errors.NotFoundError:
                await self._create_stream(definition, replicas)
                continue
            except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
                raise BusUnavailable(f"stream {definition.name}: {reason(error)}") from None
            if info.config.max_age or info.config.discard == DiscardPolicy.OLD:
                log.warning(
                    "the stream %s is set to drop old messages by itself: what is dropped before "
                    "it is archived is lost. Take max_age and `discard old` off it",
                    definition.name,
                )
            present, wanted = set(info.config.subjects or ()), set(definition.subjects)
            if present < wanted and present:
                await self._add_subjects(definition)
            elif not wanted <= present:
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
            await self._link.js.add_stream(config)
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
            raise BusUnavailable(f"stream {definition.name}: {reason(error)}") from None

    async def _add_subjects(self, definition: StreamDefinition) -> None:
        """Give a stream of an older version the subjects that it lacks, and change nothing else."""
        name = definition.name
        # The configuration is sent back as the server wrote it, so that no field gets lost.
        found = await self._stream_api(f"$JS.API.STREAM.INFO.{name}", b"")
        config = {**found["config"], "subjects": list(definition.subjects)}
        await self._stream_api(f"$JS.API.STREAM.UPDATE.{name}", msgspec.json.encode(config))
        log.info("a stream of an older version has new subjects", extra={"stream": name})

    async def ensure_expiring(self, definition: StreamDefinition, *, age_s_max: int) -> None:
        """Create a stream that drops its messages at an age, or give it this age.

        What is older is gone as soon as the server has it. Raises BusError.
        """
        # A limit of bytes would be room that the server sets aside from all others at once.
        limits = {"max_age": age_s_max * 1_000_000_000, "discard": DiscardPolicy.OLD.value}
        config = {
            "name": definition.name,
            "subjects": list(definition.subjects),
            "description": definition.purpose,
            "storage": StorageType.FILE.value,
            "retention": RetentionPolicy.LIMITS.value,
            "max_msgs_per_subject": definition.history,
            "num_replicas": 1,
            "allow_direct": True,
            **limits,
        }
        try:
            await self.stream_state(definition.name)
        except BusUnavailable:
            raise
        except BusError:
            subject = f"$JS.API.STREAM.CREATE.{definition.name}"
            await self._stream_api(subject, msgspec.json.encode(config))
            return
        found = await self._stream_api(f"$JS.API.STREAM.INFO.{definition.name}", b"")
        if any(found["config"].get(name) != value for name, value in limits.items()):
            await self._stream_api(
                f"$JS.API.STREAM.UPDATE.{definition.name}",
                msgspec.json.encode({**found["config"], **limits}),
            )

    async def drop_oldest(self, stream: str, kept: int) -> None:
        """Have a stream forget all but its last `kept` messages, for good. Raises BusError."""
        # 0 would mean that nothing is asked for, and everything would go.
        request = {"keep": max(1, kept)}
        await self._stream_api(f"$JS.API.STREAM.PURGE.{stream}", msgspec.json.encode(request))

    async def last_message(self, stream: str, subject: str) -> StreamMessage | None:
        """Return the last message of a subject, None where it has none. Raises BusUnavailable."""
        try:
            message = await self._link.js.get_msg(stream, subject=subject, direct=True)
        except nats.js.errors.NotFoundError:
            return None
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError) as error:
            raise BusUnavailable(f"{subject}: {reason(error)}") from None
        return StreamMessage(message.seq or 0, subject, message.data or b"")

    async def _stream_api(self, subject: str, payload: bytes) -> dict[str, Any]:
        try:
            reply = await self._link.client.request(subject, payload, timeout=REQUEST_TIMEOUT_S)
        except (nats.errors.Error, TimeoutError) as error:
            raise BusUnavailable(
                f"{subject}: {reason(error)} (may this NATS user publish there?)"
            ) from None
        answer = msgspec.json.decode(reply.data, type=dict[str, Any])
        if "error" in answer:
            raise BusError(f"{subject}: {answer['error'].get('description')}")
        return answer

    async def stream_state(self, stream: str) -> StreamState:
        """Return what a stream holds. Raises BusError where it does not exist."""
        try:
            reply = await self._link.client.request(
                f"$JS.API.STREAM.INFO.{stream}", b"", timeout=REQUEST_TIMEOUT_S
            )
        except (nats.errors.Error, TimeoutError) as error:
            raise BusUnavailable(f"stream {stream}: {reason(error)}") from None
        state = read_state(reply.data)
        if state is None:
            raise BusError(f"stream {stream} does not exist")
        return state

    async def drop(self, stream: str, subjects: str, last_sequence: int) -> None:
        """Have a stream forget the messages of some subjects up to `last_sequence`, for good.

        They are gone when this returns; saying it again changes nothing. Raises BusError.
        """
        request = {"filter": subjects, "seq": last_sequence + 1}
        await self._stream_api(f"$JS.API.STREAM.PURGE.{stream}", msgspec.json.encode(request))

    # ------------------------------------------------------------------------------ publish

    async def publish(
        self,
        subject: str,
        payload: bytes,
        *,
        message_id: str | None = None,
        expected_last_subject_sequence: int | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
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
        if not self.is_connected:
            raise BusUnavailable("NATS is not connected")
        try:
            ack = await self._link.js.publish(
                subject, payload, timeout=timeout_s, headers=headers or None
            )
        except nats.js.errors.BadRequestError as error:
            if error.err_code == _WRONG_LAST_SEQUENCE:
                raise WrongLastSequence(str(error.description)) from None
            raise BusError(f"{subject}: {reason(error)}") from None
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError) as error:
            raise BusUnavailable(f"{subject}: {reason(error)}") from None
        return ack.seq

    # ------------------------------------------------------------------------------- follow

    async def follow(
        self, stream: str, start_sequence: int = 1, *, last_per_subject: bool = False
    ) -> AsyncGenerator[StreamBatch, None]:
        """Yield the messages of a stream from `start_sequence` on, in order, for ever.

        A batch is whatever has arrived when the caller asks. Once the caller is up to date an
        empty batch with `pending == 0` is yielded, so that it knows. `last_per_subject` starts
        with the last message of every subject instead and goes on with all later ones.
        Lost connections, restarts of the server and a stream that does not exist yet are waited
        out. A gap is possible only where the stream itself has lost messages: the caller, who
        knows the sequences, checks.
        """
        follower = Follower(self._link, stream, start_sequence, last_per_subject=last_per_subject)
        try:
            while True:
                yield await follower.next_batch()
        finally:
            await follower.close()

    async def tell(self, subject: str, payload: bytes) -> None:
        """Tell whoever listens at this moment; nothing is kept. Raises BusUnavailable."""
        if not self.is_connected:
            raise BusUnavailable("NATS is not connected")
        try:
            await self._link.client.publish(subject, payload)
        except (nats.errors.Error, OSError) as error:
            raise BusUnavailable(f"{subject}: {reason(error)}") from None

    def hear(self, subject: str) -> AsyncGenerator[bytes | None, None]:
        """Yield what is told on a subject; see services.runtime.hearing.hear."""
        return hear(self._link, subject)

    # ------------------------------------------------------------------------- request/reply

    async def request(
        self, subject: str, payload: bytes, *, timeout_s: float = ASK_TIMEOUT_S
    ) -> bytes:
        """Ask whoever serves `subject` and return the reply's bytes."""
        if not self.is_connected:
            raise BusUnavailable("NATS is not connected")
        try:
            reply = await self._link.client.request(subject, payload, timeout=timeout_s)
        except nats.errors.NoRespondersError:
            raise NobodyServes(f"nobody serves {subject} at the moment") from None
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise BusUnavailable(f"{subject}: {reason(error)}") from None
        return reply.data

    async def ask_all(
        self,
        subject: str,
        payload: bytes,
        *,
        timeout_s: float,
        replies_max: int,
        is_enough: Callable[[list[bytes]], bool],
    ) -> list[bytes]:
        """Ask everyone who serves `subject`; return the replies that came.

        Waits until `is_enough(replies)`, until there are `replies_max`, or for `timeout_s`.
        """
        if not self.is_connected:
            raise BusUnavailable("NATS is not connected")
        client = self._link.client
        replies: list[bytes] = []
        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox)
        try:
            await client.publish(subject, payload, reply=inbox)
            async with asyncio.timeout(timeout_s):
                while len(replies) < replies_max and not is_enough(replies):
                    message = await subscription.next_msg(timeout=timeout_s)
                    # Without data it is the server's own word: nobody serves the subject.
                    if message.data:
                        replies.append(message.data)
        except TimeoutError:
            pass
        except (nats.errors.Error, OSError) as error:
            raise BusUnavailable(f"{subject}: {reason(error)}") from None
        finally:
            with contextlib.suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()
        return replies

    async def serve(
        self, subject: str, handler: Callable[[bytes], Awaitable[bytes]], *, parallel_max: int = 8
    ) -> Callable[[], Awaitable[None]]:
        """Answer requests on `subject` with `handler`, at most `parallel_max` at a time.

        Returns what ends it: it waits for the answers under way. Further requests wait in NATS's
        own queue of the subscription, which survives reconnects. An exception of the handler is a
        fault: it is logged, the asker times out.
        """
        await self.wait_connected(ASK_TIMEOUT_S)
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

        subscription = await self._link.client.subscribe(subject, cb=on_message)

        async def stop() -> None:
            with contextlib.suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()
            await asyncio.gather(*tasks, return_exceptions=True)

        return stop
