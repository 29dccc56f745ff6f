"""Proxy and admin service, each with a file of its own: who takes what, and who says why not."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
import yaml

from tests.support.admin import MASTER_KEY, RunningAdmin, running_admin
from tests.support.mock import MockAnthropic
from tests.support.nats import NatsServer, running_nats
from tests.support.proxy import ProxyProcess, gateway_config, model_entry, running_proxy

TAKEN_WITHIN_S = 6.0
"""A file that arrives late is looked for every two seconds."""


class Pair:
    """An admin service and a proxy on one NATS; `write` gives both, or one, a file."""

    def __init__(self, admin: RunningAdmin, proxy: ProxyProcess) -> None:
        self.admin = admin
        self.proxy = proxy
        self.files = {"admin": admin.folder / "config.yaml", "proxy": proxy.config_path}

    def write(self, config: dict[str, Any], *parts: str) -> str:
        """Write a file for these parts; return its SHA-256."""
        content = yaml.safe_dump(config).encode()
        for part in parts or self.files:
            self.files[part].write_bytes(content)
        return hashlib.sha256(content).hexdigest()

    def reload(self) -> Any:
        answer = self.admin.http.post("/config/reload", json={})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def states(self) -> list[Any]:
        found: list[Any] = self.admin.http.get("/config/state").json()["processes"]
        return found

    def standing(self, part: str) -> Any:
        return next(each for each in self.states() if each["part"] == part)


@pytest.fixture(scope="module")
def own_nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with running_nats(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def pair(tmp_path: Path, own_nats: NatsServer, mock: MockAnthropic) -> Iterator[Pair]:
    mock.reset()
    config = config_of(model_entry(mock.url))
    (tmp_path / "p").mkdir()
    with (
        running_proxy(tmp_path / "p", own_nats.url, config) as proxy,
        running_admin(tmp_path / "a", own_nats.url) as admin,
    ):
        yield Pair(admin, proxy)


def config_of(*entries: dict[str, Any], **settings: Any) -> dict[str, Any]:
    config = gateway_config(*entries, **settings)
    config["litellm_settings"]["master_key"] = MASTER_KEY
    return config


def within(seconds: float, check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


def status(proxy: ProxyProcess, key: str, model: str) -> int:
    headers = {"x-litellm-api-key": key, "authorization": "Bearer sk-ant-oat01-x"}
    body = {"model": model, "max_tokens": 9, "messages": []}
    url = f"{proxy.url}/v1/messages"
    return httpx.post(url, headers=headers, json=body, trust_env=False, timeout=20).status_code


def test_proxy_with_another_file_keeps_its_own_and_takes_the_right_one_when_it_comes(
    pair: Pair, mock: MockAnthropic
) -> None:
    # Given a new file at the admin service alone, when it is reloaded, then the answer and the
    # command name the proxy and both digests, the proxy goes on with what it has, and takes the
    # file by itself when it is there.
    key = pair.proxy.issue_key()
    before = pair.standing("proxy-0")["sha256"]
    new = config_of(model_entry(mock.url), model_entry(mock.url, name="late"))
    digest = pair.write(new, "admin")

    answer = pair.reload()

    assert answer["sha256"] == digest
    assert not answer["taken_by_all"]
    assert [each["part"] for each in answer["processes"] if not each["taken"]] == ["proxy-0"]
    problem = next(each for each in answer["processes"] if not each["taken"])["problem"]
    assert digest in problem
    assert before in problem
    assert status(pair.proxy, key, "late") == 404
    assert digest in pair.proxy.log()
    typed = subprocess.run(
        [sys.executable, "-m", "services.cli", "reload", "--url", pair.admin.url],
        env={"PATH": os.environ["PATH"], "LITELLM_MASTER_KEY": MASTER_KEY},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert typed.returncode == 1
    assert "1 of 2 processes have not taken it:" in typed.stderr
    assert f"proxy-0: the file {pair.files['proxy']} has the SHA-256 {before}" in typed.stderr

    pair.write(new, "proxy")

    within(TAKEN_WITHIN_S, lambda: status(pair.proxy, key, "late") == 200)
    assert pair.standing("proxy-0") | {"process": ""} == {
        "part": "proxy-0",
        "process": "",
        "path": str(pair.files["proxy"]),
        "sha256": digest,
        "taken": True,
        "problem": None,
        "restart_needed": [],
        "unusable_models": [],
    }


def test_process_that_begins_with_another_file_says_so_until_it_is_ordered(
    pair: Pair, mock: MockAnthropic
) -> None:
    # Given a proxy that is started on an edited file, when the state is asked for, then the proxy
    # has that file in force and says that another one was ordered; a reload orders this one.
    key = pair.proxy.issue_key()
    pair.write(config_of(model_entry(mock.url)))
    assert pair.reload()["taken_by_all"]
    pair.proxy.stop()
    edited = config_of(model_entry(mock.url), model_entry(mock.url, name="edited"))
    digest = pair.write(edited)

    pair.proxy.start()

    # Its copy of the keys may be of before this one; it is ready all the same.
    pair.proxy.wait_known(key)
    assert status(pair.proxy, key, "edited") == 200
    within(30, lambda: pair.standing("proxy-0")["problem"] is not None)
    standing = pair.standing("proxy-0")
    assert (standing["sha256"], standing["taken"]) == (digest, False)
    assert "this process began with another file" in standing["problem"]
    assert pair.reload()["taken_by_all"]
    assert pair.standing("proxy-0")["problem"] is None
    assert status(pair.proxy, key, "edited") == 200


def test_file_that_one_process_cannot_use_is_told_with_its_reason(
    pair: Pair, mock: MockAnthropic
) -> None:
    # Given a file that names a variable which the admin service has and the proxy has not, when
    # it is reloaded, then the proxy says which variable and goes on with what it has; its next
    # start by itself, which reads that file, is refused with the same words.
    key = pair.proxy.issue_key()
    entry = model_entry(mock.url, name="needy", api_key="os.environ/LITELLM_MASTER_KEY")
    pair.write(config_of(model_entry(mock.url), entry))

    answer = pair.reload()

    late = [each for each in answer["processes"] if not each["taken"]]
    assert [each["part"] for each in late] == ["proxy-0"]
    assert "the environment variable LITELLM_MASTER_KEY is not set" in late[0]["problem"]
    assert status(pair.proxy, key, "anthropic-claude") == 200
    assert status(pair.proxy, key, "needy") == 404
    pair.proxy.stop()
    with pytest.raises(RuntimeError, match="variable LITELLM_MASTER_KEY is not set"):
        pair.proxy.start()


def test_idle_connections_of_a_deployment_that_is_gone_are_closed(
    pair: Pair, mock: MockAnthropic
) -> None:
    # Given an idle connection to a deployment's host, when a reload takes the deployment away,
    # then the connection is closed; one of a deployment that stays is used again.
    key = pair.proxy.issue_key()

    def write(name: str | None, warm: int) -> None:
        entries = [model_entry(mock.url)]
        if name is not None:
            entries.append(model_entry(other.url, name=name))
        pair.write(config_of(*entries, upstream_connections_warm=warm))
        assert pair.reload()["taken_by_all"]

    with CountingServer() as other:
        write("other", warm=0)
        assert status(pair.proxy, key, "other") == 200
        assert other.open_connections == 1
        write("renamed", warm=0)
        assert status(pair.proxy, key, "renamed") == 200
        assert other.connections == other.open_connections == 1
        # Connections that are opened ahead are no exception.
        write("renamed", warm=3)
        within(30, lambda: other.open_connections == 3)

        write(None, warm=3)

        within(10, lambda: other.open_connections == 0)
        assert status(pair.proxy, key, "renamed") == 404
        time.sleep(0.5)
        assert other.open_connections == 0


def test_reload_while_nats_is_away_changes_nothing_and_says_so(
    pair: Pair, own_nats: NatsServer, mock: MockAnthropic
) -> None:
    # Given NATS away, when a reload is wanted, then it is refused with 503 and the reason, and
    # requests go on; when NATS is back, the same reload works.
    key = pair.proxy.issue_key()
    pair.write(config_of(model_entry(mock.url), model_entry(mock.url, name="new")))
    own_nats.kill()
    within(40, lambda: pair.admin.http.get("/health/readiness").status_code == 503)

    answer = pair.admin.http.post("/config/reload", json={})

    assert answer.status_code == 503
    assert "nothing was changed" in answer.json()["error"]["message"]
    assert status(pair.proxy, key, "anthropic-claude") == 200
    assert status(pair.proxy, key, "new") == 404
    own_nats.start()
    pair.admin.wait_ready()
    within(40, lambda: bool(pair.reload()["taken_by_all"]) and len(pair.states()) == 2)
    within(30, lambda: status(pair.proxy, key, "new") == 200)


class CountingServer:
    """Answers every request with an empty object and counts its connections."""

    ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"

    def __init__(self) -> None:
        self.connections = 0
        self.open_connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self.open_connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        received = b""
        with connection:
            while chunk := connection.recv(65536):
                received += chunk
                head, end, body = received.partition(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                if end and len(body) >= int(length):
                    received = b""
                    connection.sendall(self.ANSWER)
        self.open_connections -= 1


def test_limits_and_forwarding_of_a_new_file_hold_for_the_next_request(
    pair: Pair, mock: MockAnthropic
) -> None:
    # Given settings that decide over requests, when each is changed by a reload, then the next
    # request is decided by the new value, and the configuration of before comes back whole.
    key = pair.proxy.issue_key()
    first = config_of(model_entry(mock.url))
    changes: list[tuple[dict[str, Any], int]] = [
        (config_of(model_entry(mock.url), request_bytes_max=1024), 413),
        (config_of(model_entry(mock.url), forward=False), 401),
        (config_of(model_entry(mock.url), oauth_hosts=[]), 401),
        (config_of(model_entry(mock.url, name="only-this")), 404),
    ]
    body = {"model": "anthropic-claude", "max_tokens": 9, "messages": [], "system": "x" * 2000}
    headers = {"x-litellm-api-key": key, "authorization": "Bearer sk-ant-oat01-x"}
    for config, wanted in changes:
        pair.write(config)
        assert pair.reload()["taken_by_all"]
        answer = httpx.post(
            f"{pair.proxy.url}/v1/messages",
            headers=headers,
            content=json.dumps(body),
            trust_env=False,
        )
        assert answer.status_code == wanted, answer.text
    pair.write(first)
    assert pair.reload()["taken_by_all"]
    assert status(pair.proxy, key, "anthropic-claude") == 200
