"""The seam to the deployments: another HTTP client can take the place of ours, and the reverse."""

import asyncio
import gzip
import hashlib
import re
from collections.abc import Iterator

import httpx
import pytest
import uvloop

from schemas.config import Settings
from schemas.events import UsageRecorded
from services.proxy.pool import PoolSettings, UpstreamPool
from tests.support.fault_scripts import SCRIPTS, Script
from tests.support.httpx_transport import PoolTransport
from tests.support.mock import MockAnthropic, Scenario, scenario_headers
from tests.support.nats import NatsServer
from tests.support.proxy import ProxyProcess, gateway_config, make_streams, model_entry
from tests.support.scripted import ScriptedServer

MODEL = "anthropic-claude"
_ID = re.compile(rb"(msg|req)_[0-9A-Za-z]+")
SCENARIOS = [
    Scenario(events=40),
    Scenario(events=40, chunk_bytes=7),
    Scenario(gzip=True, events=50),
    Scenario(giant_event_mib=2),
    Scenario(reply="error", status=529),
    Scenario(reply="html"),
]


@pytest.fixture(scope="module")
def proxies(
    tmp_path_factory: pytest.TempPathFactory, nats: NatsServer, mock: MockAnthropic
) -> Iterator[tuple[ProxyProcess, ProxyProcess]]:
    """Give two proxies: one with its own client, one with httpx in its place."""
    make_streams(nats.url)
    made = []
    for transport in ("own", "httpx"):
        config = gateway_config(model_entry(mock.url))
        proxy = ProxyProcess(tmp_path_factory.mktemp(transport), nats.url, config)
        proxy.environment["TALLYGATE_TEST_TRANSPORT"] = transport
        proxy.start()
        made.append(proxy)
    yield made[0], made[1]
    for proxy in made:
        proxy.kill()


def ask(
    proxy: ProxyProcess, key: str, scenario: Scenario
) -> tuple[int, set[tuple[bytes, bytes]], str]:
    """Return status, headers but those that differ by nature, and a hash of the body as it came."""
    headers = {"x-litellm-api-key": key, "authorization": "Bearer sk-ant-oat01-mock"}
    body = b""
    with httpx.stream(
        "POST",
        f"{proxy.url}/v1/messages",
        json={"model": MODEL, "stream": True, "messages": []},
        headers=headers | scenario_headers(scenario),
        timeout=20,
        trust_env=False,
    ) as answer:
        for part in answer.iter_raw():
            body += part
    own = {b"request-id", b"x-tallygate-request-id", b"date"}
    kept = {(name.lower(), text) for name, text in answer.headers.raw if name.lower() not in own}
    if answer.headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    return answer.status_code, kept, hashlib.sha256(_ID.sub(b"id", body)).hexdigest()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_answer_is_the_same_with_httpx_in_the_place_of_our_client(
    proxies: tuple[ProxyProcess, ProxyProcess], mock: MockAnthropic, scenario: Scenario
) -> None:
    # Given one answer through both, then status, headers and bytes are equal, and both are booked.
    own, other = proxies
    key = own.issue_key()
    other.wait_known(key)
    mock.reset()
    before = len([event for event in own.events() if isinstance(event, UsageRecorded)])
    through_own = ask(own, key, scenario)
    mock.reset()
    assert ask(other, key, scenario) == through_own
    own.recorded(before + 2)


@pytest.mark.parametrize(
    "script",
    [pytest.param(script, id=script.name) for script in SCRIPTS if script.name != "giant_event"],
)
def test_our_client_works_under_httpx(scripted: ScriptedServer, script: Script) -> None:
    # Given our pool as a transport of httpx, then each fault of the corpus ends in httpx's terms.
    scripted.book = {script.name: (script.steps, script.close)}
    scripted.unread = {script.name} if script.is_unread else set()

    async def work() -> str:
        pool = UpstreamPool(PoolSettings.from_settings(Settings()))
        async with httpx.AsyncClient(
            transport=PoolTransport(pool), timeout=0.6, trust_env=False
        ) as client:
            url = f"{scripted.url}/v1/messages"
            headers = {"x-script": script.name, "accept-encoding": "identity"}
            try:
                async with client.stream("POST", url, content=b"{}", headers=headers) as answer:
                    try:
                        async for _ in answer.aiter_raw():
                            pass
                    except httpx.RemoteProtocolError:
                        return f"{answer.status_code} broke"
                    return str(answer.status_code)
            except httpx.ReadTimeout:
                return "504"
            except httpx.ConnectError:
                return "502"
            finally:
                assert len(asyncio.all_tasks()) == 1

    expected = script.sees.replace(" cut", " broke").replace(" error event", " broke")
    if script.booked == "redirect":
        # Who follows redirects is not the transport's business.
        expected = "307" if script.name == "redirect" else "304"
    assert uvloop.run(work()) == expected
