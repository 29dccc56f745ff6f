"""compose.yaml, brought up for a test under a project name of its own, with the mock upstream."""

import os
import secrets
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from tests.support.nats import STARTED
from tests.support.ports import free_port

__all__ = ["ComposeProject", "compose_command", "running_compose", "wait_until"]

ROOT = Path(__file__).resolve().parents[2]
UP_TIMEOUT_S = 120.0
"""How long `up` and `down` may take: a drain takes its time."""
READY_TIMEOUT_S = 60.0
"""How long the services may take from `up` until the proxy is ready."""
POLL_S = 0.1

_FILES = ("compose.yaml", "tests/containers/compose.test.yaml")
_SECRETS = ("_PASSWORD", "_MASTER_KEY")
_NATS_USERS = ("PROXY", "LEDGER_WRITER", "LEDGER_READER", "ADMIN")


def compose_command() -> list[str] | None:
    """Return the command of compose for the tests, None where no engine was given.

    `.ci/engine.sh start` writes the variables that say so.
    """
    command = os.environ.get("TALLYGATE_TEST_COMPOSE")
    if not command or not os.environ.get("TALLYGATE_TEST_IMAGE"):
        return None
    return shlex.split(command)


def wait_until(holds: Callable[[], bool], what: str, timeout_s: float) -> None:
    """Look again and again until something holds; raise AssertionError when the time is over."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        time.sleep(POLL_S)


class ComposeProject:
    """The services of compose.yaml under one project name; `client` speaks to the proxy."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self.name = f"tallygate-test-{secrets.token_hex(4)}"
        self.master_key = f"sk-{secrets.token_hex(24)}"
        self.port = free_port()
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", timeout=30.0, trust_env=False
        )
        self._environment = {
            **os.environ,
            "TALLYGATE_IMAGE": os.environ["TALLYGATE_TEST_IMAGE"],
            "TALLYGATE_NATS_IMAGE": os.environ["TALLYGATE_TEST_NATS_IMAGE"],
            "TALLYGATE_CONFIG": "./tests/containers/config.test.yaml",
            "TALLYGATE_LISTEN": f"127.0.0.1:{self.port}",
            "TALLYGATE_MASTER_KEY": self.master_key,
            "ANTHROPIC_API_KEY": "",
            **{
                f"TALLYGATE_NATS_{user}_PASSWORD": f"s{secrets.token_hex(16)}"
                for user in _NATS_USERS
            },
        }

    def compose(self, *arguments: str, without_secrets: bool = False) -> str:
        """Run one command of compose and return its output; AssertionError where it fails."""
        files = [part for file in _FILES for part in ("--file", file)]
        environment = self._environment
        if without_secrets:
            environment = {
                name: value for name, value in environment.items() if not name.endswith(_SECRETS)
            }
            # A developer's own .env beside the compose file is not to be read.
            files = ["--env-file", "tests/containers/empty.env", *files]
        command = [*self._command, "--project-name", self.name, *files, *arguments]
        return self._run(command, environment)

    def up(self) -> None:
        """Start all services and wait until the proxy says that it is ready."""
        self.compose("up", "--detach", "--no-build")
        try:
            wait_until(self._ready, "the proxy is ready", READY_TIMEOUT_S)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs()}") from None
        STARTED["container of compose.yaml"] += 1

    def logs(self) -> str:
        """Return the end of what each service logged."""
        return self.compose("logs", "--no-color", "--tail", "15")

    def container(self, service: str) -> str:
        """Return the id of a service's container."""
        return self.compose("ps", "--quiet", service).strip()

    def inspect(self, service: str) -> dict[str, Any]:
        """Return what the engine knows about a service's container."""
        output = self._run(["docker", "inspect", self.container(service)])
        found: list[dict[str, Any]] = msgspec.json.decode(output)
        return found[0]

    def kill(self, service: str) -> None:
        """End a service with SIGKILL and start it again."""
        container = self.container(service)
        self._run(["docker", "kill", "--signal", "SIGKILL", container])
        self._run(["docker", "start", container])

    def close(self) -> None:
        """Remove the containers, networks and volumes."""
        self.client.close()
        self.compose("down", "--volumes", "--timeout", "30")

    def _ready(self) -> bool:
        try:
            return self.client.get("/health/readiness").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def _run(self, command: list[str], environment: dict[str, str] | None = None) -> str:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self._environment if environment is None else environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=UP_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"{shlex.join(command)}: {done.stderr[-4000:]}")
        return done.stdout


@contextmanager
def running_compose(command: list[str]) -> Iterator[ComposeProject]:
    """Run all services for the length of a with statement; nothing of them is left."""
    project = ComposeProject(command)
    try:
        project.up()
        yield project
    finally:
        project.close()
