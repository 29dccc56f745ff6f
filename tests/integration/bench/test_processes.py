"""Processes of the benchmark's peers: those that they start belong to them, faults are told."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench.processes import thread_times, tree
from bench.services import free_port, running, until_ready


def test_processes_that_a_peer_starts_belong_to_it() -> None:
    # given a process with a child that has a child
    grandchild = "import time; time.sleep(60)"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent])
    try:
        # when its tree is asked for until all are there
        found: tuple[int, ...] = ()
        while len(found) < 3:
            assert process.poll() is None
            found = tree([process.pid])
        # then all three are in it, once, and their CPU time is known
        assert len(set(found)) == 3
        assert found[0] == process.pid
        assert set(found) <= set(thread_times(found))
    finally:
        for each in reversed(tree([process.pid])):
            subprocess.run(["kill", "-9", str(each)], check=False)
        process.wait()


def test_peer_that_does_not_start_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    # given a program that ends at once
    log = tmp_path / "peer.log"
    command = [sys.executable, "-c", "print('no such upstream'); raise SystemExit(3)"]
    # when it is waited for, then the error has its exit code and its words
    with (
        running(command, log, {}) as process,
        pytest.raises(RuntimeError, match=r"(?s)peer ended with 3.*no such upstream"),
    ):
        until_ready(process, free_port(), log, 30.0)


def test_peer_that_never_gets_ready_is_not_waited_for_without_end(tmp_path: Path) -> None:
    # given a program that does not listen, when it is waited for, then there is an end to it
    log = tmp_path / "peer.log"
    with (
        running([sys.executable, "-c", "import time; time.sleep(60)"], log, {}) as process,
        pytest.raises(RuntimeError, match=r"took over 0\.2 s"),
    ):
        until_ready(process, free_port(), log, 0.2)
