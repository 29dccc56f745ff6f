"""One process that the supervisor keeps alive."""

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Awaitable, Callable

import msgspec

from schemas.errors import TallygateError
from services.runtime.backoff import RestartPolicy, describe_exit
from services.runtime.log_lines import readable
from services.runtime.log_sink import LogSink

__all__ = ["Child", "ChildGivenUp", "ChildSpec", "die_with"]

LINE_BYTES_MAX = 64 * 1024
"""A longer line of a child is cut into lines of this length."""
TAIL_LINES_MAX = 15
"""So many of its last lines are shown when a child is given up."""
PROBE_INTERVAL_S = 0.02
_PR_SET_PDEATHSIG = 1


class ChildGivenUp(TallygateError):
    """A child keeps dying, or said that it cannot work; the message names it and says why."""

    def __init__(self, part: str, reason: str, tail: tuple[str, ...], exit_code: int) -> None:
        lines = "".join(f"\n  {line}" for line in tail) or "\n  (it wrote none)"
        super().__init__(f"{part} is given up: {reason}. Its last lines:{lines}")
        self.part = part
        self.exit_code = exit_code


class ChildSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to run and how to end it.

    `environment` is the whole environment. `inherited` are file descriptors that it gets under
    their own numbers. Children of a lower `drain_stage` are ended first; one that has not ended
    `stop_timeout_s` after SIGTERM is killed. `probe` tells whether it is ready; without one the
    child tells itself, through NOTIFY_SOCKET.
    """

    part: str
    command: tuple[str, ...]
    environment: dict[str, str]
    inherited: tuple[int, ...] = ()
    drain_stage: int = 0
    stop_timeout_s: float = 10.0
    probe: Callable[[], Awaitable[bool]] | None = None


class Child:
    """A process that is started again whenever it dies, until it is told to stop."""

    def __init__(self, spec: ChildSpec, sink: LogSink) -> None:
        self.spec = spec
        self.ready = asyncio.Event()
        self.starts = 0
        self._sink = sink
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = asyncio.Event()
        self._exited = asyncio.Event()
        self._exit_code = 0
        self._policy = RestartPolicy()
        self._tail: deque[str] = deque(maxlen=TAIL_LINES_MAX)

    @property
    def pid(self) -> int | None:
        """The process id, None while it is not running."""
        return None if self._process is None else self._process.pid

    def reap(self) -> None:
        """Notice that the process has ended (called on SIGCHLD)."""
        if self._process is not None and not self._exited.is_set():
            exit_code = self._process.poll()
            if exit_code is not None:
                self._exit_code = exit_code
                self._exited.set()

    async def keep_alive(self) -> None:
        """Run the process, again and again, until `stop`. Raises ChildGivenUp."""
        while not self._stopping.is_set():
            began = asyncio.get_running_loop().time()
            exit_code = await self._run_once()
            if self._stopping.is_set():
                return
            was_ready = self.ready.is_set()
            self.ready.clear()
            lived_s = asyncio.get_running_loop().time() - began
            verdict = self._policy.after_death(
                lived_s=lived_s, was_ready=was_ready, exit_code=exit_code
            )
            if verdict.delay_s is None:
                raise ChildGivenUp(self.spec.part, verdict.reason, tuple(self._tail), exit_code)
            self._sink.say(
                "error",
                f"{self.spec.part} died ({verdict.reason}), started again in {verdict.delay_s:g} s",
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(verdict.delay_s):
                    await self._stopping.wait()

    async def _run_once(self) -> int:
        """Start the process and wait for its end; return its exit code."""
        self.starts += 1
        self._exited.clear()
        try:
            process = _start(self.spec)
        except OSError as error:
            self._tail.append(f"{self.spec.command[0]}: {error.strerror}")
            return 127
        self._process = process
        assert process.stdout is not None
        loop = asyncio.get_running_loop()
        transport, lines = await loop.connect_read_pipe(
            lambda: _Lines(self._take_line), process.stdout
        )
        self._sink.say("debug", f"{self.spec.part} started", pid=process.pid)
        probing = asyncio.create_task(self._probe()) if self.spec.probe else None
        try:
            self.reap()
            await self._exited.wait()
        finally:
            if probing is not None:
                probing.cancel()
            # What the process wrote last is still in the pipe.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    await lines.closed.wait()
            transport.close()
            self._process = None
        return self._exit_code

    async def _probe(self) -> None:
        assert self.spec.probe is not None
        while not await self.spec.probe():  # noqa: ASYNC110 - nothing tells when it changes
            await asyncio.sleep(PROBE_INTERVAL_S)
        self.ready.set()

    def _take_line(self, raw: bytes) -> None:
        line = self._sink.child_line(self.spec.part, raw)
        self._tail.append(readable(line))

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and not self._exited.is_set():
            self._process.send_signal(number)

    def hang_up(self) -> None:
        """Send SIGHUP, at which a service reloads its configuration."""
        self._signal(signal.SIGHUP)

    async def stop(self, hurry: asyncio.Event, hurry_timeout_s: float) -> bool:
        """End the process and do not start it again; False where it had to be killed.

        It gets SIGTERM and `stop_timeout_s`; once `hurry` is set, `hurry_timeout_s` at most.
        """
        self._stopping.set()
        if self._process is None:
            return True
        self._signal(signal.SIGTERM)
        waits = [asyncio.create_task(event.wait()) for event in (self._exited, hurry)]
        try:
            await asyncio.wait(
                waits, timeout=self.spec.stop_timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if hurry.is_set() and not self._exited.is_set():
                await asyncio.wait(waits[:1], timeout=hurry_timeout_s)
        finally:
            waits[1].cancel()
        if self._exited.is_set():
            waits[0].cancel()
            if self._exit_code not in {0, -signal.SIGTERM}:
                reason = describe_exit(self._exit_code)
                self._sink.say("error", f"{self.spec.part} did not end cleanly: {reason}")
            return True
        self._sink.say("error", f"{self.spec.part} did not end in time and is killed")
        self._signal(signal.SIGKILL)
        await waits[0]
        return False


class _Lines(asyncio.Protocol):
    """Cuts what a child writes into lines."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._buffer = b""
        self.closed = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        while len(self._buffer) > LINE_BYTES_MAX:
            lines.append(self._buffer[:LINE_BYTES_MAX])
            self._buffer = self._buffer[LINE_BYTES_MAX:]
        for line in lines:
            if line.strip():
                self._take(line)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self._buffer.strip():
            self._take(self._buffer)
        self.closed.set()


def _start(spec: ChildSpec) -> "subprocess.Popen[bytes]":
    """Start the process of a child.

    It is in a process group of its own, so that Ctrl-C reaches the supervisor alone, which ends
    its children in order.
    """
    return subprocess.Popen(  # noqa: S603
        spec.command,
        env=spec.environment,
        pass_fds=spec.inherited,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,
        preexec_fn=die_with(os.getpid()),  # noqa: PLW1509
    )


def die_with(parent: int) -> Callable[[], None] | None:
    """Return what a child does before it becomes its program: tie its life to the supervisor's.

    The kernel kills the child when the supervisor dies without having ended it (SIGKILL, a fault):
    nothing that this system promises depends on a clean end, and a new supervisor finds the port
    and the files free. Only Linux has this; elsewhere the lock on the data folder, which children
    inherit, keeps a second supervisor out until they have ended.

    The supervisor has one thread, so that running code between fork and exec is safe.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def prepare() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:
            # The supervisor died before the tie was made.
            os._exit(1)

    return prepare
