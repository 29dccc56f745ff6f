"""The supervisor: starts an installation's processes, keeps them alive, ends them in order."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from services.runtime.child import Child, ChildGivenUp, ChildSpec
from services.runtime.log_sink import SUPERVISOR, LogSink

__all__ = ["Supervisor"]

HEAD_START_MAX_S = 1.0
"""The first child gets so much time to become ready before the others are started."""
HURRY_TIMEOUT_S = 2.0
"""After a second signal each stage of the drain gets so much time."""
SIGNAL_REPEAT_S = 1.0
"""A signal so soon after the first is the same one: `timeout`, for one, sends it twice."""
UNREADY_WARNING_S = 15.0
"""How often parts that are not ready are named while the start goes on."""
NOTIFICATION_BYTES_MAX = 4096
_SOCKET_PATH_BYTES_MAX = 100
"""A Unix socket's path may have 107 bytes."""


class Supervisor:
    """Runs children until a signal, or until one of them is given up.

    `run_folder` is where the notification socket is made. `on_ready` is called once, when every
    child has become ready for the first time; `on_drain` when the drain begins. The first of the
    specs is started a moment before the others, which depend on it. `reloading_part` is the child
    that a SIGHUP is passed on to.
    """

    def __init__(
        self,
        specs: list[ChildSpec],
        sink: LogSink,
        run_folder: Path,
        *,
        on_ready: Callable[[], None],
        on_drain: Callable[[], None],
        reloading_part: str = "admin",
    ) -> None:
        self._sink = sink
        self._run_folder = run_folder
        self._on_ready = on_ready
        self._on_drain = on_drain
        self._reloading_part = reloading_part
        self._had_terminal = _has_terminal()
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._failure: BaseException | None = None
        self._told_to_stop_at_s = 0.0
        self._lives: list[asyncio.Task[None]] = []
        self._temporary: str | None = None
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = self._notification_address()
        self.children = [Child(_with_address(spec, address), sink) for spec in specs]
        self._parts = {child.spec.part: child for child in self.children}

    async def run(self) -> int:
        """Run until the end; return 0 where every child ended by itself in the drain, else 1.

        Raises ChildGivenUp, after the drain, where a child was given up.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number.name)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        loop.add_signal_handler(signal.SIGCHLD, self._on_child_signal)
        loop.add_reader(self._notify, self._on_notification)
        starting = asyncio.create_task(self._start_all())
        starting.add_done_callback(self._on_ended)
        try:
            await self._stop.wait()
        finally:
            starting.cancel()
            clean = await self._drain()
            await asyncio.gather(*self._lives, return_exceptions=True)
            loop.remove_reader(self._notify)
            self._close()
        if self._failure is not None:
            raise self._failure
        return 0 if clean else 1

    async def _start_all(self) -> None:
        """Start every child, the first a moment earlier; return when all have become ready."""
        first, *others = self.children
        self._keep_alive(first)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HEAD_START_MAX_S):
                await first.ready.wait()
        for child in others:
            self._keep_alive(child)
        while True:
            waiting = [child for child in self.children if not child.ready.is_set()]
            if not waiting:
                break
            try:
                async with asyncio.timeout(UNREADY_WARNING_S):
                    await waiting[0].ready.wait()
            except TimeoutError:
                names = ", ".join(child.spec.part for child in waiting)
                self._sink.say("warning", f"still waiting until these are ready: {names}")
        self._on_ready()

    def _keep_alive(self, child: Child) -> None:
        life = asyncio.create_task(child.keep_alive(), name=child.spec.part)
        life.add_done_callback(self._on_ended)
        self._lives.append(life)

    def _on_ended(self, task: asyncio.Task[None]) -> None:
        """End everything when a child is given up, or on a fault of the supervisor's own."""
        error = None if task.cancelled() else task.exception()
        if error is None or self._failure is not None:
            return
        self._failure = error
        name = error.part if isinstance(error, ChildGivenUp) else SUPERVISOR
        self._sink.say("critical", f"{name} is given up: everything is ended")
        self._stop.set()

    async def _drain(self) -> bool:
        """End the children, stage by stage; True where none had to be killed."""
        self._on_drain()
        clean = True
        for stage in sorted({child.spec.drain_stage for child in self.children}):
            ended = await asyncio.gather(
                *(
                    child.stop(self._hurry, HURRY_TIMEOUT_S)
                    for child in self.children
                    if child.spec.drain_stage == stage
                )
            )
            clean = clean and all(ended)
        return clean

    def _on_signal(self, name: str) -> None:
        now_s = asyncio.get_running_loop().time()
        if self._stop.is_set():
            if now_s < self._told_to_stop_at_s + SIGNAL_REPEAT_S:
                return
            self._sink.say("warning", f"{name} again: the end is hurried")
            self._hurry.set()
            return
        self._sink.say("info", f"{name}: running requests are finished, then everything ends")
        self._told_to_stop_at_s = now_s
        self._stop.set()

    def _on_hangup(self) -> None:
        """Pass a SIGHUP on to the child that reloads; end where it says that the terminal is gone.

        A terminal that is closed sends the same signal as whoever wants a reload. After it, the
        terminal can no longer be opened.
        """
        if self._had_terminal and not _has_terminal():
            self._on_signal("SIGHUP")
            return
        if self._stop.is_set():
            return
        child = self._parts.get(self._reloading_part)
        if child is None or not child.ready.is_set():
            self._sink.say("error", f"SIGHUP: {self._reloading_part} is not ready, no reload")
            return
        self._sink.say("info", "SIGHUP: the configuration is reloaded")
        child.hang_up()

    def _on_child_signal(self) -> None:
        for child in self.children:
            child.reap()

    def _on_notification(self) -> None:
        """Take in what children say, in systemd's protocol.

        `READY=1` with `X_TALLYGATE_PART=<part>`, or `X_TALLYGATE_LOG_LEVEL=<level>`.
        """
        with contextlib.suppress(BlockingIOError):
            while True:
                lines = self._notify.recv(NOTIFICATION_BYTES_MAX).decode("utf-8", "replace")
                fields = dict(line.partition("=")[::2] for line in lines.splitlines())
                child = self._parts.get(fields.get("X_TALLYGATE_PART", ""))
                if child is not None and fields.get("READY") == "1":
                    child.ready.set()
                if "X_TALLYGATE_LOG_LEVEL" in fields:
                    self._sink.set_level(fields["X_TALLYGATE_LOG_LEVEL"])

    def _notification_address(self) -> str:
        """Bind the socket on which children say that they are ready; return its path."""
        path = self._run_folder / "notify.sock"
        if len(os.fsencode(path)) > _SOCKET_PATH_BYTES_MAX:
            self._temporary = tempfile.mkdtemp(prefix="tallygate-")
            path = Path(self._temporary) / "notify.sock"
        # One is left over where a supervisor was killed; the lock on the folder says it is dead.
        path.unlink(missing_ok=True)
        self._notify.bind(str(path))
        self._notify.setblocking(False)
        self._notify_path = path
        return str(path)

    def _close(self) -> None:
        self._notify.close()
        self._notify_path.unlink(missing_ok=True)
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)


def _has_terminal() -> bool:
    """Tell whether this process has a controlling terminal that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _with_address(spec: ChildSpec, address: str) -> ChildSpec:
    return msgspec.structs.replace(spec, environment={**spec.environment, "NOTIFY_SOCKET": address})
