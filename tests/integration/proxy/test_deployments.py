"""Several deployments of a model: which one is asked, and which one after it where one fails."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from schemas.events import RequestStarted, UsageRecord, UsageRecorded
from schemas.registry import TeamRecord
from tests.support.mock import MockAnthropic, Scenario
from tests.support.nats import NatsServer, running_nats
from tests.support.proxy import (
    ProxyProcess,
    gateway_config,
    model_entry,
    publish_owner,
    running_proxy,
)

API_KEY = "sk-ant-api03-company"
OWN = {"authorization": "Bearer sk-ant-oat01-mock"}
MODEL = "anthropic-claude"
LIMITED = Scenario(reply="error", status=429, headers={"retry-after": "30"})
OVERLOADED = Scenario(reply="error", status=529)
BROKEN = Scenario(reply="error", status=500)


CLIENT = httpx.Client(trust_env=False, timeout=30)
"""One for all requests: making one takes longer than a request."""


@pytest.fixture(scope="module", autouse=True)
def _client() -> Iterator[None]:
    with CLIENT:
        yield


@pytest.fixture
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A stream of its own for each test: they count events."""
    with running_nats(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture(scope="module")
def mocks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[MockAnthropic]]:
    with (
        MockAnthropic.started(tmp_path_factory.mktemp("a")) as first,
        MockAnthropic.started(tmp_path_factory.mktemp("b")) as second,
        MockAnthropic.started(tmp_path_factory.mktemp("c")) as third,
    ):
        yield [first, second, third]


@pytest.fixture(autouse=True)
def _fresh(mocks: list[MockAnthropic]) -> None:
    for mock in mocks:
        mock.reset()


def entries(mocks: list[MockAnthropic], name: str = MODEL, **fields: Any) -> list[dict[str, Any]]:
    """Return a deployment for each mock; their ids are name/0, name/1, …."""
    return [model_entry(mock.url, name=name, api_key=API_KEY, **fields) for mock in mocks]


@contextmanager
def proxy_for(
    folder: Path, nats: NatsServer, *deployments: dict[str, Any], **router: Any
) -> Iterator[ProxyProcess]:
    config = gateway_config(*deployments, connect_timeout_s=2)
    config["router_settings"] = router
    with running_proxy(folder, nats.url, config) as proxy:
        yield proxy


