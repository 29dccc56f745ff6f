"""A whole gateway with two workers whose configuration changes while requests run."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.gateway import MASTER_KEY, TALLYGATE, Gateway, wait_until
from tests.support.mock import MockAnthropic, Scenario, scenario_headers

pytestmark = pytest.mark.timeout(180)

COMPANY_KEY = "sk-ant-api03-of-the-company-0123456789"
NEW_MASTER_KEY = "sk-another-master-key-9876543210"
STREAMS = 16
LONG = Scenario(events=80, pace_ms=75)
"""Six seconds: long enough for a reload to come in its middle, on a busy machine too."""


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockAnthropic]:
    with MockAnthropic.started(tmp_path_factory.mktemp("mock")) as running:
        yield running


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, mock: MockAnthropic) -> Iterator[Gateway]:
    with Gateway.started(tmp_path_factory.mktemp("gateway"), mock, workers=2) as gateway:
        yield gateway


@pytest.fixture
def gateway(running: Gateway, mock: MockAnthropic) -> Iterator[Gateway]:
    """The gateway with its first configuration, before and after each test."""
    original = running.config.read_text()
    mock.reset()
    yield running
    running.config.write_text(original)
    assert reload(running).returncode == 0


def change(gateway: Gateway, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Edit the gateway's file."""
    config = yaml.safe_load(gateway.config.read_text())
    edit(config)
    gateway.config.write_text(yaml.safe_dump(config))


def with_company_model(mock: MockAnthropic) -> Callable[[dict[str, Any]], None]:
    """Return an edit: one model with a literal API key comes, the last one goes."""

    def edit(config: dict[str, Any]) -> None:
        config["model_list"][-1] = {
            "model_name": "company",
            "litellm_params": {
                "model": "anthropic/claude-opus-4-5",
                "api_base": mock.url,
                "api_key": COMPANY_KEY,
            },
        }
        config["tallygate"]["request_bytes_max"] = 2000
        config["tallygate"]["drain_timeout_s"] = 7

    return edit


