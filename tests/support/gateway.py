"""Runs the whole gateway (`tallygate serve`) as a user would, over a mock of the API."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

from tests.support.mock import MockAnthropic
from tests.support.ports import free_port

__all__ = ["TALLYGATE", "Gateway", "end_with_ctrl_c", "wait_until"]

T = TypeVar("T")

TALLYGATE = Path(sys.executable).with_name("tallygate")
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0
MASTER_KEY = "sk-master-of-the-tests-0123456789"

CONFIG = """\
model_list:
  - model_name: anthropic-claude
    litellm_params:
      model: anthropic/claude-sonnet-4-20250514
      api_base: {api_base}
  - model_name: claude-*
    litellm_params:
      model: anthropic/claude-*
      api_base: {api_base}
general_settings:
  forward_client_headers_to_llm_api: true
litellm_settings:
  master_key: os.environ/LITELLM_MASTER_KEY
tallygate:
  oauth_hosts: [127.0.0.1]
  quack_port: 0
"""


def wait_until(check: Callable[[], T | None], timeout_s: float, what: str) -> T:
    """Return the first true value of `check`. Fails the test after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        time.sleep(0.02)


def end_with_ctrl_c(process: "subprocess.Popen[bytes]", what: str) -> int:
    """End a process as Ctrl-C does; return its exit code. One that stays is killed: that fails."""
    process.send_signal(signal.SIGINT)
    try:
        return process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise AssertionError(f"{what} did not stop") from None


class Gateway:
    """A running gateway: its address, its processes, its API as a client sees it."""

    def __init__(self, folder: Path, mock: MockAnthropic, *, workers: int = 1) -> None:
        self.data = folder / "data"
        self.config = folder / "config.yaml"
        if not self.config.exists():
            self.config.write_text(CONFIG.format(api_base=mock.url))
        self.log_path = folder / "gateway.log"
        self._workers = workers
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self.client = httpx.Client(base_url=self.url, timeout=30.0, trust_env=False)

    @classmethod
    @contextmanager
    def started(cls, folder: Path, mock: MockAnthropic, *, workers: int = 1) -> Iterator["Gateway"]:
        """Run a gateway in a folder and drain it in the end."""
        gateway = cls(folder, mock, workers=workers)
        try:
            gateway.start()
            yield gateway
        finally:
            gateway.stop()
            gateway.client.close()

    def start(self) -> str:
        """Start it and return what it printed once it was ready."""
        command = [TALLYGATE, "serve", "--config", self.config, "--data", self.data]
        command += ["--port", str(self.port), "--workers", str(self._workers)]
        environment = dict(os.environ) | {"LITELLM_MASTER_KEY": MASTER_KEY}
        log = self.log_path.open("ab")
        self._process = subprocess.Popen(
            [str(part) for part in command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        log.close()
        stdout = self._process.stdout
        assert stdout is not None
        os.set_blocking(stdout.fileno(), False)
        printed = b""

        def has_printed() -> bool:
            nonlocal printed
            printed += stdout.read() or b""
            assert self._process is not None
            if self._process.poll() is not None:
                raise AssertionError(f"the gateway ended:\n{self.log_path.read_text()[-3000:]}")
            return b"ANTHROPIC_CUSTOM_HEADERS" in printed

        wait_until(has_printed, READY_TIMEOUT_S, "the gateway is ready")
        return printed.decode()

    def stop(self) -> int:
        """Drain it as Ctrl-C does; return its exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        try:
            return end_with_ctrl_c(process, "the gateway")
        finally:
            if process.stdout is not None:
                process.stdout.close()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor."""
        assert self._process is not None
        self._process.send_signal(number)

    def processes(self, part: str) -> list[int]:
        """Return the process ids of the children whose command line names a part."""
        assert self._process is not None
        listed = subprocess.run(
            ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(self._process.pid)],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        return [int(line.split()[0]) for line in listed.splitlines() if part in line]

    def kill(self, part: str) -> None:
        """SIGKILL every child whose command line names a part; there must be one."""
        found = wait_until(lambda: self.processes(part), 10, f"a process {part!r} is there")
        for process_id in found:
            os.kill(process_id, signal.SIGKILL)

    def admin(self, method: str, path: str, **arguments: Any) -> Any:
        """Call a management route with the master key; return the JSON of a 200."""
        headers = {"Authorization": f"Bearer {MASTER_KEY}"}
        answer = self.client.request(method, path, headers=headers, **arguments)
        assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
        return answer.json()

    def new_key(self, **fields: Any) -> str:
        """Make a virtual key and return its secret."""
        key: str = self.admin("POST", "/key/generate", json=fields)["key"]
        return key

    def sql(self, query: str) -> list[list[Any]]:
        """Ask the ledger; return the rows."""
        rows: list[list[Any]] = self.admin("POST", "/ledger/sql", json={"query": query})["rows"]
        return rows

    def ask(self, key: str, **options: Any) -> httpx.Response:
        """Send one request to the Messages API as a subscriber's client would."""
        headers = {
            "x-litellm-api-key": f"Bearer {key}",
            "authorization": "Bearer sk-ant-oat01-of-the-tests",
            "anthropic-version": "2023-06-01",
            "content-type": "application/json",
            **options.pop("headers", {}),
        }
        body = {
            "model": "anthropic-claude",
            "max_tokens": 100,
            "messages": [{"role": "user", "content": "hi"}],
            **options,
        }
        return self.client.post("/v1/messages", headers=headers, content=json.dumps(body))
