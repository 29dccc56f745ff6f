"""Whoever is slow makes the other side wait, and holds little memory."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator

import pytest

from services.proxy.connection import BUFFER_BYTES_HIGH, READ_BYTES
from tests.support.fault_scripts import LAST, MIB, SSE, SSE_END, chunk, stream
from tests.support.nats import NatsServer
from tests.support.proxy import ProxyProcess, gateway_config, model_entry, running_proxy
from tests.support.scripted import ScriptedServer

READERS = 200
STREAM_BYTES_MAX = (64 * 1024 + 3 * (BUFFER_BYTES_HIGH + READ_BYTES)) * 5 // 4
"""What waits: in the client's connection, to be taken by it, and in that of the deployment; and a
quarter more, which the allocator holds in between."""
UPLOADS, UPLOAD_BYTES = 8, 8 * MIB
MODEL = "claude-scripted"


@pytest.fixture
def proxy(
    tmp_path_factory: pytest.TempPathFactory, nats: NatsServer, scripted: ScriptedServer
) -> Iterator[ProxyProcess]:
    config = gateway_config(model_entry(scripted.url, name=MODEL, timeout=5), idle_timeout_s=60)
    with running_proxy(tmp_path_factory.mktemp("proxy"), nats.url, config) as running:
        yield running


def ask(proxy: ProxyProcess, key: str, *, padding: int = 0) -> socket.socket:
    """Send a question over a socket with a small window, and read nothing."""
    body = json.dumps({"model": MODEL, "messages": [], "stream": True, "pad": "x" * padding})
    head = (
        f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-litellm-api-key: {key}\r\n"
        f"authorization: Bearer sk-ant-oat01-mock\r\nx-script: slow\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", proxy.port))
    connection.sendall(head.encode() + body.encode())
    return connection


def resident_bytes(proxy: ProxyProcess) -> int:
    with open(f"/proc/{proxy.pid}/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * 4096


@pytest.mark.alone
def test_two_hundred_slow_readers_hold_a_bounded_memory_each(
    proxy: ProxyProcess, scripted: ScriptedServer
) -> None:
    # Given 200 readers of a byte now and then, and 10 MB for each, then each holds a buffer.
    # Events of a kilobyte: the meter keeps one that is not whole yet, of up to 1 MiB.
    events = (b"event: ping\ndata: " + b"x" * 1004 + b"\n\n") * 1024
    giant = stream(chunk(SSE)), *((chunk(events),) * 10), chunk(SSE_END), LAST
    scripted.book = {"slow": (giant, "fin")}
    key = proxy.issue_key()
    before = resident_bytes(proxy)
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(ask(proxy, key)) for _ in range(READERS)]
        peak = 0
        for _ in range(40):
            for reader in readers:
                reader.recv(1)
            peak = max(peak, resident_bytes(proxy))
            time.sleep(0.05)
        assert len(scripted.requests) >= READERS
        # Another client is served as ever.
        begun = time.monotonic()
        assert proxy.models(key).status_code == 200
        assert time.monotonic() - begun < 2
    grown = (peak - before) / READERS
    print(f"{grown / 1024:.0f} KiB a stream of {STREAM_BYTES_MAX // 1024} allowed")  # noqa: T201
    assert grown < STREAM_BYTES_MAX


def test_deployment_that_does_not_read_holds_no_more_than_the_requests(
    proxy: ProxyProcess, scripted: ScriptedServer
) -> None:
    # Given requests of 8 MB that nobody reads, then each is held twice at most, and then let go.
    scripted.book = {"slow": ((6.0,), "hold")}
    scripted.unread = {"slow"}
    key = proxy.issue_key()
    before = resident_bytes(proxy)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(ask(proxy, key, padding=UPLOAD_BYTES)) for _ in range(8)]
        peak = max(resident_bytes(proxy) for _ in range(20) if not time.sleep(0.05))
        answers = [client.recv(15) for client in clients]
    assert answers == [b"HTTP/1.1 504 Ga"] * UPLOADS
    assert peak - before < UPLOADS * UPLOAD_BYTES * 2.5
