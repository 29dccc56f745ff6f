"""Which credential reaches which host, and that no secret is written anywhere."""

import json
import time
from collections.abc import Iterator

import httpx
import pytest

from schemas.events import QuotaSeen, UsageRecorded
from tests.support.mock import MockAnthropic, Scenario, headers_of, scenario_headers
from tests.support.nats import NatsServer
from tests.support.proxy import ProxyProcess, gateway_config, model_entry, running_proxy
from tests.support.scripted import scripted_server

OAUTH = "sk-ant-oat01-canary-of-a-subscriber"
API_KEY = "sk-ant-api03-canary-of-a-developer"
COMPANY = "sk-ant-api03-canary-of-the-company"


@pytest.fixture(scope="module")
def proxy(
    tmp_path_factory: pytest.TempPathFactory, nats: NatsServer, mock: MockAnthropic
) -> Iterator[ProxyProcess]:
    elsewhere = mock.url.replace("127.0.0.1", "localhost")
    config = gateway_config(
        model_entry(mock.url, name="own-or-company", api_key=COMPANY),
        model_entry(mock.url, name="own-alone"),
        model_entry(elsewhere, name="elsewhere", api_key=COMPANY),
        model_entry(elsewhere, name="elsewhere-own"),
        model_entry(mock.url, name="company", api_key=COMPANY),
        model_entry(mock.url, name="nobody"),
        forward=False,
    )
    config["litellm_settings"]["model_group_settings"] = {
        "forward_client_headers_to_llm_api": [
            "own-or-company",
            "own-alone",
            "elsewhere",
            "elsewhere-own",
        ]
    }
    with running_proxy(tmp_path_factory.mktemp("proxy"), nats.url, config) as running:
        yield running


@pytest.fixture(autouse=True)
def _fresh(mock: MockAnthropic) -> None:
    mock.reset()


def ask(proxy: ProxyProcess, model: str, headers: dict[str, str]) -> httpx.Response:
    body = json.dumps({"model": model, "messages": [], "stream": False}).encode()
    return httpx.post(
        f"{proxy.url}/v1/messages", content=body, headers=headers, trust_env=False, timeout=20
    )


def credentials(mock: MockAnthropic) -> dict[str, list[str]]:
    record = mock.wait_for_requests(1)[0]
    names = ("authorization", "x-api-key", "x-litellm-api-key")
    return {name: found for name in names if (found := headers_of(record, name))}


@pytest.mark.parametrize(
    ("model", "sent", "arrives"),
    [
        ("own-or-company", {"authorization": OAUTH}, {"authorization": OAUTH}),
        ("own-or-company", {"x-api-key": API_KEY}, {"x-api-key": API_KEY}),
        ("own-or-company", {}, {"x-api-key": COMPANY}),
        ("own-alone", {"authorization": OAUTH}, {"authorization": OAUTH}),
        ("elsewhere", {"authorization": OAUTH}, {"x-api-key": COMPANY}),
        ("elsewhere", {"x-api-key": API_KEY}, {"x-api-key": COMPANY}),
        ("company", {"authorization": OAUTH}, {"x-api-key": COMPANY}),
        ("company", {"x-api-key": API_KEY}, {"x-api-key": COMPANY}),
    ],
)
def test_each_host_sees_the_credential_that_is_meant_for_it(
    proxy: ProxyProcess,
    mock: MockAnthropic,
    model: str,
    sent: dict[str, str],
    arrives: dict[str, str],
) -> None:
    def wire(values: dict[str, str]) -> dict[str, str]:
        return {n: f"Bearer {v}" if n == "authorization" else v for n, v in values.items()}

    headers = {"x-litellm-api-key": f"Bearer {proxy.issue_key()}", **wire(sent)}

    assert ask(proxy, model, headers).status_code == 200
    assert credentials(mock) == {name: [value] for name, value in wire(arrives).items()}


@pytest.mark.parametrize(
    ("model", "sent", "named"),
    [
        ("own-alone", {}, "/login"),
        ("elsewhere-own", {"authorization": f"Bearer {OAUTH}"}, "oauth_hosts"),
        ("nobody", {"authorization": f"Bearer {OAUTH}"}, "forward_client_headers_to_llm_api"),
        ("nobody", {}, "api_key"),
    ],
)
def test_request_that_no_credential_may_go_with_is_401_and_names_the_setting(
    proxy: ProxyProcess, mock: MockAnthropic, model: str, sent: dict[str, str], named: str
) -> None:
    answer = ask(proxy, model, {"x-litellm-api-key": proxy.issue_key(), **sent})

    assert answer.status_code == 401
    assert answer.headers["x-should-retry"] == "false"
    assert named in answer.json()["error"]["message"]
    assert not mock.requests()


