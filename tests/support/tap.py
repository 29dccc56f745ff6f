"""A relay between a client and what it talks to, which notes both sides of the conversation.

Bytes go on as they come, whoever listens; only copies are parsed. The target may be changed between
two sessions while the address stays, so that a client cannot know by its settings whom it asks.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httptools

__all__ = ["Exchange", "Network", "Tap", "damaging", "running_tap", "standing_still"]

Network = Callable[[], Callable[[bytes], bytes]]
"""Makes for each connection what a bad network makes of the pieces that the client sends."""

_READ_BYTES = 65_536
_START_TIMEOUT_S = 10.0


class Exchange:
    """One request as the client sent it, and the answer as the client got it.

    Names of headers are in lower case. `status` 0: no answer came. `is_whole`: it came to its end.
    """

    def __init__(self) -> None:
        self.method = ""
        self.target = ""
        self.headers: list[tuple[str, str]] = []
        self.body = b""
        self.status = 0
        self.answer_headers: list[tuple[str, str]] = []
        self.answer_body = b""
        self.is_whole = False

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    def answer_header(self, name: str) -> str | None:
        """Return the first value of a header of the answer."""
        return next((value for key, value in self.answer_headers if key == name), None)


class _Requests:
    """The parser's callbacks for what the client sends: each request opens an exchange."""

    def __init__(self, noted: list[Exchange]) -> None:
        self._noted = noted
        self.mine: list[Exchange] = []
        self._parser = httptools.HttpRequestParser(self)

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        exchange = Exchange()
        self._noted.append(exchange)
        self.mine.append(exchange)

    def on_url(self, part: bytes) -> None:
        self.mine[-1].target += part.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.mine[-1].headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        self.mine[-1].method = self._parser.get_method().decode("latin-1")

    def on_body(self, part: bytes) -> None:
        self.mine[-1].body += part


class _Answers:
    """The parser's callbacks for what the client gets: the n-th answer is the n-th request's."""

    def __init__(self, requests: _Requests) -> None:
        self._requests = requests
        self._parser = httptools.HttpResponseParser(self)
        self._number = -1

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)
        if self._number >= 0 and self._exchange.method == "HEAD" and self._exchange.status:
            # The parser cannot know that the body whose length it read does not come.
            self._exchange.is_whole = True
            self._parser = httptools.HttpResponseParser(self)

    @property
    def _exchange(self) -> Exchange:
        return self._requests.mine[self._number]

    def on_message_begin(self) -> None:
        self._number += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        header = (name.decode("latin-1").lower(), value.decode("latin-1"))
        self._exchange.answer_headers.append(header)

    def on_headers_complete(self) -> None:
        self._exchange.status = self._parser.get_status_code()

    def on_body(self, part: bytes) -> None:
        self._exchange.answer_body += part

    def on_message_complete(self) -> None:
        self._exchange.is_whole = True


class Tap:
    """A running relay. `exchanges` grows while a client talks; `forget` empties it."""

    def __init__(self) -> None:
        self.port = 0
        self.exchanges: list[Exchange] = []
        self._target_port = 0
        self._network: Network = lambda: bytes
        self._loop = asyncio.new_event_loop()
        self._is_up = threading.Event()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))

    @property
    def url(self) -> str:
        """The base URL to give to a client."""
        return f"http://127.0.0.1:{self.port}"

    def point_at(self, url: str, *, network: Network = lambda: bytes) -> None:
        """Relay new connections to the port of this address of the machine; forget what was."""
        self._target_port = int(url.rpartition(":")[2])
        self._network = network
        self.exchanges = []

    def start(self) -> None:
        """Listen, on a port that stays."""
        self._thread.start()
        assert self._is_up.wait(_START_TIMEOUT_S)

    def stop(self) -> None:
        """Close everything."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        self._loop.close()

    async def _run(self) -> None:
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._relay(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._is_up.set()
        await self._over.wait()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests = _Requests(self.exchanges)
        answers = _Answers(requests)
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
            there = asyncio.create_task(_pump(reader, far_writer, requests, self._network()))
            back = asyncio.create_task(_pump(far_reader, writer, answers, bytes))
            try:
                # Whoever ends the connection ends it for both: neither side half-closes.
                await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (there, back):
                    task.cancel()
                await asyncio.gather(there, back, return_exceptions=True)
                far_writer.close()
        writer.close()


async def _pump(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    noted: _Requests | _Answers,
    change: Callable[[bytes], bytes],
) -> None:
    """Hand bytes on until they end. A reset is handed on as a reset."""
    try:
        while data := await reader.read(_READ_BYTES):
            noted.feed(data)
            writer.write(change(data))
            await writer.drain()
    except ConnectionResetError:
        writer.transport.abort()


def standing_still(after_bytes: int) -> Network:
    """Return a network that carries so many bytes of a connection's requests, and no more."""

    def connection() -> Callable[[bytes], bytes]:
        left = after_bytes

        def carry(data: bytes) -> bytes:
            nonlocal left
            carried = data[:left]
            left -= len(carried)
            return carried

        return carry

    return connection


def damaging(what: bytes, into: bytes) -> Network:
    """Return a network that turns some bytes into others, as many."""
    assert len(what) == len(into)
    return lambda: lambda data: data.replace(what, into)


@contextmanager
def running_tap() -> Iterator[Tap]:
    """Run one for the length of a with statement."""
    tap = Tap()
    tap.start()
    try:
        yield tap
    finally:
        tap.stop()
