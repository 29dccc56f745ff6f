"""Files, models, counts of tokens and what passes through, with a real proxy process."""

import asyncio
import hashlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import httpx2
import pytest

from schemas.events import UsageRecord, UsageRecorded
from schemas.registry import TeamRecord
from tests.support.mock import MockAnthropic, Scenario, scenario_headers
from tests.support.nats import running_nats
from tests.support.proxy import (
    ProxyProcess,
    gateway_config,
    model_entry,
    publish_owner,
    running_proxy,
)
from tests.support.scripted import ScriptedServer, scripted_server
from tests.support.wire import question

API_KEY = "sk-ant-api03-the-company"
UPLOAD_BYTES_MAX = 40 * 1024 * 1024


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockAnthropic]:
    with MockAnthropic.started(tmp_path_factory.mktemp("mock")) as running:
        yield running


@pytest.fixture(scope="module")
def scripted() -> Iterator[ScriptedServer]:
    with scripted_server() as running:
        yield running


@pytest.fixture(scope="module")
def proxy(
    tmp_path_factory: pytest.TempPathFactory, mock: MockAnthropic, scripted: ScriptedServer
) -> Iterator[ProxyProcess]:
    folder = tmp_path_factory.mktemp("proxy")
    entries = (
        model_entry(mock.url, api_key=API_KEY),
        model_entry(mock.url, name="claude-*", model="anthropic/*", api_key=API_KEY),
        model_entry(scripted.url, name="scripted", api_key=API_KEY),
    )
    config = gateway_config(
        *entries,
        forward=False,
        upload_bytes_max=UPLOAD_BYTES_MAX,
        request_bytes_max=1024 * 1024,
        client_body_timeout_s=1.0,
        client_disconnect="drain",
        upstream_connections_max=2,
        pass_through_paths=["/v1/skills*", "/v1/gone"],
    )
    with running_nats(folder) as nats, running_proxy(folder, nats.url, config) as running:
        yield running


@pytest.fixture(scope="module")
def key(proxy: ProxyProcess) -> str:
    return proxy.issue_key(key_alias="paths")


@pytest.fixture(autouse=True)
def _fresh(mock: MockAnthropic) -> None:
    mock.reset()


