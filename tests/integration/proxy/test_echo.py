"""Every end-to-end header reaches the other side, in both directions, over real sockets."""

import json
import socket
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.proxy.headers import METERED_CODINGS
from tests.support.nats import NatsServer
from tests.support.proxy import ProxyProcess, gateway_config, model_entry, running_proxy
from tests.support.scripted import ScriptedServer

Header = tuple[bytes, bytes]

EXAMPLES = 50
ANSWER_TIMEOUT_S = 20
BODY = json.dumps({"model": "anthropic-claude", "max_tokens": 1, "messages": []}).encode()
KNOWN = [
    b"Accept",
    b"Anthropic-Beta",
    b"anthropic-version",
    b"anthropic-dangerous-direct-browser-access",
    b"User-Agent",
    b"X-App",
    b"X-Claude-Code-Session-Id",
    b"x-claude-code-agent-id",
    b"X-Stainless-Retry-Count",
    b"Idempotency-Key",
    b"Request-Id",
    b"Retry-After",
    b"anthropic-ratelimit-unified-status",
    b"Cache-Control",
    b"ETag",
]
HOP_BY_HOP = [
    b"Keep-Alive",
    b"Proxy-Authenticate",
    b"Proxy-Authorization",
    b"Proxy-Connection",
    b"TE",
    b"Trailer",
]
TOKEN = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~"

made_up = st.lists(st.sampled_from(TOKEN), min_size=1, max_size=12).map(
    lambda letters: b"X-Of-Mine-" + bytes(letters)
)
names = st.one_of(st.sampled_from(KNOWN), made_up)
# Latin-1 is allowed on the wire, and some company's names have such letters.
letters = st.integers(0x21, 0xFF).filter(lambda byte: byte != 0x7F)
words = st.lists(letters, min_size=1, max_size=8).map(bytes)
values = st.lists(words, max_size=4).map(b" ".join)
end_to_end = st.lists(st.tuples(names, values), max_size=12)
per_hop = st.lists(st.tuples(st.sampled_from(HOP_BY_HOP), st.just(b"x")), max_size=2)


@pytest.fixture(scope="module")
def proxy(
    tmp_path_factory: pytest.TempPathFactory, nats: NatsServer, scripted: ScriptedServer
) -> Iterator[ProxyProcess]:
    config = gateway_config(model_entry(scripted.url, api_key="sk-ant-api03-echo"))
    with running_proxy(tmp_path_factory.mktemp("proxy"), nats.url, config) as running:
        yield running


@pytest.fixture(scope="module")
def key(proxy: ProxyProcess) -> str:
    return proxy.issue_key()


def lines(headers: list[Header]) -> bytes:
    return b"".join(name + b": " + value + b"\r\n" for name, value in headers)


def headers_in(message: bytes) -> list[Header]:
    head = message.partition(b"\r\n\r\n")[0]
    parted = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
    return [(name.lower(), value.strip(b" ")) for name, _, value in parted]


def plain(headers: list[Header]) -> list[Header]:
    """Return headers with names in lower case, those of one name in their order."""
    return sorted(((name.lower(), value) for name, value in headers), key=lambda header: header[0])


def without(headers: list[Header], *left_out: bytes) -> list[Header]:
    return [header for header in headers if header[0] not in left_out]


def exchange(proxy: ProxyProcess, head: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", proxy.port), ANSWER_TIMEOUT_S) as client:
        client.settimeout(ANSWER_TIMEOUT_S)
        client.sendall(head + BODY)
        answer = b""
        while part := client.recv(65_536):
            answer += part
        return answer


@given(asked=end_to_end, of_the_way=per_hop, answered=end_to_end, of_the_way_back=per_hop)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_end_to_end_headers_are_the_same_set_on_both_sides_in_both_directions(
    proxy: ProxyProcess,
    key: str,
    scripted: ScriptedServer,
    asked: list[Header],
    of_the_way: list[Header],
    answered: list[Header],
    of_the_way_back: list[Header],
) -> None:
    # given headers of all kinds on a request, and others on its answer
    scripted.script(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n"
        + lines([*answered, *of_the_way_back])
        + b"\r\n{}",
        close="keep",
    )
    own = [
        (b"Host", b"gateway"),
        (b"Connection", b"close"),
        (b"Content-Type", b"application/json"),
        (b"Content-Length", b"%d" % len(BODY)),
        (b"X-LiteLLM-Api-Key", key.encode()),
        (b"Accept-Encoding", b"gzip, br"),
    ]
    # when they go through the gateway
    answer = exchange(
        proxy, b"POST /v1/messages HTTP/1.1\r\n" + lines([*own, *of_the_way, *asked]) + b"\r\n"
    )
    # then the deployment got the client's, and nothing else but what the gateway must add
    (request,) = scripted.requests
    arrived = without(headers_in(request), b"host", b"content-length", b"x-api-key")
    assert (b"accept-encoding", b"gzip") in arrived
    assert b"br" not in METERED_CODINGS
    assert plain(without(arrived, b"accept-encoding", b"content-type")) == plain(asked)
    # and the client got the deployment's, and the gateway's own mark
    back = without(
        headers_in(answer), b"content-type", b"content-length", b"connection", b"date", b"server"
    )
    assert [name for name, _ in back].count(b"x-tallygate-request-id") == 1
    assert plain(without(back, b"x-tallygate-request-id")) == plain(answered)
    assert answer.endswith(b"\r\n\r\n{}")
