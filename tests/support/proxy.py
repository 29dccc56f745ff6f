"""A real proxy process for tests, with what it needs around it: streams, keys, budgets.

with running_proxy(tmp_path, nats_url, model_list(mock.url)) as proxy:
    key = proxy.issue_key()
    httpx.post(f"{proxy.url}/v1/messages", headers={"x-litellm-api-key": key}, …)
    assert len(proxy.recorded(1)) == 1
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import yaml

from schemas.budgets import BudgetCleared, BudgetExceeded, BudgetState, Marks, MarksTold
from schemas.events import (
    KeyCreated,
    KeyUpdated,
    RequestRejected,
    RequestStarted,
    TeamUpdated,
    UsageEvent,
    UsageRecord,
    UsageRecorded,
    UserUpdated,
    decode_usage_event,
    encode_event,
)
from schemas.keys import hash_key, key_name, new_key, new_key_id
from schemas.registry import KeyRecord, TeamRecord, UserRecord
from schemas.streams import (
    MARKS_ASK_SUBJECT,
    MARKS_SUBJECT,
    USAGE,
    budget_subject,
    key_subject,
)
from services.runtime.bus import Bus
from services.runtime.registry import subject_of
from tests.support.ports import free_port

__all__ = [
    "MASTER_KEY",
    "ProxyProcess",
    "gateway_config",
    "make_streams",
    "model_entry",
    "publish_budget",
    "publish_key",
    "running_proxy",
    "tell_marks",
    "usage_events",
]

MASTER_KEY = "sk-master-for-tests-0123456789"
READY_TIMEOUT_S = 60.0
"""How long a proxy may take until it is ready, on a busy machine."""
STOP_TIMEOUT_S = 40.0
"""How long it may take to end after SIGTERM."""
POLL_S = 0.02

_ROOT = Path(__file__).resolve().parents[2]


def model_entry(api_base: str, *, name: str = "anthropic-claude", **fields: Any) -> dict[str, Any]:
    """Return an entry of `model_list`; `fields` are laid over its `litellm_params`."""
    params = {"model": "anthropic/claude-sonnet-4-20250514", "api_base": api_base, **fields}
    return {"model_name": name, "litellm_params": params}


def gateway_config(
    *entries: dict[str, Any], forward: bool = True, **settings: Any
) -> dict[str, Any]:
    """Return a configuration; `settings` are those of the section `tallygate`."""
    return {
        "model_list": list(entries),
        "general_settings": {"forward_client_headers_to_llm_api": forward},
        "litellm_settings": {"master_key": MASTER_KEY},
        "tallygate": {"oauth_hosts": ["127.0.0.1"], **settings},
    }


async def _with_bus(url: str, work: Any) -> Any:
    bus = await Bus.connect(url, "test")
    try:
        return await work(bus)
    finally:
        await bus.close()


def make_streams(nats_url: str) -> None:
    """Make the streams, as the ledger does in production."""
    asyncio.run(_with_bus(nats_url, lambda bus: bus.ensure_streams()))


def publish_key(nats_url: str, record: KeyRecord, *, is_new: bool = False) -> None:
    """Store a key's state as the admin service does."""
    event = (KeyCreated if is_new else KeyUpdated)(
        source="/test", id=new_key_id(), time=datetime.now(UTC), data=record
    )
    subject = key_subject(record.key_id)
    asyncio.run(_with_bus(nats_url, lambda bus: bus.publish(subject, encode_event(event))))


def publish_owner(nats_url: str, record: TeamRecord | UserRecord) -> None:
    """Store a team's or a user's state as the admin service does."""
    make: Any = TeamUpdated if isinstance(record, TeamRecord) else UserUpdated
    event = make(source="/test", id=new_key_id(), time=datetime.now(UTC), data=record)
    subject = subject_of(record)
    asyncio.run(_with_bus(nats_url, lambda bus: bus.publish(subject, encode_event(event))))


def publish_budget(nats_url: str, state: BudgetState, *, exceeded: bool = True) -> None:
    """Store a budget's state as the ledger does."""
    event = (BudgetExceeded if exceeded else BudgetCleared)(
        source="/test", id=new_key_id(), time=datetime.now(UTC), data=state
    )
    subject = budget_subject(*state.budget_id)
    asyncio.run(_with_bus(nats_url, lambda bus: bus.publish(subject, encode_event(event))))


def tell_marks(nats_url: str, *states: BudgetState) -> None:
    """Tell one proxy where all budgets stand, as a ledger does that has just started."""
    told = MarksTold(
        source=f"/ledger/{new_key_id()}",
        id="1",
        time=datetime.now(UTC),
        data=Marks(usage_sequence=0, marks=states),
    )
    payload = encode_event(told)

    async def tell(bus: Bus) -> None:
        is_asked = asyncio.Event()

        async def answer(_: bytes) -> bytes:
            is_asked.set()
            return payload

        stop = await bus.serve(MARKS_ASK_SUBJECT, answer)
        await bus.tell(MARKS_SUBJECT, payload)
        async with asyncio.timeout(READY_TIMEOUT_S):
            await is_asked.wait()
        await stop()

    asyncio.run(_with_bus(nats_url, tell))


def usage_events(nats_url: str) -> list[UsageEvent]:
    """Return everything on USAGE, each event once (a message may have been stored twice)."""

    async def read(bus: Bus) -> list[UsageEvent]:
        events: dict[tuple[str, str], UsageEvent] = {}
        async for batch in bus.follow(USAGE.name):
            for message in batch.messages:
                if not message.subject.startswith("usage."):
                    continue  # A change of prices.
                for raw in msgspec.json.decode(message.payload, type=list[msgspec.Raw]):
                    event = decode_usage_event(raw)
                    known = events.setdefault((event.source, event.id), event)
                    assert known == event, "one identity, two events"
            if batch.pending == 0:
                break
        return list(events.values())

    found: list[UsageEvent] = asyncio.run(_with_bus(nats_url, read))
    return found


