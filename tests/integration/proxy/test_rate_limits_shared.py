"""Three proxies share rate limits over NATS; cut off from it each has its share."""

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.support.mock import MockAnthropic
from tests.support.nats import NatsServer
from tests.support.proxy import ProxyProcess, gateway_config, model_entry, running_proxy

PATIENCE_S = 40.0
"""Less than the minute after which requests may begin again."""
COUNT = 3
BODY = {"model": "anthropic-claude", "max_tokens": 1, "messages": []}


@pytest.fixture(scope="module")
def proxies(
    tmp_path_factory: pytest.TempPathFactory, nats: NatsServer, mock: MockAnthropic
) -> Iterator[list[ProxyProcess]]:
    config = gateway_config(model_entry(mock.url, api_key="sk-ant-api03-x"))
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                running_proxy(tmp_path_factory.mktemp(f"proxy-{number}"), nats.url, config)
            )
            for number in range(COUNT)
        ]


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


def ask(proxy: ProxyProcess, key: str) -> int:
    headers = {"x-litellm-api-key": key}
    url = f"{proxy.url}/v1/messages"
    return httpx.post(
        url, json=BODY, headers=headers, trust_env=False, timeout=PATIENCE_S
    ).status_code


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
    proxies: list[ProxyProcess], nats: NatsServer
) -> None:
    # Given three proxies that know one another, and two keys,
    key = proxies[0].issue_key(rpm_limit=20)
    other = proxies[0].issue_key(rpm_limit=9)
    for proxy in proxies:
        proxy.wait_known(other)
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
        begun += ask(proxies[begun % COUNT], key) == 200
        assert time.monotonic() < deadline
    assert [ask(proxy, key) for proxy in proxies] == [429] * COUNT
    # and when NATS is gone, each has a third of what nobody has used.
    nats.kill()
    wait_metric(proxies, "tallygate_rate_limit_cut_off", 1)
    for proxy in proxies:
        assert [ask(proxy, other) for _ in range(4)] == [200, 200, 200, 429]
