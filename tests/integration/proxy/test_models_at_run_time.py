"""Models that come, change and go by events, while requests run."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from schemas.events import ModelCreated, ModelDeleted, ModelEventBase, ModelUpdated, encode_event
from schemas.registry import ModelRecord
from schemas.streams import model_subject
from services.runtime.bus import Bus
from tests.support.mock import MockAnthropic, Scenario, scenario_headers
from tests.support.nats import NatsServer, running_nats
from tests.support.proxy import ProxyProcess, gateway_config, model_entry, running_proxy

TEAM_KEY = "sk-ant-api03-of-the-team-0123456789"
USABLE_WITHIN_S = 1.0
"""How long after its event a model may take to be usable."""


@pytest.fixture
def proxy(tmp_path: Path, nats: NatsServer, mock: MockAnthropic) -> Iterator[ProxyProcess]:
    mock.reset()
    config = gateway_config(model_entry(mock.url, api_key="sk-ant-api03-of-the-file"))
    with running_proxy(tmp_path, nats.url, config) as running:
        running.stop()
        running.environment["TEAM_API_KEY"] = TEAM_KEY
        running.start()
        yield running


def publish(
    proxy: ProxyProcess, record: ModelRecord, kind: type[ModelEventBase] = ModelCreated
) -> None:
    """Store a model's state as the admin service does."""
    event = kind(
        source="/test", id=record.model_id, time=datetime.now(UTC), subject="x", data=record
    )

    async def send() -> None:
        bus = await Bus.connect(proxy.nats_url, "test")
        await bus.publish(model_subject(record.model_id), encode_event(event))
        await bus.close()

    asyncio.run(send())


def record(mock: MockAnthropic, model_id: str, name: str, **params: Any) -> ModelRecord:
    given = {"model": "anthropic/claude-opus-4-5", "api_base": mock.url, **params}
    return ModelRecord(
        model_id=model_id, model_name=name, litellm_params={k: v for k, v in given.items() if v}
    )


def ask(proxy: ProxyProcess, key: str, model: str, scenario: Scenario | None = None) -> Any:
    body = {"model": model, "max_tokens": 9, "messages": [], "stream": scenario is not None}
    headers = {"x-litellm-api-key": key, **scenario_headers(scenario)}
    url = f"{proxy.url}/v1/messages"
    return httpx.post(url, headers=headers, content=json.dumps(body), timeout=30, trust_env=False)


def within(seconds: float, check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)


def names(proxy: ProxyProcess, key: str) -> list[str]:
    return [each["id"] for each in proxy.models(key).json()["data"]]


@pytest.mark.alone
def test_model_added_by_an_event_is_usable_within_a_second_beside_a_running_stream(
    proxy: ProxyProcess, mock: MockAnthropic
) -> None:
    # Given a stream under way, when a model is added, changed and deleted by events, then each
    # change holds within a second for new requests, and the stream ends whole.
    key = proxy.issue_key(key_alias="dev")
    slow = Scenario(events=100, pace_ms=60)
    answers: list[Any] = []
    stream = threading.Thread(
        target=lambda: answers.append(ask(proxy, key, "anthropic-claude", slow))
    )
    stream.start()
    mock.wait_for_requests(1, ended=False)
    assert ask(proxy, key, "opus").status_code == 404

    publish(proxy, record(mock, "m1", "opus", api_key="os.environ/TEAM_API_KEY"))
    within(USABLE_WITHIN_S, lambda: "opus" in names(proxy, key))
    assert ask(proxy, key, "opus").status_code == 200

    changed = record(mock, "m1", "opus-new", api_key="os.environ/TEAM_API_KEY")
    publish(proxy, changed, ModelUpdated)
    within(USABLE_WITHIN_S, lambda: "opus-new" in names(proxy, key))
    assert ask(proxy, key, "opus").status_code == 404
    assert ask(proxy, key, "opus-new").status_code == 200

    publish(proxy, ModelRecord(**{**_fields(changed), "deleted": True}), ModelDeleted)
    within(USABLE_WITHIN_S, lambda: "opus-new" not in names(proxy, key))
    assert ask(proxy, key, "opus-new").status_code == 404

    assert stream.is_alive()
    stream.join(30)
    assert answers[0].status_code == 200
    assert "message_stop" in answers[0].text
    sent = [each for each in mock.requests() if dict(each.headers).get("x-api-key") == TEAM_KEY]
    assert len(sent) == 2
    used = {each.deployment for each in proxy.recorded(3)}
    assert used == {"anthropic-claude/0", "m1"}
    assert TEAM_KEY not in proxy.log()


def _fields(value: ModelRecord) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__struct_fields__}


def test_model_without_its_variable_is_named_and_the_others_go_on(
    proxy: ProxyProcess, mock: MockAnthropic
) -> None:
    # Given a model whose variable this proxy does not have, when it is added, then it is in no
    # list, asking for it names the variable, and other models work.
    key = proxy.issue_key()
    publish(proxy, record(mock, "m1", "secretless", api_key="os.environ/ELSEWHERE_API_KEY"))
    publish(proxy, record(mock, "m2", "fine", api_key="os.environ/TEAM_API_KEY"))
    within(USABLE_WITHIN_S, lambda: "fine" in names(proxy, key))

    refused = ask(proxy, key, "secretless")

    assert "secretless" not in names(proxy, key)
    assert refused.status_code == 401
    assert "the environment variable ELSEWHERE_API_KEY is not set" in refused.text
    assert refused.headers["x-should-retry"] == "false"
    assert ask(proxy, key, "fine").status_code == 200
    assert "ELSEWHERE_API_KEY" in proxy.log()


def test_models_of_the_registry_are_known_while_nats_is_down(
    tmp_path: Path, mock: MockAnthropic
) -> None:
    # Given a proxy that knows a model by an event, when it is killed and started while NATS is
    # away, then it serves that model from its copy on disk.
    with running_nats(tmp_path / "nats") as nats:
        config = gateway_config(model_entry(mock.url))
        with running_proxy(tmp_path, nats.url, config) as proxy:
            proxy.environment["TEAM_API_KEY"] = TEAM_KEY
            key = proxy.issue_key()
            publish(proxy, record(mock, "m1", "opus", api_key="os.environ/TEAM_API_KEY"))
            copy = proxy.outbox / "registry.json"
            within(10, lambda: copy.exists() and b'"opus"' in copy.read_bytes())
            nats.kill()
            proxy.kill()

            proxy.start()

            assert "opus" in names(proxy, key)
            assert ask(proxy, key, "opus").status_code == 200
            assert TEAM_KEY.encode() not in copy.read_bytes()
