"""Management paths on the proxy's port: what reaches the admin service, and what comes back."""

import json
import socket
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from schemas.client_address import CLIENT_HEADER, PROOF_HEADER
from services.admin.failures import FAILURES_MAX
from services.ledger.query import QueryService
from services.ledger.query_open import ANSWER_PAUSE_S
from tests.support.admin import MASTER_KEY as ADMIN_KEY
from tests.support.admin import RunningAdmin, running_admin
from tests.support.mock import MockAnthropic
from tests.support.nats import NatsServer
from tests.support.proxy import (
    ProxyProcess,
    gateway_config,
    make_streams,
    model_entry,
    running_proxy,
)
from tests.support.query_reader import running_query_reader

LEFT_TIMEOUT_S = ANSWER_PAUSE_S * 0.8
"""What a client left must end within this: not by the limit on pauses."""
SLOW = "SELECT count(*) FROM range(100000) a, range(10000000) b WHERE hash(a.range + b.range) = 1"
LONG = "SELECT range AS n, repeat('x', 100) AS text FROM range(1000000)"


@pytest.fixture(scope="module")
def admin(nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAdmin]:
    make_streams(nats.url)
    with running_admin(tmp_path_factory.mktemp("admin"), nats.url) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(
    nats: NatsServer,
    mock: MockAnthropic,
    admin: RunningAdmin,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ProxyProcess]:
    config = gateway_config(model_entry(mock.url), admin_url=admin.url)
    # Both are given the one master key, as in a real installation.
    config["litellm_settings"]["master_key"] = ADMIN_KEY
    with running_proxy(tmp_path_factory.mktemp("proxy"), nats.url, config) as running:
        yield running


@pytest.fixture(scope="module")
def reader(
    nats: NatsServer, admin: RunningAdmin, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[QueryService]:
    assert admin.process.poll() is None
    with running_query_reader(tmp_path_factory.mktemp("reader"), nats.url, []) as service:
        yield service


def ask(proxy: ProxyProcess, authorization: bytes) -> tuple[int, dict[str, object]]:
    """GET /key/list with this header value, byte for byte, as curl sends what it is told."""
    port = int(proxy.url.rpartition(":")[2])
    head = b"GET /key/list HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: %b\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head % authorization)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


@pytest.mark.parametrize("value", [b"Bearer ", b"Bearer", b" ", b"Bearer \t "])
def test_credential_of_an_unset_variable_is_401_and_says_so(
    proxy: ProxyProcess, value: bytes
) -> None:
    # Given `-H "Authorization: Bearer $KEY"` without a KEY, then the answer is about the missing
    # key, and not that a part of the gateway is away.
    status, body = ask(proxy, value)
    assert status == 401
    error = body["error"]
    assert isinstance(error, dict)
    assert "No api key passed in" in error["message"]


def test_white_space_around_the_master_key_does_no_harm(proxy: ProxyProcess) -> None:
    status, body = ask(proxy, b"  Bearer " + ADMIN_KEY.encode() + b" \t")
    assert status == 200
    assert "keys" in body


def test_guesses_of_one_client_do_not_lock_out_the_administrator(proxy: ProxyProcess) -> None:
    # Given somebody who tries one key after the other on the gateway's port, under addresses of
    # invention, then that client's own address gets 429, and the administrator's gets answers.
    guesser = httpx.HTTPTransport(local_address="127.0.0.77")
    with httpx.Client(base_url=proxy.url, transport=guesser) as client:
        for number in range(FAILURES_MAX + 1):
            lies = {
                CLIENT_HEADER.decode(): f"10.0.0.{number}",
                PROOF_HEADER.decode(): "0" * 64,
                "authorization": f"Bearer sk-guess-{number}",
            }
            answer = client.get("/key/list", headers=lies)
            assert answer.status_code == (401 if number < FAILURES_MAX else 429)
        right = {"authorization": f"Bearer {ADMIN_KEY}"}
        assert client.get("/key/list", headers=right).status_code == 429
    assert httpx.get(f"{proxy.url}/key/list", headers=right, trust_env=False).status_code == 200


def sql_connection(proxy: ProxyProcess, body: dict[str, str]) -> socket.socket:
    """Return a connection on which a query was sent and nothing was read."""
    content = json.dumps(body).encode()
    head = (
        f"POST /ledger/sql HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN_KEY}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", int(proxy.url.rpartition(":")[2])))
    connection.sendall(head.encode() + content)
    return connection


def wait_until(is_so: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_long_answer_passes_through_whole(proxy: ProxyProcess, reader: QueryService) -> None:
    # Given an answer that comes in parts, when it passes the proxy, then all of it does, as parts.
    assert not reader.failed
    body = {"query": LONG.replace("1000000", "20000"), "format": "csv"}
    right = {"authorization": f"Bearer {ADMIN_KEY}"}
    answer = httpx.post(f"{proxy.url}/ledger/sql", json=body, headers=right, trust_env=False)
    assert answer.headers["x-tallygate-truncated"] == "at-end"
    assert "content-length" not in answer.headers
    assert answer.text.count("\r\n") == 20001


def test_query_ends_when_its_client_leaves(proxy: ProxyProcess, reader: QueryService) -> None:
    # Given a query that takes long, when its client leaves, then it is stopped in the reader, and
    # not by its limit of time.
    connection = sql_connection(proxy, {"query": SLOW})
    wait_until(lambda: reader.counts._running == 1, LEFT_TIMEOUT_S)
    connection.close()
    wait_until(lambda: reader.counts._running == 0, LEFT_TIMEOUT_S)
    assert reader.counts._outcomes.get("cancelled") == 1
    assert "timeout" not in reader.counts._outcomes


def test_long_answer_waits_for_its_client_and_ends_when_it_leaves(
    proxy: ProxyProcess, reader: QueryService
) -> None:
    # Given a client that reads nothing of an answer of 100 MB, then the reader makes no more of it
    # than fits on the way; when the client leaves, then the answer is given up at once.
    connection = sql_connection(proxy, {"query": LONG, "format": "csv"})
    answers = reader._answers
    wait_until(lambda: len(answers._open) == 1, LEFT_TIMEOUT_S)
    connection.close()
    wait_until(lambda: not answers._open and not answers._runs, LEFT_TIMEOUT_S)


def test_browser_is_led_to_the_dashboard_whose_files_come_packed(proxy: ProxyProcess) -> None:
    # Given a browser, when it opens the gateway's address and what the page names, then it comes
    # to the login page, and the files pass as they were packed; who takes none gets them unpacked.
    page = httpx.get(proxy.url, headers={"accept": "text/html"}, follow_redirects=True)
    assert (page.status_code, page.url.path) == (200, "/ui/login")
    script = next(part for part in page.text.split('"') if "htmx" in part and part.endswith(".js"))
    packed = httpx.get(proxy.url + script)
    plain = httpx.get(proxy.url + script, headers={"accept-encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) * 2 < len(packed.content)
    assert "content-encoding" not in plain.headers
    assert packed.content == plain.content
    without = httpx.Request("GET", proxy.url + script)  # has no Accept-Encoding
    with httpx.Client() as client:
        assert "content-encoding" not in client.send(without).headers
    assert httpx.get(proxy.url).json()["service"] == "tallygate"
