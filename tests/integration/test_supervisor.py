"""The supervisor over real processes: restart, giving up, drain, locks and sockets."""

import fcntl
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.runtime.supervisor import SIGNAL_REPEAT_S

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60.0

Entry = dict[str, Any]


@dataclass
class Running:
    """A supervisor of stand-ins; `folder` is its data folder."""

    process: "subprocess.Popen[str]"
    folder: Path
    port: int = 0

    def events(self) -> list[tuple[str, str, int]]:
        path = self.folder / "events"
        rows = path.read_text().splitlines() if path.exists() else []
        return [(word, part, int(pid)) for word, part, pid in (row.split() for row in rows)]

    def started(self, part: str) -> list[int]:
        return [pid for word, name, pid in self.events() if (word, name) == ("started", part)]

    def wait_ready(self) -> None:
        assert self.process.stdout is not None
        word, port = self.process.stdout.readline().split()
        assert word == "ready"
        self.port = int(port)

    def end(self) -> tuple[int, str]:
        """Wait for the end; return the exit code and what was written to standard error."""
        _, written = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, written


def _take_terminal() -> None:
    """Make standard input the controlling terminal of this new session."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextmanager
def supervised(
    tmp_path: Path, entries: list[Entry], *, terminal: int | None = None
) -> Iterator[Running]:
    tmp_path.mkdir(exist_ok=True)
    folder = tmp_path / "data"
    specs = tmp_path / "specs.json"
    specs.write_text(json.dumps(entries))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.supervise", str(folder), str(specs)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL if terminal is None else terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=None if terminal is None else _take_terminal,  # noqa: PLW1509
    )
    try:
        yield Running(process, folder)
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE_S)


def wait_until(true: Callable[[], bool]) -> float:
    """Wait until something is true; return how long that took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() < began + DEADLINE_S
        time.sleep(0.01)
    return time.monotonic() - began