def sdk(proxy: ProxyProcess, key: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(
        base_url=proxy.url,
        api_key=key,
        max_retries=0,
        http_client=httpx2.Client(trust_env=False, timeout=60),
    )


def call(proxy: ProxyProcess, key: str, method: str, path: str, **options: Any) -> httpx.Response:
    headers = {"x-litellm-api-key": key, **options.pop("headers", {})}
    return httpx.request(
        method, f"{proxy.url}{path}", headers=headers, trust_env=False, timeout=30, **options
    )


def record_of(proxy: ProxyProcess, answer: Any) -> UsageRecord:
    """Return the record of an answered request."""
    wanted = answer.headers["x-tallygate-request-id"]
    deadline = time.monotonic() + 40
    while True:
        for event in proxy.events():
            if isinstance(event, UsageRecorded) and event.data.request_id == wanted:
                return event.data
        assert time.monotonic() < deadline, "the request is not recorded"
        time.sleep(0.02)


def memory_bytes(pid: int) -> int:
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


# ------------------------------------------------------------------------------------ files


def test_the_sdk_uploads_lists_reads_and_deletes_a_file(
    proxy: ProxyProcess, key: str, mock: MockAnthropic
) -> None:
    # Given Anthropic's SDK and a file larger than requests may be, then all of the Files API works
    # and the content comes back as it was.
    content = os.urandom(3 * 1024 * 1024)
    with sdk(proxy, key) as client:
        made = client.beta.files.upload(file=("big.bin", content, "application/octet-stream"))
        assert made.size_bytes == len(content)
        assert [each.id for each in client.beta.files.list()] == [made.id]
        assert client.beta.files.retrieve_metadata(made.id).filename == "big.bin"
        assert client.beta.files.download(made.id).read() == content
        client.beta.files.delete(made.id)

    seen = mock.requests()
    assert {record.method for record in seen} == {"GET", "POST", "DELETE"}
    for record in seen:
        assert [value for name, value in record.headers if name == "x-api-key"] == [API_KEY]


def test_files_are_recorded_and_cost_nothing(proxy: ProxyProcess, key: str) -> None:
    # Given an upload, then its record says what it was, and that it used no tokens.
    files = {"file": ("a.txt", b"hello")}
    answer = call(proxy, key, "POST", "/anthropic/v1/files?beta=true", files=files)

    assert answer.status_code == 200
    record = record_of(proxy, answer)
    assert (record.endpoint, record.path) == ("files", "/v1/files")
    assert (record.status, record.usage, record.estimated) == ("success", None, False)
    assert record.request_bytes == int(answer.request.headers["content-length"])
    assert record.key_alias == "paths"


@pytest.mark.parametrize("known_length", [True, False])
def test_an_upload_is_passed_on_byte_for_byte_and_never_held_whole(
    proxy: ProxyProcess, key: str, mock: MockAnthropic, *, known_length: bool
) -> None:
    # Given a body of 30 MiB with and without a length, then the deployment gets its bytes, and the
    # proxy has grown by far less.
    piece = os.urandom(1024 * 1024)
    body = piece * 30

    def pieces() -> Iterator[bytes]:
        for _ in range(30):
            yield piece

    headers = {"content-type": "multipart/form-data; boundary=none"}
    if known_length:
        headers["content-length"] = str(len(body))
    before = memory_bytes(proxy.pid)
    answer = call(proxy, key, "POST", "/v1/files", content=pieces(), headers=headers)

    assert answer.status_code == 400, "the mock finds no file in it"
    record = mock.wait_for_requests(1)[0]
    assert record.body_bytes == len(body)
    assert record.body_sha256 == hashlib.sha256(body).hexdigest()
    names = {name for name, _ in record.headers}
    assert ("content-length" in names) is known_length
    assert memory_bytes(proxy.pid) - before < 12 * 1024 * 1024
    assert record_of(proxy, answer).error_type == "invalid_request_error"


@pytest.mark.parametrize("known_length", [True, False])
def test_a_file_that_is_too_large_is_413_and_names_the_setting(
    proxy: ProxyProcess, key: str, *, known_length: bool
) -> None:
    # Given a body beyond the limit, told or found out on the way, then it is refused.
    piece = b"x" * (1024 * 1024)

    def pieces() -> Iterator[bytes]:
        for _ in range(42):
            yield piece

    headers = {"content-length": str(42 * len(piece))} if known_length else {}
    answer = call(proxy, key, "POST", "/v1/files", content=pieces(), headers=headers)

    assert answer.status_code == 413
    assert "upload_bytes_max" in answer.json()["error"]["message"]


def upload_head(key: str) -> bytes:
    return (
        b"POST /v1/files HTTP/1.1\r\nhost: x\r\nx-litellm-api-key: %b\r\n"
        b"content-length: 1000\r\n\r\nhello" % key.encode()
    )


def test_an_upload_that_stands_still_is_408(proxy: ProxyProcess, key: str) -> None:
    # Given a client that stops in the middle, then it is told so within its limit.
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
        client.sendall(upload_head(key))
        answer = client.recv(65536)
    assert answer.startswith(b"HTTP/1.1 408")


def test_a_client_that_leaves_an_upload_is_booked_so_and_lets_the_deployment_go(
    proxy: ProxyProcess, key: str, mock: MockAnthropic
) -> None:
    # Given a client that goes away in the middle, then its record says so.
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
        client.sendall(upload_head(key))
        time.sleep(0.3)
    deadline = time.monotonic() + 40
    while True:
        left = [
            event.data
            for event in proxy.events()
            if isinstance(event, UsageRecorded) and event.data.status == "client_closed"
        ]
        if left or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    assert [record.endpoint for record in left] == ["files"]
    assert mock.requests() == [], "half a file is no request"


def test_an_answer_before_the_file_is_read_reaches_the_client_at_once(
    proxy: ProxyProcess, key: str, scripted: ScriptedServer
) -> None:
    # Given a deployment that refuses a file by its head, then the client, still sending, is told.
    scripted.book["early"] = ((b"HTTP/1.1 401 No\r\ncontent-length: 2\r\n\r\nno",), "hold")
    scripted.unread.add("early")
    extra = b"x-script: early\r\nx-tallygate-deployment: scripted/0\r\ncontent-length"
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
        client.sendall(upload_head(key).replace(b"content-length", extra))
        answer = client.recv(65536)
    assert answer.startswith(b"HTTP/1.1 401")
    assert answer.endswith(b"no")


# ------------------------------------------------------------------------- counts and models


def test_messages_have_litellm_s_prefix_too(
    proxy: ProxyProcess, key: str, mock: MockAnthropic
) -> None:
    # Given LiteLLM's prefix, then a message is one, metered and recorded as any other.
    answer = call(
        proxy, key, "POST", "/anthropic/v1/messages?beta=true", json=question(model="claude-x")
    )
    assert answer.status_code == 200
    assert mock.requests()[0].target == "/v1/messages?beta=true"
    record = record_of(proxy, answer)
    assert (record.endpoint, record.path) == ("messages", None)
    assert record.usage is not None


def test_26_counts_at_once_pass_through_two_connections(
    proxy: ProxyProcess, key: str, mock: MockAnthropic
) -> None:
    # Given the 26 counts that /context asks at once, and two connections to the API, then each is
    # answered: they wait for one another.
    async def ask() -> list[int]:
        headers = {
            "x-litellm-api-key": key,
            **scenario_headers(Scenario()),
        }
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            answers = await asyncio.gather(
                *(
                    client.post(
                        f"{proxy.url}/v1/messages/count_tokens?beta=true",
                        json=question(model="anthropic-claude"),
                        headers=headers,
                    )
                    for _ in range(26)
                )
            )
        return [answer.status_code for answer in answers]

    assert asyncio.run(ask()) == [200] * 26
    seen = mock.requests()
    assert len(seen) == 26
    assert {record.target for record in seen} == {"/v1/messages/count_tokens?beta=true"}
    assert len({record.connection for record in seen}) <= 2


def test_the_sdk_reads_the_models_page_by_page(proxy: ProxyProcess, key: str) -> None:
    # Given Anthropic's SDK, then it finds each model of the key, whatever a page holds.
    with sdk(proxy, key) as client:
        all_names = [model.id for model in client.models.list(limit=1000)]
        by_pages = [model.id for model in client.models.list(limit=3)]
        one = client.models.retrieve("claude-opus-4-1")
    assert "anthropic-claude" in all_names
    assert len(all_names) > 20
    assert by_pages == all_names
    assert one.display_name == "Claude Opus 4.1"


@pytest.mark.parametrize("path", ["/v1/models?limit=1000", "/v1/models/claude-opus-4-1"])
def test_head_of_models_has_no_body_and_the_length_of_get(
    proxy: ProxyProcess, key: str, path: str
) -> None:
    # Given HEAD, then the headers are those of GET, under both prefixes.
    for prefix in ("", "/anthropic"):
        full = call(proxy, key, "GET", prefix + path)
        head = call(proxy, key, "HEAD", prefix + path)
        assert (full.status_code, head.status_code, head.content) == (200, 200, b"")
        assert head.headers["content-length"] == str(len(full.content))


def test_a_restricted_key_sees_its_models_alone(proxy: ProxyProcess) -> None:
    # Given a key for one model, then the list holds that, and another one is not found.
    key = proxy.issue_key(models=("claude-opus-4-1",))
    version = {"anthropic-version": "2023-06-01"}
    answer = call(proxy, key, "GET", "/v1/models", headers=version).json()
    assert [model["id"] for model in answer["data"]] == ["claude-opus-4-1"]
    assert call(proxy, key, "GET", "/v1/models/claude-haiku-4-5").status_code == 404
    bad = call(proxy, key, "GET", "/v1/models?limit=x", headers=version)
    assert (bad.status_code, "limit" in bad.json()["error"]["message"]) == (400, True)


# ------------------------------------------------------------------------------ pass-through


def test_a_listed_path_passes_with_query_and_body_and_is_recorded(
    proxy: ProxyProcess, key: str, mock: MockAnthropic
) -> None:
    # Given a listed path, then it goes upstream as it came, and its record says that its usage is
    # not known.
    body = b'{"x": [1 ,2]}'
    headers = {"content-type": "application/json", "anthropic-beta": "skills-2025"}
    answer = call(
        proxy, key, "PUT", "/anthropic/v1/skills/a_1?limit=2", content=body, headers=headers
    )

    assert answer.status_code == 200
    assert answer.headers["x-tallygate-deployment"] == "anthropic-claude/0"
    seen = mock.wait_for_requests(1)[0]
    assert (seen.method, seen.target, seen.body) == ("PUT", "/v1/skills/a_1?limit=2", body)
    assert ("anthropic-beta", "skills-2025") in seen.headers
    record = record_of(proxy, answer)
    assert (record.endpoint, record.path) == ("pass_through", "/v1/skills/a_1")
    assert (record.usage, record.deployment) == (None, "anthropic-claude/0")
    started = {event.data.request_id for event in proxy.started()}
    assert record.request_id in started


def test_a_model_in_the_body_is_checked_and_spelled(
    proxy: ProxyProcess, key: str, mock: MockAnthropic
) -> None:
    # Given a body that names a model, then the alias is spelled out, a strange name is refused, and
    # a body that only claims to be JSON is, too.
    answer = call(proxy, key, "POST", "/v1/skills", json={"model": "anthropic-claude", "a": 1})
    assert answer.status_code == 200
    sent = json.loads(mock.requests()[0].body)
    assert sent == {"model": "claude-sonnet-4-20250514", "a": 1}
    assert call(proxy, key, "POST", "/v1/skills", json={"model": "gpt-4"}).status_code == 404
    few = proxy.issue_key(models=("claude-opus-4-1",))
    refused = call(proxy, few, "POST", "/v1/skills", json={"model": "anthropic-claude"})
    assert refused.status_code == 403
    publish_owner(proxy.nats_url, TeamRecord(team_id="opus", models=("claude-opus-4-1",)))
    of_team = proxy.issue_key(team_id="opus")
    refused = call(proxy, of_team, "POST", "/v1/skills", json={"model": "anthropic-claude"})
    assert "The team opus" in refused.json()["error"]["message"]
    kind = {"content-type": "application/json"}
    odd = call(proxy, key, "POST", "/v1/skills", content=b"{'model'", headers=kind)
    assert odd.status_code == 400
    twice = call(proxy, key, "POST", "/v1/skills", content=b'{"model":"a","model":"b"}')
    assert twice.status_code == 400
    assert len(mock.requests()) == 1
    text = call(proxy, key, "POST", "/v1/skills", content=b"no json")
    assert text.status_code == 200


def test_an_error_of_the_api_passes_and_is_recorded_by_its_type(
    proxy: ProxyProcess, key: str
) -> None:
    # Given a listed path that the API does not know, then its own error comes.
    answer = call(proxy, key, "GET", "/v1/gone")
    assert answer.status_code == 404
    record = record_of(proxy, answer)
    assert (record.status, record.error_type) == ("failure", "not_found_error")


def test_a_path_that_is_not_listed_names_the_setting(
    proxy: ProxyProcess, key: str, mock: MockAnthropic
) -> None:
    # Given a path that nobody listed, then the answer says what an administrator can do.
    answer = call(proxy, key, "GET", "/v1/organizations")
    assert answer.status_code == 404
    assert "pass_through_paths" in answer.json()["error"]["message"]
    assert mock.requests() == []


@pytest.mark.parametrize(
    "path",
    [
        "/v1/skills/../messages",
        "/v1/skills/..%2fmessages",
        "/v1/skills/%2e%2e/messages",
        "/v1/skills//x",
        "/v1/skills/;/../messages",
        "/v1/skills/x;y",
        "/v1/skills\\..\\messages",
        "/v1/files/../../admin",
        "/v1/files/%2e%2e/content",
        "/v1/messages/batches/..%2f..%2fx/results",
        "/anthropic/../v1/skills/../messages",
        "/anthropic/anthropic/v1/skills",
        "/v1/skills/x%00",
    ],
)
def test_no_trick_with_a_path_reaches_the_deployment(
    proxy: ProxyProcess, key: str, mock: MockAnthropic, path: str
) -> None:
    # Given paths that could be read in two ways, written raw, then none of them goes upstream.
    request = f"GET {path} HTTP/1.1\r\nhost: x\r\nx-litellm-api-key: {key}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
        client.sendall(request.encode("latin-1"))
        answer = client.recv(65536)
    assert answer.split(b" ")[1] in {b"400", b"404", b"405", b"503"}, answer
    assert mock.requests() == []


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/messages", "POST"),
        ("PUT", "/v1/messages/batches", "GET, POST"),
        ("POST", "/v1/files/file_1/content", "GET"),
        ("HEAD", "/v1/skills", "DELETE, GET, PATCH, POST, PUT"),
        ("DELETE", "/v1/models", "GET, HEAD"),
    ],
)
def test_a_method_that_does_not_fit_is_405_with_those_that_do(
    proxy: ProxyProcess, key: str, method: str, path: str, allow: str
) -> None:
    # Given another method, then the answer lists the right ones.
    answer = call(proxy, key, method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allow)
