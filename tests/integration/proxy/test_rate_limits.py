"""Rate limits in real proxies, alone and together: who is refused, and what is told of it."""

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from schemas.registry import TeamRecord
from services.proxy.rate_permit import tokens_of
from tests.support.mock import MockAnthropic, Scenario
from tests.support.nats import NatsServer
from tests.support.proxy import (
    ProxyProcess,
    gateway_config,
    model_entry,
    publish_key,
    publish_owner,
    running_proxy,
)

PATIENCE_S = 40.0
"""Less than the minute after which requests may begin again."""
COUNT = 3
BODY = {"model": "anthropic-claude", "max_tokens": 1, "messages": []}


@pytest.fixture(scope="module")
def proxy(
    tmp_path_factory: pytest.TempPathFactory, nats: NatsServer, mock: MockAnthropic
) -> Iterator[ProxyProcess]:
    config = gateway_config(
        model_entry(mock.url, api_key="sk-ant-api03-x"),
        model_entry("http://127.0.0.1:9", name="claude-nobody", api_key="sk-ant-api03-x"),
        model_entry(mock.url, name="claude-scarce", api_key="sk-ant-api03-x", rpm=1),
        model_entry("http://127.0.0.1:9", name="claude-two", api_key="sk-ant-api03-x", order=1),
        model_entry(mock.url, name="claude-two", api_key="sk-ant-api03-x", order=2),
    )
    with running_proxy(tmp_path_factory.mktemp("proxy"), nats.url, config) as running:
        yield running


@pytest.fixture(scope="module")
def further(
    tmp_path_factory: pytest.TempPathFactory, nats: NatsServer, mock: MockAnthropic
) -> Iterator[list[ProxyProcess]]:
    """Two proxies more."""
    config = gateway_config(model_entry(mock.url, api_key="sk-ant-api03-x"))
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                running_proxy(tmp_path_factory.mktemp(f"further-{number}"), nats.url, config)
            )
            for number in range(1, COUNT)
        ]


def ask(proxy: ProxyProcess, key: str, path: str = "", **fields: Any) -> httpx.Response:
    body = {"model": "anthropic-claude", "max_tokens": 1, "messages": [], **fields}
    return httpx.post(
        f"{proxy.url}/v1/messages{path}",
        json=body,
        headers={"x-litellm-api-key": key},
        trust_env=False,
        timeout=PATIENCE_S,
    )


