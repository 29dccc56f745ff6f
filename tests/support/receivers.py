"""Real receivers of alerts: an HTTP server and a mail server, each in a thread, each writing down.

with http_receiver() as hook:
    hook.script(503)
    ...
    assert hook.wait_for(2)[0].status == 503
"""

import asyncio
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

__all__ = ["HttpReceiver", "MailReceiver", "Received", "http_receiver", "mail_receiver"]

WAIT_S = 60.0
POLL_S = 0.02


class Received(msgspec.Struct, frozen=True):
    """One request: its path, headers (lower case) and body, and the status of the answer."""

    path: str
    headers: dict[str, str]
    body: bytes
    status: int

    @property
    def json(self) -> Any:
        """The body's content."""
        return json.loads(self.body)


class HttpReceiver:
    """Answers each POST with the next status of the script of its path, then with 200."""

    def __init__(self) -> None:
        self._received: list[Received] = []
        self._scripts: dict[str, list[int]] = {}
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("content-length", 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status = receiver.take(self.path, headers, self.rfile.read(length))
                self.send_response(status)
                self.send_header("content-length", "0")
                self.send_header("location", "/redirected")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def script(self, path: str, *statuses: int) -> None:
        """Have the next requests for a path answered so; the last status is not repeated."""
        with self._lock:
            self._scripts[path] = list(statuses)

    def take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        """Write a request down; return the status of its answer."""
        with self._lock:
            script = self._scripts.get(path)
            status = script.pop(0) if script else 200
            self._received.append(Received(path, headers, body, status))
            return status

    def at(self, path: str) -> list[Received]:
        """Return what came to a path so far."""
        with self._lock:
            return [each for each in self._received if each.path == path]

    def wait(self, path: str, is_there: Callable[[list[Received]], bool]) -> list[Received]:
        """Return what came to a path once it is as it should be."""
        deadline = time.monotonic() + WAIT_S
        while not is_there(found := self.at(path)):
            assert time.monotonic() < deadline, f"{path}: {[each.body for each in found]}"
            time.sleep(POLL_S)
        return found


@contextmanager
def http_receiver() -> Iterator[HttpReceiver]:
    """Run an HTTP receiver for the length of a with."""
    receiver = HttpReceiver()
    thread = threading.Thread(target=receiver.server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield receiver
    finally:
        receiver.server.shutdown()
        thread.join()
        receiver.server.server_close()


class MailReceiver:
    """The mails that came, and the port where they come to."""

    def __init__(self) -> None:
        self.mails: list[Message] = []
        self.port = 0

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Take a mail in; the name is aiosmtpd's."""
        content = envelope.content
        assert isinstance(content, bytes)
        self.mails.append(message_from_bytes(content, policy=default))
        return "250 taken"

    def wait(self, count: int) -> list[Message]:
        """Return the mails once there are so many."""
        deadline = time.monotonic() + WAIT_S
        while len(self.mails) < count:
            assert time.monotonic() < deadline, f"{len(self.mails)} of {count} mails"
            time.sleep(POLL_S)
        return list(self.mails)


def _named(told: object) -> tuple[str, str] | None:
    """Return the name and password that a client sent."""
    if not isinstance(told, LoginPassword):
        return None
    return told.login.decode(), told.password.decode()


@contextmanager
def mail_receiver(
    tls: ssl.SSLContext | None = None, login: tuple[str, str] | None = None
) -> Iterator[MailReceiver]:
    """Run a mail server for the length of a with.

    With `tls` it offers STARTTLS, with `login` it wants this name and password, over TLS alone.
    """
    receiver = MailReceiver()
    loop = asyncio.new_event_loop()

    # aiosmtpd's own controller cannot take whatever port is free.
    def make() -> SMTP:
        return SMTP(
            receiver,
            loop=loop,
            tls_context=tls,
            require_starttls=tls is not None,
            auth_required=login is not None,
            authenticator=lambda *told: AuthResult(
                success=_named(told[-1]) == login, handled=False
            ),
        )

    listening = loop.create_server(make, "127.0.0.1", 0)
    server = loop.run_until_complete(listening)
    receiver.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield receiver
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.run_until_complete(server.wait_closed())
        loop.close()
