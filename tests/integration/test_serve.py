"""`tallygate serve` as a user runs it: every part real, as processes of its own."""

import contextlib
import os
import re
import signal
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.nats import running_nats

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60.0
PARTS = {
    "nats-server": "nats-server --config",
    "ledger-writer": "ledger --role writer",
    "ledger-reader": "ledger --role reader",
    "admin": " admin --host",
    "proxy-0": " proxy --worker 0",
    "proxy-1": " proxy --worker 1",
}
MASTER_KEY = "sk-from-the-environment"
CONFIG = """\
model_list:
  - model_name: anthropic-claude
    litellm_params: {model: anthropic/claude-sonnet-4-20250514}
"""


@dataclass
class Gateway:
    """A running `tallygate serve`: its process, its data folder, and what it printed."""

    process: "subprocess.Popen[str]"
    data: Path
    banner: str
    url: str

    def pids(self) -> dict[str, int]:
        """The process ids of the parts, found as an operator would: by their command lines."""
        found = {}
        for folder in Path("/proc").iterdir():
            try:
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (OSError, UnicodeDecodeError):
                continue
            if str(self.data) in command and folder.name.isdecimal():
                found |= {
                    part: int(folder.name) for part, words in PARTS.items() if words in command
                }
        return found


def environment(**more: str) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TALLYGATE_", "LITELLM_", "ANTHROPIC_", "NOTIFY_"))
    }
    return {**kept, **more}


@contextmanager
def serving(tmp_path: Path, *arguments: str, **variables: str) -> Iterator[Gateway]:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    data = tmp_path / "data"
    log = (tmp_path / "log").open("ab")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "services.cli", "serve", "--config", str(config)),
            *("--data", str(data), "--port", "0", *arguments),
        ],
        cwd=ROOT,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = []
        while line := process.stdout.readline():
            lines.append(line)
            if "ANTHROPIC_CUSTOM_HEADERS" in line:
                break
        banner = "".join(lines)
        found = re.search(r"http://127\.0\.0\.1:\d+", banner)
        assert found is not None, (tmp_path / "log").read_text()
        yield Gateway(process, data, banner, found[0])
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=DEADLINE_S)
        finally:
            process.kill()
            log.close()


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health/readiness", timeout=10) as response:
            return bool(response.status == 200)
    except OSError:
        return False


@dataclass(frozen=True)
class Ended:
    """All that was seen of a gateway from its start until a signal had ended it."""

    gateway: Gateway
    pids: dict[str, int]
    groups: set[int]
    own_group: int
    commands: str
    modes: dict[Path, int]
    answered: bool
    exit_code: int
    left: dict[str, int]
    log: str


def ended(folder: Path, number: signal.Signals, *arguments: str, **variables: str) -> Ended:
    """Run a gateway, look at it, and end it with a signal to its first process."""
    with serving(folder, *arguments, **variables) as gateway:
        pids = gateway.pids()
        commands = "".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in pids.values())
        groups = {os.getpgid(pid) for pid in pids.values()}
        own_group = os.getpgid(gateway.process.pid)
        answered = answers(gateway.url)
        modes = {}
        for path in [gateway.data, *gateway.data.rglob("*")]:
            with contextlib.suppress(FileNotFoundError):  # files come and go while it runs
                modes[path] = path.lstat().st_mode
        gateway.process.send_signal(number)
        exit_code = gateway.process.wait(DEADLINE_S)
        left = gateway.pids()
    log = (folder / "log").read_text()
    return Ended(gateway, pids, groups, own_group, commands, modes, answered, exit_code, left, log)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """Two workers, no master key, SIGTERM."""
    return ended(tmp_path_factory.mktemp("plain"), signal.SIGTERM, "--workers", "2")


