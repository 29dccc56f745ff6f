"""`tallygate doctor` on a real gateway: in good order, then with one part broken after another."""

import asyncio
import json
import os
import re
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.client.cli import main
from services.commands.doctor import examine
from services.commands.doctor_check import Check, Place
from services.runtime.bus import Bus
from services.runtime.config import read_config
from services.runtime.folder import DataFolder
from services.runtime.nats_server import EmbeddedNats
from tests.support.gateway import MASTER_KEY, TALLYGATE, Gateway, wait_until
from tests.support.mock import MockAnthropic

DEADLINE_S = 60.0
UNKNOWN = "claude-unknown-9"
DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "doctor.md").read_text()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("doctor")
    left_behind = DataFolder(folder / "data").metrics / "proxy-7.sock"
    left_behind.parent.mkdir()
    left_behind.touch()
    with MockAnthropic.started(folder) as mock, Gateway.started(folder, mock) as running:
        yield running


def run(gateway: Gateway, *options: str, **variables: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Run the command; return its exit code and its checks by name."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANTHROPIC_")}
    ended = subprocess.run(
        [
            *(TALLYGATE, "doctor", "--json", "--data", gateway.data, "--url", gateway.url),
            *("--config", gateway.config, *options),
        ],
        env={**kept, "LITELLM_MASTER_KEY": MASTER_KEY, **variables},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert ended.stderr == ""
    return ended.returncode, {each["name"]: each for each in json.loads(ended.stdout)["checks"]}


def look(gateway: Gateway) -> dict[str, Check]:
    """Make the same checks in this process."""
    place = Place(data=gateway.data, url=gateway.url, environment={})
    return {each.name: each for each in asyncio.run(examine(place))}


def test_a_gateway_in_good_order_is_found_well(gateway: Gateway) -> None:
    # Given a gateway that works, started where one with more workers was killed, then every check
    # is well, the exit code is 0, and each check has its place in the document.
    key = gateway.new_key()
    # A key works at every proxy a moment after it was made.
    wait_until(lambda: gateway.ask(key).status_code == 200, DEADLINE_S, "the key works")

    def settled() -> bool:
        found = look(gateway)
        return all(each.status == "ok" for each in found.values())

    wait_until(settled, DEADLINE_S, "all is well")
    wait_until(lambda: run(gateway)[0] == 0, DEADLINE_S, "the command finds all well, too")
    _, checks = run(gateway)
    assert checks.keys() >= {"NATS", "clock", "services", "proxy", "quack", "archive", "prices"}
    names = {re.sub(r"proxy-\d+", "proxy-N", name) for name in checks}
    assert {name for name in names if f"`{name}`" not in DOCUMENT} == set()


def test_a_client_is_told_whether_its_settings_work(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given the settings of Claude Code, when they are right (as `tallygate claude-code` writes
    # them, whatever the environment says), missing, or hold a wrong key, then that is what is
    # said, and no key is printed.
    key = gateway.new_key()
    monkeypatch.setenv("TALLYGATE_KEY", key)
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path))
    setting = ("claude-code", "--write", "--no-check", "--model", "anthropic-claude")
    assert main([*setting, "--url", gateway.url]) == 0
    wait_until(lambda: gateway.ask(key).status_code == 200, DEADLINE_S, "the key works")
    _, checks = run(gateway, "--client", ANTHROPIC_BASE_URL="http://127.0.0.1:9")
    assert checks["virtual key"]["status"] == checks["ANTHROPIC_BASE_URL"]["status"] == "ok"
    assert key not in json.dumps(checks)
    assert main(["claude-code", "--remove"]) == 0
    code, checks = run(gateway, "--client")
    assert code == 2
    assert f"export ANTHROPIC_BASE_URL={gateway.url}" in checks["ANTHROPIC_BASE_URL"]["lines"]
    bad = {"ANTHROPIC_BASE_URL": gateway.url, "ANTHROPIC_API_KEY": "sk-of-nobody"}
    code, checks = run(gateway, "--client", **bad, ANTHROPIC_MODEL="gpt")
    assert (code, checks["virtual key"]["status"]) == (2, "fail")
    assert "sk-of-nobody" not in json.dumps(checks)


def test_a_model_without_a_price_gets_the_lines_that_give_it_one(gateway: Gateway) -> None:
    # Given a request of a model that nobody has a price of, then the check names it with its
    # count, and its lines, filled in, are a configuration that prices it.
    assert gateway.ask(gateway.new_key(), model=UNKNOWN).status_code == 200

    def told() -> Check | None:
        # A process that is busy may be too late for one look: then nothing is said of prices.
        each = look(gateway).get("prices")
        return each if each is not None and each.status == "warn" else None

    found = wait_until(
        told,
        DEADLINE_S,
        "the unpriced request is told",
    )
    assert f"{UNKNOWN} (1)" in found.detail
    assert "tallygate reload" in found.remedy
    filled = "\n".join(found.lines).replace("?", "1")
    content = gateway.config.read_text() + filled
    config = read_config(content.encode(), "config.yaml", {"LITELLM_MASTER_KEY": MASTER_KEY})
    assert [each.model for each in config.prices] == [UNKNOWN]
    query = found.lines[-1].split("tallygate sql ", 1)[1]
    rows = subprocess.run(
        ["sh", "-c", f'"{TALLYGATE}" sql --url {gateway.url} {query}'],
        env={**os.environ, "LITELLM_MASTER_KEY": MASTER_KEY},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    ).stdout
    assert UNKNOWN in rows


def test_a_secret_that_others_may_read_is_found(gateway: Gateway) -> None:
    # Given passwords that others may read, then the check names the file, and the line that it
    # prints, when it is run, makes it well again.
    path = gateway.data / "secrets" / "nats.json"
    path.chmod(0o644)
    found = look(gateway)["permissions"]
    assert found.status == "fail"
    assert found.lines == (f"chmod 600 {path}",)
    subprocess.run(found.lines[0].split(), check=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert look(gateway)["permissions"].status == "ok"


def test_a_writer_and_a_nats_server_that_hang_are_named(gateway: Gateway) -> None:
    # Given processes that are there and do not answer, then both are named, the exit code is 2,
    # and all other checks go on.
    frozen = [*gateway.processes("--role writer"), *gateway.processes("nats-server")]
    assert len(frozen) == 2
    for process in frozen:
        os.kill(process, signal.SIGSTOP)
    try:
        code, checks = run(gateway)
    finally:
        for process in frozen:
            os.kill(process, signal.SIGCONT)
    assert code == 2
    assert checks["services"]["detail"].startswith("ledger-writer do")
    assert checks["NATS"]["status"] == "fail"
    assert "start the gateway" in checks["NATS"]["remedy"]
    assert checks["proxy"]["status"] == checks["disk"]["status"] == "ok"


def test_a_stopped_gateway_is_looked_at_and_left_as_it_is(gateway: Gateway) -> None:
    # Given a gateway that was stopped, then the checks say that it is and how to start it, and no
    # file of its folder is made, changed or removed.
    gateway.stop()

    def files() -> dict[str, float]:
        return {str(each): each.stat().st_mtime for each in gateway.data.rglob("*")}

    before = files()
    code, checks = run(gateway)
    assert code == 2
    assert checks["services"]["status"] == checks["proxy"]["status"] == "fail"
    assert "tallygate serve" in checks["services"]["remedy"]
    assert files() == before


def test_a_user_of_nats_that_may_not_enough_is_named(tmp_path: Path) -> None:
    # Given a NATS server whose configuration leaves out what the admin service needs to see the
    # stream BUDGET, then user and stream are named, with the right that is missing.
    folder = DataFolder(tmp_path / "data")
    server = EmbeddedNats(folder)
    text = server.config_path.read_text()
    at = text.index('user: "admin"')
    subject = '"$JS.API.STREAM.INFO.BUDGET", '
    assert subject in text[at:]
    server.config_path.write_text(text[:at] + text[at:].replace(subject, ""))
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(server.command, stdout=log, stderr=log)
    try:
        asyncio.run(_make_streams(server))
        found = wait_until(lambda: _refused(folder), DEADLINE_S, "all other users may connect")
    finally:
        process.terminate()
        process.wait(DEADLINE_S)
    check = found["NATS permissions"]
    assert check.status == "fail"
    assert "the user admin cannot see the stream BUDGET" in check.detail
    assert "$JS.API.STREAM.INFO.BUDGET" in check.remedy


def _refused(folder: DataFolder) -> dict[str, Check] | None:
    """Return the checks where nothing but permissions is wrong with NATS."""
    found = {each.name: each for each in asyncio.run(examine(_place(folder)))}
    return None if "NATS" in found else found


def _place(folder: DataFolder) -> Place:
    return Place(data=folder.path, url="http://127.0.0.1:1", environment={})


async def _make_streams(server: EmbeddedNats) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not await server.answers():  # noqa: ASYNC110 - it tells nobody when it is ready
            await asyncio.sleep(0.02)
    bus = await Bus.connect(server.url("ledger-writer"), "ledger-writer")
    try:
        await bus.ensure_streams()
    finally:
        await bus.close()
