"""What is asked and answered is kept word for word, for those alone who ask for it."""

import asyncio
import json
import random
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from schemas.prompts import PROMPT_BODY_BYTES_MAX
from schemas.streams import PROMPTS
from services.runtime.bus import Bus
from services.runtime.nats_server import running_nats_url
from tests.support.gateway import MASTER_KEY, Gateway, wait_until
from tests.support.mock import MockAnthropic, Scenario

SAID = "the colour of the owl is violet"


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, _mock_anthropic_process: MockAnthropic
) -> Iterator[Gateway]:
    with Gateway.started(tmp_path_factory.mktemp("gateway"), _mock_anthropic_process) as running:
        yield running


def served(gateway: Gateway, key: str, text: str, **options: Any) -> httpx.Response:
    """Ask something as soon as the proxy knows the key; return the answer."""
    messages = [{"role": "user", "content": text}]

    def answer() -> httpx.Response | None:
        found = gateway.ask(key, messages=messages, **options)
        return None if found.status_code == 401 else found

    return wait_until(answer, 10, "the proxy knows the key")


def shown(gateway: Gateway, request_id: str) -> httpx.Response:
    headers = {"authorization": f"Bearer {MASTER_KEY}"}
    return gateway.client.get("/prompt/info", params={"request_id": request_id}, headers=headers)


def stored(gateway: Gateway, answer: httpx.Response) -> Any:
    request_id = answer.headers["x-tallygate-request-id"]

    def found() -> Any:
        told = shown(gateway, request_id)
        return told.json() if told.status_code == 200 else None

    return wait_until(found, 10, "what was asked is stored")


@pytest.mark.parametrize("stream", [True, False])
def test_a_key_that_asks_for_it_has_its_words_kept(gateway: Gateway, *, stream: bool) -> None:
    # Given a key with store_prompts, when it asks and is answered, then the master key is shown
    # both bodies as they were, and the ledger has none of it.
    key = gateway.new_key(store_prompts=True)
    answer = served(gateway, key, SAID, stream=stream)
    found = stored(gateway, answer)
    assert json.loads(found["request"])["messages"] == [{"role": "user", "content": SAID}]
    assert found["response"].encode() == answer.content
    assert (found["status"], found["is_request_cut"], found["is_response_cut"]) == (
        200,
        False,
        False,
    )
    assert found["response_type"] == answer.headers["content-type"]
    assert "sk-ant-oat01" not in json.dumps(found)
    rows = gateway.sql("SELECT * FROM requests")
    assert SAID not in json.dumps(rows)


def test_a_key_that_does_not_ask_has_nothing_kept(gateway: Gateway) -> None:
    # Given a key without store_prompts, and one that said it once and takes it back, when they ask,
    # then nothing is kept, and the answer says what that may have come from.
    plain = served(gateway, gateway.new_key(), SAID)
    kept = gateway.new_key(store_prompts=True)
    stored(gateway, served(gateway, kept, SAID))
    gateway.admin("POST", "/key/update", json={"key": kept, "store_prompts": False})

    def is_kept() -> bool:
        answer = served(gateway, kept, SAID)
        after = served(gateway, gateway_key, SAID)
        # What came later is there, so this one would be.
        stored(gateway, after)
        return shown(gateway, answer.headers["x-tallygate-request-id"]).status_code == 200

    gateway_key = gateway.new_key(store_prompts=True)
    wait_until(lambda: not is_kept(), 10, "the proxy knows that the key keeps nothing any more")
    told = shown(gateway, plain.headers["x-tallygate-request-id"])
    assert told.status_code == 404
    assert "store_prompts" in told.json()["error"]["message"]


def test_only_the_master_key_is_shown_it(gateway: Gateway) -> None:
    # Given a stored prompt, when its own key, or an analyst's, asks for it, then it is refused.
    key = gateway.new_key(store_prompts=True, analyst="all")
    request_id = served(gateway, key, SAID).headers["x-tallygate-request-id"]
    told = gateway.client.get(
        "/prompt/info",
        params={"request_id": request_id},
        headers={"authorization": f"Bearer {key}"},
    )
    assert told.status_code in {401, 403}


def test_a_failure_and_a_long_body_are_kept_as_far_as_they_go(
    gateway: Gateway, mock_anthropic: MockAnthropic
) -> None:
    # Given a deployment that answers with an error, and a body that is too long to be kept whole,
    # then the error is kept, and of the body what fits, and it is said that it was cut.
    key = gateway.new_key(store_prompts=True)
    mock_anthropic.set_default(Scenario(reply="error", status=529))
    answer = served(gateway, key, "x" * (PROMPT_BODY_BYTES_MAX + 1))
    found = stored(gateway, answer)
    assert found["status"] == 529
    assert found["response"].encode() == answer.content
    assert len(found["request"]) == PROMPT_BODY_BYTES_MAX
    assert found["is_request_cut"]


def test_the_stream_drops_by_age_and_size(gateway: Gateway) -> None:
    # Given a running gateway and more than a MiB of prompts, when the next configuration allows no
    # more and other days, then NATS has the age, sets no room aside, and the oldest are gone, while
    # the newest can still be read.
    url = running_nats_url(gateway.data, "ledger-writer")
    assert url is not None

    def config() -> dict[str, Any]:
        async def ask() -> dict[str, Any]:
            bus = await Bus.connect(url, "ledger-writer")
            try:
                return await bus._stream_api(f"$JS.API.STREAM.INFO.{PROMPTS.name}", b"")
            finally:
                await bus.close()

        found = asyncio.run(ask())
        return {**found["config"], **found["state"]}

    found = config()
    assert (found["max_age"], found["max_bytes"]) == (30 * 86_400 * 10**9, -1)
    key = gateway.new_key(store_prompts=True)
    chance = random.Random(1)
    # What cannot be packed.
    answers = [served(gateway, key, chance.randbytes(300_000).hex()) for _ in range(6)]
    newest = answers[-1].headers["x-tallygate-request-id"]
    stored(gateway, answers[-1])
    assert config()["bytes"] > 2**20
    text = gateway.config.read_text()
    gateway.config.write_text(
        text + "  prompt_retention_days: 7\n  prompt_stream_bytes_max: 1048576\n"
    )
    gateway.admin("POST", "/config/reload", json={})
    wait_until(lambda: config()["bytes"] <= 2**20, 10, "the oldest are dropped")
    assert config()["max_age"] == 7 * 86_400 * 10**9
    oldest = answers[0].headers["x-tallygate-request-id"]
    assert (shown(gateway, newest).status_code, shown(gateway, oldest).status_code) == (200, 404)
