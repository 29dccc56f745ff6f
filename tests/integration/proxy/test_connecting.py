"""How a connection to a deployment comes about, and which step is named where it does not."""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop

from schemas.errors import UpstreamError
from services.proxy import dial as dialling
from services.proxy.connection import Connection
from services.proxy.connector import Connector, ConnectSettings
from services.proxy.dial import ATTEMPT_DELAY_S, dial, resolve
from services.proxy.pool import PoolSettings, UpstreamPool
from services.proxy.tunnel import TUNNEL_HEAD_BYTES_MAX
from services.proxy.upstream import Origin, UpstreamRequest
from tests.support.certificates import Certificates
from tests.support.connect_proxy import TUNNEL, ConnectProxy, connect_proxy
from tests.support.ports import free_port
from tests.support.scripted import scripted_server

GOOD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
SECRET = "s3cret-of-the-proxy"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def way_out() -> Iterator[ConnectProxy]:
    with connect_proxy() as proxy:
        yield proxy


def fetch(url: str, **connect: Any) -> bytes:
    """Ask a deployment over a pool of its own and return the whole body."""
    connect.setdefault("timeout_s", 1.0)

    async def work() -> bytes:
        settings = PoolSettings(
            connections_max=4, keepalive_s=20, connect=ConnectSettings(**connect)
        )
        pool = UpstreamPool(settings)
        request = UpstreamRequest(b"POST", Origin.from_url(url), b"/v1/messages", [], b"{}", 3, 3)
        try:
            answer = await pool.handle_async_request(request)
            body = b"".join([chunk async for chunk, _ in answer.chunks()])
            await answer.aclose()
            return body
        finally:
            await pool.aclose()

    return uvloop.run(work())


def fault(url: str, **connect: Any) -> tuple[str, str]:
    """Return the kind and the message of the error that asking ends in."""
    with pytest.raises(UpstreamError) as caught:
        fetch(url, **connect)
    assert not caught.value.was_sent
    return caught.value.kind, caught.value.message


