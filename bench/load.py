"""The load generator: `python -m bench.load` reads one job a line and answers with one result.

Each connection sends its next request when it has the whole answer to the last one. Requests are
ready-made bytes. An answer that is not a 200, or that ends too soon, makes the result invalid.
"""

import asyncio
import re
import sys
import time
from pathlib import Path
from typing import cast

import msgspec
import uvloop

from bench.answers import STAMP, Answer
from bench.upstream import ANSWER_HEADER
from tests.support.recorded import RequestKind, claude_code_body, recorded_request

__all__ = ["Caller", "Job", "LoadResult", "main"]

GRACE_S = 30.0
"""Requests that are under way when the time of a job is over get so long to end."""
SMALL_BODY_BYTES = 4_000
"""A body below this size is a plain question: the client's tools do not fit into it."""
TAIL_BYTES = 512
"""Of a stream so much is kept, to see how it ends."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_REQUEST_ID = re.compile(rb"\r\nx-tallygate-request-id: *([^\r]+)\r\n", re.IGNORECASE)
_CHUNKS_END = b"0\r\n\r\n"


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """What a target must be sent: the recorded request of a kind, with these header values.

    `headers` are by lower-case name; `answer_header` is one that the target passes on.
    """

    kind: RequestKind = "oauth_with_virtual_key"
    headers: dict[str, str] = {}
    model: str = "anthropic-claude"
    answer_header: str = ANSWER_HEADER.decode()


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to send, where, and for how long. `ids_path` gets the gateway's id of each request."""

    host: str = "127.0.0.1"
    port: int
    caller: Caller = Caller()
    connections: int
    body_bytes: int
    answer: Answer
    seconds: float
    stagger_s: float = 0.0
    requests_max: int
    ids_path: str


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen. Times in microseconds; `ttfb` is to the first byte of the answer's body.

    `delays` are those of the stamped events, from the upstream's write to the client's read.
    """

    requests: int
    seconds: float
    p50_us: float
    p99_us: float
    ttfb_p50_us: float
    ttfb_p99_us: float
    event_delay_p50_us: float | None
    event_delay_p99_us: float | None
    error: str | None


def request_bytes(job: Job) -> bytes:
    """Return the request of a job, with the headers of the real Claude Code."""
    stream, caller = job.answer.events > 0, job.caller
    if job.body_bytes < SMALL_BODY_BYTES:
        shape = (
            '{"model":"%s","max_tokens":1024,"messages":'
            '[{"role":"user","content":"%s"}],"stream":%s}'
        )
        flag = "true" if stream else "false"
        missing = job.body_bytes - len(shape % (caller.model, "", flag))
        body = (shape % (caller.model, "x" * missing, flag)).encode()
    else:
        body = claude_code_body(model=caller.model, stream=stream, body_bytes=job.body_bytes)
    recorded = recorded_request(caller.kind)
    headers = recorded.headers_for(body, replaced=caller.headers)
    lines = [f"{name}: {text}" for name, text in headers]
    lines += [f"Host: {job.host}:{job.port}", f"{caller.answer_header}: "]
    head = f"POST {recorded.target} HTTP/1.1\r\n" + "\r\n".join(lines)
    return head.encode() + job.answer.header + b"\r\n\r\n" + body


class _Run:
    """What all connections of a job share."""

    def __init__(self, job: Job) -> None:
        self.request = request_bytes(job)
        self.is_stream = job.answer.events > 0
        self.is_stamped = job.answer.pace_ms > 0
        self.began = time.perf_counter()
        self.deadline = self.began + job.seconds
        self.ended = self.began
        self.left = job.requests_max
        self.open = job.connections
        self.over = asyncio.get_running_loop().create_future()
        self.latencies: list[float] = []
        self.first_bytes: list[float] = []
        self.delays_ns: list[int] = []
        self.ids: list[bytes] = []
        self.error: str | None = None

    def connection_over(self, error: str | None) -> None:
        self.error = self.error or error
        self.open -= 1
        if self.open == 0 and not self.over.done():
            self.over.set_result(None)


class _Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._transport: asyncio.Transport | None = None
        self._sent_at = 0.0
        self._is_over = False
        self._reset()

    def _reset(self) -> None:
        self._head = b""
        self._in_body = False
        self._has_first = False
        self._missing: int | None = None
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has no such base
        self._next()

    def _next(self) -> None:
        run = self._run
        now = time.perf_counter()
        if run.left <= 0 or now >= run.deadline or run.error is not None:
            self._finish(None)
            return
        assert self._transport is not None
        run.left -= 1
        self._reset()
        self._sent_at = now
        self._transport.write(run.request)

    def _finish(self, error: str | None) -> None:
        if not self._is_over:
            self._is_over = True
            self._run.connection_over(error)
        if self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(f"a connection broke: {exc}")

    def data_received(self, data: bytes) -> None:
        if not self._in_body:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            head, data = self._head[: end + 2], self._head[end + 4 :]
            if not head.startswith(b"HTTP/1.1 200 "):
                self._finish(f"an answer was {head[:80]!r} {data[:300]!r}")
                return
            self._in_body = True
            length, request_id = _LENGTH.search(head), _REQUEST_ID.search(head)
            self._missing = int(length[1]) if length else None
            if request_id is not None:
                self._run.ids.append(request_id[1])
        if not data:
            return
        if not self._has_first:
            self._has_first = True
            self._run.first_bytes.append(time.perf_counter() - self._sent_at)
        if self._run.is_stamped:
            now_ns = time.monotonic_ns()
            self._run.delays_ns += [now_ns - int(stamp) for stamp in STAMP.findall(data)]
        self._body(data)

    def _body(self, data: bytes) -> None:
        if self._missing is not None:
            self._missing -= len(data)
            is_whole = self._missing == 0
        else:
            self._tail = (self._tail + data)[-TAIL_BYTES:]
            is_whole = self._tail.endswith(_CHUNKS_END)
            if is_whole and self._run.is_stream and b"message_stop" not in self._tail:
                self._finish("a stream ended before its message_stop")
                return
        if is_whole:
            now = time.perf_counter()
            self._run.latencies.append(now - self._sent_at)
            self._run.ended = now
            self._next()


def _quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


async def _drive(job: Job) -> tuple[LoadResult, list[bytes]]:
    run = _Run(job)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(job.seconds + GRACE_S):
            for number in range(job.connections):
                due_s = run.began + job.stagger_s * number / job.connections
                await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
                await loop.create_connection(lambda: _Client(run), job.host, job.port)
            await run.over
    except (OSError, TimeoutError) as fault:
        run.error = run.error or f"{type(fault).__name__}: {fault}"
    delays = [each / 1000 for each in run.delays_ns]
    result = LoadResult(
        requests=len(run.latencies),
        seconds=run.ended - run.began,
        p50_us=_quantile(run.latencies, 0.5) * 1e6,
        p99_us=_quantile(run.latencies, 0.99) * 1e6,
        ttfb_p50_us=_quantile(run.first_bytes, 0.5) * 1e6,
        ttfb_p99_us=_quantile(run.first_bytes, 0.99) * 1e6,
        event_delay_p50_us=_quantile(delays, 0.5) if delays else None,
        event_delay_p99_us=_quantile(delays, 0.99) if delays else None,
        error=run.error if run.error or run.latencies else "no request was answered",
    )
    return result, run.ids


def main() -> None:
    """Do one job a line until standard input ends."""
    for line in sys.stdin.buffer:
        job = msgspec.json.decode(line, type=Job)
        result, ids = uvloop.run(_drive(job))
        with Path(job.ids_path).open("ab") as file:
            file.write(b"".join(each + b"\n" for each in ids))
        sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
