"""A real ledger process for tests, and the events that a proxy would have published."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from schemas.events import (
    GuardrailHit,
    GuardrailTriggered,
    KeyUpdated,
    RequestFacts,
    RequestStarted,
    UsageRecord,
    UsageRecorded,
    encode_event,
    us_from_time,
)
from schemas.guardrails import GuardrailFinding
from schemas.registry import KeyRecord
from schemas.streams import key_subject, usage_subject
from schemas.usage import Usage
from services.runtime.bus import Bus

__all__ = ["LedgerProcess", "Producer", "batch", "key_event", "publish", "read_books", "run"]

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 40.0
POLL_S = 0.05
CONFIG = """\
model_list:
  - model_name: anthropic-claude
    litellm_params: {model: anthropic/claude-sonnet-4-20250514}
litellm_settings: {master_key: sk-master-for-tests-0123456789, max_budget: 1000}
"""

T = TypeVar("T")


def run(work: Callable[[Bus], Any], nats_url: str, name: str = "test") -> Any:
    """Do some work on a bus of its own and return its result."""

    async def connected() -> Any:
        bus = await Bus.connect(nats_url, name)
        try:
            return await work(bus)
        finally:
            await bus.close()

    return asyncio.run(connected())


class Producer:
    """Makes the events of one life of a proxy worker, numbered from 1."""

    def __init__(self, name: str = "test") -> None:
        self.name = name
        self.sequence = 0

    def _envelope(self) -> dict[str, Any]:
        self.sequence += 1
        return {
            "source": f"/proxy/{self.name}",
            "id": str(self.sequence),
            "time": datetime.now(UTC),
        }

    def started(self, record: UsageRecord) -> bytes:
        """Return the event that a request has begun."""
        facts = {name: getattr(record, name) for name in ("request_id", "started_at_us", "key_id")}
        return encode_event(RequestStarted(**self._envelope(), data=RequestFacts(**facts)))

    def recorded(self, record: UsageRecord) -> bytes:
        """Return the event that a request is over."""
        return encode_event(UsageRecorded(**self._envelope(), data=record))

    def guarded(self, record: UsageRecord, *rules: str) -> bytes:
        """Return the event that a guardrail has found something in a request, by these rules."""
        hit = GuardrailHit(
            request_id=record.request_id,
            started_at_us=record.started_at_us,
            key_id=record.key_id,
            found_at_us=record.started_at_us,
            guardrail="no secrets",
            kind="secrets",
            mode="pre_call",
            action="log",
            findings=tuple(
                GuardrailFinding(rule=rule, category="test", place="system", count=2)
                for rule in rules
            ),
        )
        return encode_event(GuardrailTriggered(**self._envelope(), data=hit))

    def record(self, **fields: Any) -> UsageRecord:
        """Return the facts of a request of now, at a cost of $0.0165 unless told otherwise."""
        now_us = us_from_time(datetime.now(UTC))
        values: dict[str, Any] = {
            "request_id": f"tg_{self.name}_{self.sequence}",
            "started_at_us": now_us,
            "ended_at_us": now_us,
            "key_id": "key_test",
            "key_alias": "test",
            "model": "claude-sonnet-4-20250514",
            "usage": Usage(input_tokens=500, output_tokens=1000),
        }
        return UsageRecord(**(values | fields))


def batch(*events: bytes) -> bytes:
    """Return the message that holds some events."""
    return b"[" + b",".join(events) + b"]"


def publish(nats_url: str, messages: Sequence[bytes]) -> None:
    """Store messages on USAGE, in order."""

    async def work(bus: Bus) -> None:
        await bus.ensure_streams()
        for message in messages:
            await bus.publish(usage_subject(), message)

    run(work, nats_url)


def key_event(nats_url: str, record: KeyRecord) -> None:
    """Publish the state of a virtual key."""

    async def work(bus: Bus) -> None:
        await bus.ensure_streams()
        event = KeyUpdated(source="/admin/test", id="1", time=datetime.now(UTC), data=record)
        await bus.publish(key_subject(record.key_id), encode_event(event))

    run(work, nats_url)


def read_books(path: Path, query: str) -> list[tuple[Any, ...]]:
    """Ask a closed database file."""
    connection = duckdb.connect(str(path), read_only=True)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


class LedgerProcess:
    """`tallygate ledger` as a process of its own, over a data folder."""

    def __init__(self, folder: Path, nats_url: str, role: str = "writer") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.data = folder / "data"
        self.log_path = folder / f"{role}.log"
        self._config = folder / "config.yaml"
        self._config.write_text(CONFIG)
        self._nats_url = nats_url
        self._role = role
        self._process: subprocess.Popen[bytes] | None = None
        name = "ledger.duckdb" if role == "writer" else "reader/reader.duckdb"
        self.database = self.data / name

    @classmethod
    @contextmanager
    def started(
        cls, folder: Path, nats_url: str, role: str = "writer"
    ) -> Iterator["LedgerProcess"]:
        """Run a ledger and end it in order."""
        ledger = cls(folder, nats_url, role)
        ledger.start()
        try:
            yield ledger
        finally:
            ledger.stop()

    def start(self) -> None:
        """Start it; it may be waited for with `wait_ready`."""
        command = ["ledger", "--role", self._role, "--config", str(self._config)]
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "services.cli", *command, "--data", str(self.data)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(os.environ) | {"TALLYGATE_NATS_URL": self._nats_url},
            )

    def log(self) -> str:
        """Return what it has logged since it was started last."""
        return self.log_path.read_bytes()[self._log_start :].decode()

    def wait_ready(self) -> None:
        """Wait until it has taken in what the stream held."""
        self.wait_for(lambda: '"message":"ready"' in self.log() or None, "it is ready")

    def wait_for(self, check: Callable[[], T | None], what: str) -> T:
        """Return the first result of `check` that is not None."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while (found := check()) is None:
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {READY_TIMEOUT_S} s: {what}\n{self.log()}")
            time.sleep(POLL_S)
        return found

    def kill(self) -> None:
        """SIGKILL it."""
        process, self._process = self._process, None
        assert process is not None
        process.send_signal(signal.SIGKILL)
        process.wait()

    def stop(self) -> int:
        """End it as the supervisor does; return the exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.terminate()
        return process.wait(STOP_TIMEOUT_S)

    def catch_up(self) -> None:
        """Start it, let it take in what the stream holds, and end it in order."""
        self.start()
        self.wait_ready()
        assert self.stop() == 0

    def wait_end(self) -> int:
        """Wait until it ends by itself; return the exit code."""
        process, self._process = self._process, None
        assert process is not None
        return process.wait(READY_TIMEOUT_S)
