"""Servers of other makers: started with a log of their own, awaited, and ended in order."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

__all__ = ["free_port", "printed_by", "running", "until_ready"]

STOP_TIMEOUT_S = 20.0
PRINT_TIMEOUT_S = 120.0
LOG_TAIL_CHARACTERS = 2_000
"""So much of a log is shown where its program did not start."""


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def until_ready(
    process: "subprocess.Popen[bytes]",
    port: int,
    log: Path,
    timeout_s: float,
    path: str | None = None,
) -> None:
    """Wait until a program takes connections (with `path`: until it answers that with a 200).

    Raises RuntimeError, with the end of its log, where it ends or takes too long.
    """
    deadline = time.monotonic() + timeout_s
    while not _is_ready(port, path):
        has_ended = process.poll() is not None
        if has_ended or time.monotonic() > deadline:
            said = log.read_text("utf-8", "replace")[-LOG_TAIL_CHARACTERS:]
            how = f"ended with {process.returncode}" if has_ended else f"took over {timeout_s} s"
            raise RuntimeError(f"{log.stem} {how}; its log:\n{said}")
        time.sleep(0.05)


def _is_ready(port: int, path: str | None) -> bool:
    try:
        if path is None:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        url = f"http://127.0.0.1:{port}{path}"
        return httpx.get(url, timeout=5.0, trust_env=False).status_code == 200
    except (OSError, httpx.HTTPError):
        return False


@contextmanager
def running(
    command: Sequence[str | Path],
    log: Path,
    environment: Mapping[str, str],
    *,
    user: str | None = None,
    stop_with: signal.Signals = signal.SIGTERM,
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program with an environment of its own, and stop it in the end.

    One that does not stop in STOP_TIMEOUT_S is killed, with all that it started.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=user,
        )
    try:
        yield process
    finally:
        process.send_signal(stop_with)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            # Its own session: nobody else is in this group.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def printed_by(
    command: Sequence[str | Path], environment: Mapping[str, str], user: str | None = None
) -> str:
    """Return what a program prints. Raises RuntimeError, with its words, where it fails."""
    words = [str(part) for part in command]
    try:
        done = subprocess.run(
            words,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PRINT_TIMEOUT_S,
            check=False,
            user=user,
        )
    except (OSError, subprocess.TimeoutExpired) as fault:
        raise RuntimeError(f"{words[0]} does not run: {fault}") from fault
    if done.returncode != 0:
        said = (done.stdout + done.stderr)[-LOG_TAIL_CHARACTERS:]
        raise RuntimeError(f"{' '.join(words)} failed:\n{said}")
    return done.stdout.strip()
