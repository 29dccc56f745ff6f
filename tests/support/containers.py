"""The same nats-server as in `tests.support.nats`, in a container, by testcontainers.

It needs a container engine and an image of NATS: the environment variable
TALLYGATE_TEST_NATS_IMAGE names the image (`.ci/engine.sh start` makes one where none can be
pulled, and `.tools/engine/env` sets the variable). Without it the tests use the binary.
"""

import os
import socket
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.nats import MAX_PAYLOAD_BYTES, READY_TIMEOUT_S, STARTED, STOP_TIMEOUT_S
from tests.support.ports import free_port

__all__ = ["NATS_IMAGE_VARIABLE", "NatsContainerServer", "nats_image", "running_nats_container"]

NATS_IMAGE_VARIABLE = "TALLYGATE_TEST_NATS_IMAGE"
"""The environment variable that names the image of NATS for the tests."""

_PORT_IN_CONTAINER = 4222
_POLL_S = 0.05

_CONFIG = f"""\
server_name: tallygate_test
listen: "0.0.0.0:{_PORT_IN_CONTAINER}"
max_payload: {MAX_PAYLOAD_BYTES}
jetstream {{
  store_dir: "/store"
  sync_interval: always
  max_memory_store: 64MB
  max_file_store: 1GB
}}
"""


def nats_image() -> str | None:
    """Return the image of NATS for the tests, None where no engine was given."""
    return os.environ.get(NATS_IMAGE_VARIABLE) or None


class NatsContainerServer:
    """A nats-server in a container: its port and its store outlive a kill and a restart."""

    def __init__(self, image: str, config_path: Path) -> None:
        """Describe the container; `start` runs it. `config_path` is where to write its config."""
        # The reaper of testcontainers is one more image, which may not be there to pull; the
        # `with` statement below removes the container instead. Read when it is imported, which
        # is slow, and needless without an engine: hence not at the top of this module.
        os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
        with _own_deprecations():
            from testcontainers.community.nats import NatsContainer

        config_path.write_text(_CONFIG)
        self._host_port = free_port()
        container = NatsContainer(image, client_port=_PORT_IN_CONTAINER)
        # A port that the engine chooses would be another one after a restart.
        container.with_bind_ports(_PORT_IN_CONTAINER, self._host_port)
        container.with_copy_into_container(config_path, "/nats.conf")
        container.with_command(["--config", "/nats.conf"])
        self._container = container

    @property
    def url(self) -> str:
        """The address for clients, without credentials."""
        return f"nats://{self._container.get_container_host_ip()}:{self._host_port}"

    @property
    def container_id(self) -> str:
        """The container, for tests that look at it."""
        return str(self._container.get_wrapped_container().id)

    def start(self) -> None:
        """Create the container, start it, and wait until it takes connections."""
        with _own_deprecations():
            self._container.start()
        self._wait_ready()
        STARTED["container"] += 1

    def stop(self) -> None:
        """End the server with SIGTERM; the container and its store stay."""
        self._container.get_wrapped_container().stop(timeout=int(STOP_TIMEOUT_S))

    def kill(self) -> None:
        """End the server with SIGKILL, as a crash would; the container and its store stay."""
        self._container.get_wrapped_container().kill(signal="SIGKILL")
        self._container.get_wrapped_container().wait(timeout=STOP_TIMEOUT_S)

    def restart(self) -> None:
        """Start again on the same port and store; a running server is stopped before."""
        self.stop()
        self._container.get_wrapped_container().start()
        self._wait_ready()

    def remove(self) -> None:
        """Remove the container and its store."""
        self._container.stop()

    def _wait_ready(self) -> None:
        """Wait for the server's first line: the engine's port proxy accepts before it is there."""
        host = self._container.get_container_host_ip()
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                with socket.create_connection((host, self._host_port), timeout=1.0) as connection:
                    if connection.recv(5) == b"INFO ":
                        return
            except OSError:
                pass
            time.sleep(_POLL_S)
        output, errors = self._container.get_logs()
        message = f"NATS in a container did not become ready:\n{(output + errors).decode()[-4000:]}"
        raise RuntimeError(message)


@contextmanager
def running_nats_container(image: str) -> Iterator[NatsContainerServer]:
    """Run NATS in a container for the length of a with statement, and remove it in the end."""
    with tempfile.TemporaryDirectory() as folder:
        server = NatsContainerServer(image, Path(folder) / "nats.conf")
        try:
            server.start()
            yield server
        finally:
            server.remove()


@contextmanager
def _own_deprecations() -> Iterator[None]:
    """Let testcontainers use what testcontainers deprecates; our tests make warnings errors."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield
