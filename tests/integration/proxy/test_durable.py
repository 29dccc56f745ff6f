"""NATS away, the proxy killed, the proxy stopped: every request is recorded exactly once."""

import json
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from schemas.events import RequestStarted, UsageRecord, UsageRecorded
from schemas.keys import hash_key
from tests.support.mock import (
    MockAnthropic,
    Scenario,
    UsageFigures,
    record_usage,
    scenario_headers,
)
from tests.support.nats import NatsServer, running_nats
from tests.support.proxy import (
    ProxyProcess,
    gateway_config,
    make_streams,
    model_entry,
    publish_key,
    running_proxy,
)

VARYING = UsageFigures(vary=True)


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    with running_nats(tmp_path) as server:
        yield server


@pytest.fixture(autouse=True)
def _fresh(mock: MockAnthropic) -> None:
    mock.reset()


@contextmanager
def started(
    folder: Path, nats: NatsServer, mock: MockAnthropic, **settings: Any
) -> Iterator[ProxyProcess]:
    config = gateway_config(model_entry(mock.url), **settings)
    with running_proxy(folder, nats.url, config) as proxy:
        yield proxy


def ask(
    proxy: ProxyProcess, key: str, scenario: Scenario, *, stream: bool = True
) -> tuple[int, str | None, bytes]:
    """Return status, our request id and the body; status 0 where the answer was cut."""
    request_id = None
    try:
        with httpx.stream(
            "POST",
            f"{proxy.url}/v1/messages",
            json={"model": "anthropic-claude", "stream": stream, "messages": []},
            headers={
                "x-litellm-api-key": key,
                "authorization": "Bearer sk-ant-oat01-mock",
                **scenario_headers(scenario),
            },
            timeout=20,
            trust_env=False,
        ) as answer:
            request_id = answer.headers.get("x-tallygate-request-id")
            return answer.status_code, request_id, answer.read()
    except httpx.TransportError:
        return 0, request_id, b""


