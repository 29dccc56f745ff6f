"""Message batches through real proxies: faithful, routed as one, each result booked once."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import httpx
import httpx2
import pytest

from schemas.events import UsageRecord, UsageRecorded
from services.proxy.batch_results import result_request_id
from services.runtime.bus import StreamState
from tests.support.ledger import LedgerProcess, read_books, run
from tests.support.mock import MockAnthropic
from tests.support.mock_anthropic.stores import result_usage
from tests.support.nats import NatsServer, running_nats
from tests.support.proxy import ProxyProcess, gateway_config, model_entry, running_proxy

MODEL = "claude-sonnet-4-20250514"
API_KEY = "sk-ant-api03-the-company"
OTHER_API_KEY = "sk-ant-api03-another-account"
INPUT_PICOS, OUTPUT_PICOS, READ_PICOS = 1_500_000, 7_500_000, 150_000
"""Half of $3, $15 and $0.30 a million tokens."""


def params(model: str = "anthropic-claude", text: str = "hi") -> dict[str, Any]:
    return {
        "model": model,
        "max_tokens": 10,
        "messages": [{"role": "user", "content": text}],
    }


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockAnthropic]:
    with MockAnthropic.started(tmp_path_factory.mktemp("mock")) as running:
        yield running


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with running_nats(tmp_path_factory.mktemp("nats")) as running:
        yield running


def config(mock: MockAnthropic, **settings: Any) -> dict[str, Any]:
    entries = (
        model_entry(mock.url, api_key=API_KEY),
        model_entry(mock.url, name="other-claude", api_key=OTHER_API_KEY),
        model_entry(mock.url, name="claude-*", model="anthropic/*", api_key=API_KEY),
    )
    return gateway_config(*entries, forward=False, **settings)


@pytest.fixture(scope="module")
def proxy(
    tmp_path_factory: pytest.TempPathFactory, nats: NatsServer, mock: MockAnthropic
) -> Iterator[ProxyProcess]:
    with running_proxy(tmp_path_factory.mktemp("proxy"), nats.url, config(mock)) as running:
        yield running


@pytest.fixture(scope="module")
def key(proxy: ProxyProcess) -> str:
    return proxy.issue_key(key_alias="batches")


def sdk(proxy: ProxyProcess, key: str, **headers: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(
        base_url=proxy.url,
        api_key=key,
        default_headers=headers,
        max_retries=0,
        http_client=httpx2.Client(trust_env=False, timeout=60),
    )


def call(proxy: ProxyProcess, key: str, method: str, path: str, **options: Any) -> httpx.Response:
    headers = {"x-litellm-api-key": key, **options.pop("headers", {})}
    return httpx.request(
        method, f"{proxy.url}{path}", headers=headers, trust_env=False, timeout=30, **options
    )


def results(proxy: ProxyProcess, batch_id: str, count: int) -> list[UsageRecord]:
    """Return the records of a batch's results, repeats included, once there are so many."""
    deadline = time.monotonic() + 40
    while True:
        found = [
            event.data
            for event in proxy.events()
            if isinstance(event, UsageRecorded)
            and event.data.endpoint == "batch_result"
            and event.data.batch_id == batch_id
        ]
        if len(found) >= count or time.monotonic() > deadline:
            return found
        time.sleep(0.02)


def expected_cost(index: int) -> Decimal:
    """Return half of the list price of the result at a place, from the figures of the mock."""
    usage = result_usage(index)
    picos = (
        usage["input_tokens"] * INPUT_PICOS
        + usage["output_tokens"] * OUTPUT_PICOS
        + usage["cache_read_input_tokens"] * READ_PICOS
    )
    return Decimal(picos).scaleb(-12)