def alive(pid: int) -> bool:
    """Tell whether any thread of a process lives: the first may be a zombie before the others."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z" or len(threads) > 1


def entry(part: str, *arguments: str, ready: bool = True, **more: Any) -> Entry:
    return {"part": part, "arguments": [*(["--ready"] if ready else []), *arguments], **more}


def test_killed_child_is_started_again_and_the_others_live_on(tmp_path: Path) -> None:
    # Given two children, when one is killed several times, then it is back each time, soon, and
    # the other never notices.
    with supervised(tmp_path, [entry("one"), entry("two")]) as running:
        running.wait_ready()
        for kills in range(1, 4):
            os.kill(running.started("one")[-1], signal.SIGKILL)
            took_s = wait_until(lambda count=kills + 1: len(running.started("one")) == count)
            assert took_s < 5
        assert len(running.started("two")) == 1
        running.process.send_signal(signal.SIGTERM)
        code, written = running.end()
    assert code == 0
    assert "one died (killed by SIGKILL), started again in 0.1 s" in written


def test_connections_wait_while_a_worker_is_started_again(tmp_path: Path) -> None:
    # Given a worker that is killed, when a client connects before the next one is there, then it
    # is answered by the next one.
    with supervised(tmp_path, [entry("proxy", listen=True)]) as running:
        running.wait_ready()
        first = running.started("proxy")[0]
        with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
            assert connection.recv(100) == str(first).encode()
        os.kill(first, signal.SIGKILL)
        # Until the signal has its effect the first one may still accept.
        wait_until(lambda: not alive(first))
        with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
            answer = connection.recv(100)
        # What it logged comes over another way than its answer.
        wait_until(lambda: len(running.started("proxy")) > 1)
        assert answer == str(running.started("proxy")[1]).encode()


def test_child_that_keeps_dying_ends_the_whole_and_is_named(tmp_path: Path) -> None:
    # Given a child that dies before it is ready, each time, then all is ended, in order, with a
    # message that names it and shows what it said.
    entries = [entry("good"), entry("bad", "--exit", "3", ready=False)]
    with supervised(tmp_path, entries) as running:
        code, written = running.end()
        assert len(running.started("bad")) == 8
        assert ("stopped", "good", running.started("good")[0]) in running.events()
    assert code == 1
    message = written[written.index("bad is given up: it died 8 times in a row") :]
    assert "the last time: exit code 3" in message
    assert message.count("bad gives up") == 8


def test_faulty_configuration_of_a_child_ends_the_whole_at_once(tmp_path: Path) -> None:
    # Given a child that ends with EX_CONFIG, then it is not tried again and the code is the same.
    entries = [entry("good"), entry("bad", "--exit", "78", ready=False)]
    with supervised(tmp_path, entries) as running:
        code, written = running.end()
        assert len(running.started("bad")) == 1
    assert code == 78
    assert "bad is given up: exit code 78" in written


def test_drain_ends_the_children_stage_by_stage(tmp_path: Path) -> None:
    # Given children of several stages, each slow to end, when the supervisor is told to stop, then
    # no stage is told before the one before it has ended.
    entries = [
        entry("nats", drain_stage=3),
        entry("writer", "--stop-s", "0.3", drain_stage=1),
        entry("reader", "--stop-s", "0.1", drain_stage=1),
        entry("admin", "--stop-s", "0.2", drain_stage=2),
        entry("proxy", "--stop-s", "0.3", drain_stage=0),
    ]
    with supervised(tmp_path, entries) as running:
        running.wait_ready()
        running.process.send_signal(signal.SIGINT)
        code, _ = running.end()
        order = [(word, part) for word, part, _ in running.events() if word != "started"]
    assert code == 0
    assert order[:2] == [("stopping", "proxy"), ("stopped", "proxy")]
    assert sorted(order[2:4]) == [("stopping", "reader"), ("stopping", "writer")]
    assert order[4:6] == [("stopped", "reader"), ("stopped", "writer")]
    assert order[6:8] == [("stopping", "admin"), ("stopped", "admin")]
    assert order[8:] == [("stopping", "nats"), ("stopped", "nats")]


def test_child_that_does_not_end_in_time_is_killed_and_that_is_said(tmp_path: Path) -> None:
    # Given a child that ignores SIGTERM, then it is killed after its time, and the code tells.
    entries = [entry("deaf", "--ignore-term", stop_timeout_s=0.3)]
    with supervised(tmp_path, entries) as running:
        running.wait_ready()
        running.process.send_signal(signal.SIGTERM)
        code, written = running.end()
        assert not alive(running.started("deaf")[0])
    assert code == 1
    assert "deaf did not end in time and is killed" in written


def test_second_signal_hurries_the_drain_but_not_the_same_one_sent_twice(tmp_path: Path) -> None:
    # Given a child that may take very long to end, when a signal comes twice at once, then that is
    # one; when it comes again later, then it is over within seconds.
    entries = [entry("slow", "--stop-s", "100", stop_timeout_s=100.0)]
    with supervised(tmp_path, entries) as running:
        running.wait_ready()
        for _ in range(2):
            running.process.send_signal(signal.SIGTERM)
        wait_until(lambda: any(word == "stopping" for word, _, _ in running.events()))
        time.sleep(SIGNAL_REPEAT_S + 0.1)
        assert running.process.poll() is None
        running.process.send_signal(signal.SIGTERM)
        code, written = running.end()
    assert code == 1
    assert written.count("SIGTERM again: the end is hurried") == 1


def test_children_do_not_outlive_a_killed_supervisor(tmp_path: Path) -> None:
    # Given a running installation, when its supervisor is killed, then its children are gone, too,
    # and a new supervisor takes over the same folder.
    entries = [entry("one"), entry("two", "--ignore-term")]
    with supervised(tmp_path, entries) as running:
        running.wait_ready()
        pids = running.started("one") + running.started("two")
        assert all(alive(pid) for pid in pids)
        running.process.kill()
        wait_until(lambda: not any(alive(pid) for pid in pids))
    with supervised(tmp_path, entries) as running:
        running.wait_ready()
        assert len(running.started("one")) == 2


def test_second_supervisor_on_one_folder_is_refused(tmp_path: Path) -> None:
    # Given a running installation, when another one is started on its folder, then that one ends
    # with a message that names the folder, the process and the way out, and the first lives on.
    config = tmp_path / "config.yaml"
    config.write_text("model_list: [{model_name: m, litellm_params: {model: anthropic/m}}]\n")
    with supervised(tmp_path, [entry("one")]) as running:
        running.wait_ready()
        code, written = tallygate("serve", "--config", config, "--data", running.folder)
        assert code == 78
        assert f"the data folder {running.folder} is in use" in written
        assert f"(process {running.process.pid})" in written
        assert "--data DIR" in written
        assert running.process.poll() is None


def test_taken_port_is_told_with_the_way_out(tmp_path: Path) -> None:
    # Given a port that another program listens on, when the gateway is started on it, then it ends
    # with a message that says what to do.
    config = tmp_path / "config.yaml"
    config.write_text("model_list: [{model_name: m, litellm_params: {model: anthropic/m}}]\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, written = tallygate(
            "--config", config, "--data", tmp_path / "data", "--port", str(port)
        )
    assert code == 78
    assert f"port {port} of 127.0.0.1 is taken by another program" in written
    assert "--port" in written


def tallygate(*arguments: object) -> tuple[int, str]:
    """Run the command line to its end; return the exit code and its standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "services.cli", *(str(argument) for argument in arguments)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    return done.returncode, done.stderr


def test_hangup_is_passed_on_to_the_child_that_reloads_and_ends_nothing(tmp_path: Path) -> None:
    # Given a supervisor without a terminal, when SIGHUP comes, then the child that reloads gets it
    # and all live on; where that child is not there, the log says that nothing was reloaded.
    with supervised(tmp_path, [entry("admin"), entry("other")]) as running:
        running.wait_ready()
        running.process.send_signal(signal.SIGHUP)
        wait_until(lambda: any(word == "hangup" for word, _, _ in running.events()))
        assert [part for word, part, _ in running.events() if word == "hangup"] == ["admin"]
        running.process.send_signal(signal.SIGTERM)
        code, written = running.end()
    assert code == 0
    assert "SIGHUP: the configuration is reloaded" in written
    with supervised(tmp_path / "second", [entry("other")]) as running:
        running.wait_ready()
        running.process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        assert running.process.poll() is None
        running.process.send_signal(signal.SIGTERM)
        code, written = running.end()
    assert code == 0
    assert "SIGHUP: admin is not ready, no reload" in written


def test_a_terminal_that_is_closed_ends_everything_in_order(tmp_path: Path) -> None:
    # Given a supervisor on a terminal of its own, when the terminal is closed, which sends SIGHUP,
    # then that is a drain in order and no reload.
    ours, theirs = pty.openpty()
    with supervised(tmp_path, [entry("admin")], terminal=theirs) as running:
        os.close(theirs)
        running.wait_ready()
        os.close(ours)
        code, written = running.end()
    assert code == 0
    assert "SIGHUP: running requests are finished, then everything ends" in written
    assert [word for word, part, _ in running.events() if part == "admin"] == [
        "started",
        "stopping",
        "stopped",
    ]