@contextmanager
def full_listener() -> Iterator[int]:
    """Give a port at which connections hang: its queue of them is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = []
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        yield listener.getsockname()[1]
        for filler in fillers:
            filler.close()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# ------------------------------------------------------------------------------ names, addresses


def test_name_without_an_address_is_told() -> None:
    # Given a name that nobody has, then the step is the name.
    kind, message = fault("http://no-such-host.invalid")
    assert kind == "upstream_dns"
    assert message.startswith("The name of no-such-host.invalid has no address")


def test_slow_name_server_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a name server that does not answer, then the time-out names the step.
    async def never(*_: object) -> Any:
        await asyncio.sleep(30)

    monkeypatch.setattr("services.proxy.connector.resolve", never)
    kind, message = fault("http://slow.invalid", timeout_s=0.2)
    assert kind == "upstream_dns"
    assert message == "Looking up slow.invalid took longer than 0.2 s"


def test_closed_port_is_told() -> None:
    # Given a port at which nobody listens, then that is what the error says.
    port = free_port()
    kind, message = fault(f"http://127.0.0.1:{port}")
    assert kind == "upstream_connect"
    assert message == f"No connection to 127.0.0.1:{port}: Connection refused"


def test_host_that_does_not_answer_is_told() -> None:
    # Given a port at which connections hang, then the time-out of connecting is named.
    with full_listener() as port:
        kind, message = fault(f"http://127.0.0.1:{port}", timeout_s=0.5)
    assert kind == "upstream_connect_timeout"
    assert message == f"Connecting to 127.0.0.1:{port} took longer than 0.5 s"


def addresses(*ports: int) -> list[Any]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]


def test_dead_address_costs_a_quarter_of_a_second() -> None:
    # Given one address that hangs and one that answers, then the second is used soon.
    async def work(targets: list[Any]) -> float:
        begun = time.monotonic()
        (await dial(targets)).close()
        return time.monotonic() - begun

    with full_listener() as dead, socket.create_server(("127.0.0.1", 0)) as live:
        took_s = uvloop.run(work(addresses(dead, live.getsockname()[1])))
    assert ATTEMPT_DELAY_S * 0.8 <= took_s < 2


def test_refused_address_costs_nothing_and_losers_are_closed() -> None:
    # Given addresses that refuse before one that answers, then no time is lost, nothing kept.
    async def work(targets: list[Any]) -> float:
        before = descriptors()
        begun = time.monotonic()
        for _ in range(20):
            (await dial(targets)).close()
        took_s = time.monotonic() - begun
        assert descriptors() == before
        return took_s

    with socket.create_server(("127.0.0.1", 0)) as live:
        port = live.getsockname()[1]
        took_s = uvloop.run(work(addresses(free_port(), free_port(), port)))
    assert took_s < 20 * ATTEMPT_DELAY_S


def test_both_reasons_are_told_where_no_address_answers() -> None:
    # Given an address of each family and none that answers, then both reasons are in the error.
    unreachable = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("255.255.255.255", 9))

    async def work() -> None:
        await dial([unreachable, *addresses(free_port())])

    with pytest.raises(OSError, match="Connection refused") as caught:
        uvloop.run(work())
    assert "; " in str(caught.value)


def test_addresses_of_both_families_alternate(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a name with many addresses, then the families take turns and the number is bounded.
    six, four = socket.AF_INET6, socket.AF_INET
    found = [(six, 1, 6, "", (f"::{n}", 1)) for n in range(9)]
    found += [(four, 1, 6, "", (f"10.0.0.{n}", 1)) for n in range(2)]

    async def work() -> list[Any]:
        async def lookup(*_: object, **__: object) -> Any:
            return found

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", lookup)
        return await resolve("h", 1)

    order = [each[4][0] for each in asyncio.run(work())]
    assert order[:5] == ["::0", "10.0.0.0", "::1", "10.0.0.1", "::2"]
    assert len(order) == dialling.ADDRESSES_MAX


# ------------------------------------------------------------------------------------------ TLS


def test_certificate_of_the_companys_ca_is_trusted(certificates: Certificates) -> None:
    # Given a deployment with a certificate of upstream_ca_file, then it is asked.
    with scripted_server(certificates.good()) as server:
        server.script(GOOD, close="keep")
        assert fetch(server.url, ca_file=str(certificates.ca_file)) == b"{}"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Certificates.expired, "certificate has expired"),
        (Certificates.wrong_host, "IP address mismatch"),
        (Certificates.untrusted_root, "unable to get local issuer certificate"),
        (Certificates.old_tls, "PROTOCOL"),
    ],
)
def test_doubtful_tls_is_refused_and_told(
    certificates: Certificates, make: Callable[[Certificates], ssl.SSLContext], words: str
) -> None:
    # Given a server that must not be trusted, then nothing is sent to it and the error says why.
    with scripted_server(make(certificates)) as server:
        kind, message = fault(server.url, ca_file=str(certificates.ca_file))
        assert server.requests == []
    assert kind == "upstream_tls"
    assert words in message


def test_certificate_without_the_ca_file_is_refused(certificates: Certificates) -> None:
    # Given the company's certificate and no upstream_ca_file, then it is not trusted.
    with scripted_server(certificates.good()) as server:
        kind, message = fault(server.url)
    assert kind == "upstream_tls"
    assert "cannot be trusted: unable to get local issuer certificate" in message


def test_self_signed_certificate_is_refused(certificates: Certificates, tmp_path: Path) -> None:
    # Given a server that vouches for itself, then it is not believed.
    with scripted_server(certificates.self_signed(tmp_path)) as server:
        kind, message = fault(server.url, ca_file=str(certificates.ca_file))
    assert (kind, "self-signed certificate" in message) == ("upstream_tls", True)


def test_plain_http_at_a_port_of_tls_is_told() -> None:
    # Given a server that does not speak TLS, then the error says so.
    with scripted_server() as server:
        server.script(GOOD, greeting=b"HTTP/1.1 400 Bad Request\r\n\r\n")
        kind, message = fault(server.url.replace("http:", "https:"))
    assert (kind, "WRONG_VERSION_NUMBER" in message) == ("upstream_tls", True)


def test_silence_instead_of_tls_is_told() -> None:
    # Given a server that accepts and says nothing, then the time-out names TLS.
    with scripted_server() as server:
        url = server.url.replace("http:", "https:")
        kind, message = fault(url, timeout_s=0.5)
    assert kind == "upstream_tls"
    assert message == f"Agreeing on TLS with 127.0.0.1:{server.port} took longer than 0.5 s"


def test_server_that_hangs_up_on_tls_is_told() -> None:
    # Given a server that closes at the first byte of TLS, then the step is TLS.
    with socket.create_server(("127.0.0.1", 0)) as listener:

        async def work() -> None:
            loop = asyncio.get_running_loop()
            origin = Origin.from_url(f"https://127.0.0.1:{listener.getsockname()[1]}")
            connector = Connector(ConnectSettings(timeout_s=2))
            opening = asyncio.create_task(
                connector.open(origin, lambda: Connection(_NoKeeper(), origin))
            )
            listener.setblocking(False)
            accepted, _ = await loop.sock_accept(listener)
            accepted.close()
            await opening

        with pytest.raises(UpstreamError) as caught:
            uvloop.run(work())
    assert caught.value.kind == "upstream_tls"


class _NoKeeper:
    def release(self, connection: Connection, *, is_clean: bool) -> None: ...

    def forget(self, connection: Connection) -> None: ...


# ---------------------------------------------------------------------------------------- proxies


def test_deployments_are_reached_through_the_proxy(
    certificates: Certificates, way_out: ConnectProxy
) -> None:
    # Given upstream_proxy with a password, then TLS goes through its tunnel, credentials told.
    proxy_url = f"http://us%40er:{SECRET}@127.0.0.1:{way_out.port}"
    with scripted_server(certificates.good()) as server:
        server.script(GOOD, close="keep")
        body = fetch(server.url, ca_file=str(certificates.ca_file), proxy_url=proxy_url)
        assert body == b"{}"
        assert len(server.requests) == 1
        assert b"proxy-authorization" not in server.requests[0].lower()
    (head,) = way_out.heads
    assert head.startswith(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n" % server.port)
    # base64 of us@er:s3cret-of-the-proxy
    assert b"Proxy-Authorization: Basic dXNAZXI6czNjcmV0LW9mLXRoZS1wcm94eQ==\r\n" in head


def test_proxy_of_the_environment_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, way_out: ConnectProxy
) -> None:
    # Given proxies in the environment, then nobody heeds them.
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{way_out.port}")
    with scripted_server() as server:
        server.script(GOOD, close="keep")
        assert fetch(server.url) == b"{}"
    assert way_out.heads == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 407 Who\r\n\r\n", "user name and password"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "it answered 502"),
        (b"HTTP/1.0 403 Forbidden\r\n\r\n", "it answered 403"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "it did not answer in HTTP"),
        (b"HTTP/1.1 200 OK\r\n", "it closed the connection without an answer"),
        (b"", "it closed the connection without an answer"),
        (TUNNEL + b"surprise", "it sent more than its answer"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 2 * TUNNEL_HEAD_BYTES_MAX, "its answer is too long"),
        (None, "longer than 0.5 s"),
    ],
)
def test_refusal_of_the_proxy_is_told(
    way_out: ConnectProxy, answer: bytes | None, words: str
) -> None:
    # Given a proxy that makes no tunnel, then the error names it, why, and no secret.
    way_out.answer = answer
    proxy_url = f"http://user:{SECRET}@127.0.0.1:{way_out.port}"
    kind, message = fault("https://api.example", proxy_url=proxy_url, timeout_s=0.5)
    assert kind == "upstream_proxy"
    assert words in message
    assert "the proxy 127.0.0.1" in message
    assert SECRET not in message


def test_proxy_that_is_not_there_is_told() -> None:
    # Given no proxy at its address, or at a name that nobody has, then it is the proxy's fault.
    kind, message = fault("https://api.example", proxy_url=f"http://127.0.0.1:{free_port()}")
    assert (kind, message) == (
        "upstream_proxy",
        "No connection to the proxy 127.0.0.1: Connection refused",
    )
    kind, message = fault("https://api.example", proxy_url="http://no-such-host.invalid:80")
    assert kind == "upstream_proxy"
    assert "the proxy no-such-host.invalid" in message


def test_secrets_of_the_proxy_are_in_no_repr() -> None:
    # Given the settings with a proxy's password, then printing the parts does not show it.
    settings = ConnectSettings(timeout_s=1, proxy_url=f"http://user:{SECRET}@proxy")
    connector = Connector(settings)
    assert SECRET not in f"{settings!r} {settings} {connector._proxy!r}"


def test_new_settings_close_what_was_made_under_others() -> None:
    # Given an idle connection, when the proxy is changed, then the next request is not sent on it.
    async def ask(pool: UpstreamPool, origin: Origin) -> None:
        request = UpstreamRequest(b"POST", origin, b"/v1/messages", [], b"{}", 3, 3)
        answer = await pool.handle_async_request(request)
        async for _ in answer.chunks():
            pass
        await answer.aclose()

    async def work(origin: Origin) -> None:
        direct = PoolSettings(
            connections_max=4, keepalive_s=20, connect=ConnectSettings(timeout_s=1)
        )
        pool = UpstreamPool(direct)
        await ask(pool, origin)
        changed = ConnectSettings(timeout_s=1, proxy_url=f"http://127.0.0.1:{free_port()}")
        pool.configure(msgspec.structs.replace(direct, connect=changed), frozenset({origin}))
        with pytest.raises(UpstreamError) as caught:
            await ask(pool, origin)
        assert caught.value.kind == "upstream_proxy"
        await pool.aclose()

    with scripted_server() as server:
        server.script(GOOD, close="keep")
        uvloop.run(work(Origin.from_url(server.url)))