@pytest.fixture(scope="module")
def with_key(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """A master key in the environment, SIGINT."""
    folder = tmp_path_factory.mktemp("key")
    return ended(folder, signal.SIGINT, LITELLM_MASTER_KEY=MASTER_KEY)


def test_serve_runs_every_part_in_a_process_that_its_command_line_names(plain: Ended) -> None:
    # Given the gateway with two workers, then all parts are there, it answers, and on SIGTERM it
    # ends all of them and says so with its exit code.
    assert set(plain.pids) == set(PARTS)
    assert plain.answered
    assert plain.exit_code == 0
    assert plain.left == {}
    assert '"level":"error"' not in plain.log


def test_every_killed_part_is_back_and_the_gateway_answers(tmp_path: Path) -> None:
    # Given the running gateway, when each part is killed in turn, then it is replaced, the others
    # are the same processes as before, and the gateway answers.
    with serving(tmp_path) as gateway:
        for part, pid in gateway.pids().items():
            others = {name: number for name, number in gateway.pids().items() if name != part}
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda part=part, pid=pid: gateway.pids().get(part, pid) != pid)
            wait_until(lambda: answers(gateway.url))
            assert others.items() <= gateway.pids().items()
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(DEADLINE_S) == 0


def test_banner_names_the_place_of_the_master_key_and_never_the_key(plain: Ended) -> None:
    # Given no master key, then one is made, readable by its owner alone, and the banner's lines
    # are those to paste.
    path = plain.gateway.data / "secrets" / "master_key"
    master_key = path.read_text().strip()
    banner, url = plain.gateway.banner, plain.gateway.url
    assert str(path) in banner
    assert master_key not in banner
    assert master_key not in plain.log
    assert f"export ANTHROPIC_BASE_URL={url}\n" in banner
    assert "export ANTHROPIC_MODEL=anthropic-claude\n" in banner
    header = 'export ANTHROPIC_CUSTOM_HEADERS="x-litellm-api-key: Bearer sk-…"\n'
    assert header in banner
    assert f"curl -X POST {url}/key/generate" in banner


def test_master_key_of_the_environment_is_named_by_its_variable(with_key: Ended) -> None:
    # Given a master key in the environment, then the banner names the variable, not the key, and
    # none is made.
    assert (with_key.gateway.data / "secrets").is_dir()
    assert not (with_key.gateway.data / "secrets" / "master_key").exists()
    assert '-H "Authorization: Bearer $LITELLM_MASTER_KEY"' in with_key.gateway.banner
    assert MASTER_KEY not in with_key.gateway.banner


def test_data_folder_is_closed_to_others(plain: Ended) -> None:
    # Given a gateway that runs, then its folders are 0700 and its secrets and books 0600, and
    # no password of NATS is in a command line or in the log.
    data = plain.gateway.data
    password = re.search(r'"proxy":"(\w+)"', (data / "secrets/nats.json").read_text())
    assert password is not None
    assert password[1] not in plain.commands
    assert data in plain.modes
    for path, kind_and_mode in plain.modes.items():
        mode = stat.S_IMODE(kind_and_mode)
        if path == data or (path.parent == data and stat.S_ISDIR(kind_and_mode)):
            assert mode == 0o700, (path, oct(mode))
        elif path.parent.name == "secrets" or path.suffix in {".conf", ".json"}:
            assert mode == 0o600 or "store" in path.parts, (path, oct(mode))
    assert password[1] not in plain.log


def test_an_external_nats_server_is_used_where_one_is_named(tmp_path: Path) -> None:
    # Given a NATS server that is there already, when the gateway is told its URL, then it runs on
    # that one and starts none.
    with (
        running_nats(tmp_path / "external") as nats,
        serving(tmp_path, TALLYGATE_NATS_URL=nats.url) as gateway,
    ):
        assert set(gateway.pids()) == set(PARTS) - {"nats-server", "proxy-1"}
        assert answers(gateway.url)
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(DEADLINE_S) == 0
        assert nats.running


@pytest.mark.parametrize("run", ["plain", "with_key"])
def test_signal_to_the_whole_group_is_a_drain_in_order(
    run: str, request: pytest.FixtureRequest
) -> None:
    # Given a gateway, when the terminal sends its signal to all processes of its group, then only
    # the supervisor gets it, and the end is a clean one (SIGTERM the one, SIGINT the other).
    seen: Ended = request.getfixturevalue(run)
    assert seen.groups
    assert seen.own_group not in seen.groups
    assert seen.exit_code == 0
    assert seen.left == {}
