"""Clients that leave, or do not read: the deployment is let go, and each request is booked once."""

import json
import random
import socket
import struct
import time
from collections.abc import Iterator

import httpx
import pytest

from schemas.events import UsageRecorded
from tests.support.fault_scripts import SSE, chunk, stream
from tests.support.mock import MockAnthropic, Scenario, record_usage, scenario_headers
from tests.support.nats import NatsServer
from tests.support.proxy import ProxyProcess, gateway_config, model_entry, running_proxy
from tests.support.scripted import ScriptedServer

OAUTH = "Bearer sk-ant-oat01-mock"


@pytest.fixture(scope="module")
def proxy(
    tmp_path_factory: pytest.TempPathFactory,
    nats: NatsServer,
    mock: MockAnthropic,
    scripted: ScriptedServer,
) -> Iterator[ProxyProcess]:
    entries = model_entry(mock.url), model_entry(scripted.url, name="claude-scripted")
    config = gateway_config(*entries, idle_timeout_s=3)
    with running_proxy(tmp_path_factory.mktemp("proxy"), nats.url, config) as running:
        yield running


@pytest.fixture(scope="module")
def draining(
    tmp_path_factory: pytest.TempPathFactory, nats: NatsServer, mock: MockAnthropic
) -> Iterator[ProxyProcess]:
    config = gateway_config(
        model_entry(mock.url), client_disconnect="drain", disconnect_drain_timeout_s=2
    )
    with running_proxy(tmp_path_factory.mktemp("draining"), nats.url, config) as running:
        yield running


@pytest.fixture(autouse=True)
def _fresh(mock: MockAnthropic) -> None:
    mock.reset()


def connect(
    proxy: ProxyProcess,
    key: str,
    scenario: Scenario | None = None,
    *,
    window: int | None = None,
    model: str = "anthropic-claude",
) -> socket.socket:
    """Send a request over a bare socket."""
    body = json.dumps({"model": model, "stream": True, "messages": []}).encode()
    headers = {
        "x-litellm-api-key": key,
        "authorization": OAUTH,
        "content-length": str(len(body)),
        **scenario_headers(scenario),
    }
    lines = ["POST /v1/messages HTTP/1.1", "host: x", *(f"{n}: {v}" for n, v in headers.items())]
    connection = socket.socket()
    if window is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", proxy.port))
    connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    return connection


def records_of(proxy: ProxyProcess, key_alias: str, count: int) -> list[UsageRecorded]:
    deadline = time.monotonic() + 15
    while True:
        found = [
            event
            for event in proxy.events()
            if isinstance(event, UsageRecorded) and event.data.key_alias == key_alias
        ]
        if len(found) >= count or time.monotonic() > deadline:
            assert len(found) == count
            assert len({event.data.request_id for event in found}) == count
            return found
        time.sleep(0.05)


@pytest.mark.parametrize("reset", [True, False])
def test_client_that_leaves_lets_the_deployment_go_within_a_second(
    proxy: ProxyProcess, mock: MockAnthropic, *, reset: bool
) -> None:
    alias = f"leaver-{reset}"
    key = proxy.issue_key(key_alias=alias)
    with connect(proxy, key, Scenario(events=1000, pace_ms=50)) as connection:
        seen = b""
        while b"content_block_delta" not in seen:
            seen += connection.recv(65_536)
        if reset:
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    left_at = time.time()
    told = mock.wait_for_requests(1)[0]

    assert told.client_closed_at is not None
    # A second is the promise; the machine that runs the tests may be busy.
    assert told.client_closed_at - left_at < 2
    (event,) = records_of(proxy, alias, 1)
    record, usage = event.data, record_usage(told)
    assert usage is not None
    assert (record.status, record.estimated) == ("client_closed", True)
    assert record.usage is not None
    assert record.usage.input_tokens == usage.input_tokens
    assert record.usage.cache_write_1h_tokens == usage.cache_write_1h_tokens


def test_deployment_hears_within_a_tenth_of_a_second_that_a_client_left(
    proxy: ProxyProcess, scripted: ScriptedServer
) -> None:
    """Given 200 clients that leave within a stream, then each is let go at once, booked once."""
    key = proxy.issue_key(key_alias="quick")
    scripted.script(stream(chunk(SSE)), close="hold")
    delays_s = []
    for number in range(200):
        with connect(proxy, key, model="claude-scripted") as connection:
            seen = b""
            while b"12345678" not in seen:
                seen += connection.recv(65_536)
        left_at = time.monotonic()
        while len(scripted.closed_at) <= number:
            assert time.monotonic() - left_at < 5, "the deployment was not let go"
            time.sleep(0.0005)
        delays_s.append(scripted.closed_at[number] - left_at)
    delays_s.sort()
    print(f"p50 {delays_s[100] * 1e3:.1f} ms, p99 {delays_s[197] * 1e3:.1f} ms")  # noqa: T201
    assert delays_s[100] < 0.1
    assert delays_s[-1] < 1
    for event in records_of(proxy, "quick", 200):
        assert (event.data.status, event.data.estimated) == ("client_closed", True)
        assert event.data.usage is not None
        assert event.data.usage.input_tokens == 11