def test_the_sdk_drives_a_batch_through_its_whole_life(
    proxy: ProxyProcess, key: str, mock: MockAnthropic
) -> None:
    # Given Anthropic's SDK, when it makes, lists, reads, cancels and deletes batches, then all of
    # it works, the results come through the gateway, and what succeeded is booked at batch price.
    mock.reset()
    with sdk(proxy, key) as client:
        names = ["first", "errored-1", "expired-1", "canceled-1", "last"]
        made = client.messages.batches.create(
            requests=[{"custom_id": name, "params": params()} for name in names]  # type: ignore[typeddict-item]
        )
        assert [batch.id for batch in client.messages.batches.list(limit=100)] == [made.id]
        assert client.messages.batches.retrieve(made.id).processing_status == "ended"
        found = list(client.messages.batches.results(made.id))
        assert client.messages.batches.cancel(made.id).processing_status == "canceling"
        assert client.messages.batches.delete(made.id).id == made.id

    assert [each.custom_id for each in found] == names
    assert {each.result.type for each in found} == {"succeeded", "errored", "expired", "canceled"}
    booked = results(proxy, made.id, 2)
    assert [record.custom_id for record in booked] == ["first", "last"]
    assert [record.request_id for record in booked] == [
        result_request_id(made.id, name) for name in ("first", "last")
    ]
    usage = booked[1].usage
    assert usage is not None
    assert (usage.input_tokens, usage.service_tier) == (1005, "batch")
    assert (booked[0].response_model, booked[0].billing) == (MODEL, "api")
    assert booked[0].key_alias == "batches"
    records = mock.requests()
    assert {record.method for record in records} == {"GET", "POST", "DELETE"}
    for record in records:
        assert [value for name, value in record.headers if name == "x-api-key"] == [API_KEY]
    sent = json.loads(records[0].body)
    assert {request["params"]["model"] for request in sent["requests"]} == {MODEL}


def test_a_batch_goes_upstream_as_it_came_but_for_its_models(
    proxy: ProxyProcess, key: str, mock: MockAnthropic
) -> None:
    # Given odd JSON with aliases and without, then the alias at requests[].params.model is another
    # name and no other byte has changed, wherever else "model" stands.
    mock.reset()
    odd = (
        b' {"x":"\\"requests\\"", "requests" : [\r\n {"params":{"max_tokens":1e2, "model" : '
        b'"anthropic-claude","messages":[{"role":"user","content":"\\"model\\":\\"x\\""}],'
        b'"metadata":{"model":"anthropic-claude"}},"custom_id":"a"} ,\n'
        b'{"custom_id":"params","params":{"model":"claude-opus-4-1","x":"\xc3\xa9"}}] } '
    )

    answer = call(proxy, key, "POST", "/v1/messages/batches?beta=true", content=odd)

    assert answer.status_code == 200, answer.text
    wanted = odd.replace(b'"anthropic-claude","messages"', b'"%b","messages"' % MODEL.encode())
    record = mock.wait_for_requests(1)[0]
    assert record.body == wanted
    assert record.target == "/v1/messages/batches?beta=true"
    assert answer.headers["x-tallygate-deployment"] == "anthropic-claude/0"


def test_a_keys_aliases_are_other_names_for_its_models_alone(
    proxy: ProxyProcess, key: str, mock: MockAnthropic
) -> None:
    # Given a key whose `models` are an alias of its own, one that stands for a name of all and one
    # whose meaning is missing, when it asks a model, makes a batch and lists models,
    mock.reset()
    aliases = {"fast": "anthropic-claude", "claude-opus-4-1": "anthropic-claude", "lost": "gpt-4"}
    mine, record = proxy.issue_record(models=("fast", "lost"), aliases=aliases)

    def ask(model: str, asking: str = mine) -> httpx.Response:
        content = b'{"model" : "%b","max_tokens":1,"messages":[]}' % model.encode()
        return call(proxy, asking, "POST", "/v1/messages", content=content)

    # Then the deployment is sent what the alias stands for and no other byte is changed, the
    # answer says what model answered, and the books have the name that it stands for.
    answer = ask("fast")
    assert (answer.status_code, answer.json()["model"]) == (200, MODEL)
    (sent,) = mock.wait_for_requests(1)
    assert sent.body == b'{"model" : "%b","max_tokens":1,"messages":[]}' % MODEL.encode()
    deadline = time.monotonic() + 40
    while not (events := [each for each in proxy.started() if each.data.key_id == record.key_id]):
        assert time.monotonic() < deadline
    assert (events[0].data.model_name, events[0].data.model) == ("anthropic-claude", MODEL)
    # What the alias stands for is not among its models, nor is its name anybody else's.
    assert ask("anthropic-claude").status_code == 403
    assert ask("claude-opus-4-1").status_code == 403
    assert ask("lost").status_code == 404
    assert ask("fast", key).status_code == 404
    listed = [each["id"] for each in proxy.models(mine).json()["data"]]
    assert listed == ["fast"]
    assert "fast" not in proxy.models(key).text
    batch = json.dumps({"requests": [{"custom_id": "a", "params": params(model="fast")}]})
    assert (
        call(proxy, mine, "POST", "/v1/messages/batches", content=batch.encode()).status_code == 200
    )
    made = json.loads(mock.wait_for_requests(2)[-1].body)
    assert made["requests"][0]["params"]["model"] == MODEL
    # A key that may use what it stands for may use the alias, before a model of its name.
    other = proxy.issue_key(models=("anthropic-claude",), aliases=aliases)
    assert ask("claude-opus-4-1", other).json()["model"] == MODEL
    assert json.loads(mock.wait_for_requests(3)[-1].body)["model"] == MODEL


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "cannot be read"),
        (b'{"requests":[]}', 400, "1 to 100000"),
        (b'{"requests":{}}', 400, "list"),
        (b'{"request":[]}', 400, "requests: this key must be there once"),
        (b'{"requests":[],"requests":[]}', 400, "requests: this key must be there once"),
        (b'{"requests":[{"custom_id":"a"}]}', 400, "requests.0: params"),
        (b'{"requests":[{"params":{"max_tokens":1}}]}', 400, "requests.0: model"),
        (b'{"requests":[{"params":{"model":"a","model":"b"}}]}', 400, "requests.0: model"),
        (b'{"requests":[{"params":{"model":"gpt-4"}}]}', 404, "gpt-4"),
        (
            b'{"requests":[{"params":{"model":"anthropic-claude"}},{"params":{"model":"other-claude"}}]}',
            400,
            "one account",
        ),
    ],
)
def test_a_batch_that_cannot_be_routed_is_refused_and_says_why(
    proxy: ProxyProcess, key: str, mock: MockAnthropic, body: bytes, status: int, message: str
) -> None:
    # Given a batch that cannot be read, or whose models live apart, then it reaches no deployment.
    mock.reset()
    answer = call(proxy, key, "POST", "/v1/messages/batches", content=body)

    assert (answer.status_code, message in answer.text) == (status, True), answer.text
    assert answer.json()["type"] == "error"
    assert mock.requests() == []