def reload(
    gateway: Gateway, *arguments: str, master_key: str = MASTER_KEY
) -> "subprocess.CompletedProcess[str]":
    """Type `tallygate reload`."""
    return subprocess.run(
        [str(TALLYGATE), "reload", "--url", gateway.url, *arguments],
        env={"PATH": os.environ["PATH"], "LITELLM_MASTER_KEY": master_key},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def state(gateway: Gateway, *, master_key: str = MASTER_KEY) -> Any:
    headers = {"Authorization": f"Bearer {master_key}"}
    answer = httpx.get(f"{gateway.url}/config/state", headers=headers, trust_env=False, timeout=20)
    assert answer.status_code == 200, answer.text
    return answer.json()


def stream(gateway: Gateway, key: str, model: str = "anthropic-claude") -> httpx.Response:
    """Stream a long answer over a connection of its own."""
    body = {"model": model, "max_tokens": 9, "stream": True, "messages": []}
    headers = {
        "x-litellm-api-key": key,
        "authorization": "Bearer sk-ant-oat01-of-the-tests",
        **scenario_headers(LONG),
    }
    url = f"{gateway.url}/v1/messages"
    return httpx.post(url, headers=headers, json=body, trust_env=False, timeout=60)


@contextlib.contextmanager
def streaming(
    gateway: Gateway, mock: MockAnthropic, key: str, count: int
) -> Iterator[list["Future[httpx.Response]"]]:
    """Run streams in parallel; in the end none may have noticed anything."""
    with ThreadPoolExecutor(count) as pool:
        answers = [pool.submit(stream, gateway, key) for _ in range(count)]
        mock.wait_for_requests(count, ended=False)
        yield answers
        assert not any(answer.done() for answer in answers), "it came too late for a stream"
        for answer in answers:
            assert answer.result().status_code == 200
            assert answer.result().text.count("event: message_stop") == 1


def models(gateway: Gateway, key: str) -> set[str]:
    """Return the models that a worker lists; which worker is asked, the kernel says."""
    headers = {"x-litellm-api-key": key}
    answer = httpx.get(f"{gateway.url}/v1/models", headers=headers, trust_env=False)
    return {each["id"] for each in answer.json()["data"]}


def kept_bytes(gateway: Gateway) -> bytes:
    """Return all that NATS, the proxies and the log hold."""
    folders = [gateway.data / "nats" / "store", gateway.data / "proxy"]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return b"".join(path.read_bytes() for path in [*files, gateway.log_path])


def test_reload_breaks_no_stream_and_holds_for_all_later_requests(
    gateway: Gateway, mock: MockAnthropic
) -> None:
    # Given 16 streams under way at two workers, when a model comes, another one goes and settings
    # change by `tallygate reload`, then no stream notices, the next requests have all of it, what
    # waits for a restart is named, and no secret of the file is in any event, copy or log.
    key = gateway.new_key()
    assert gateway.ask(key, model="claude-gone").status_code == 200
    mock.reset()
    with streaming(gateway, mock, key, STREAMS):
        change(gateway, with_company_model(mock))
        done = reload(gateway, "--config", str(gateway.config))
        assert done.returncode == 0, done.stderr
        assert gateway.ask(key, model="company").status_code == 200
    told = done.stdout.splitlines()
    assert "changed: model_list: claude-*/0 removed" in told
    assert "changed: model_list: company/0 added" in told
    assert "changed: tallygate.request_bytes_max" in told
    assert "in force after a restart alone: tallygate.drain_timeout_s" in done.stderr
    for _ in range(10):
        assert models(gateway, key) == {"anthropic-claude", "company"}
    assert gateway.ask(key, model="claude-gone").status_code == 404
    assert gateway.ask(key, system="x" * 3000).status_code == 413
    now = state(gateway)
    assert now["same_everywhere"]
    assert now["restart_needed"] == ["tallygate.drain_timeout_s"]
    assert [each["part"] for each in now["processes"]] == [
        "admin",
        "ledger-reader",
        "ledger-writer",
        "proxy-0",
        "proxy-1",
    ]
    assert {each["sha256"] for each in now["processes"]} == {now["ordered_sha256"]}
    kept = kept_bytes(gateway)
    assert now["ordered_sha256"].encode() in kept
    assert COMPANY_KEY.encode() not in kept
    assert MASTER_KEY.encode() not in kept
    wait_until(
        lambda: gateway.sql("SELECT count(*) FROM requests WHERE status = 'success'")[0][0] >= 18,
        20,
        "every stream is booked",
    )


def test_file_with_problems_changes_nothing_and_lists_them_all(
    gateway: Gateway, mock: MockAnthropic
) -> None:
    # Given a file with three problems, when it is to be taken, then each is listed with its line,
    # the exit code is 1, every process keeps what it has, and requests go on.
    key = gateway.new_key()
    before = state(gateway)
    gateway.config.write_text(
        "model_lst: []\n"
        "model_list:\n"
        "  - model_name: anthropic-claude\n"
        f"    litellm_params: {{model: openai/gpt, api_key: {COMPANY_KEY}}}\n"
        "tallygate: {log_level: loud}\n"
    )
    done = reload(gateway)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "(3 problems)" in done.stderr
    for problem in (
        "config.yaml:1: model_lst is not known: did you mean model_list?",
        "config.yaml:4: model_list[0].litellm_params.model must be anthropic/<model>",
        "config.yaml:5: tallygate.log_level must be one of debug, info, warning, error",
    ):
        assert problem in done.stderr
    assert COMPANY_KEY not in done.stderr
    assert state(gateway) == before
    assert gateway.ask(key, model="claude-still-there").status_code == 200


def test_another_file_than_the_one_that_is_meant_is_not_taken(
    gateway: Gateway, tmp_path: Path
) -> None:
    # Given a file that was checked elsewhere, when the gateway's own is another one, then both
    # digests are named and nothing changes; a file that is not there is said to be so.
    before = state(gateway)
    other = tmp_path / "other.yaml"
    other.write_text(gateway.config.read_text() + "# newer\n")
    change(gateway, lambda config: config["tallygate"].update(budget_message="ask ops"))

    done = reload(gateway, "--config", str(other))

    assert done.returncode == 1
    assert "bring the new file there first" in done.stderr
    assert state(gateway) == before
    assert reload(gateway, "--config", str(tmp_path / "none.yaml")).returncode == 1


def test_killed_worker_comes_up_with_what_was_accepted_and_no_later_edit(
    gateway: Gateway, mock: MockAnthropic
) -> None:
    # Given a reload and then an edit that breaks the file, when every worker is killed (-9), then
    # they come up with the accepted configuration.
    key = gateway.new_key()
    change(gateway, with_company_model(mock))
    assert reload(gateway).returncode == 0
    accepted = state(gateway)["ordered_sha256"]
    good = gateway.config.read_text()
    gateway.config.write_text("model_list: [half an ed")
    before = {each["process"] for each in state(gateway)["processes"]}

    gateway.kill(" proxy ")

    def are_back() -> bool:
        now = state(gateway)["processes"]
        proxies = [each for each in now if each["part"].startswith("proxy-")]
        return len(proxies) == 2 and not before & {each["process"] for each in proxies}

    wait_until(are_back, 30, "both workers are back")
    assert {each["sha256"] for each in state(gateway)["processes"]} == {accepted}
    for _ in range(10):
        assert models(gateway, key) == {"anthropic-claude", "company"}
    assert (gateway.data / "secrets" / "config.yaml").stat().st_mode & 0o777 == 0o600
    gateway.config.write_text(good)


def test_old_master_key_is_refused_from_the_reload_on(
    gateway: Gateway, mock: MockAnthropic
) -> None:
    # Given a file with another master key, when it is taken, then the new one manages the gateway
    # at once, the old one is refused, and neither is ever sent to a deployment.
    key = gateway.new_key()
    original = gateway.config.read_text()
    change(gateway, lambda config: config["litellm_settings"].update(master_key=NEW_MASTER_KEY))
    assert reload(gateway).returncode == 0

    refused = reload(gateway)

    assert refused.returncode == 77
    assert state(gateway, master_key=NEW_MASTER_KEY)["same_everywhere"]
    for secret in (MASTER_KEY, NEW_MASTER_KEY):
        answer = gateway.ask(key, headers={"authorization": f"Bearer {key}", "x-api-key": secret})
        assert answer.status_code == 401
    assert mock.requests() == []
    assert NEW_MASTER_KEY.encode() not in kept_bytes(gateway)
    gateway.config.write_text(original)
    assert reload(gateway, master_key=NEW_MASTER_KEY).returncode == 0


def test_hangup_signal_is_a_reload(gateway: Gateway, mock: MockAnthropic) -> None:
    # Given a changed log level, when SIGHUP comes, then everyone takes the file, the supervisor's
    # log follows the level, and a stream under way notices nothing; a bad file is told in the log.
    key = gateway.new_key()
    gateway.config.write_text(gateway.config.read_text() + "# other bytes\n")
    change(gateway, lambda config: config["tallygate"].update(log_level="debug"))
    with streaming(gateway, mock, key, 1):
        written = gateway.log_path.stat().st_size
        gateway.signal(signal.SIGHUP)

        def new_log() -> str:
            return gateway.log_path.read_text()[written:]

        wait_until(lambda: "reload: taken by 5 processes" in new_log(), 20, "the reload")
    assert state(gateway)["changed_by"] == "SIGHUP"
    gateway.config.write_text("model_lst: []\n")
    gateway.signal(signal.SIGHUP)
    wait_until(lambda: "did you mean model_list?" in new_log(), 20, "the problem is told")
    gateway.kill("ledger --role reader")
    wait_until(lambda: '"level":"debug"' in new_log(), 20, "lines of the new level")


@pytest.mark.alone
def test_new_model_is_usable_at_every_worker_within_a_second_and_gone_when_deleted(
    gateway: Gateway, mock: MockAnthropic
) -> None:
    # Given two workers and a stream under way, when a model is added by the API, then a second
    # later each of many new connections may use it, and the stream ends whole.
    key = gateway.new_key()
    added = {
        "model_name": "by-event",
        "litellm_params": {"model": "anthropic/claude-opus-4-5", "api_base": mock.url},
        "model_info": {"id": "m1"},
    }
    with streaming(gateway, mock, key, 2):
        assert manage(gateway, "/model/new", added)["model_id"] == "m1"
        time.sleep(1.0)
        for _ in range(20):
            assert "by-event" in models(gateway, key)
        assert gateway.ask(key, model="by-event").status_code == 200
    # The file's own models and a reload leave it alone.
    gateway.config.write_text(gateway.config.read_text() + "# other bytes\n")
    assert reload(gateway).returncode == 0
    assert "by-event" in models(gateway, key)
    shown = gateway.client.get("/models", headers={"Authorization": f"Bearer {key}"}).json()
    assert "by-event" in [each["id"] for each in shown["data"]]
    assert manage(gateway, "/model/delete", {"id": "m1"})["id"] == "m1"
    wait_until(lambda: "by-event" not in models(gateway, key), 30, "the model is gone")


def manage(gateway: Gateway, path: str, body: dict[str, Any]) -> Any:
    """Post to the management API with the master key."""
    headers = {"Authorization": f"Bearer {MASTER_KEY}"}
    response = gateway.client.post(path, json=body, headers=headers)
    assert response.status_code == 200, response.text
    return response.json()


def test_the_budget_of_all_keys_and_what_counts_for_budgets_follow_the_file(
    gateway: Gateway,
) -> None:
    # Given a key whose subscription's requests have spent its budget, when they count no more, then
    # it is let in; when all keys together have a budget that is spent, then another is refused.
    spent, other = gateway.new_key(max_budget=0.000001), gateway.new_key()

    def refusal(key: str) -> str:
        answer = gateway.ask(key)
        assert answer.status_code in {200, 429}, answer.text
        return answer.json()["error"]["message"] if answer.status_code == 429 else ""

    wait_until(lambda: refusal(spent).startswith("Budget of key"), 30, "it is spent")
    change(gateway, lambda config: config["tallygate"].update(budgets_count_subscriptions=False))
    gateway.admin("POST", "/config/reload", json={})
    wait_until(lambda: not refusal(spent), 30, "what subscriptions paid counts no more")

    def everybody(config: dict[str, Any]) -> None:
        config["tallygate"].update(budgets_count_subscriptions=True)
        config["litellm_settings"].update(max_budget=0.000001, budget_duration="monthly")

    change(gateway, everybody)
    gateway.admin("POST", "/config/reload", json={})
    wait_until(lambda: refusal(other).startswith("Budget of everybody"), 30, "all is spent")