def test_answer_is_not_drained_for_ever(draining: ProxyProcess, mock: MockAnthropic) -> None:
    """Given an answer longer than disconnect_drain_timeout_s, then it is cut then, and booked."""
    key = draining.issue_key(key_alias="endless")
    with connect(draining, key, Scenario(events=1000, pace_ms=50)) as connection:
        connection.recv(1000)
    left_at = time.time()
    told = mock.wait_for_requests(1, timeout_s=15)[0]
    assert told.client_closed_at is not None
    assert 1.5 < told.client_closed_at - left_at < 6
    (event,) = records_of(draining, "endless", 1)
    assert (event.data.status, event.data.estimated) == ("client_closed", True)


def test_client_that_leaves_before_the_answer_is_booked_without_usage(
    proxy: ProxyProcess, mock: MockAnthropic
) -> None:
    key = proxy.issue_key(key_alias="early")
    with connect(proxy, key, Scenario(delay_ms=5000)):
        mock.wait_for_requests(1, ended=False)
    (event,) = records_of(proxy, "early", 1)
    assert (event.data.status, event.data.usage, event.data.http_status) == (
        "client_closed",
        None,
        0,
    )
    mock.wait_for_requests(1, timeout_s=3)


def test_client_that_leaves_at_any_byte_is_booked_once(
    proxy: ProxyProcess, mock: MockAnthropic
) -> None:
    """Given clients that read k bytes of a stream and leave, then there is one record for each."""
    key = proxy.issue_key(key_alias="bytes")
    scenario = Scenario(events=20, chunk_bytes=200)
    with connect(proxy, key, scenario) as connection:
        whole = b""
        while not whole.endswith(b"0\r\n\r\n"):
            whole += connection.recv(65_536)
    offsets = random.Random(5).sample(range(len(whole) + 1), 80)
    for offset in offsets:
        with connect(proxy, key, scenario) as connection:
            read = b""
            # How the answer is cut into chunks, and so its length, is not the same each time.
            while len(read) < offset and not read.endswith(b"0\r\n\r\n"):
                read += connection.recv(offset - len(read))
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    events = records_of(proxy, "bytes", len(offsets) + 1)
    assert {event.data.status for event in events} <= {"client_closed", "success"}
    told = {record.message_id: record for record in mock.messages()}
    for event in events:
        if event.data.status == "success":
            assert event.data.message_id is not None
            assert event.data.usage == record_usage(told[event.data.message_id])
    assert mock.stats().requests_open == 0


def test_drained_answer_is_booked_with_its_final_figures(
    draining: ProxyProcess, mock: MockAnthropic
) -> None:
    """Given client_disconnect: drain, then the answer is read on and its usage is final."""
    key = draining.issue_key(key_alias="drained")
    with connect(draining, key, Scenario(events=10, pace_ms=50)) as connection:
        connection.recv(1000)
    (event,) = records_of(draining, "drained", 1)
    told = mock.wait_for_requests(1)[0]

    assert told.complete
    assert event.data.usage == record_usage(told)
    assert (event.data.status, event.data.estimated) == ("client_closed", False)


def test_client_that_does_not_read_is_given_up_and_holds_no_memory(
    proxy: ProxyProcess, mock: MockAnthropic
) -> None:
    """Given 60 MB for a client that reads nothing, then little of it is taken, and an end made."""
    key = proxy.issue_key(key_alias="sleeper")
    before = resident_bytes(proxy)
    with connect(proxy, key, Scenario(giant_event_mib=60), window=4096):
        peak = 0
        deadline = time.monotonic() + 15
        while mock.stats().requests_open or peak == 0:
            assert time.monotonic() < deadline, "the client was not given up"
            peak = max(peak, resident_bytes(proxy))
            time.sleep(0.1)
    assert peak - before < 20 * 1024 * 1024
    (event,) = records_of(proxy, "sleeper", 1)
    assert event.data.status == "client_closed"


def resident_bytes(proxy: ProxyProcess) -> int:
    with open(f"/proc/{proxy.pid}/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * 4096


def test_slow_reader_gets_all_of_it(proxy: ProxyProcess, mock: MockAnthropic) -> None:
    key = proxy.issue_key(key_alias="slow")
    with connect(proxy, key, Scenario(giant_event_mib=4), window=65_536) as connection:
        received = 0
        tail = b""
        while not tail.endswith(b"0\r\n\r\n"):
            part = connection.recv(200_000)
            assert part
            received += len(part)
            tail = (tail + part)[-10:]
            time.sleep(0.005)
    assert received > 4 * 1024 * 1024
    (event,) = records_of(proxy, "slow", 1)
    assert (event.data.status, event.data.estimated) == ("success", False)


def test_pipelined_and_kept_connections_get_their_own_answers(
    proxy: ProxyProcess, mock: MockAnthropic
) -> None:
    key = proxy.issue_key(key_alias="kept")
    headers = {"x-litellm-api-key": key, "authorization": OAUTH}
    with httpx.Client(trust_env=False) as client:
        ids = [
            client.post(
                f"{proxy.url}/v1/messages",
                json={"model": "anthropic-claude", "messages": []},
                headers=headers,
            ).json()["id"]
            for _ in range(20)
        ]
    assert len(set(ids)) == 20
    # Over few connections upstream: they are kept, too.
    assert len({record.connection for record in mock.messages()}) <= 2
    records_of(proxy, "kept", 20)
