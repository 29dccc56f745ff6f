"""The corpus of faults, many rounds of it at once: no crash, no hang, no leak, one record each."""

import http.client
import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from schemas.events import UsageRecord, UsageRecorded
from tests.support.fault_scripts import GOOD, SCRIPTS, Script
from tests.support.nats import NatsServer
from tests.support.proxy import ProxyProcess, gateway_config, model_entry, running_proxy
from tests.support.scripted import ScriptedServer

ROUNDS = int(os.environ.get("TALLYGATE_FAULT_ROUNDS", "10"))
CLIENTS = 24
SEED = 18
MODEL = "claude-scripted"
QUESTION = json.dumps({"model": MODEL, "stream": True, "messages": []}).encode()
UNREAD = json.dumps({"model": MODEL, "messages": [], "padding": "x" * 4_000_000}).encode()
HANG_S = 30.0

pytestmark = pytest.mark.timeout(600)


@dataclass
class Outcome:
    """What one client saw, and what was booked for it."""

    sees: str
    request_id: str
    records: list[UsageRecord] = field(default_factory=list)


@dataclass
class Run:
    """All that is known when the corpus is through."""

    outcomes: dict[str, list[Outcome]]
    asked: Counter[str]
    descriptors: tuple[int, int]
    tasks: tuple[int, int]
    log: str
    is_alive: bool


def ask(proxy: ProxyProcess, key: str, script: Script) -> Outcome:
    """Ask once, over a connection of its own, and say what came of it."""
    client = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=HANG_S)
    headers = {
        "x-litellm-api-key": key,
        "authorization": "Bearer sk-ant-oat01-mock",
        "x-script": script.name,
    }
    try:
        client.request("POST", "/v1/messages", UNREAD if script.is_unread else QUESTION, headers)
        answer = client.getresponse()
        status, request_id = answer.status, answer.headers["x-tallygate-request-id"]
        tail, sees = b"", str(status)
        try:
            while part := answer.read1(1 << 20):
                tail = (tail + part)[-400:]
            if answer.length:
                sees += " cut"
        except (http.client.IncompleteRead, ConnectionResetError):
            sees += " cut"
        if b"event: error\ndata: " in tail:
            sees += " error event"
        return Outcome(sees, request_id or answer.headers["request-id"])
    finally:
        client.close()


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory, nats: NatsServer, scripted: ScriptedServer
) -> Iterator[Run]:
    # Connections that wait for a later request are no leak: none waits when they are counted.
    config = gateway_config(
        model_entry(scripted.url, name=MODEL, timeout=3),
        idle_timeout_s=3,
        connect_timeout_s=20,
        upstream_keepalive_s=1,
        upstream_connections_warm=0,
    )
    scripted.book = {script.name: (script.steps, script.close) for script in SCRIPTS}
    scripted.unread = {script.name for script in SCRIPTS if script.is_unread}
    jobs = [script for script in SCRIPTS for _ in range(ROUNDS)]
    random.Random(SEED).shuffle(jobs)
    with running_proxy(tmp_path_factory.mktemp("proxy"), nats.url, config) as proxy:
        key = proxy.issue_key()
        with ThreadPoolExecutor(CLIENTS) as clients:
            list(clients.map(lambda script: ask(proxy, key, script), SCRIPTS))
            before = settled(proxy)
            scripted.requests.clear()
            answers = list(clients.map(lambda script: ask(proxy, key, script), jobs))
        outcomes: dict[str, list[Outcome]] = {script.name: [] for script in SCRIPTS}
        for script, outcome in zip(jobs, answers, strict=True):
            outcomes[script.name].append(outcome)
        asked = Counter(
            request.partition(b"x-script: ")[2].partition(b"\r\n")[0].decode()
            for request in scripted.requests
        )
        book(proxy, answers)
        after = settled(proxy, until=before)
        yield Run(
            outcomes,
            asked,
            (before[0], after[0]),
            (before[1], after[1]),
            proxy.log(),
            proxy.readiness() == 200,
        )


def settled(proxy: ProxyProcess, until: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """Return the lowest descriptors and tasks of three seconds, which let connections go.

    As few as `until` are waited for no longer.
    """
    lowest = (10**9, 10**9)
    for _ in range(30):
        lowest = min(lowest, (proxy.descriptors(), proxy.tasks()))
        if lowest[0] <= until[0] and lowest[1] <= until[1]:
            break
        time.sleep(0.1)
    return lowest


def book(proxy: ProxyProcess, answers: list[Outcome]) -> None:
    """Give each outcome its records, once they are all there."""
    by_id = {outcome.request_id: outcome for outcome in answers}
    deadline = time.monotonic() + 30
    while True:
        for outcome in answers:
            outcome.records.clear()
        for event in proxy.events():
            if isinstance(event, UsageRecorded) and event.data.request_id in by_id:
                by_id[event.data.request_id].records.append(event.data)
        if all(outcome.records for outcome in answers) or time.monotonic() > deadline:
            return
        time.sleep(0.2)


@pytest.mark.parametrize("script", [pytest.param(script, id=script.name) for script in SCRIPTS])
def test_fault_is_answered_and_booked_as_the_documents_say(run: Run, script: Script) -> None:
    # Given a fault in many rounds among all others, then each is answered and booked alike, once.
    outcomes = run.outcomes[script.name]
    assert Counter(outcome.sees for outcome in outcomes) == {script.sees: ROUNDS}
    assert all(len(outcome.records) == 1 for outcome in outcomes)
    records = [outcome.records[0] for outcome in outcomes]
    booked = (script.booked,) if isinstance(script.booked, str) else script.booked
    assert {record.error_type or record.status for record in records} <= set(booked)
    assert {record.http_status for record in records} == {int(script.sees[:3])}
    assert Counter(usage_of(record) for record in records) == {script.usage: ROUNDS}
    # Whatever it does, it is asked once.
    assert run.asked[script.name] == ROUNDS


def usage_of(record: UsageRecord) -> str:
    """Return which of the kinds of usage (see Books) a record holds."""
    if record.usage is None:
        return "none"
    if record.usage.cache_read_tokens != 7:
        assert record.estimated
        return "guessed"
    assert record.usage.input_tokens == 11
    if record.estimated:
        return "seen"
    assert record.usage.output_tokens == 5
    return "whole"


def test_corpus_leaves_nothing_behind(run: Run) -> None:
    # Given all rounds, then the process lives, with no descriptor, task or trace more than before.
    assert run.is_alive
    assert run.descriptors[1] <= run.descriptors[0] + 2
    assert run.tasks[1] <= run.tasks[0]
    for word in ("Traceback", "never awaited", "exception", "never retrieved"):
        assert word not in run.log


def test_no_outcome_is_missing(run: Run) -> None:
    # Given the corpus, then every request has an id of its own: none was answered for another.
    ids = [outcome.request_id for outcomes in run.outcomes.values() for outcome in outcomes]
    assert len(set(ids)) == len(SCRIPTS) * ROUNDS
    assert len(SCRIPTS) >= 60
    assert GOOD.startswith(b"HTTP/1.1 200 OK")
