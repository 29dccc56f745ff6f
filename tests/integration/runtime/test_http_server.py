"""The HTTP server's own limits: on heads that do not come, and on requests that outlast the end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.runtime import http_server
from services.runtime.http_server import HEAD_BYTES_MAX, serve_http
from services.runtime.listen import listen

REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
    )
    await send({"type": "http.response.body", "body": b"hi"})


@contextlib.asynccontextmanager
async def serving(
    app: Any, *, drain_timeout_s: float = 5
) -> AsyncIterator[tuple[int, asyncio.Event]]:
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    stop, started = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(
        serve_http(
            app,
            listener=listener,
            stop=stop,
            drain_timeout_s=drain_timeout_s,
            on_started=started.set,
        )
    )
    await started.wait()
    try:
        yield port, stop
    finally:
        stop.set()
        await asyncio.wait_for(task, 20)


async def end_of(port: int, sent: list[bytes]) -> bytes:
    """Send bytes and return all that comes until the server ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        async with asyncio.timeout(10):
            for part in sent:
                writer.write(part)
                await writer.drain()
            received = await reader.read()
    except ConnectionError:
        pass
    writer.close()
    return received


@pytest.mark.parametrize(
    "sent",
    [[], [b"GET / HTTP/1.1\r\nhost"], [REQUEST, b"GET / HT"], [b"POST / HTTP/1.1\r\nh: ", b"x"]],
)
def test_connection_whose_head_does_not_come_is_closed(
    monkeypatch: pytest.MonkeyPatch, sent: list[bytes]
) -> None:
    monkeypatch.setattr(http_server, "HEAD_TIMEOUT_S", 0.3)

    async def run() -> None:
        async with serving(hello) as (port, _):
            received = await end_of(port, sent)
            assert received.count(b"200 OK") == (1 if REQUEST in sent else 0)

    asyncio.run(run())


def test_head_without_end_is_closed_before_it_fills_the_memory() -> None:
    async def run() -> None:
        async with serving(hello) as (port, _):
            head = [b"GET / HTTP/1.1\r\nx: "] + [b"y" * 65_536] * (HEAD_BYTES_MAX // 65_536 + 2)
            assert await end_of(port, head) == b""

    asyncio.run(run())


def test_kept_connection_serves_on_after_the_time_for_a_head(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_server, "HEAD_TIMEOUT_S", 0.2)

    async def run() -> None:
        async with serving(hello) as (port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(3):
                writer.write(REQUEST)
                assert (await reader.readuntil(b"hi")).startswith(b"HTTP/1.1 200")
                await asyncio.sleep(0.35)
            writer.close()

    asyncio.run(run())


def test_request_that_is_cut_in_the_end_may_still_write_down_what_it_did(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Given a request that outlasts the drain, then serving ends after its last words.

    The log says in one line that it was cut, without a trace that looks like a fault.
    """
    words: list[str] = []

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.2)
            words.append("written")

    async def run() -> None:
        async with serving(endless, drain_timeout_s=1) as (port, stop):
            client = asyncio.create_task(end_of(port, [REQUEST]))
            await asyncio.sleep(0.2)
            stop.set()
        assert words == ["written"]
        await client

    asyncio.run(run())
    assert "timeout graceful shutdown exceeded" in caplog.text
    assert not [record for record in caplog.records if record.exc_info]


async def _raw_answer(port: int) -> list[bytes]:
    """Return what each read gives of the answer to one request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST)
    pieces = []
    async with asyncio.timeout(10):
        while b"".join(pieces).count(b"hi") == 0:
            pieces.append(await reader.read(65536))
    writer.close()
    return pieces


def test_head_and_body_of_a_ready_answer_arrive_together() -> None:
    # Given an answer whose body follows its head at once, then both come in one piece.
    async def run() -> None:
        async with serving(hello) as (port, _):
            pieces = await _raw_answer(port)
            assert len(pieces) == 1
            assert pieces[0].startswith(b"HTTP/1.1 200")

    asyncio.run(run())


def test_a_head_does_not_wait_for_a_body_that_comes_later() -> None:
    # Given a body that is late, then the head is there before it.
    async def run() -> None:
        may_go_on = asyncio.Event()

        async def late(scope: Any, receive: Any, send: Any) -> None:
            headers = [(b"content-length", b"2")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await may_go_on.wait()
            await send({"type": "http.response.body", "body": b"hi"})

        async with serving(late) as (port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(REQUEST)
            async with asyncio.timeout(10):
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200")
                may_go_on.set()
                assert await reader.readexactly(2) == b"hi"
            writer.close()

    asyncio.run(run())
