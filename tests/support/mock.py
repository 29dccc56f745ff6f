"""Starts the mock of the Anthropic API for a test, tells it what to answer, reads what it saw.

with MockAnthropic.started(tmp_path) as mock:
    mock.set_default(Scenario(reply="error", status=529))
    ...
    assert mock.wait_for_requests(1)[0].header("authorization") is None
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from schemas.usage import IterationUsage, Usage
from tests.support.mock_anthropic.records import Record, Stats
from tests.support.mock_anthropic.scenario import Scenario, ScenarioPlan, ToolCall, UsageFigures

__all__ = [
    "API_KEY_HEADERS",
    "OAUTH_HEADERS",
    "MockAnthropic",
    "Record",
    "Scenario",
    "Stats",
    "ToolCall",
    "UsageFigures",
    "header",
    "headers_of",
    "record_usage",
    "scenario_headers",
    "tool_round_trip",
    "usage_from_report",
]

READY_TIMEOUT_S = 60.0
"""How long the program may take until it listens."""
STOP_TIMEOUT_S = 10.0
"""How long it may take to end after SIGTERM, before it is killed."""
CONTROL_TIMEOUT_S = 30.0
"""How long a control request may take: the mock may be busy with a benchmark."""
POLL_S = 0.02
"""How often a waiting helper looks again."""

OAUTH_HEADERS = {"authorization": "Bearer sk-ant-oat01-mock", "anthropic-version": "2023-06-01"}
"""What a subscriber's client sends, at the least."""
API_KEY_HEADERS = {"x-api-key": "sk-ant-api03-mock", "anthropic-version": "2023-06-01"}
"""What a client with an API key sends, at the least."""

_ROOT = Path(__file__).resolve().parents[2]


def scenario_headers(scenario: Scenario | None = None, *, tag: str = "") -> dict[str, str]:
    """Return the request headers that choose a scenario and mark the request in the mock's log."""
    headers = {"x-mock-tag": tag} if tag else {}
    if scenario is not None:
        headers["x-mock-scenario"] = msgspec.json.encode(_without_defaults(scenario)).decode()
    return headers


def tool_round_trip(file_path: Path) -> Scenario:
    """Return the conversation that runs `echo` in Bash, reads a file, and ends with a text."""
    bash = {"command": "echo tally-$((40+2))", "description": "echo"}
    return Scenario(
        name="tool_round_trip",
        reply="tools",
        tools=(
            ToolCall(name="Bash", input=bash),
            ToolCall(name="Read", input={"file_path": str(file_path)}),
        ),
    )


def headers_of(record: Record, name: str) -> list[str]:
    """Return all values of a header of a recorded request, in the order in which they came."""
    return [text for key, text in record.headers if key.lower() == name.lower()]


def header(record: Record, name: str) -> str | None:
    """Return the first value of a header of a recorded request."""
    return next(iter(headers_of(record, name)), None)


def usage_from_report(report: dict[str, Any]) -> Usage:
    """Return the usage that a ledger must book for a usage object in Anthropic's own names.

    Cache writes that the 5 m / 1 h split does not explain are 5-minute writes.
    """
    written_5m, written_1h = _cache_writes(report)
    searches = report.get("server_tool_use", {})
    iterations = []
    for entry in report.get("iterations", ()):
        entry_5m, entry_1h = _cache_writes(entry)
        iterations.append(
            IterationUsage(
                type=entry.get("type", "message"),
                model=entry.get("model"),
                input_tokens=entry.get("input_tokens", 0),
                output_tokens=entry.get("output_tokens", 0),
                cache_read_tokens=entry.get("cache_read_input_tokens", 0),
                cache_write_5m_tokens=entry_5m,
                cache_write_1h_tokens=entry_1h,
            )
        )
    return Usage(
        input_tokens=report.get("input_tokens", 0),
        output_tokens=report.get("output_tokens", 0),
        cache_read_tokens=report.get("cache_read_input_tokens", 0),
        cache_write_5m_tokens=written_5m,
        cache_write_1h_tokens=written_1h,
        web_search_requests=searches.get("web_search_requests", 0),
        web_fetch_requests=searches.get("web_fetch_requests", 0),
        service_tier=report.get("service_tier"),
        speed=report.get("speed"),
        inference_geo=report.get("inference_geo"),
        iterations=tuple(iterations),
    )


def record_usage(record: Record) -> Usage | None:
    """Return what a ledger must book for a recorded request (None: the client was told nothing)."""
    return None if record.usage is None else usage_from_report(record.usage)


def _cache_writes(report: dict[str, Any]) -> tuple[int, int]:
    split = report.get("cache_creation", {})
    written_1h = split.get("ephemeral_1h_input_tokens", 0)
    written_5m = split.get("ephemeral_5m_input_tokens", 0)
    total = report.get("cache_creation_input_tokens", 0)
    return max(written_5m, total - written_1h), written_1h


