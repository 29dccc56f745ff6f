"""A subscription whose quota is used up: who pays for what comes after, at two real proxies."""

import time
from collections.abc import Iterator

import httpx
import msgspec
import pytest

from schemas.events import UsageRecord
from schemas.registry import TeamRecord
from tests.support.mock import MockAnthropic, Scenario, headers_of
from tests.support.nats import NatsServer
from tests.support.proxy import (
    ProxyProcess,
    gateway_config,
    model_entry,
    publish_key,
    publish_owner,
    running_proxy,
)

COMPANY = "sk-ant-api03-company"
TOKEN = "sk-ant-oat01-of-alice"
OTHER_TOKEN = "sk-ant-oat01-of-bob"
BETA = "claude-code-20250219,oauth-2025-04-20"
MODEL = "anthropic-claude"


def exhausted(seconds: float) -> Scenario:
    """Return the API's refusal where a window is full and ends in so many seconds."""
    prefix = "anthropic-ratelimit-unified-"
    told = {
        "status": "rejected",
        "representative-claim": "five_hour",
        "reset": str(int(time.time() + seconds)),
        "5h-status": "rejected",
        "5h-utilization": "1.0",
    }
    headers = {prefix + name: value for name, value in told.items()}
    return Scenario(reply="error", status=429, headers=headers)


@pytest.fixture(scope="module")
def seat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockAnthropic]:
    """The API as subscriptions see it; the module's `mock` is what the API key sees."""
    with MockAnthropic.started(tmp_path_factory.mktemp("seat")) as running:
        yield running


@pytest.fixture(scope="module")
def proxies(
    tmp_path_factory: pytest.TempPathFactory,
    nats: NatsServer,
    seat: MockAnthropic,
    mock: MockAnthropic,
) -> Iterator[list[ProxyProcess]]:
    config = gateway_config(
        model_entry(seat.url, order=1), model_entry(mock.url, api_key=COMPANY, order=2)
    )
    folders = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    with (
        running_proxy(folders[0], nats.url, config) as one,
        running_proxy(folders[1], nats.url, config) as two,
    ):
        yield [one, two]


def ask(proxy: ProxyProcess, key: str, token: str = TOKEN) -> httpx.Response:
    return httpx.post(
        f"{proxy.url}/v1/messages",
        json={"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]},
        headers={
            "x-litellm-api-key": key,
            "authorization": f"Bearer {token}",
            "anthropic-beta": BETA,
        },
        trust_env=False,
        timeout=30,
    )


def records_of(proxy: ProxyProcess, key_id: str, count: int) -> list[UsageRecord]:
    """Return the records of one key, once there are so many, by their start."""
    deadline = time.monotonic() + 30
    while True:
        found = [event.data for event in proxy.events() if event.data.key_id == key_id]
        records = [record for record in found if isinstance(record, UsageRecord)]
        if len(records) >= count or time.monotonic() > deadline:
            assert len(records) == count
            return sorted(records, key=lambda record: record.started_at_us)
        time.sleep(0.05)


def test_a_spent_subscription_goes_on_over_the_api_key_of_a_key_that_pays(
    proxies: list[ProxyProcess], seat: MockAnthropic, mock: MockAnthropic
) -> None:
    # given a team that pays, one of its keys, one of its keys that says that it does not pay, and
    # a subscription that is used up for an hour
    publish_owner(proxies[0].nats_url, TeamRecord(team_id="blue", on_quota_exhausted="pay"))
    payer, payer_record = proxies[0].issue_record(team_id="blue")
    miser, miser_record = proxies[0].issue_record(team_id="blue", on_quota_exhausted="refuse")
    for key in (payer, miser):
        proxies[1].wait_known(key)
    seat.set_default(exhausted(3600))
    # when both ask, and the payer asks once more
    refused = ask(proxies[0], miser, OTHER_TOKEN)
    first, second = ask(proxies[0], payer), ask(proxies[0], payer)
    # then the miser gets the API's own refusal, and the payer an answer each time
    assert refused.status_code == 429
    assert refused.headers["anthropic-ratelimit-unified-status"] == "rejected"
    assert (first.status_code, second.status_code) == (200, 200)
    # and the second one did not ask the subscription any more
    assert "x-tallygate-attempts" not in second.headers
    assert first.headers["x-tallygate-attempts"] == "2"
    for answer in (first, second):
        assert answer.headers["x-tallygate-route-reason"] == "quota_exhausted"
    # and no credential went to the other's place, nor did the beta that is a subscription's
    tokens = [headers_of(record, "authorization") for record in seat.messages()]
    assert tokens == [[f"Bearer {OTHER_TOKEN}"], [f"Bearer {TOKEN}"]]
    for record in seat.messages():
        assert headers_of(record, "anthropic-beta") == [BETA]
        assert headers_of(record, "x-api-key") == []
    for record in mock.messages():
        assert headers_of(record, "authorization") == []
        assert headers_of(record, "anthropic-beta") == ["claude-code-20250219"]
        assert headers_of(record, "x-api-key") == [COMPANY]
    # and the books will say who paid, and why
    attempt, moved, later = records_of(proxies[0], payer_record.key_id, 3)
    assert (attempt.billing, attempt.http_status, attempt.usage) == ("subscription", 429, None)
    assert (attempt.route_reason, moved.attempt_of) == (None, attempt.request_id)
    for record in (moved, later):
        assert (record.billing, record.route_reason) == ("api", "quota_exhausted")
    (kept,) = records_of(proxies[0], miser_record.key_id, 1)
    assert (kept.billing, kept.route_reason) == ("subscription", None)

    # given another proxy, which knows nothing of it, and a window that ends soon
    seat.reset()
    seat.queue(exhausted(1))
    # when the payer asks there, then it is answered, and soon after by the subscription again
    assert ask(proxies[1], payer).headers["x-tallygate-attempts"] == "2"
    deadline = time.monotonic() + 30
    while "x-tallygate-route-reason" in ask(proxies[1], payer).headers:
        assert time.monotonic() < deadline, "the subscription is not asked again"
        time.sleep(0.05)
    assert [record.status for record in seat.messages()] == [429, 200]

    # given a key that is told at run time to pay no more, when the subscription is used up
    seat.set_default(exhausted(3600))
    silent = msgspec.structs.replace(payer_record, on_quota_exhausted="refuse")
    publish_key(proxies[1].nats_url, silent)
    # then the refusal reaches it
    while ask(proxies[1], payer).status_code != 429:
        assert time.monotonic() < deadline, "the key still pays"
        time.sleep(0.05)
