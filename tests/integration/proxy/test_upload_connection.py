"""A body that is sent on piece by piece: framed right, no faster than it is taken, never reused."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from schemas.config import Settings
from schemas.errors import BodyTooLarge, UpstreamTimeout
from services.proxy.pool import PoolSettings, UpstreamPool
from services.proxy.upstream import Origin, UpstreamRequest

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Pieces:
    """An upload of given pieces; counts those that were taken from it."""

    def __init__(self, pieces: list[Any], length: int | None) -> None:
        self._pieces = pieces
        self.length = length
        self.taken = 0

    async def pieces(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            self.taken += 1
            if isinstance(piece, Exception):
                raise piece
            yield piece


async def asked(serve: Serve, upload: Pieces, *, timeout_s: float = 5.0) -> tuple[bytes, int]:
    """Send an upload to a server; return the answer's body and the connections left idle."""
    over = asyncio.Event()
    handlers: set[asyncio.Task[Any] | None] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.add(asyncio.current_task())
        await serve(reader, writer)
        await over.wait()
        writer.transport.abort()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()[:2]
        pool = UpstreamPool(PoolSettings.from_settings(Settings(connect_timeout_s=5.0)))
        request = UpstreamRequest(
            method=b"POST",
            origin=Origin("http", host, port, ""),
            target=b"/v1/files",
            headers=[(b"x-test", b"1")],
            body=b"",
            head_timeout_s=timeout_s,
            idle_timeout_s=timeout_s,
            upload=upload,
        )
        try:
            response = await pool.handle_async_request(request)
            body = b"".join([chunk async for chunk, _ in response.chunks()])
            await response.aclose()
            return body, sum(len(idle.connections) for idle in pool._idle.values())
        finally:
            await pool.aclose()
            over.set()
            await asyncio.gather(*(handler for handler in handlers if handler is not None))


async def head_of(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


def test_a_body_of_known_length_arrives_as_it_is_and_the_connection_is_kept() -> None:
    # Given pieces and their length, then the deployment gets that length and these bytes.
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await head_of(reader))
        seen.append(await reader.readexactly(6))
        writer.write(ANSWER)

    body, idle = asyncio.run(asked(serve, Pieces([b"abc", b"", b"def"], 6)))

    assert (body, idle) == (b"ok", 1)
    assert b"content-length: 6\r\n" in seen[0]
    assert b"transfer-encoding" not in seen[0]
    assert seen[1] == b"abcdef"


def test_a_body_of_unknown_length_arrives_in_chunks() -> None:
    # Given pieces without a length, then each is a chunk, an empty one is none, the end is marked.
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await head_of(reader))
        seen.append(await reader.readuntil(b"0\r\n\r\n"))
        writer.write(ANSWER)

    body, idle = asyncio.run(asked(serve, Pieces([b"abc", b"", b"x" * 17], None)))

    assert (body, idle) == (b"ok", 1)
    assert b"transfer-encoding: chunked\r\n" in seen[0]
    assert seen[1] == b"3\r\nabc\r\n11\r\n" + b"x" * 17 + b"\r\n0\r\n\r\n"


def test_an_answer_before_the_end_stops_the_upload_and_spoils_the_connection() -> None:
    # Given a deployment that refuses after the head, then the answer comes, the rest is not asked
    # of the client, and the connection takes no other request.
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(b"HTTP/1.1 413 No\r\ncontent-length: 2\r\n\r\nno")
        await reader.read()

    pieces = Pieces([b"x" * 65536] * 10_000, 655_360_000)
    body, idle = asyncio.run(asked(serve, pieces))

    assert (body, idle) == (b"no", 0)
    assert pieces.taken < 10_000


def test_a_deployment_that_does_not_read_holds_the_upload_back_and_is_given_up() -> None:
    # Given a deployment that reads nothing, then little is taken of the body, and the wait ends.
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(1)

    pieces = Pieces([b"x" * 65536] * 2000, 131_072_000)
    with pytest.raises(UpstreamTimeout):
        asyncio.run(asked(serve, pieces, timeout_s=0.5))

    assert pieces.taken < 300


def test_what_ends_the_upload_is_raised_and_the_deployment_gets_no_whole_body() -> None:
    # Given a body that turns out too large, then that is the error, and the deployment sees a cut.
    ends: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        try:
            ends.append(await reader.read())
        except ConnectionResetError:
            ends.append(b"reset")

    with pytest.raises(BodyTooLarge):
        asyncio.run(asked(serve, Pieces([b"abc", BodyTooLarge("too large")], None)))

    assert b"0\r\n\r\n" not in b"".join(ends)
