"""HTTP/1.1 on one socket of the mock, with every byte of the answer in its own hands."""

import asyncio
import hashlib
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, cast

import httptools
import msgspec

from tests.support.mock_anthropic.control import CONTROL_PREFIX, answer_control
from tests.support.mock_anthropic.messages import (
    Ids,
    answer_headers,
    count_tool_results,
    error_body,
    model_list_body,
)
from tests.support.mock_anthropic.records import Book, Record
from tests.support.mock_anthropic.replies import (
    Act,
    Asked,
    Pause,
    Send,
    Step,
    plain_reply,
    reply_steps,
)
from tests.support.mock_anthropic.scenario import Scenario, decode_scenario
from tests.support.mock_anthropic.stores import Answer

__all__ = ["BODY_BYTES_MAX", "PIPELINE_MAX", "STALL_S_MAX", "Connection"]

BODY_BYTES_MAX = 64 * 1024 * 1024
"""A larger request body is answered with 413 and the connection is closed."""

PIPELINE_MAX = 64
"""More unanswered requests on one connection than this end it."""

STALL_S_MAX = 900.0
"""A stalled answer whose client does not leave is cut off after this long."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class _Question(msgspec.Struct):
    """The fields of a request body that the mock looks at."""

    model: str
    messages: list[dict[str, Any]]
    stream: bool | None = None


_question_decoder = msgspec.json.Decoder(_Question)


class _Parser:
    """Collects one request after the other from the bytes of a connection."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._parser = httptools.HttpRequestParser(self)
        self.target = b""
        self.headers: list[tuple[str, str]] = []
        self.body: list[bytes] = []
        self.body_bytes = 0

    def feed(self, data: bytes) -> None:
        """Parse bytes. Raises httptools.HttpParserError where they are no HTTP."""
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.target, self.headers, self.body, self.body_bytes = b"", [], [], 0

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, text: bytes) -> None:
        self.headers.append((name.decode("latin-1"), text.decode("latin-1")))

    def on_headers_complete(self) -> None:
        if any(name.lower() == "expect" for name, _ in self.headers):
            self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, part: bytes) -> None:
        self.body_bytes += len(part)
        if self.body_bytes <= BODY_BYTES_MAX:
            self.body.append(part)

    def on_message_complete(self) -> None:
        request = _Request(
            method=self._parser.get_method().decode("latin-1"),
            target=self.target.decode("latin-1"),
            headers=self.headers,
            body=b"".join(self.body),
            body_bytes=self.body_bytes,
            keep_alive=self._parser.should_keep_alive(),
        )
        self._connection.request_arrived(request)


class _Request(msgspec.Struct, frozen=True, kw_only=True):
    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    body_bytes: int
    keep_alive: bool

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def header(self, name: str) -> str:
        return next((text for key, text in self.headers if key.lower() == name), "")

    @property
    def subscription(self) -> bool:
        return self.header("authorization").startswith("Bearer sk-ant-oat")

    @property
    def authorized(self) -> bool:
        bearer = self.header("authorization").startswith("Bearer sk-ant-")
        return bearer or bool(self.header("x-api-key"))