def ask(
    proxy: ProxyProcess,
    key: str,
    *,
    session: str | None = "s",
    model: str = MODEL,
    path: str = "/v1/messages",
    headers: dict[str, str] | None = None,
    timeout_s: float = 30,
    **fields: Any,
) -> httpx.Response:
    body = {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    sent = {"x-litellm-api-key": key, **(headers or {})}
    if session is not None:
        sent["x-claude-code-session-id"] = session
    return CLIENT.post(
        f"{proxy.url}{path}", json={**body, **fields}, headers=sent, timeout=timeout_s
    )


def session_of(proxy: ProxyProcess, key: str, mocks: list[MockAnthropic], place: int) -> str:
    """Return a session that goes to the mock of this place, and forget the requests it took."""
    for number in range(200):
        session = f"session-{number}"
        assert ask(proxy, key, session=session, path="/v1/messages/count_tokens").is_success
        if mocks[place].requests():
            for mock in mocks:
                mock.reset()
            return session
    raise AssertionError("no session goes there")


def messages_records(proxy: ProxyProcess, count: int) -> list[UsageRecord]:
    """Return the records of messages in the order of their start, once there are so many.

    Every one of them was started, and every one that was started has ended.
    """
    deadline = time.monotonic() + 40
    while True:
        events = proxy.events()
        records = [event.data for event in events if isinstance(event, UsageRecorded)]
        records = [record for record in records if record.endpoint == "messages"]
        if len(records) >= count or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    assert len(records) == count, [(each.deployment, each.status) for each in records]
    started = [event.data.request_id for event in events if isinstance(event, RequestStarted)]
    assert sorted(started) == sorted(record.request_id for record in records)
    return sorted(records, key=lambda record: record.started_at_us)


def test_a_limited_deployment_hands_its_requests_to_another_and_is_spared_for_a_while(
    tmp_path: Path, nats: NatsServer, mocks: list[MockAnthropic]
) -> None:
    """Given a 429 for the company's key, then another deployment answers, and no more are sent.

    Both attempts are booked, the second as one of the first.
    """
    with proxy_for(tmp_path, nats, *entries(mocks[:2])) as proxy:
        key = proxy.issue_key()
        session = session_of(proxy, key, mocks, 0)
        mocks[0].set_default(LIMITED)
        first = ask(proxy, key, session=session)
        again = ask(proxy, key, session=session)

        assert (first.status_code, again.status_code) == (200, 200)
        assert first.headers["x-tallygate-attempts"] == "2"
        assert "x-tallygate-attempts" not in again.headers
        assert [len(mock.messages()) for mock in mocks[:2]] == [1, 2]
        failed, moved, later = messages_records(proxy, 3)
        assert (failed.status, failed.http_status) == ("failure", 429)
        assert failed.error_type == "rate_limit_error"
        assert failed.deployment == f"{MODEL}/0"
        assert failed.usage is None
        assert (moved.status, moved.deployment) == ("success", f"{MODEL}/1")
        assert moved.attempt_of == failed.request_id
        assert first.headers["x-tallygate-request-id"] == moved.request_id
        assert (failed.attempt_of, later.attempt_of) == (None, None)


def test_a_limit_of_a_clients_own_reaches_that_client_alone(
    tmp_path: Path, nats: NatsServer, mocks: list[MockAnthropic]
) -> None:
    """Given a 429 for somebody's subscription, then it goes to them as it is, and nobody else."""
    unified = {"anthropic-ratelimit-unified-status": "rejected", "retry-after": "9000"}
    deployments = [model_entry(mock.url, name=MODEL) for mock in mocks[:2]]
    with proxy_for(tmp_path, nats, *deployments, num_retries=3) as proxy:
        key = proxy.issue_key()
        headers = {**OWN, "x-mock-tag": "spent"}
        limited = Scenario(reply="error", status=429, headers=unified)
        for mock in mocks[:2]:
            mock.queue(limited)
        answer = ask(proxy, key, headers=headers)

        assert answer.status_code == 429
        assert answer.headers["anthropic-ratelimit-unified-status"] == "rejected"
        assert answer.headers["retry-after"] == "9000"
        assert answer.json()["error"]["type"] == "rate_limit_error"
        assert sum(len(mock.messages()) for mock in mocks[:2]) == 1
        for mock in mocks[:2]:
            mock.queue()
        assert ask(proxy, key, headers=OWN).status_code == 200
        first, second = messages_records(proxy, 2)
        assert first.deployment == second.deployment
        assert first.billing == "subscription"


@pytest.mark.parametrize("fault", [BROKEN, Scenario(fault="reset"), Scenario(fault="close")])
def test_what_may_have_been_billed_is_not_repeated(
    tmp_path: Path, nats: NatsServer, mocks: list[MockAnthropic], fault: Scenario
) -> None:
    """Given a deployment that fails after it had the request, then the client hears of it."""
    deployments = [*entries(mocks[:2]), *entries(mocks[2:], "other")]
    with proxy_for(tmp_path, nats, *deployments, fallbacks=[{MODEL: ["other"]}]) as proxy:
        key = proxy.issue_key()
        for mock in mocks:
            mock.set_default(fault)
        answer = ask(proxy, key)

        assert answer.status_code == (500 if fault is BROKEN else 502)
        assert sum(len(mock.messages()) for mock in mocks) == 1
        (record,) = messages_records(proxy, 1)
        assert record.status == "failure"


def test_num_retries_repeats_it_and_each_attempt_is_booked(
    tmp_path: Path, nats: NatsServer, mocks: list[MockAnthropic]
) -> None:
    """Given num_retries, then another deployment is asked, then the same again, then fallbacks."""
    deployments = [*entries(mocks[:2]), *entries(mocks[2:], "other")]
    router = {"num_retries": 2, "fallbacks": [{MODEL: ["other"]}]}
    with proxy_for(tmp_path, nats, *deployments, **router) as proxy:
        key = proxy.issue_key()
        for mock in mocks[:2]:
            mock.set_default(BROKEN)
        answer = ask(proxy, key)

        assert answer.status_code == 200
        assert answer.headers["x-tallygate-attempts"] == "4"
        records = messages_records(proxy, 4)
        assert [record.http_status for record in records] == [500, 500, 500, 200]
        assert {record.deployment for record in records[:2]} == {f"{MODEL}/0", f"{MODEL}/1"}
        assert records[3].deployment == "other/0"
        assert {record.attempt_of for record in records[1:]} == {records[0].request_id}
        assert all(record.model_name == MODEL for record in records)


def test_the_last_error_goes_to_the_client_as_it_came(
    tmp_path: Path, nats: NatsServer, mocks: list[MockAnthropic]
) -> None:
    """Given that all are overloaded, then each was asked once and the last answer is passed on."""
    with proxy_for(tmp_path, nats, *entries(mocks)) as proxy:
        for mock in mocks:
            mock.set_default(OVERLOADED)
        answer = ask(proxy, proxy.issue_key())

        assert answer.status_code == 529
        assert [len(mock.messages()) for mock in mocks] == [1, 1, 1]
        records = messages_records(proxy, 3)
        last = next(mock for mock in mocks if mock.messages()[0].request_id in answer.text)
        assert records[2].deployment == f"{MODEL}/{mocks.index(last)}"
        assert {record.error_type for record in records} == {"overloaded_error"}


def test_a_gateways_own_error_says_what_was_tried(tmp_path: Path, nats: NatsServer) -> None:
    """Given deployments that nobody listens at, then the message names them."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}"
        dead = [model_entry(nobody, name=MODEL, api_key=API_KEY) for _ in range(2)]
        with proxy_for(tmp_path, nats, *dead) as proxy:
            answer = ask(proxy, proxy.issue_key())

            assert answer.status_code == 502
            message = answer.json()["error"]["message"]
            assert f"{MODEL}/0" in message.partition("tried:")[2]
            assert f"{MODEL}/1" in message.partition("tried:")[2]
            messages_records(proxy, 2)


def test_fallbacks_are_for_keys_that_may_use_them(
    tmp_path: Path, nats: NatsServer, mocks: list[MockAnthropic]
) -> None:
    """Given a fallback to another model, then a key that may not use that model gets the error."""
    deployments = [*entries(mocks[:1]), *entries(mocks[1:2], "other")]
    with proxy_for(tmp_path, nats, *deployments, default_fallbacks=["other"]) as proxy:
        mocks[0].set_default(OVERLOADED)
        free, bound = proxy.issue_key(), proxy.issue_key(models=(MODEL,))
        publish_owner(nats.url, TeamRecord(team_id="few", models=(MODEL,)))
        of_team = proxy.issue_key(team_id="few")

        assert ask(proxy, free).status_code == 200
        assert ask(proxy, bound).status_code == 529
        assert ask(proxy, of_team).status_code == 529
        assert [len(mock.messages()) for mock in mocks[:2]] == [3, 1]
        messages_records(proxy, 4)


def localhost(mock: MockAnthropic) -> str:
    """Return another name of the mock's host, to which a client's own credential may not go."""
    return f"http://localhost:{mock.port}"


def test_a_subscription_falls_back_to_the_companys_key_only_where_the_file_says_so(
    tmp_path: Path, nats: NatsServer, mocks: list[MockAnthropic]
) -> None:
    """Given a spent subscription, then a fallback is used, and a deployment of the group is not."""
    own = model_entry(mocks[0].url, name=MODEL, order=1)
    paid = model_entry(localhost(mocks[1]), name=MODEL, api_key=API_KEY, order=2)
    other = model_entry(localhost(mocks[2]), name="paid", api_key=API_KEY)
    spent = Scenario(reply="error", status=429)
    for number, router in enumerate(({}, {"fallbacks": [{MODEL: ["paid"]}]})):
        folder = tmp_path / str(number)
        folder.mkdir()
        for mock in mocks:
            mock.reset()
        mocks[0].set_default(spent)
        with proxy_for(folder, nats, own, paid, other, **router) as proxy:
            answer = ask(proxy, proxy.issue_key(), headers=OWN)
            assert answer.status_code == (200 if router else 429)
            asked = [len(mock.messages()) for mock in mocks]
            assert asked == ([1, 0, 1] if router else [1, 0, 0])
            assert all(OWN["authorization"] not in str(mock.requests()) for mock in mocks[1:])
            records = messages_records(proxy, 3 if router else 1)
    assert [record.billing for record in records] == ["subscription", "subscription", "api"]


def test_requests_beyond_what_a_deployment_may_have_go_elsewhere_or_are_refused(
    tmp_path: Path, nats: NatsServer, mocks: list[MockAnthropic]
) -> None:
    """Given one request at a time for each of two, then a third at once is answered with 503."""
    with proxy_for(tmp_path, nats, *entries(mocks[:2], max_parallel_requests=1)) as proxy:
        key = proxy.issue_key()
        for mock in mocks[:2]:
            mock.set_default(Scenario(delay_ms=1500))
        with ThreadPoolExecutor(3) as pool:
            running = [pool.submit(ask, proxy, key) for _ in range(2)]
            for mock in mocks[:2]:
                mock.wait_for_requests(1, ended=False)
            refused = ask(proxy, key)
            assert refused.status_code == 503
            assert "max_parallel_requests" in refused.json()["error"]["message"]
            assert refused.headers["retry-after"] == "1"
            assert [each.result().status_code for each in running] == [200, 200]
        for mock in mocks[:2]:
            mock.reset()
        assert ask(proxy, key).status_code == 200


def test_an_alias_is_served_by_its_model_and_hidden_ones_are_not_listed(
    tmp_path: Path, nats: NatsServer, mocks: list[MockAnthropic]
) -> None:
    """Given two aliases, then both are served to keys that may use the model; one is shown."""
    aliases = {"claude-fast": MODEL, "claude-secret": {"model": MODEL, "hidden": True}}
    with proxy_for(tmp_path, nats, *entries(mocks[:1]), model_group_alias=aliases) as proxy:
        key = proxy.issue_key(models=(MODEL,))
        stranger = proxy.issue_key(models=("claude-x",))
        for name in aliases:
            assert ask(proxy, key, model=name).status_code == 200
            assert ask(proxy, stranger, model=name).status_code == 403
        listed = [model["id"] for model in proxy.models(key).json()["data"]]
        assert listed == [MODEL, "claude-fast"]
        records = messages_records(proxy, 2)
        assert [record.model_name for record in records] == list(aliases)


def test_streams_have_a_timeout_of_their_own(
    tmp_path: Path, nats: NatsServer, mocks: list[MockAnthropic]
) -> None:
    """Given a short stream_timeout, then a slow stream is given up and a slow message is not."""
    mocks[0].set_default(Scenario(delay_ms=1200))
    deployments = entries(mocks[:1], timeout=20, stream_timeout=0.4)
    with proxy_for(tmp_path, nats, *deployments) as proxy:
        key = proxy.issue_key()
        assert ask(proxy, key, stream=True).status_code == 504
        assert ask(proxy, key).status_code == 200


def test_counting_tokens_is_repeated_whatever_happened(
    tmp_path: Path, nats: NatsServer, mocks: list[MockAnthropic]
) -> None:
    """Given an error that a paid request would stop at, then count_tokens goes on: it is free."""
    with proxy_for(tmp_path, nats, *entries(mocks[:2])) as proxy:
        key = proxy.issue_key()
        session = session_of(proxy, key, mocks, 0)
        broken = {"x-mock-scenario": json.dumps({"reply": "error", "status": 500})}
        mocks[0].set_default(BROKEN)
        answer = ask(proxy, key, session=session, path="/v1/messages/count_tokens", headers=broken)

        assert answer.status_code == 500
        assert answer.headers["x-tallygate-attempts"] == "2"
        assert [len(mock.requests()) for mock in mocks[:2]] == [1, 1]


def test_a_session_comes_back_to_its_deployment_when_that_is_well_again(
    tmp_path: Path, nats: NatsServer, mocks: list[MockAnthropic]
) -> None:
    """Given a deployment that cools down for a second, then its session is elsewhere until then."""
    router = {"allowed_fails": 0, "cooldown_time": 1}
    with proxy_for(tmp_path, nats, *entries(mocks[:2]), **router) as proxy:
        key = proxy.issue_key()
        session = session_of(proxy, key, mocks, 1)
        mocks[1].queue(OVERLOADED)
        for _ in range(3):
            assert ask(proxy, key, session=session).status_code == 200
        assert [len(mock.messages()) for mock in mocks[:2]] == [3, 1]
        wait_until(lambda: ask(proxy, key, session=session) and len(mocks[1].messages()) > 1)
        before = len(mocks[0].messages())
        assert ask(proxy, key, session=session).status_code == 200
        assert len(mocks[0].messages()) == before


def test_a_client_that_leaves_between_two_attempts_ends_the_request(
    tmp_path: Path, nats: NatsServer, mocks: list[MockAnthropic]
) -> None:
    """Given a repetition that waits, when the client leaves, then it is not made."""
    with proxy_for(tmp_path, nats, *entries(mocks[:1]), num_retries=1, retry_after=2) as proxy:
        key = proxy.issue_key()
        mocks[0].set_default(BROKEN)
        with pytest.raises(httpx.ReadTimeout):
            ask(proxy, key, timeout_s=1)
        (record,) = messages_records(proxy, 1)
        assert (record.status, record.http_status) == ("failure", 500)
        time.sleep(2)
        assert len(mocks[0].messages()) == 1
        assert "Traceback" not in proxy.log()


def test_a_proxy_killed_in_a_second_attempt_books_both(
    tmp_path: Path, nats: NatsServer, mocks: list[MockAnthropic]
) -> None:
    """Given a request that was moved, when the proxy is killed, then its next life ends it."""
    with proxy_for(tmp_path, nats, *entries(mocks[:2])) as proxy:
        key = proxy.issue_key()
        session = session_of(proxy, key, mocks, 0)
        mocks[0].set_default(OVERLOADED)
        mocks[1].set_default(Scenario(delay_ms=20_000))
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(ask, proxy, key, session=session)
            mocks[1].wait_for_requests(1, ended=False)
            proxy.kill()
            assert isinstance(running.exception(), httpx.HTTPError)
        proxy.start()
        first, second = messages_records(proxy, 2)
        assert (first.http_status, first.error_type) == (529, "overloaded_error")
        assert (second.error_type, second.attempt_of) == ("proxy_died", first.request_id)
        assert second.deployment == f"{MODEL}/1"


def test_proxies_agree_on_a_sessions_deployment_without_talking(
    tmp_path: Path, nats: NatsServer, mocks: list[MockAnthropic]
) -> None:
    """Given two proxies of one configuration, then a session goes the same way through both."""
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    with (
        proxy_for(folders[0], nats, *entries(mocks)) as one,
        proxy_for(folders[1], nats, *entries(mocks)) as other,
    ):
        key = one.issue_key()
        other.wait_known(key)
        for number in range(12):
            for proxy in (one, other):
                assert ask(proxy, key, session=f"s-{number}").status_code == 200
        records = messages_records(one, 24)
    by_session: dict[str | None, list[str | None]] = {}
    for record in records:
        by_session.setdefault(record.session_id, []).append(record.deployment)
    assert all(len(found) == 2 and len(set(found)) == 1 for found in by_session.values())
    assert len({found[0] for found in by_session.values()}) > 1


def wait_until(holds: Callable[[], Any], *, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_killed_deployment_loses_no_request_that_could_be_moved(
    tmp_path: Path, nats: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Given two deployments under load, when one is killed, then the clients hardly notice.

    Only a request that the killed one had already got is answered with an error: it may have been
    billed. All others are moved. Every attempt is booked once.
    """
    with (
        MockAnthropic.started(tmp_path_factory.mktemp("dies")) as dies,
        MockAnthropic.started(tmp_path_factory.mktemp("lives")) as lives,
        proxy_for(tmp_path, nats, *entries([dies, lives])) as proxy,
    ):
        key = proxy.issue_key()
        dies.set_default(Scenario(delay_ms=20))
        lives.set_default(Scenario(delay_ms=20))
        killed = threading.Event()

        def work(worker: int) -> list[tuple[bool, int]]:
            found = []
            for number in range(40):
                was_dead = killed.is_set()
                answer = ask(proxy, key, session=f"{worker}-{number}")
                found.append((was_dead, answer.status_code))
            return found

        with ThreadPoolExecutor(8) as pool:
            running = [pool.submit(work, worker) for worker in range(8)]
            wait_until(lambda: len(dies.requests(bodies=False)) > 20)
            dies.kill()
            killed.set()
            answers = [answer for each in running for answer in each.result()]

        statuses = [status for _, status in answers]
        assert {status for was_dead, status in answers if was_dead} == {200}
        assert set(statuses) <= {200, 502}
        # At most one request of each client was under way when it was killed.
        assert statuses.count(502) <= 8
        after = [status for was_dead, status in answers if was_dead]
        assert len(after) > 50, "the kill came too late to show anything"
        events = [event for event in proxy.events() if isinstance(event, UsageRecorded)]
        moved = [event for event in events if event.data.attempt_of is not None]
        records = messages_records(proxy, len(answers) + len(moved))
        assert sum(record.status == "success" for record in records) == statuses.count(200)
        failed = [record for record in records if record.status == "failure"]
        assert {record.deployment for record in failed} == {f"{MODEL}/0"}
        # It cools down after a few, and again by the first that tries it afterwards: most
        # requests never go there any more.
        assert len(failed) <= 8 + 8 + len(after) // 10


def test_sessions_keep_prompt_caches_warm(
    tmp_path: Path, nats: NatsServer, mocks: list[MockAnthropic]
) -> None:
    """Given conversations of ten turns and three deployments, each with a cache of its own.

    When sessions keep to their deployments, then as much is read from caches as one deployment
    alone would give. When each request goes anywhere, it is visibly less.
    """
    turns, conversations = 10, 20
    for mock in mocks:
        mock.set_default(Scenario(caches=True))
    with proxy_for(tmp_path, nats, *entries(mocks)) as proxy:
        key = proxy.issue_key()

        def converse(number: int, *, is_sticky: bool) -> tuple[int, int]:
            history: list[dict[str, str]] = []
            read = prompt = 0
            for turn in range(turns):
                text = f"{is_sticky} {number} {turn} " + "word " * 200
                history.append({"role": "user", "content": text})
                answer = ask(
                    proxy, key, session=f"c-{number}" if is_sticky else None, messages=history
                )
                usage = answer.json()["usage"]
                read += usage["cache_read_input_tokens"]
                prompt += usage["cache_read_input_tokens"] + usage["input_tokens"]
                prompt += usage["cache_creation_input_tokens"]
                history.append({"role": "assistant", "content": "reply " * 100})
            return read, prompt

        shares = {}
        for is_sticky in (True, False):
            with ThreadPoolExecutor(4) as pool:
                found = list(pool.map(partial(converse, is_sticky=is_sticky), range(conversations)))
            shares[is_sticky] = sum(each[0] for each in found) / sum(each[1] for each in found)
        per_mock = [len(mock.requests(bodies=False)) for mock in mocks]
    ideal = ideal_share(turns)
    print(  # noqa: T201 - the figures are the point
        f"cache-read share: ideal {ideal:.3f}, sticky {shares[True]:.3f}, "
        f"random {shares[False]:.3f}; requests by deployment {per_mock}"
    )
    assert shares[True] > ideal - 0.01
    assert shares[False] < ideal - 0.1
    assert min(per_mock) > 0


def ideal_share(turns: int) -> float:
    """Return the share that is read from the cache where all goes to one deployment."""
    user = len(json.dumps({"role": "user", "content": "True 10 0 " + "word " * 200})) // 4
    reply = len(json.dumps({"role": "assistant", "content": "reply " * 100})) // 4
    read = prompt = 0
    for turn in range(turns):
        # What the request before had is known; its reply is written now, the new text is input.
        read += max(0, turn * user + max(0, turn - 1) * reply)
        prompt += (turn + 1) * user + turn * reply
    return read / prompt
