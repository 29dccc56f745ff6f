"""Runs of tests that did not reach all of them: told from runs in which some failed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FAILS = "def test_fails(): assert False\n"
CRASHES = "import os\n\n\ndef test_crashes(): os._exit(1)\n"
DIFFERS = (
    "import os\n\nimport pytest\n\n\n"
    "@pytest.mark.parametrize('number', [os.getpid()])\ndef test_differs(number): pass\n"
)


@pytest.mark.parametrize(
    ("other", "exit_code", "failed"),
    [
        pytest.param("def test_passes(): pass\n", 1, ["test_one.py::test_fails"], id="failed"),
        pytest.param("import nowhere\n", 2, [], id="unreadable file"),
        pytest.param(DIFFERS, 2, [], id="different tests"),
        pytest.param(CRASHES, 3, [], id="crash"),
    ],
)
def test_only_a_run_of_all_tests_says_which_failed(
    tmp_path: Path, other: str, exit_code: int, failed: list[str]
) -> None:
    # Given a test that fails, and another file that does or does not end the run early, when both
    # run in two processes, then the exit code says which, and only a whole run can be repeated by
    # what failed.
    (tmp_path / "test_one.py").write_text(FAILS)
    (tmp_path / "test_two.py").write_text(other)
    (tmp_path / "conftest.py").write_text("pytest_plugins = ['tests.support.workers']\n")
    (tmp_path / "pytest.ini").write_text(f"[pytest]\npythonpath = {ROOT}\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:faker", "--numprocesses", "2"]
    done = subprocess.run(
        [*command, "--dist", "loadfile", "--max-worker-restart", "0"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == exit_code, done.stdout
    known = json.loads((tmp_path / ".pytest_cache/v/cache/lastfailed").read_text())
    assert list(known) == failed
