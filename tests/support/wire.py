"""Helpers that see an answer as it is on the wire: questions, bare sockets, server-sent events."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.support.mock import (
    API_KEY_HEADERS,
    OAUTH_HEADERS,
    MockAnthropic,
    Scenario,
    scenario_headers,
)

__all__ = [
    "ANSWER_TIMEOUT_S",
    "ask",
    "content_length",
    "question",
    "raw_ask",
    "read_to_end",
    "read_until",
    "sse_events",
    "whole_answer",
]

ANSWER_TIMEOUT_S = 20.0
"""How long any read may wait: a lost answer fails a test instead of stopping the run."""


def question(*, stream: bool = True, **fields: Any) -> dict[str, Any]:
    """Return the smallest body that the API takes, with other fields laid over."""
    base = {"model": "claude-opus-5-5", "max_tokens": 64, "stream": stream}
    return {**base, "messages": [{"role": "user", "content": "say hi"}], **fields}


def ask(
    mock: MockAnthropic,
    scenario: Scenario | None = None,
    *,
    stream: bool = True,
    tag: str = "",
    **fields: Any,
) -> httpx.Response:
    """Ask the mock directly and return the whole answer, as a subscriber's client reads it."""
    return httpx.post(
        f"{mock.url}/v1/messages?beta=true",
        json=question(stream=stream, **fields),
        headers=OAUTH_HEADERS | scenario_headers(scenario, tag=tag),
        timeout=ANSWER_TIMEOUT_S,
        trust_env=False,
    )


@contextmanager
def raw_ask(
    mock: MockAnthropic, scenario: Scenario, *, stream: bool = True
) -> Iterator[socket.socket]:
    """Send a question over a bare socket, so that every byte of the answer can be seen."""
    body = json.dumps(question(stream=stream)).encode()
    lines = [
        "POST /v1/messages HTTP/1.1",
        "Host: mock",
        f"Content-Length: {len(body)}",
        *(f"{key}: {text}" for key, text in (API_KEY_HEADERS | scenario_headers(scenario)).items()),
    ]
    with socket.create_connection(("127.0.0.1", mock.port), ANSWER_TIMEOUT_S) as connection:
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        yield connection


def read_to_end(connection: socket.socket) -> tuple[bytes, bool]:
    """Return all bytes of an answer, and whether it ended with RST."""
    parts: list[bytes] = []
    try:
        while part := connection.recv(65_536):
            parts.append(part)
    except ConnectionResetError:
        return b"".join(parts), True
    return b"".join(parts), False


def read_until(connection: socket.socket, done: Callable[[bytes], bool]) -> bytes:
    """Return what comes until `done` says of all of it that it is enough.

    Raises EOFError if the connection ends before, TimeoutError if nothing comes any more.
    """
    wire = b""
    while not done(wire):
        part = connection.recv(65_536)
        if not part:
            raise EOFError(f"the answer ended after {wire[-200:]!r}")
        wire += part
    return wire


def content_length(wire: bytes) -> int:
    """Return the length that the head of an answer promises."""
    head = wire.partition(b"\r\n\r\n")[0].lower()
    return int(head.split(b"content-length: ")[1].split(b"\r\n")[0])


def whole_answer(wire: bytes) -> bool:
    """Tell whether an answer with a Content-Length has come in full."""
    head, end, body = wire.partition(b"\r\n\r\n")
    return bool(end) and len(body) >= content_length(head)


def sse_events(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Return (event, data) pairs of a stream and check its form, line by line."""
    assert text.endswith("\n\n")
    events = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append((event["type"], event))
    return events
