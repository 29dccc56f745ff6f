"""F1, F2, F4: proxy, ledger and nats-server are killed under load; every answer is booked once.

The truth is the mock's own log: what it told whom. A request whose whole answer reached its client
must be in the ledger exactly once, with exactly that usage.
"""

import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from tests.support.gateway import TALLYGATE, Gateway, wait_until
from tests.support.mock import MockAnthropic, Scenario, record_usage, scenario_headers
from tests.support.mock_anthropic.scenario import UsageFigures

CLIENTS = 8
KILLS = 4
SEED = 20261124


class Load:
    """Clients that ask again and again and remember which answers they had whole."""

    def __init__(self, gateway: Gateway, key: str, *, pause_s: float = 0.0) -> None:
        self._gateway = gateway
        self._key = key
        self._pause_s = pause_s
        self._stop = threading.Event()
        self.answered: list[str] = []
        self.failed = 0
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(CLIENTS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        count = 0
        with httpx.Client(base_url=self._gateway.url, timeout=20, trust_env=False) as client:
            while not self._stop.wait(self._pause_s):
                count += 1
                tag = f"{number}-{count}"
                try:
                    answer = client.post(
                        "/v1/messages", **self._request(tag, stream=count % 2 == 0)
                    )
                    content = answer.read()
                except httpx.HTTPError:
                    self.failed += 1
                    continue
                is_whole = b"message_stop" in content or content.endswith(b"}")
                if answer.status_code == 200 and is_whole:
                    self.answered.append(tag)
                else:
                    self.failed += 1
                    time.sleep(0.05)

    def _request(self, tag: str, *, stream: bool) -> dict[str, Any]:
        scenario = Scenario(usage=UsageFigures(vary=True), pace_ms=2 if stream else 0)
        return {
            "headers": {
                "x-litellm-api-key": self._key,
                "authorization": "Bearer sk-ant-oat01-load",
                **scenario_headers(scenario, tag=tag),
            },
            "json": {
                "model": "anthropic-claude",
                "max_tokens": 10,
                "stream": stream,
                "messages": [{"role": "user", "content": tag}],
            },
        }


@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", ["proxy", "ledger --role writer", "nats-server"])
def test_whatever_is_killed_every_answer_is_in_the_ledger_exactly_once(
    tmp_path: Path, mock_anthropic: MockAnthropic, part: str
) -> None:
    # Given clients that ask without pause, when a part is killed again and again at random
    # moments, then afterwards the ledger has each whole answer once, with what it used.
    moments = random.Random(SEED)
    with Gateway.started(tmp_path, mock_anthropic) as gateway:
        key = gateway.new_key(key_alias="load")
        with Load(gateway, key) as load:
            for _ in range(KILLS):
                time.sleep(moments.uniform(0.5, 1.5))
                gateway.kill(part)
            time.sleep(1.5)
        wait_until(lambda: gateway.ask(key).status_code == 200, 20, "the gateway serves again")
        truth = {record.tag: record for record in mock_anthropic.log() if record.tag}
        assert len(load.answered) > 50, f"seed {SEED}: too little load to prove anything"

        def settled() -> bool:
            asked = gateway.sql("SELECT count(*) FROM open_requests")
            return int(asked[0][0]) == 0

        wait_until(settled, 60, "no request is open any more")
        # What the reader has not heard of is not open for it either: it may be behind.
        told = {truth[tag].request_id for tag in load.answered}
        by_upstream_id = wait_until(
            lambda: booked if told <= (booked := booked_by_upstream_id(gateway)).keys() else None,
            60,
            f"seed {SEED}: every whole answer is booked",
        )
        for tag in load.answered:
            record = truth[tag]
            usage = record_usage(record)
            assert usage is not None
            booked = by_upstream_id.get(record.request_id, [])
            assert len(booked) == 1, f"seed {SEED}: {tag} is booked {len(booked)} times"
            assert booked[0] == [
                usage.input_tokens,
                usage.output_tokens,
                usage.cache_read_tokens,
                usage.cache_write_5m_tokens,
                usage.cache_write_1h_tokens,
                "success",
                False,
            ], f"seed {SEED}: {tag}"
        twice = gateway.sql(
            "SELECT request_id FROM requests GROUP BY request_id HAVING count(*) > 1"
        )
        assert twice == []
        assert gateway.sql("SELECT count(*) FROM gaps") == [[0]]
        assert gateway.sql("SELECT count(*) FROM dead_letters") == [[0]]
        if part != "proxy":
            assert load.failed == 0, "clients must not notice"
        assert "proved: " in verified(gateway), f"seed {SEED}"
    assert "proved: " in verified(gateway), f"seed {SEED}, stopped"


def booked_by_upstream_id(gateway: Gateway) -> dict[str, list[list[Any]]]:
    """Return what is booked for each request id of the API."""
    rows = gateway.sql(
        "SELECT upstream_request_id, input_tokens, output_tokens, cache_read_tokens, "
        "cache_write_5m_tokens, cache_write_1h_tokens, status, estimated FROM requests "
        "WHERE key_alias = 'load'"
    )
    found: dict[str, list[list[Any]]] = {}
    for row in rows:
        found.setdefault(row[0], []).append(row[1:])
    return found


def verified(gateway: Gateway) -> str:
    """Return what `tallygate verify` says of the gateway's books; both roles must have some."""
    done = subprocess.run(
        [TALLYGATE, "verify", "--data", gateway.data], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "both digests are the same" in done.stdout
    return done.stdout


@pytest.mark.timeout(180)
def test_a_minute_without_nats_loses_nothing_and_no_client_notices(
    tmp_path: Path, mock_anthropic: MockAnthropic
) -> None:
    # Given nats-server stopped for a while, when clients go on asking, then all are answered, and
    # all are in the ledger once it is back.
    with Gateway.started(tmp_path, mock_anthropic) as gateway:
        key = gateway.new_key(key_alias="load")
        assert gateway.ask(key).status_code == 200
        (nats,) = gateway.processes("nats-server")
        os.kill(nats, signal.SIGSTOP)
        try:
            with Load(gateway, key, pause_s=0.05) as load:
                time.sleep(20)
        finally:
            os.kill(nats, signal.SIGCONT)
        assert load.failed == 0
        expected = len(load.answered) + 1

        def complete() -> bool:
            counted = gateway.sql("SELECT count(*) FROM requests WHERE key_alias = 'load'")
            return int(counted[0][0]) >= expected

        wait_until(complete, 40, "all requests are booked")
        counted = gateway.sql(
            "SELECT count(*), count(DISTINCT request_id) FROM requests WHERE key_alias = 'load'"
        )
        assert [int(value) for value in counted[0]] == [expected, expected]