def test_a_model_that_the_key_may_not_use_cannot_be_had_by_a_batch(
    proxy: ProxyProcess, mock: MockAnthropic
) -> None:
    # Given a key for one model, when a batch holds another among allowed ones, then it is refused.
    mock.reset()
    key = proxy.issue_key(models=("anthropic-claude",))
    requests = [{"custom_id": str(i), "params": params()} for i in range(3)]
    requests.append({"custom_id": "x", "params": params("claude-opus-4-1")})

    answer = call(proxy, key, "POST", "/v1/messages/batches", json={"requests": requests})

    assert answer.status_code == 403
    assert "claude-opus-4-1" in answer.text
    assert mock.requests() == []


def test_a_batch_is_found_in_the_account_that_knows_it(
    proxy: ProxyProcess, key: str, mock: MockAnthropic
) -> None:
    # Given two accounts and a batch in the second, then its id leads there; a list is that of the
    # first account, or of the one that a header names.
    answer = call(
        proxy,
        key,
        "POST",
        "/v1/messages/batches",
        json={"requests": [{"custom_id": "a", "params": params("other-claude")}]},
    )
    batch_id = answer.json()["id"]
    assert answer.headers["x-tallygate-deployment"] == "other-claude/0"

    path = f"/v1/messages/batches/{batch_id}"
    assert call(proxy, key, "GET", path).json()["id"] == batch_id
    fetched = call(proxy, key, "GET", f"{path}/results")
    assert fetched.headers["x-tallygate-deployment"] == "other-claude/0"
    assert [record.deployment for record in results(proxy, batch_id, 1)] == ["other-claude/0"]
    listed = call(proxy, key, "GET", "/v1/messages/batches").json()["data"]
    assert batch_id not in {batch["id"] for batch in listed}
    chosen = {"x-tallygate-deployment": "other-claude/0"}
    listed = call(proxy, key, "GET", "/v1/messages/batches", headers=chosen).json()["data"]
    assert batch_id in {batch["id"] for batch in listed}
    wrong = call(
        proxy, key, "GET", "/v1/messages/batches", headers={"x-tallygate-deployment": "nobody"}
    )
    assert wrong.status_code == 400
    assert "other-claude/0" in wrong.text
    absent = call(proxy, key, "GET", "/v1/messages/batches/msgbatch_none")
    assert absent.status_code == 404
    assert mock.requests()[-1].headers is not None