class ProxyProcess:
    """`tallygate proxy` as a process of its own. Its port and its folder outlive a kill."""

    def __init__(self, folder: Path, nats_url: str, config: dict[str, Any]) -> None:
        self.nats_url = nats_url
        self.data = folder / "data"
        self.config_path = folder / "config.yaml"
        self.config_path.write_text(yaml.safe_dump(config))
        self.log_path = folder / "proxy.log"
        self.port = free_port()
        self.environment: dict[str, str] = {}
        self._tasks_path = folder / "tasks"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The base URL, as ANTHROPIC_BASE_URL has it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def outbox(self) -> Path:
        """The worker's folder in the data folder."""
        return self.data / "proxy" / "0"

    def start(self, *, ready: bool = True) -> None:
        """Start the process; with `ready` wait until it serves, else until it listens."""
        command = [sys.executable, "-m", "tests.support.watched", "proxy"]
        command += ["--config", str(self.config_path)]
        command += ["--data", str(self.data), "--host", "127.0.0.1", "--port", str(self.port)]
        environment = {**os.environ, "TALLYGATE_NATS_URL": self.nats_url, **self.environment}
        environment.pop("NOTIFY_SOCKET", None)
        environment["TALLYGATE_TEST_TASKS"] = str(self._tasks_path)
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=_ROOT, env=environment, stdin=subprocess.DEVNULL, stderr=log
            )
        wanted = {200} if ready else {200, 503}
        deadline = time.monotonic() + READY_TIMEOUT_S
        while self.readiness() not in wanted:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the proxy did not become ready:\n{self.log()[-4000:]}")
            time.sleep(POLL_S)

    def readiness(self) -> int:
        """Return the status of the readiness probe, 0 where nobody listens."""
        try:
            return httpx.get(f"{self.url}/health/readiness", trust_env=False).status_code
        except httpx.HTTPError:
            return 0

    def stop(self) -> int:
        """End it with SIGTERM and return its exit code."""
        process, self.process = self.process, None
        if process is None:
            return 0
        process.terminate()
        try:
            return process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def kill(self) -> None:
        """End it with SIGKILL."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()

    @property
    def pid(self) -> int:
        """The process id of the running proxy."""
        assert self.process is not None
        return self.process.pid

    def log(self) -> str:
        """Return what it has logged."""
        return self.log_path.read_text(errors="replace")

    def descriptors(self) -> int:
        """Return how many files and sockets it has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def tasks(self) -> int:
        """Return how many asyncio tasks it has."""
        self._tasks_path.unlink(missing_ok=True)
        os.kill(self.pid, signal.SIGUSR2)
        deadline = time.monotonic() + 40
        while not self._tasks_path.exists():
            assert time.monotonic() < deadline, "the proxy does not tell its tasks"
            time.sleep(POLL_S)
        return int(self._tasks_path.read_text())

    def issue_key(self, **fields: Any) -> str:
        """Store a new virtual key and return it once the proxy knows it."""
        key, _ = self.issue_record(**fields)
        return key

    def issue_record(self, **fields: Any) -> tuple[str, KeyRecord]:
        """Do the same; return the key and its record."""
        key = str(fields.pop("key", None) or new_key())
        record = KeyRecord(
            key_id=new_key_id(), key_hash=hash_key(key), key_name=key_name(key), **fields
        )
        publish_key(self.nats_url, record, is_new=True)
        self.wait_known(key)
        return key, record

    def wait_known(self, key: str, *, timeout_s: float = 30.0) -> None:
        """Wait until the proxy knows a key (a blocked one is answered with 403)."""
        deadline = time.monotonic() + timeout_s
        while self.models(key).status_code in {401, 503}:
            assert time.monotonic() < deadline, "the proxy does not hear of the key"
            time.sleep(POLL_S)

    def models(self, key: str) -> httpx.Response:
        """Ask for the list of models."""
        headers = {"x-litellm-api-key": key}
        return httpx.get(f"{self.url}/v1/models", headers=headers, trust_env=False)

    def events(self) -> list[UsageEvent]:
        """Return everything on USAGE."""
        return usage_events(self.nats_url)

    def recorded(self, count: int, *, timeout_s: float = 40.0) -> list[UsageRecord]:
        """Return the records on USAGE once there are `count` of them; never more."""
        deadline = time.monotonic() + timeout_s
        while True:
            events = self.events()
            records = [event.data for event in events if isinstance(event, UsageRecorded)]
            if len(records) >= count or time.monotonic() > deadline:
                assert len(records) == count, f"{len(records)} of {count} records"
                ids = {record.request_id for record in records}
                assert len(ids) == count, "a request was recorded twice"
                return records
            time.sleep(POLL_S)

    def started(self) -> list[RequestStarted]:
        """Return the `request.started` events on USAGE."""
        return [event for event in self.events() if isinstance(event, RequestStarted)]

    def rejected(self, count: int, *, timeout_s: float = 40.0) -> list[RequestRejected]:
        """Return the refusals on USAGE once there are `count` of them."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = [event for event in self.events() if isinstance(event, RequestRejected)]
            if len(found) >= count or time.monotonic() > deadline:
                assert len(found) == count, f"{len(found)} of {count} refusals"
                return found
            time.sleep(POLL_S)


@contextmanager
def running_proxy(folder: Path, nats_url: str, config: dict[str, Any]) -> Iterator[ProxyProcess]:
    """Run a proxy against a NATS in which the streams are made, for the length of a with."""
    make_streams(nats_url)
    proxy = ProxyProcess(folder, nats_url, config)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.kill()
