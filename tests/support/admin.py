"""The admin service for tests: the real command in a process of its own, on a free port."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

__all__ = ["MASTER_KEY", "RunningAdmin", "running_admin"]

MASTER_KEY = "sk-master-of-the-tests-0123456789abcdef"
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 40.0
POLL_S = 0.02

_CONFIG = """\
model_list:
  - model_name: anthropic-claude
    litellm_params:
      model: anthropic/claude-sonnet-4-20250514
      api_key: sk-ant-api03-nobody
litellm_settings:
  master_key: os.environ/LITELLM_MASTER_KEY
"""


class RunningAdmin:
    """One process of `tallygate admin`. `http` sends the master key with every request."""

    def __init__(self, folder: Path, nats_url: str, config: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.log_path = folder / "admin.log"
        self.config_path = folder / "config.yaml"
        self.config_path.write_text(_CONFIG + config)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port: int = listener.getsockname()[1]
            arguments = ["admin", "--fd", str(listener.fileno())]
            arguments += ["--config", str(self.config_path), "--data", str(folder / "data")]
            with self.log_path.open("ab") as log:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "services.cli", *arguments],
                    pass_fds=[listener.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={
                        "PATH": os.environ["PATH"],
                        "TALLYGATE_NATS_URL": nats_url,
                        "LITELLM_MASTER_KEY": MASTER_KEY,
                    },
                )
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {MASTER_KEY}"}, timeout=30
        )

    @property
    def log(self) -> str:
        """All that the process has logged."""
        return self.log_path.read_text(errors="replace")

    def wait_ready(self) -> None:
        """Wait until the service has read the registry. Raises RuntimeError with its log."""
        self.wait_for_status("/health/readiness", 200)

    def wait_for_status(self, path: str, status: int) -> httpx.Response:
        """Wait until a GET is answered with a status. Raises RuntimeError with the log."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        last = "no answer"
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                response = self.http.get(path)
                if response.status_code == status:
                    return response
                last = f"{response.status_code} {response.text}"
            except httpx.TransportError as error:
                last = repr(error)
            time.sleep(POLL_S)
        message = f"GET {path} was not answered {status} but {last}:\n{self.log[-4000:]}"
        raise RuntimeError(message)

    def generate(self, **fields: object) -> dict[str, object]:
        """Make a virtual key and return the whole answer."""
        response = self.http.post("/key/generate", json=fields)
        assert response.status_code == 200, response.text
        answer: dict[str, object] = response.json()
        return answer

    def stop(self) -> int:
        """End the process with SIGTERM and return its exit code."""
        self.http.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


@contextmanager
def running_admin(
    folder: Path, nats_url: str, *, wait: bool = True, config: str = ""
) -> Iterator[RunningAdmin]:
    """Run an admin service for the length of a with statement; `config` is added to the file."""
    admin = RunningAdmin(folder, nats_url, config)
    try:
        if wait:
            admin.wait_ready()
        yield admin
    finally:
        admin.stop()
