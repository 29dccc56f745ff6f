"""What the kernel says of processes (CPU time, memory), where they run, and helpers' pipes."""

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

__all__ = [
    "Helper",
    "cpu_us",
    "pin",
    "pinned_cores",
    "rss_kib",
    "settle",
    "thread_times",
    "tree",
    "used_us",
]

SETTLE_POLL_S = 0.15
SETTLE_TIMEOUT_S = 20.0
SETTLED_SHARE = 0.02
"""Processes that together use less than this share of a core have nothing left to do."""
_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024


def tree(process_ids: Sequence[int]) -> tuple[int, ...]:
    """Return processes and all that descend from them at this moment."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name of the program, in parentheses, can hold anything.
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found = list(dict.fromkeys(process_ids))
    for process_id in found:
        found += [child for child in children.get(process_id, ()) if child not in found]
    return tuple(found)


def thread_times(process_ids: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Return CPU time, and time spent waiting for a core, of each thread of processes (ns).

    From schedstat, which counts nanoseconds: times in ticks of 10 ms are too coarse here. Empty
    where the kernel does not tell.
    """
    times = {}
    for process_id in process_ids:
        for thread in Path(f"/proc/{process_id}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                numbers = thread.read_text().split()
                times[int(thread.parent.name)] = int(numbers[0]), int(numbers[1])
    return times


def used_us(
    before: dict[int, tuple[int, int]], after: dict[int, tuple[int, int]]
) -> tuple[float, float]:
    """Return CPU and waiting time between two moments (µs).

    A thread that began in between counts whole; what one did that ended in between is not known.
    """
    used = waited = 0
    for thread_id, times in after.items():
        used_before, waited_before = before.get(thread_id, (0, 0))
        used += times[0] - used_before
        waited += times[1] - waited_before
    return used / 1000, waited / 1000


def cpu_us(process_ids: Sequence[int]) -> tuple[float, float]:
    """Return CPU time, and time spent waiting for a core, of all threads of processes (µs)."""
    return used_us({}, thread_times(process_ids))


def rss_kib(process_ids: Sequence[int]) -> int:
    """Return the resident memory of processes, without what is gone."""
    total = 0
    for process_id in process_ids:
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * _PAGE_KIB
    return total


def pinned_cores() -> tuple[int, int] | None:
    """Return the cores for the proxy and for the load; None where there are fewer than two."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    return (cores[0], cores[1]) if len(cores) > 1 else None


def pin(process_ids: Sequence[int], core: int | None) -> None:
    """Let all threads of processes run on one core alone (None: anywhere)."""
    if core is None:
        return
    for process_id in process_ids:
        for thread in Path(f"/proc/{process_id}/task").iterdir():
            with contextlib.suppress(OSError):
                os.sched_setaffinity(int(thread.name), {core})


def settle(process_ids: Sequence[int]) -> None:
    """Wait until processes have no more work than when idle; go on after SETTLE_TIMEOUT_S."""
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    before, quiet = cpu_us(process_ids)[0], 0
    while quiet < 2 and time.monotonic() < deadline:
        began = time.monotonic()
        time.sleep(SETTLE_POLL_S)
        now = cpu_us(process_ids)[0]
        share = (now - before) / 1e6 / (time.monotonic() - began)
        before, quiet = now, quiet + 1 if share < SETTLED_SHARE else 0


class Helper:
    """A program of the benchmark that talks in lines and ends with its standard input."""

    def __init__(self, module: str, core: int | None, *arguments: str) -> None:
        self._name = module
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        pin([self.process_id], core)

    @classmethod
    @contextlib.contextmanager
    def started(cls, module: str, core: int | None, *arguments: str) -> Iterator["Helper"]:
        """Run it, and end it in the end."""
        helper = cls(module, core, *arguments)
        try:
            yield helper
        finally:
            helper.stop()

    @property
    def process_id(self) -> int:
        return self._process.pid

    def ask(self, line: bytes | None, timeout_s: float, meanwhile: Callable[[], None]) -> bytes:
        """Send a line (None: none) and return the next one; call `meanwhile` 10 times a second.

        Raises RuntimeError where none comes in time.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if line is not None:
            self._process.stdin.write(line + b"\n")
        got = b""
        deadline = time.monotonic() + timeout_s
        while not got.endswith(b"\n"):
            meanwhile()
            if select.select([self._process.stdout], [], [], 0.1)[0]:
                piece = self._process.stdout.read(65536)
                if not piece:
                    raise RuntimeError(f"{self._name} ended")
                got += piece
            elif time.monotonic() > deadline:
                raise RuntimeError(f"{self._name} did not answer in {timeout_s} s")
        return got

    def stop(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