def test_results_are_the_bytes_of_the_api_and_their_url_is_the_gateway_s(
    proxy: ProxyProcess, key: str, mock: MockAnthropic
) -> None:
    # Given a batch that ended, then its results_url leads through the gateway, under each prefix,
    # and what comes from there is byte for byte what the API says.
    requests = [{"custom_id": f"r{i}", "params": params()} for i in range(70)]
    made = call(proxy, key, "POST", "/anthropic/v1/messages/batches", json={"requests": requests})
    batch_id = made.json()["id"]

    batch = call(proxy, key, "GET", f"/anthropic/v1/messages/batches/{batch_id}")

    path = f"/v1/messages/batches/{batch_id}/results"
    assert batch.json()["results_url"] == path
    direct = httpx.get(mock.url + path, headers={"x-api-key": API_KEY}, trust_env=False)
    for prefix in ("", "/anthropic"):
        assert call(proxy, key, "GET", prefix + path).content == direct.content
    names = [record.custom_id for record in results(proxy, batch_id, 140)]
    assert sorted(names) == sorted([f"r{i}" for i in range(70)] * 2)


def test_a_spent_budget_takes_no_new_batch_and_still_gives_results(
    proxy: ProxyProcess, key: str, mock: MockAnthropic
) -> None:
    # Given a key whose budget is spent, then it makes no batch, and reads what was paid already.
    from schemas.budgets import BudgetState
    from tests.support.proxy import publish_budget

    batch = call(
        proxy,
        key,
        "POST",
        "/v1/messages/batches",
        json={"requests": [{"custom_id": "a", "params": params()}]},
    ).json()
    spent, record = proxy.issue_record(key_alias="spent")
    state = BudgetState(
        scope="key", scope_id=record.key_id, name="spent", spend_usd=Decimal(2), max_budget_usd=None
    )
    publish_budget(proxy.nats_url, state)
    mock.reset()

    deadline = time.monotonic() + 40
    while True:
        answer = call(
            proxy,
            spent,
            "POST",
            "/v1/messages/batches",
            json={"requests": [{"custom_id": "a", "params": params()}]},
        )
        if answer.status_code == 429 or time.monotonic() > deadline:
            break
    assert answer.status_code == 429
    assert answer.json()["error"]["type"] == "billing_error"
    fetched = call(proxy, spent, "GET", f"/v1/messages/batches/{batch['id']}/results")
    assert fetched.status_code == 200


def test_each_result_is_booked_once_at_half_price_whoever_is_killed(
    tmp_path: Path, nats: NatsServer, mock: MockAnthropic, proxy: ProxyProcess, key: str
) -> None:
    # Given 1,000 results, fetched at once through two proxies of which one is killed in the middle,
    # and once more after it is back, when writer and reader have taken all in, then each result is
    # one row at exactly half price in both books, and all other fetches were repeats.
    requests = [
        {"custom_id": f"r-{i}" if i % 50 else f"errored-{i}", "params": params()}
        for i in range(1000)
    ]
    batch = call(proxy, key, "POST", "/v1/messages/batches", json={"requests": requests}).json()
    path = f"/v1/messages/batches/{batch['id']}/results"
    with running_proxy(tmp_path, nats.url, config(mock)) as second:
        second.wait_known(key)
        whole: list[bytes] = []

        def fetch() -> None:
            answer = call(proxy, key, "GET", path, headers={"x-mock-pace-ms": "20"})
            whole.append(answer.content)

        thread = threading.Thread(target=fetch)
        thread.start()
        with httpx.stream(
            "GET",
            second.url + path,
            headers={"x-litellm-api-key": key, "x-mock-pace-ms": "20"},
            trust_env=False,
            timeout=30,
        ) as broken:
            seen = b""
            with suppress(httpx.RemoteProtocolError, httpx.ReadError):
                for chunk in broken.iter_raw():
                    seen += chunk
                    if seen.count(b"\n") > 300:
                        second.kill()
        thread.join()
        lines = [json.loads(line) for line in seen.split(b"\n")[:-1]]
        assert 300 < len(lines) < 1000
        assert whole[0].count(b"\n") == 1000
        # Its outbox is published by its next life.
        second.start()
        again = call(second, key, "GET", path)
        assert again.content == whole[0]
        second.stop()
        seen_twice = 980 * 2 + sum(line["result"]["type"] == "succeeded" for line in lines)
        times = Counter(record.custom_id for record in results(proxy, batch["id"], seen_twice))

    # What the killed one had given out, it had booked before.
    for line in lines:
        name = line["custom_id"]
        assert times[name] == (3 if line["result"]["type"] == "succeeded" else 0), name
    assert set(times.values()) == {2, 3}
    facts = []
    for role in ("writer", "reader"):
        with LedgerProcess.started(tmp_path / role, nats.url, role) as ledger:
            ledger.wait_ready()

            async def state(bus: Any) -> StreamState:
                found: StreamState = await bus.stream_state("USAGE")
                return found

            assert run(state, nats.url).last_sequence > 0
        rows = read_books(
            ledger.database,
            "SELECT custom_id, cost_usd, unpriced, service_tier, count(*) OVER () FROM requests "
            f"WHERE endpoint = 'batch_result' AND batch_id = '{batch['id']}'",
        )
        facts.append(sorted(rows))
    assert facts[0] == facts[1]
    assert {name: cost for name, cost, *_ in facts[0]} == {
        request["custom_id"]: expected_cost(index)
        for index, request in enumerate(requests)
        if index % 50
    }
    assert len(facts[0]) == 980
    assert {row[2:] for row in facts[0]} == {(False, "batch", 980)}