def _without_defaults(given: msgspec.Struct) -> dict[str, Any]:
    """Return the fields that differ from their defaults: a header must stay small."""
    plain = type(given)()
    fields = {}
    for name in given.__struct_fields__:
        field = getattr(given, name)
        if field != getattr(plain, name):
            fields[name] = _without_defaults(field) if isinstance(field, UsageFigures) else field
    return fields


class MockAnthropic:
    """A running mock: its address, its scenarios and its records."""

    def __init__(self, log_path: Path, port: int = 0) -> None:
        """Describe the mock; `start` runs it. `port` 0 takes a free one and keeps it."""
        self.log_path = log_path
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._client: httpx.Client | None = None

    @classmethod
    @contextmanager
    def started(cls, folder: Path) -> Iterator["MockAnthropic"]:
        """Run a mock whose log lies in a folder, and stop it in the end."""
        mock = cls(folder / "mock_anthropic.jsonl")
        mock.start()
        try:
            yield mock
        finally:
            mock.stop()

    @property
    def url(self) -> str:
        """The base URL, as a deployment's `api_base` has it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def process_id(self) -> int:
        """The process, for tests that measure or hurt it."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the program, on the same port as before, and wait until it listens."""
        command = [sys.executable, "-m", "tests.support.mock_anthropic", "--end-with-stdin"]
        command += ["--port", str(self.port), "--log", str(self.log_path)]
        self._process = subprocess.Popen(
            command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        # The line comes or the process ends: both end the read, so it needs no deadline of its own.
        line = self._process.stdout.readline()
        if not line:
            self.stop()
            raise RuntimeError("the mock of the Anthropic API did not start")
        self.port = msgspec.json.decode(line)["port"]
        # Trusting no environment keeps a proxy setting of the machine out of the tests.
        self._client = httpx.Client(base_url=self.url, timeout=CONTROL_TIMEOUT_S, trust_env=False)

    def stop(self) -> None:
        """End the program in order: its log is complete afterwards."""
        self._end(subprocess.Popen.terminate)

    def kill(self) -> None:
        """End the program at once, as a crash of the upstream would."""
        self._end(subprocess.Popen.kill)

    def _end(self, signal: Callable[["subprocess.Popen[bytes]"], None]) -> None:
        process, self._process = self._process, None
        if self._client is not None:
            self._client.close()
            self._client = None
        if process is None:
            return
        signal(process)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def _control(self, method: str, path: str, content: bytes | None = None) -> bytes:
        assert self._client is not None
        answer = self._client.request(method, f"/__mock__/{path}", content=content)
        answer.raise_for_status()
        return answer.content

    def set_default(self, scenario: Scenario) -> None:
        """Answer so whatever names no scenario and finds the queue empty."""
        self._control("POST", "scenario", msgspec.json.encode(ScenarioPlan(default=scenario)))

    def queue(self, *scenarios: Scenario) -> None:
        """Answer the next requests so, one after the other (what was queued before is dropped)."""
        self._control("POST", "scenario", msgspec.json.encode(ScenarioPlan(queue=scenarios)))

    def reset(self) -> None:
        """Forget all scenarios and all records (the log keeps its lines)."""
        self._control("DELETE", "scenario")
        self._control("DELETE", "requests")

    def requests(self, *, bodies: bool = True) -> list[Record]:
        """Return the requests received since the last reset, the oldest first."""
        path = "requests" if bodies else "requests?bodies=0"
        return msgspec.json.decode(self._control("GET", path), type=list[Record])

    def messages(self) -> list[Record]:
        """Return the `POST /v1/messages` among the requests: what must appear in a ledger."""
        return [
            record
            for record in self.requests()
            if record.method == "POST" and record.target.partition("?")[0] == "/v1/messages"
        ]

    def stats(self) -> Stats:
        """Return the counters."""
        return msgspec.json.decode(self._control("GET", "stats"), type=Stats)

    def wait_for_requests(
        self, count: int, *, ended: bool = True, timeout_s: float = 30.0
    ) -> list[Record]:
        """Return the requests once there are so many, all `ended` if wanted.

        Raises AssertionError with what there is when the time is over.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            records = self.requests()
            over = [record for record in records if record.ended_at is not None or not ended]
            if len(over) >= count:
                return records
            if time.monotonic() > deadline:
                raise AssertionError(f"{len(over)} of {count} requests; all: {records}")
            time.sleep(POLL_S)

    def log(self) -> list[Record]:
        """Return the log: every request that has ended, since the file began."""
        lines = self.log_path.read_bytes().splitlines() if self.log_path.exists() else []
        return [msgspec.json.decode(line, type=Record) for line in lines]
