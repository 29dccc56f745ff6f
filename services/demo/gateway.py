"""The gateway that the demo runs: `tallygate serve` in a process of its own."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import httpx

from schemas.errors import ConfigError, TallygateError
from services.runtime.child import die_with

__all__ = ["GatewayEnded", "GatewayProcess", "free_port"]

STOP_TIMEOUT_S = 60.0
POLL_S = 0.1
_TAIL_BYTES = 2000
_STRIPPED = ("LITELLM_", "TALLYGATE_", "ANTHROPIC_", "NOTIFY_SOCKET")
"""Variables of the caller's own gateway or client, which would change the demo's."""


class GatewayEnded(TallygateError):
    """The gateway ended by itself; the message holds the last lines of its log."""


class GatewayProcess:
    """A running gateway, asked with its master key."""

    def __init__(self, folder: Path, port: int, master_key: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._log = folder / "gateway.log"
        self._command = [
            *_program(),
            *("serve", "--config", str(folder / "config.yaml"), "--data", str(folder / "data")),
            *("--port", str(port)),
        ]
        self._headers = {"authorization": f"Bearer {master_key}"}
        self._process: subprocess.Popen[bytes] | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator["GatewayProcess", None]:
        """Start it, and end it in order."""
        with self._log.open("ab") as log:
            # A session of its own: Ctrl-C reaches the demo alone, which ends it.
            self._process = subprocess.Popen(  # noqa: ASYNC220, S603 - it is there in a moment
                self._command,
                env={k: v for k, v in os.environ.items() if not k.startswith(_STRIPPED)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with(os.getpid()),  # noqa: PLW1509
            )
        try:
            yield self
        finally:
            await self._stop()

    async def _stop(self) -> None:
        process = self._process
        assert process is not None
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            await asyncio.to_thread(process.wait, STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def check(self) -> None:
        """Raise GatewayEnded where it has ended."""
        assert self._process is not None
        if self._process.poll() is not None:
            tail = self._log.read_bytes()[-_TAIL_BYTES:].decode("utf-8", "replace")
            raise GatewayEnded(f"the gateway ended by itself. The end of its log:\n{tail}")

    async def wait_for(self, query: str, is_there: Callable[[Any], bool], timeout_s: float) -> None:
        """Wait until the first value of a query is what is waited for.

        Raises GatewayEnded, or TallygateError where that takes longer than `timeout_s`.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._wait_for(query, is_there)
        except TimeoutError:
            raise TallygateError(
                f"the gateway does not answer within {timeout_s:.0f} s; {self._log} says why"
            ) from None

    async def _wait_for(self, query: str, is_there: Callable[[Any], bool]) -> None:
        async with httpx.AsyncClient(base_url=self.url, trust_env=False) as client:
            while True:
                self.check()
                with contextlib.suppress(httpx.HTTPError):
                    answer = await client.post(
                        "/ledger/sql", headers=self._headers, json={"query": query}
                    )
                    if answer.status_code == httpx.codes.OK and is_there(
                        answer.json()["rows"][0][0]
                    ):
                        return
                await asyncio.sleep(POLL_S)

    async def until_it_ends(self) -> None:
        """Return never; raise GatewayEnded once it has ended."""
        while True:
            self.check()
            await asyncio.sleep(1)


def free_port(port: int) -> int:
    """Return the port, or any free one for 0. Raises ConfigError where it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ConfigError(
                f"port {port} cannot be used ({error.strerror}): give another one with --port"
            ) from None
        found: int = probe.getsockname()[1]
        return found


def _program() -> tuple[str, ...]:
    script = Path(sys.executable).with_name("tallygate")
    if script.is_file():
        return (sys.executable, str(script))
    return (sys.executable, "-m", "services.cli")