def test_a_fetch_that_ends_early_books_what_had_passed_and_the_next_one_the_rest(
    proxy: ProxyProcess, key: str
) -> None:
    # Given a client that leaves in the middle of the results, when it comes again, then every
    # result is booked, and the first fetch says how it ended.
    requests = [{"custom_id": f"r-{i}", "params": params()} for i in range(400)]
    batch = call(proxy, key, "POST", "/v1/messages/batches", json={"requests": requests}).json()
    path = f"/v1/messages/batches/{batch['id']}/results"
    with httpx.stream(
        "GET",
        proxy.url + path,
        headers={"x-litellm-api-key": key, "x-mock-pace-ms": "50"},
        trust_env=False,
    ) as answer:
        fetch = answer.headers["x-tallygate-request-id"]
        seen = b""
        for chunk in answer.iter_raw():
            seen += chunk
            if seen.count(b"\n") >= 100:
                break

    first = results(proxy, batch["id"], seen.count(b"\n"))
    assert 100 <= len(first) < 400
    assert call(proxy, key, "GET", path).content.count(b"\n") == 400
    both = results(proxy, batch["id"], len(first) + 400)
    assert len({record.request_id for record in both}) == 400
    records = [event.data for event in proxy.events() if isinstance(event, UsageRecorded)]
    (made,) = [
        record
        for record in records
        if record.batch_id == batch["id"] and record.path == "/v1/messages/batches"
    ]
    assert (made.endpoint, made.status, made.key_alias) == ("batches", "success", "batches")
    assert (made.model_name, made.model) == ("anthropic-claude", MODEL)
    (ended,) = [record for record in records if record.request_id == fetch]
    assert (ended.endpoint, ended.status) == ("batches", "client_closed")
    assert (ended.path, ended.batch_id) == (path, batch["id"])


def test_results_wait_while_they_cannot_be_recorded_and_are_then_cut(
    tmp_path: Path, mock: MockAnthropic
) -> None:
    # Given NATS away and little room in the outbox, when many results are fetched, then they stop
    # before the room is full, other requests are still served, and with NATS back all come.
    room = 400_000
    with running_nats(tmp_path) as own_nats:
        settings = {"outbox_bytes_max": room, "idle_timeout_s": 1.5}
        with running_proxy(tmp_path, own_nats.url, config(mock, **settings)) as proxy:
            key = proxy.issue_key()
            requests = [{"custom_id": f"r-{i}", "params": params()} for i in range(2000)]
            body = {"requests": requests}
            batch = call(proxy, key, "POST", "/v1/messages/batches", json=body).json()
            path = f"/v1/messages/batches/{batch['id']}/results"
            own_nats.kill()
            with pytest.raises(httpx.RemoteProtocolError):
                call(proxy, key, "GET", path)
            waiting = sum(each.stat().st_size for each in proxy.outbox.glob("*.journal"))
            assert room / 2 < waiting < room, "half, and what one piece of the answer holds"
            asked = call(proxy, key, "POST", "/v1/messages/count_tokens", json=params())
            assert asked.status_code == 200
            own_nats.start()
            deadline = time.monotonic() + 40
            while time.monotonic() < deadline:
                with suppress(httpx.RemoteProtocolError):
                    if call(proxy, key, "GET", path).content.count(b"\n") == 2000:
                        break
            names: set[str | None] = set()
            while len(names) < 2000 and time.monotonic() < deadline:
                names = {record.custom_id for record in results(proxy, batch["id"], 2000)}
    assert names == {f"r-{i}" for i in range(2000)}