def test_the_quota_of_a_seat_is_told_when_it_is_new(proxy: ProxyProcess) -> None:
    # Given a subscription whose token is renewed between two answers that say the same of its
    # quota, when both are booked, then the first alone tells it, under a hash, with every header.
    account = '{"device_id":"d","account_uuid":"11111111-2222-4333-8444-555555555555"}'
    body = {"model": "own-alone", "messages": [], "metadata": {"user_id": account}}
    ids = []
    for token in (OAUTH, OAUTH + "-renewed"):
        headers = {"x-litellm-api-key": proxy.issue_key(), "authorization": f"Bearer {token}"}
        answer = httpx.post(
            f"{proxy.url}/v1/messages", json=body, headers=headers, trust_env=False, timeout=20
        )
        ids.append(answer.headers["x-tallygate-request-id"])
    prefix = "anthropic-ratelimit-"
    sent = {n[len(prefix) :]: v for n, v in answer.headers.items() if n.startswith(prefix)}
    deadline_s = time.monotonic() + 30
    told: dict[str, QuotaSeen | None] = {}
    while len(told) < len(ids):
        assert time.monotonic() < deadline_s, "the requests are not booked"
        records = [e.data for e in proxy.events() if isinstance(e, UsageRecorded)]
        told = {r.request_id: r.quota for r in records if r.request_id in ids}
    first, second = told[ids[0]], told[ids[1]]
    assert first is not None
    assert second is None
    assert first.headers == sent
    assert first.headers["unified-5h-utilization"] == "0.07"
    assert len(first.seat) == 32


@pytest.mark.parametrize("place", ["x-litellm-api-key", "authorization", "x-api-key", "both"])
def test_virtual_key_is_found_in_each_place_and_never_goes_on(
    proxy: ProxyProcess, mock: MockAnthropic, place: str
) -> None:
    key, other = proxy.issue_key(), proxy.issue_key()
    headers = {
        "x-litellm-api-key": {"x-litellm-api-key": key, "x-api-key": other},
        "authorization": {"authorization": f"Bearer {key}", "x-api-key": other},
        "x-api-key": {"x-api-key": key},
        "both": {"authorization": f"Bearer {key}", "x-api-key": key},
    }[place]

    assert ask(proxy, "own-or-company", headers).status_code == 200
    assert credentials(mock) == {"x-api-key": [COMPANY]}
    wire = mock.requests()[0]
    assert key not in str(wire.headers)
    assert other not in str(wire.headers)


def test_proxies_of_the_environment_are_ignored(
    tmp_path_factory: pytest.TempPathFactory, nats: NatsServer, mock: MockAnthropic
) -> None:
    """Given HTTP_PROXY names a trap, then the trap sees nothing."""
    with scripted_server() as trap:
        trap.script(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", close="keep")
        folder = tmp_path_factory.mktemp("trapped")
        config = gateway_config(model_entry(mock.url, name="m", api_key=COMPANY))
        proxy = ProxyProcess(folder, nats.url, config)
        names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
        proxy.environment = dict.fromkeys(names, trap.url) | {"NO_PROXY": "", "no_proxy": ""}
        proxy.start()
        try:
            headers = {"x-litellm-api-key": proxy.issue_key()}
            assert ask(proxy, "m", headers).status_code == 200
        finally:
            proxy.kill()
        assert not trap.requests
    assert len(mock.messages()) == 1


def test_no_secret_is_in_logs_outbox_stream_or_errors(
    proxy: ProxyProcess, mock: MockAnthropic, nats: NatsServer
) -> None:
    """Given canaries in every header and body, and faults of all kinds, then none is written."""
    key = proxy.issue_key(key_alias="canary")
    prompt, answer_text = "prompt-canary-4711", "answer-canary-0815"
    unknown = "sk-unknown-canary-key"
    body = json.dumps({"model": "own-alone", "stream": True, "messages": [prompt]}).encode()
    answers = []
    for scenario in (
        Scenario(text=answer_text),
        Scenario(fault="reset"),
        Scenario(fault="half_chunk", fault_after_events=4, text=answer_text),
        Scenario(reply="garbage"),
        Scenario(reply="error", status=500),
    ):
        for headers in (
            {"x-litellm-api-key": key, "authorization": f"Bearer {OAUTH}"},
            {"x-litellm-api-key": key, "x-api-key": API_KEY, "cookie": "session=cookie-canary"},
            {"authorization": f"Bearer {unknown}"},
            {"x-litellm-api-key": f"{key} {key}", "x-api-key": API_KEY},
        ):
            for content in (body, body[:-9]):
                try:
                    answer = httpx.post(
                        f"{proxy.url}/v1/messages?beta=query-canary",
                        content=content,
                        headers=headers | scenario_headers(scenario),
                        trust_env=False,
                    )
                    answers.append(str(answer.headers) + answer.text.replace(answer_text, ""))
                except httpx.RemoteProtocolError:
                    continue
    written = "".join(answers) + proxy.log() + str(proxy.events())
    written += "".join(p.read_text(errors="replace") for p in proxy.outbox.iterdir())
    for path in nats.store_dir.rglob("*"):
        if path.is_file():
            written += path.read_text(errors="replace")
    assert "canary" in written  # the alias, so the look is in the right places
    for secret in (
        *(key, OAUTH, API_KEY, COMPANY, unknown),
        *(prompt, answer_text, "cookie-canary", "query-canary"),
    ):
        assert secret not in written, secret
