"""The upstream of the benchmark: `python -m bench.upstream` answers at once, with ready-made bytes.

The tests' mock records what it gets and can misbehave in many ways; that costs it more than a
request costs nginx. This one does as little as a server can, so that what is measured is the proxy.
It prints its port (its first argument, 0 for a free one), then for each line of its standard input
how many requests it has answered so far, and ends with that input. A second argument names a PEM
file with a certificate and its key: it then speaks TLS.
"""

import asyncio
import os
import re
import ssl
import sys
import time
from typing import cast

import uvloop

from bench.answers import Answer, frame, json_answer, stream_pieces, text_event

__all__ = ["ANSWER_HEADER", "STAINLESS_ANSWER_HEADER", "main"]

ANSWER_HEADER = b"x-bench-answer"
"""The request header that says which answer is wanted."""
STAINLESS_ANSWER_HEADER = b"x-stainless-bench-answer"
"""The same, for a proxy that lets through only headers of names that it knows."""

BACKLOG = 2048
EVENTS_A_TURN = 20
"""So many events of a burst are written before other connections have their turn."""
HEAD_BYTES_MAX = 64 * 1024

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_ANSWER = re.compile(rb"\r\nx-(?:stainless-)?bench-answer: *([\d.:]+)\r\n", re.IGNORECASE)
_JSON = json_answer()
_BEGIN, _END = stream_pieces()


class _Count:
    """The requests of all connections that were answered, or are being answered."""

    def __init__(self) -> None:
        self.requests = 0


class _Connection(asyncio.Protocol):
    """Answers one request after the other; whatever is no such request ends the connection."""

    def __init__(self, count: _Count) -> None:
        self._count = count
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._head = b""
        self._missing = 0
        self._answer = Answer()
        self._due_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has no such base

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
        else:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                self._refuse_if(len(self._head) > HEAD_BYTES_MAX)
                return
            head, body_begun = self._head[: end + 2], len(self._head) - end - 4
            self._head = b""
            length, wanted = _LENGTH.search(head), _ANSWER.search(head)
            if length is None or wanted is None:
                self._refuse_if(True)
                return
            self._missing = int(length[1]) - body_begun
            self._answer = Answer.from_header(wanted[1])
        # Nobody sends a second request before the first is answered.
        self._refuse_if(self._missing < 0)
        if self._missing == 0:
            self._reply()

    def _refuse_if(self, is_wrong: bool) -> None:  # noqa: FBT001
        if is_wrong and self._transport is not None:
            self._transport.abort()

    def _reply(self) -> None:
        assert self._transport is not None
        self._count.requests += 1
        if not self._answer.events:
            self._transport.write(_JSON)
            return
        self._transport.write(_BEGIN)
        if self._answer.pace_ms:
            self._due_at = self._loop.time() + self._answer.pace_ms / 1000
            self._loop.call_at(self._due_at, self._paced, self._answer.events)
        else:
            self._burst(self._answer.events)

    def _burst(self, left: int) -> None:
        if self._transport is None:
            return
        now = min(left, EVENTS_A_TURN)
        events = b"".join(frame(text_event(time.monotonic_ns())) for _ in range(now))
        left -= now
        self._transport.write(events if left else events + _END)
        if left:
            self._loop.call_soon(self._burst, left)

    def _paced(self, left: int) -> None:
        if self._transport is None:
            return
        if not left:
            self._transport.write(_END)
            return
        self._transport.write(frame(text_event(time.monotonic_ns())))
        # Counted from when it was due: a late event does not shift all that follow.
        self._due_at += self._answer.pace_ms / 1000
        self._loop.call_at(self._due_at, self._paced, left - 1)


async def _serve(port: int, certificate: str | None) -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    count = _Count()

    def tell(number: int) -> None:
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()

    def read_stdin() -> None:
        questions = os.read(0, 4096)
        if not questions:
            over.set()
        for _ in range(questions.count(b"\n")):
            tell(count.requests)

    loop.add_reader(0, read_stdin)
    tls = None
    if certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
    server = await loop.create_server(
        lambda: _Connection(count), "127.0.0.1", port, backlog=BACKLOG, ssl=tls
    )
    tell(server.sockets[0].getsockname()[1])
    await over.wait()
    loop.remove_reader(0)
    server.close()


def main() -> None:
    """Serve until standard input ends."""
    uvloop.run(_serve(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None))


if __name__ == "__main__":
    main()
