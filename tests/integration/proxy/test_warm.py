"""Connections that are opened ahead: there before they are needed, never a burden."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from schemas.config import Settings
from services.proxy import pool as pools
from services.proxy import warm
from services.proxy.pool import PoolSettings, UpstreamPool
from services.proxy.upstream import Origin, UpstreamRequest
from tests.support.certificates import Certificates
from tests.support.fault_scripts import GOOD
from tests.support.nats import NatsServer
from tests.support.proxy import gateway_config, model_entry, running_proxy
from tests.support.scripted import ScriptedServer, scripted_server

pytestmark = pytest.mark.alone

LOOK_S = 0.02


def warmed(
    url: str,
    work: Callable[[UpstreamPool], Awaitable[None]],
    *,
    look_s: float = LOOK_S,
    **settings: object,
) -> None:
    """Run `work` with a pool that is kept warm to one origin."""

    async def run() -> None:
        pool_settings = PoolSettings.from_settings(Settings(**settings))  # type: ignore[arg-type]
        pool = UpstreamPool(pool_settings)
        pool.configure(pool_settings, frozenset({Origin.from_url(url)}))
        keeping = asyncio.create_task(warm.keep_warm(pool, look_s=look_s))
        try:
            await work(pool)
        finally:
            keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeping
            await pool.aclose()
            assert len(asyncio.all_tasks()) == 1

    uvloop.run(run())


async def ask(pool: UpstreamPool, url: str) -> None:
    request = UpstreamRequest(b"POST", Origin.from_url(url), b"/v1/messages", [], b"{}", 3, 3)
    answer = await pool.handle_async_request(request)
    async for _ in answer.chunks():
        pass
    await answer.aclose()


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def test_connections_with_tls_are_there_before_the_first_request(
    certificates: Certificates,
) -> None:
    # Given two to be kept open, then two handshakes are made ahead, and requests need none.
    with scripted_server(certificates.good()) as server:
        server.script(GOOD, close="keep")

        async def work(pool: UpstreamPool) -> None:
            # A handshake takes its time after the server has accepted, and its tickets come after
            # it: a connection with bytes that are not read yet would be taken for a closing one.
            await until(lambda: server.accepted == 2 and not pool.lacking(warm.WARM_FOR_S))
            await asyncio.sleep(0.2)
            for _ in range(5):
                await ask(pool, server.url)
            assert server.accepted == 2
            assert len(server.requests) == 5

        # At a second look one that is in use would be lacking, and another opened in its place.
        warmed(server.url, work, look_s=60.0, upstream_ca_file=str(certificates.ca_file))


def test_aged_connections_are_replaced() -> None:
    # Given connections that are too old to be used, then new ones take their place.
    with scripted_server() as server:
        server.script(GOOD, close="keep")

        async def work(pool: UpstreamPool) -> None:
            await until(lambda: server.accepted >= 4)
            assert server.accepted <= 6

        warmed(server.url, work, upstream_keepalive_s=1.0)


def test_host_that_nobody_uses_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a host without a request for a while, then nothing is opened to it any more.
    monkeypatch.setattr(warm, "WARM_FOR_S", 0.3)
    with scripted_server() as server:

        async def work(pool: UpstreamPool) -> None:
            await asyncio.sleep(2.5)
            assert server.accepted == 2

        warmed(server.url, work, upstream_keepalive_s=1.0)


def test_dead_host_is_asked_ever_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a host that speaks no TLS, then the pauses between the attempts double.
    monkeypatch.setattr(warm, "BACKOFF_S_MIN", 0.1)
    with scripted_server() as server:
        server.script(GOOD, greeting=b"no TLS\r\n")

        async def work(pool: UpstreamPool) -> None:
            await asyncio.sleep(1.4)
            # At 0, 0.1, 0.3, 0.7: with room for a busy machine.
            assert 2 <= server.accepted <= 5

        warmed(server.url.replace("http:", "https:"), work)


def test_host_that_closes_idle_connections_is_not_hammered() -> None:
    # Given a host that closes each connection at once, then it gets a handful, and is used still.
    async def work(pool: UpstreamPool) -> None:
        await until(lambda: server.accepted >= pools.CLOSED_UNUSED_MAX)
        await asyncio.sleep(0.5)
        assert server.accepted <= pools.CLOSED_UNUSED_MAX + 2

    class HangingUp(ScriptedServer):
        def _answer(self, _: object) -> bool:
            return False

    server = HangingUp()
    try:
        warmed(server.url, work)
    finally:
        server.stop()


def test_none_is_opened_where_none_is_wanted_or_there_is_no_room() -> None:
    # Given 0 to be kept open, or a limit of one, then no more than that are opened.
    with scripted_server() as server:

        async def nothing(pool: UpstreamPool) -> None:
            await asyncio.sleep(0.3)

        warmed(server.url, nothing, upstream_connections_warm=0)
        assert server.accepted == 0
        warmed(server.url, nothing, upstream_connections_max=1)
        assert server.accepted == 1


def test_proxy_opens_connections_when_it_starts(nats: NatsServer, tmp_path: Path) -> None:
    # Given a started proxy, then the deployment has its connections before it is asked.
    with scripted_server() as server:
        server.script(GOOD, close="keep")
        config = gateway_config(model_entry(server.url), upstream_connections_warm=3)
        with running_proxy(tmp_path, nats.url, config):
            deadline = time.monotonic() + 40
            while server.accepted < 3 and time.monotonic() < deadline:
                time.sleep(0.02)
            time.sleep(0.3)
            assert server.accepted == 3
            assert server.requests == []