def test_limited_key_is_told_what_is_left_and_refused_when_nothing_is(
    proxy: ProxyProcess, mock: MockAnthropic
) -> None:
    # Given a key with three requests a minute, when it asks,
    mock.reset()
    key, record = proxy.issue_record(key_alias="alice", rpm_limit=3, tpm_limit=1_000_000)
    first = ask(proxy, key)
    # then each answer tells what is left, a stream's too;
    assert (first.status_code, first.headers["x-ratelimit-limit-requests"]) == (200, "3")
    assert first.headers["x-ratelimit-remaining-requests"] == "2"
    assert first.headers["x-litellm-key-rpm-limit"] == "3"
    streamed = ask(proxy, key, stream=True)
    assert streamed.headers["x-ratelimit-remaining-requests"] == "1"
    # and what the first used counts, to the token, beside what the second holds;
    (used, _) = proxy.recorded(2)
    assert used.usage is not None
    left = int(streamed.headers["x-ratelimit-remaining-tokens"])
    held = -(-len(streamed.request.content) // 4)
    assert left == 1_000_000 - tokens_of(used.usage) - held
    # and one that no deployment answers counts as well, but nothing that is refused or free does.
    assert ask(proxy, key, model="claude-unknown").status_code == 404
    assert ask(proxy, key, "/count_tokens").status_code == 200
    assert ask(proxy, key, model="claude-nobody").status_code == 502
    refused = ask(proxy, key)
    assert refused.status_code == 429
    error = refused.json()["error"]
    assert error["type"] == "rate_limit_error"
    assert error["message"].startswith("Rate limit of key alice: 3 requests a minute. Try again in")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    # And the ledger is told who was refused, and why; the free count of tokens goes on.
    rejected = [each.data for each in proxy.rejected(2)]
    (told,) = [each for each in rejected if each.http_status == 429]
    assert (told.key_id, told.error_type) == (record.key_id, "rate_limit_error")
    assert told.reason == error["message"]
    assert ask(proxy, key, "/count_tokens").status_code == 200
    # And a limit that is taken away holds no more, at once.
    publish_key(proxy.nats_url, msgspec.structs.replace(record, rpm_limit=None))
    wait_for_status(proxy, key, 200)


def test_keys_of_a_team_share_its_requests_under_way(
    proxy: ProxyProcess, mock: MockAnthropic
) -> None:
    # Given a team with one request at a time, and one of its keys with an answer under way, which
    # is the second attempt,
    mock.reset()
    publish_owner(
        proxy.nats_url, TeamRecord(team_id="blue", team_alias="Blue", max_parallel_requests=1)
    )
    holder, other = proxy.issue_key(team_id="blue"), proxy.issue_key(team_id="blue")
    mock.set_default(Scenario(fault="stall", fault_after_events=2))
    body = {"model": "claude-two", "max_tokens": 1, "stream": True, "messages": []}
    url, headers = f"{proxy.url}/v1/messages", {"x-litellm-api-key": holder}
    with (
        httpx.Client(trust_env=False, timeout=PATIENCE_S) as client,
        client.stream("POST", url, json=body, headers=headers),
    ):
        # when another of its keys asks, then it is refused by the team's name,
        refused = ask(proxy, other)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert "team Blue: 1 requests at a time" in refused.json()["error"]["message"]
        mock.reset()
    # and served as soon as the first one has left.
    wait_for_status(proxy, other, 200)


def test_model_has_limits_of_its_own_for_all_keys_together(
    proxy: ProxyProcess, mock: MockAnthropic
) -> None:
    # Given a model of one request a minute, when two keys ask for it, then the second is refused,
    # by the model's name, and one that counts tokens is not.
    mock.reset()
    first, second = proxy.issue_key(), proxy.issue_key()
    assert ask(proxy, first, model="claude-scarce").status_code == 200
    refused = ask(proxy, second, model="claude-scarce")
    assert (refused.status_code, refused.headers["x-ratelimit-remaining-requests"]) == (429, "0")
    assert "Rate limit of model claude-scarce: 1 requests" in refused.json()["error"]["message"]
    assert ask(proxy, second, "/count_tokens", model="claude-scarce").status_code == 200
    assert ask(proxy, second).status_code == 200


def test_new_batches_are_limited_and_what_is_read_of_them_is_not(
    proxy: ProxyProcess, mock: MockAnthropic
) -> None:
    # Given a key with one request a minute, when it makes a batch, then that is its request: it
    # may read it, and ask for nothing more that costs.
    mock.reset()
    key = proxy.issue_key(rpm_limit=1)
    headers = {"x-litellm-api-key": key}
    params = {"model": "anthropic-claude", "max_tokens": 1, "messages": []}
    body = {"requests": [{"custom_id": "1", "params": params}]}
    url = f"{proxy.url}/v1/messages/batches"
    with httpx.Client(headers=headers, trust_env=False, timeout=PATIENCE_S) as client:
        made = client.post(url, json=body)
        assert (made.status_code, made.headers["x-ratelimit-remaining-requests"]) == (200, "0")
        assert client.get(f"{url}/{made.json()['id']}").status_code == 200
        refused = client.post(url, json=body)
    assert (refused.status_code, refused.json()["error"]["type"]) == (429, "rate_limit_error")
    assert ask(proxy, key).status_code == 429


def wait_for_status(proxy: ProxyProcess, key: str, status: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while ask(proxy, key).status_code != status:
        assert time.monotonic() < deadline, f"no {status}"
        time.sleep(0.02)


def metric(proxy: ProxyProcess, name: str) -> float:
    (socket,) = Path(proxy.data).glob("run/metrics/*.sock")
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), timeout=30) as client:
        text = client.get("http://metrics/metrics").text
    return sum(float(found) for found in re.findall(rf"^{name}{{.*}} (\S+)$", text, re.MULTILINE))


def wait_metric(proxies: list[ProxyProcess], name: str, value: float) -> None:
    deadline = time.monotonic() + PATIENCE_S
    for proxy in proxies:
        while metric(proxy, name) != value:
            assert time.monotonic() < deadline, f"{name} is never {value}"
            time.sleep(0.02)


async def ask_all_at_once(proxies: list[ProxyProcess], key: str, times: int) -> list[int]:
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S) as client:
        asked = [
            client.post(
                f"{proxies[number % COUNT].url}/v1/messages",
                json=BODY,
                headers={"x-litellm-api-key": key},
            )
            for number in range(times)
        ]
        return [answer.status_code for answer in await asyncio.gather(*asked)]


def test_three_proxies_share_a_limit_and_have_a_third_of_it_each_without_nats(
    proxy: ProxyProcess, further: list[ProxyProcess], nats: NatsServer
) -> None:
    # Given three proxies that know one another, and two keys,
    proxies = [proxy, *further]
    key = proxies[0].issue_key(rpm_limit=20)
    other = proxies[0].issue_key(rpm_limit=9)
    for each in proxies:
        each.wait_known(other)
    wait_metric(proxies, "tallygate_rate_limit_workers", COUNT)
    wait_metric(proxies, "tallygate_rate_limit_cut_off", 0)
    # when three times as many requests as may begin come to all of them at once,
    statuses = asyncio.run(ask_all_at_once(proxies, key, 60))
    begun = statuses.count(200)
    assert begun + statuses.count(429) == 60
    # then no more begin than the limit and one for each further proxy, and none is refused for
    # good that has room;
    assert begun <= 20 + COUNT - 1
    deadline = time.monotonic() + PATIENCE_S
    while begun < 20:
        begun += ask(proxies[begun % COUNT], key).status_code == 200
        assert time.monotonic() < deadline
    assert [ask(each, key).status_code for each in proxies] == [429] * COUNT
    # and when NATS is gone, each has a third of what nobody has used.
    nats.kill()
    wait_metric(proxies, "tallygate_rate_limit_cut_off", 1)
    for each in proxies:
        assert [ask(each, other).status_code for _ in range(4)] == [200, 200, 200, 429]