class Clients:
    """Clients that ask again and again until they are told to stop."""

    def __init__(
        self,
        proxy: ProxyProcess,
        key: str,
        scenario: Scenario,
        count: int,
        *,
        pause_s: float = 0.0,
    ) -> None:
        self.answers: list[tuple[int, str | None, bytes]] = []
        self._stop = threading.Event()

        def work() -> None:
            while not self._stop.wait(pause_s):
                self.answers.append(ask(proxy, key, scenario))
                if self.answers[-1][0] == 0:
                    time.sleep(0.05)

        self._threads = [threading.Thread(target=work) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def check_books(proxy: ProxyProcess, mock: MockAnthropic, answers: list[Any]) -> None:
    """Check that every request has one record, and the whole ones what the mock told.

    What the mock saw was recorded; what a client has whole was recorded with its final figures.
    """
    deadline = time.monotonic() + 40
    while True:
        events = proxy.events()
        open_ids = {e.data.request_id for e in events if isinstance(e, RequestStarted)}
        records = [e.data for e in events if isinstance(e, UsageRecorded)]
        open_ids -= {record.request_id for record in records}
        whole = {r for s, r, body in answers if s == 200 and b"message_stop" in body}
        missing = open_ids | (whole - {record.request_id for record in records})
        if not missing:
            break
        assert time.monotonic() < deadline, f"without a record: {missing}"
        time.sleep(0.1)
    assert max(Counter(record.request_id for record in records).values()) == 1
    by_message = {record.message_id: record for record in records if record.message_id}
    told = {record.message_id: record for record in mock.log() + mock.messages()}
    for record in records:
        if record.request_id in whole:
            assert record.status == "success"
            assert record.message_id is not None
            assert record.usage == record_usage(told[record.message_id])
    seen = [record for record in mock.messages() if record.complete]
    unknown = [record for record in seen if record.message_id not in by_message]
    died = [record for record in records if record.error_type == "proxy_died"]
    left = [record for record in records if record.message_id is None]
    assert len(unknown) <= len(died) + len(left)
    check_sequences(proxy)


def check_sequences(proxy: ProxyProcess) -> None:
    """Check that the numbers of each producer are contiguous and in the stream's order."""
    by_source: dict[str, list[int]] = {}
    for event in proxy.events():
        by_source.setdefault(event.source, []).append(int(event.id))
    for source, numbers in by_source.items():
        assert numbers == list(range(1, len(numbers) + 1)), source


def test_proxy_starts_and_serves_with_nats_down(
    tmp_path: Path, nats: NatsServer, mock: MockAnthropic
) -> None:
    """Given its copy of the registry, then it serves; and publishes once NATS is back."""
    with started(tmp_path, nats, mock) as proxy:
        key = proxy.issue_key()
        assert ask(proxy, key, Scenario())[0] == 200
        wait_for_copy(proxy, key)
        proxy.stop()
        nats.stop()
        proxy.start()
        assert proxy.models("sk-unknown").status_code == 401
        for _ in range(5):
            assert ask(proxy, key, Scenario())[0] == 200
        nats.start()
        assert len(proxy.recorded(6)) == 6
        check_sequences(proxy)


def wait_for_copy(proxy: ProxyProcess, key: str) -> None:
    path = proxy.outbox / "registry.json"
    deadline = time.monotonic() + 40
    while not path.exists() or hash_key(key) not in path.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert path.stat().st_mode & 0o777 == 0o600
    assert key not in path.read_text()


@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped"])
def test_proxy_without_a_sound_copy_is_not_ready_until_nats_is_there(
    tmp_path: Path, nats: NatsServer, mock: MockAnthropic, damage: str
) -> None:
    with started(tmp_path, nats, mock) as proxy:
        key = proxy.issue_key()
        wait_for_copy(proxy, key)
        proxy.stop()
        nats.stop()
        path = proxy.outbox / "registry.json"
        content = bytearray(path.read_bytes())
        if damage == "missing":
            path.unlink()
        else:
            content[-20] ^= 1
            path.write_bytes(content if damage == "flipped" else content[:-10])
        proxy.start(ready=False)
        assert proxy.readiness() == 503
        status, _, body = ask(proxy, key, Scenario())
        assert (status, json.loads(body)["error"]["type"]) == (503, "overloaded_error")
        assert not mock.messages()
        nats.start()
        deadline = time.monotonic() + 40
        while proxy.readiness() != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert ask(proxy, key, Scenario())[0] == 200


def test_change_made_while_the_proxy_was_away_holds_when_it_is_back(
    tmp_path: Path, nats: NatsServer, mock: MockAnthropic
) -> None:
    with started(tmp_path, nats, mock) as proxy:
        key, record = proxy.issue_record()
        wait_for_copy(proxy, key)
        proxy.kill()
        publish_key(nats.url, msgspec.structs.replace(record, blocked=True))
        proxy.start()
        deadline = time.monotonic() + 40
        while ask(proxy, key, Scenario())[0] != 403:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_registry_that_is_another_stream_is_read_anew(
    tmp_path: Path, nats: NatsServer, mock: MockAnthropic
) -> None:
    """Given NATS lost its data, then keys of the copy are no keys any more."""
    with started(tmp_path, nats, mock) as proxy:
        old = proxy.issue_key()
        wait_for_copy(proxy, old)
        proxy.stop()
        nats.stop()
        shutil.rmtree(nats.store_dir)
        nats.start()
        make_streams(nats.url)
        proxy.start()
        new = proxy.issue_key()
        assert ask(proxy, new, Scenario())[0] == 200
        assert ask(proxy, old, Scenario())[0] == 401


def test_nats_that_is_away_for_a_while_loses_nothing(
    tmp_path: Path, nats: NatsServer, mock: MockAnthropic
) -> None:
    with started(tmp_path, nats, mock) as proxy:
        key = proxy.issue_key()
        clients = Clients(proxy, key, Scenario(usage=VARYING), 4, pause_s=0.05)
        time.sleep(0.5)
        for _ in range(3):
            nats.kill()
            time.sleep(1)
            nats.start()
            time.sleep(0.5)
        clients.stop()
        assert {status for status, _, _ in clients.answers} == {200}
        assert len(clients.answers) > 20
        check_books(proxy, mock, clients.answers)
        proxy.recorded(len(clients.answers))


def test_killed_proxy_records_every_request_once(
    tmp_path: Path, nats: NatsServer, mock: MockAnthropic
) -> None:
    """Given kill -9 in the middle of streams, again and again, then the books are whole."""
    with started(tmp_path, nats, mock) as proxy:
        key = proxy.issue_key()
        paced = Scenario(usage=VARYING, events=10, pace_ms=10)
        clients = Clients(proxy, key, paced, 6)
        for number in range(6):
            time.sleep(0.3 + number * 0.07)
            proxy.kill()
            proxy.start()
        time.sleep(0.3)
        clients.stop()
        statuses = Counter(status for status, _, _ in clients.answers)
        assert statuses[200] > 10
        assert statuses[0] > 3
        check_books(proxy, mock, clients.answers)
        died = [
            event.data
            for event in proxy.events()
            if isinstance(event, UsageRecorded) and event.data.error_type == "proxy_died"
        ]
        assert died
        assert all(record.estimated for record in died)
        told = {record_usage(r).input_tokens for r in mock.log() if r.usage}  # type: ignore[union-attr]
        for record in died:
            assert record.usage is None or record.usage.input_tokens in told


def test_proxy_and_nats_killed_together_record_every_request_once(
    tmp_path: Path, nats: NatsServer, mock: MockAnthropic
) -> None:
    with started(tmp_path, nats, mock) as proxy:
        key = proxy.issue_key()
        wait_for_copy(proxy, key)
        clients = Clients(proxy, key, Scenario(usage=VARYING, events=5, pace_ms=5), 4, pause_s=0.01)
        for _ in range(3):
            time.sleep(0.4)
            nats.kill()
            proxy.kill()
            proxy.start()
            time.sleep(0.3)
            nats.start()
        time.sleep(0.3)
        clients.stop()
        check_books(proxy, mock, clients.answers)


def test_stopped_proxy_lets_running_streams_end_and_publishes_all(
    tmp_path: Path, nats: NatsServer, mock: MockAnthropic
) -> None:
    with started(tmp_path, nats, mock) as proxy:
        key = proxy.issue_key()
        answers: list[Any] = []
        scenario = Scenario(usage=VARYING, events=10, pace_ms=100)
        threads = [
            threading.Thread(target=lambda: answers.append(ask(proxy, key, scenario)))
            for _ in range(20)
        ]
        for thread in threads:
            thread.start()
        mock.wait_for_requests(20, ended=False)
        assert proxy.stop() == 0
        for thread in threads:
            thread.join()
        assert all(status == 200 and b"message_stop" in body for status, _, body in answers)
        records = proxy.recorded(20, timeout_s=0)
        assert {record.status for record in records} == {"success"}


def test_streams_that_outlast_the_drain_are_cut_and_booked(
    tmp_path: Path, nats: NatsServer, mock: MockAnthropic
) -> None:
    with started(tmp_path, nats, mock, drain_timeout_s=1) as proxy:
        key = proxy.issue_key()
        scenario = Scenario(usage=VARYING, events=200, pace_ms=100)
        threads = [threading.Thread(target=ask, args=(proxy, key, scenario)) for _ in range(5)]
        for thread in threads:
            thread.start()
        mock.wait_for_requests(5, ended=False)
        time.sleep(0.5)
        assert proxy.stop() == 0
        for thread in threads:
            thread.join()
        records = proxy.recorded(5, timeout_s=0)
        told = {record_usage(r).input_tokens for r in mock.messages() if r.usage}  # type: ignore[union-attr]
        for record in records:
            assert (record.status, record.error_type) == ("failure", "gateway_stopped")
            assert isinstance(record, UsageRecord)
            assert record.usage is not None
            assert record.usage.input_tokens in told


def test_outbox_that_is_full_refuses_and_takes_again(
    tmp_path: Path, nats: NatsServer, mock: MockAnthropic
) -> None:
    with started(tmp_path, nats, mock, outbox_bytes_max=65_536) as proxy:
        key = proxy.issue_key()
        nats.kill()
        statuses = []
        for _ in range(300):
            statuses.append(ask(proxy, key, Scenario(events=1), stream=False)[0])
            if statuses[-1] == 503:
                break
        assert statuses[-1] == 503
        assert set(statuses[:-1]) == {200}
        nats.start()
        deadline = time.monotonic() + 40
        while ask(proxy, key, Scenario(events=1))[0] != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        proxy.recorded(len(statuses))
        check_sequences(proxy)