class Connection(asyncio.Protocol):
    """One client: answers its requests in turn, by the steps that `replies` makes of a scenario."""

    def __init__(self, book: Book, ids: Ids, connections: set["Connection"]) -> None:
        """Share the state of the program; `connections` holds those that are open."""
        self._book = book
        self._ids = ids
        self._connections = connections
        self._parser = _Parser(self)
        self._waiting: deque[_Request] = deque()
        self._steps: Iterator[Step] | None = None
        self._record: Record | None = None
        self._keep_alive = True
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport
        self._number = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection."""
        # uvloop's transports do not derive from asyncio's, so a cast and no isinstance.
        self._transport = cast("asyncio.Transport", transport)
        self._book.stats.connections_total += 1
        self._book.stats.connections_open += 1
        self._number = self._book.stats.connections_total
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the record of an answer that was under way."""
        del exc
        self._book.stats.connections_open -= 1
        self._connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        self._steps = None
        if self._record is not None:
            self._record.client_closed_at = self._record.client_closed_at or time.time()
            self._end_record()

    def data_received(self, data: bytes) -> None:
        """Parse what came; anything that is not HTTP is answered with 400."""
        try:
            self._parser.feed(data)
        except httptools.HttpParserCallbackError:
            # A mistake of the mock's own must not look like one of the client's.
            self._transport.abort()
            raise
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.write(plain_reply(400, {"connection": "close"}, b"{}"))
            self._transport.close()

    def eof_received(self) -> bool:
        """Take a half-closed connection for a closed one."""
        return False

    def pause_writing(self) -> None:
        """Stop at a client that does not read."""
        self._paused = True

    def resume_writing(self) -> None:
        """Go on once it reads again."""
        self._paused = False
        if self._timer is None:
            self._advance()

    def abort(self) -> None:
        """Drop the connection because the program ends."""
        self._transport.abort()

    def write(self, data: bytes) -> None:
        """Write bytes that belong to no record, such as a 100."""
        self._transport.write(data)

    def request_arrived(self, request: _Request) -> None:
        """Answer a request, or let it wait for those before it."""
        self._waiting.append(request)
        if len(self._waiting) > PIPELINE_MAX:
            self._transport.abort()
        elif self._steps is None:
            self._start(self._waiting.popleft())

    def _start(self, request: _Request) -> None:
        self._keep_alive = request.keep_alive
        if request.path.startswith(CONTROL_PREFIX):
            answer = answer_control(self._book, request.method, request.target, request.body)
            self._steps = iter([Send(answer)])
        else:
            self._record = self._new_record(request)
            self._steps = self._answer(request, self._record)
        self._advance()

    def _new_record(self, request: _Request) -> Record:
        self._book.stats.requests_total += 1
        record = Record(
            number=self._book.stats.requests_total,
            connection=self._number,
            method=request.method,
            target=request.target,
            headers=request.headers,
            started_at=time.time(),
            body=request.body,
            body_bytes=request.body_bytes,
            body_sha256=hashlib.sha256(request.body).hexdigest(),
            tag=request.header("x-mock-tag"),
            request_id=self._ids.new("req"),
        )
        self._book.add(record)
        return record

    def _answer(self, request: _Request, record: Record) -> Iterator[Step]:
        """Return the steps of the answer to anything but the control paths."""
        if request.path in {"/", "/api/hello"} and request.method in {"GET", "HEAD"}:
            return self._plain(record, request, 200, b'{"message":"hello"}')
        if request.body_bytes > BODY_BYTES_MAX:
            self._keep_alive = False
            return self._error(record, request, 413, "request_too_large", "Too large.")
        if not request.authorized:
            message = "x-api-key header is required"
            return self._error(record, request, 401, "authentication_error", message)
        match request.method, request.path:
            case "GET", "/v1/models":
                return self._plain(record, request, 200, model_list_body())
            case "POST", "/v1/messages" | "/v1/messages/count_tokens":
                return self._answer_question(request, record)
            case _, path if path == "/v1/skills" or path.startswith("/v1/skills/"):
                return self._plain(record, request, 200, b'{"data":[]}')
            case _, path if path.startswith(("/v1/messages/batches", "/v1/files")):
                return self._stored(request, record)
            case _:
                return self._error(record, request, 404, "not_found_error", "Not found")

    def _stored(self, request: _Request, record: Record) -> Iterator[Step]:
        """Answer about batches and files."""
        account = request.header("x-api-key") or request.header("authorization")
        stores = self._book.stores
        try:
            if request.path.startswith("/v1/files"):
                found, content = stores.files(
                    request.method,
                    request.path,
                    account=account,
                    body=request.body,
                    content_type=request.header("content-type"),
                )
                headers = answer_headers(record.request_id, subscription=request.subscription)
                headers["content-type"] = "application/octet-stream"
                steps: Iterator[Step] = iter([Send(plain_reply(200, headers, content))])
            else:
                found, steps = stores.batches(
                    request.method,
                    request.path,
                    account=account,
                    body=request.body,
                    host=request.header("host"),
                    pace_ms=float(request.header("x-mock-pace-ms") or 0),
                )
        except Answer as error:
            return self._error(record, request, error.status, error.kind, error.message)
        if found is None:
            return steps
        return self._plain(record, request, 200, msgspec.json.encode(found))

    def _answer_question(self, request: _Request, record: Record) -> Iterator[Step]:
        try:
            question = _question_decoder.decode(request.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return self._error(record, request, 400, "invalid_request_error", str(error))
        header = request.header("x-mock-scenario")
        counting = request.path.endswith("/count_tokens")
        try:
            if header:
                scenario = decode_scenario(header.encode("latin-1"))
            else:
                scenario = Scenario() if counting else self._book.next_scenario()
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return self._error(record, request, 500, "mock_scenario_error", str(error))
        record.model = question.model
        record.scenario = scenario.name or scenario.fault or scenario.reply
        if counting and scenario.reply == "text" and scenario.fault is None:
            body = b'{"input_tokens":%d}' % (len(request.body) // 4)
            return self._plain(record, request, 200, body)
        if scenario.caches:
            figures = self._book.cache.usage(question.messages, scenario.usage)
            scenario = msgspec.structs.replace(scenario, usage=figures)
        record.stream = bool(question.stream)
        record.message_id = self._ids.new("msg")
        asked = Asked(
            number=record.number,
            model=question.model,
            stream=record.stream,
            subscription=request.subscription,
            tool_results=count_tool_results(question.messages),
            message_id=record.message_id,
            request_id=record.request_id,
        )
        return reply_steps(scenario, asked, self._ids)

    def _plain(self, record: Record, request: _Request, status: int, body: bytes) -> Iterator[Step]:
        headers = answer_headers(record.request_id, subscription=request.subscription)
        head_only = request.method == "HEAD"
        return iter([Send(plain_reply(status, headers, body, head_only=head_only))])

    def _error(
        self, record: Record, request: _Request, status: int, kind: str, message: str
    ) -> Iterator[Step]:
        return self._plain(record, request, status, error_body(kind, message, record.request_id))

    def _advance(self) -> None:
        """Take steps until the answer is over, must wait, or the client does not read."""
        self._timer = None
        while self._steps is not None and not self._paused:
            step = next(self._steps, None)
            match step:
                case Send():
                    self._send(step)
                case Pause():
                    self._wait(step.seconds)
                    return
                case Act.STALL:
                    self._wait(STALL_S_MAX)
                    return
                case Act.RESET | Act.CLOSE:
                    self._hang_up(reset=step is Act.RESET)
                case None:
                    self._finish()

    def _wait(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._advance)

    def _send(self, step: Send) -> None:
        self._transport.write(step.data)
        record = self._record
        if record is None:
            return
        record.response_bytes += len(step.data)
        if not record.status and step.data.startswith(b"HTTP/1.1 ") and step.data[9:10] != b"1":
            record.status = int(step.data[9:12])
        if step.told is not None:
            record.usage = {**(record.usage or {}), **step.told}
            record.usage_final = step.final

    def _finish(self) -> None:
        self._steps = None
        if self._record is not None:
            self._record.complete = True
            self._end_record()
        if not self._keep_alive:
            self._transport.close()
        elif self._waiting:
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        if self._steps is None and self._waiting:
            self._start(self._waiting.popleft())

    def _hang_up(self, *, reset: bool) -> None:
        self._steps = None
        self._end_record()
        if not reset:
            self._transport.close()
            return
        peer = self._transport.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()

    def _end_record(self) -> None:
        if self._record is not None:
            self._book.end(self._record)
            self._record = None
