"""A service of one's own that decides about texts: a real HTTP server in a thread."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

__all__ = ["GuardrailService", "Question"]


class Question(msgspec.Struct):
    """What the service was asked: the path, the headers and the body's bytes."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)


class _Server(ThreadingHTTPServer):
    """One that says nothing of clients who leave before they have their answer."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing."""


class GuardrailService:
    """Answers as `decide` says, which gets each question's texts; keeps the questions.

    Bytes are sent as they are, an int is a status, an object is sent as JSON.
    """

    def __init__(self) -> None:
        self.questions: list[Question] = []
        self.decide: Callable[[list[str]], Any] = lambda _: {"action": "NONE"}
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                service.questions.append(Question(self.path, headers, body))
                answer = service.decide(json.loads(body)["texts"])
                status = answer if isinstance(answer, int) else 200
                content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                if status == 302:
                    self.send_header("location", "/elsewhere")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @classmethod
    @contextmanager
    def started(cls) -> Iterator["GuardrailService"]:
        """Run one until the end of the block."""
        service = cls()
        thread = threading.Thread(target=service._server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield service
        finally:
            service._server.shutdown()
            service._server.server_close()
            thread.join()
