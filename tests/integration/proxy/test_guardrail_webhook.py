"""A service of one's own decides about texts, asked over a real socket."""

import asyncio
import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from schemas.config import GatewayConfig
from schemas.errors import ApiError, Forbidden, Unavailable
from schemas.events import GuardrailHit
from schemas.guardrails import Guardrail, Webhook
from schemas.registry import KeyRecord
from services.proxy import webhooks
from services.proxy.draft import Draft
from services.proxy.guarding import Guarding
from services.proxy.setup import make_setup
from services.proxy.webhooks import batches_of
from tests.support.guardrail_service import GuardrailService

KEY = KeyRecord(
    key_id="k", key_hash="h" * 64, key_name="sk-...abcd", key_alias="ana", team_id="blue"
)
SIGNING_KEY = "the signing key of the tests"
BODY = {
    "model": "m",
    "system": "be kind",
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": 'say "hi"\n'}]},
        {"role": "assistant", "content": "hi"},
        {"role": "user", "content": "and é"},
    ],
}


@pytest.fixture
def service() -> Iterator[GuardrailService]:
    with GuardrailService.started() as running:
        yield running


class Worker:
    """A worker with one webhook: what it sends on, and what it told."""

    def __init__(self, url: str, action: Any = "block", **settings: Any) -> None:
        webhook = Webhook(url=url, **settings)
        self.guardrail = Guardrail(name="ours", kind="webhook", action=action, webhook=webhook)
        self.told: list[GuardrailHit] = []
        self.guarding = Guarding(self.told.append)
        self.setup = make_setup(GatewayConfig(path="", guardrails=(self.guardrail,)), "sk-x")

    def send(self, *bodies: dict[str, Any]) -> list[bytes]:
        """Send requests one after the other; return what is sent on of them."""

        async def all_of_them() -> list[bytes]:
            sent = []
            try:
                for body in bodies:
                    draft = Draft("tg_1", 1, "messages", self.setup, KEY, session_id="s")
                    draft.guardrails = (self.guardrail,)
                    text = json.dumps(body).encode()
                    sent.append(await self.guarding.check(draft, [], text))
            finally:
                await self.guarding.aclose()
            return sent

        return asyncio.run(all_of_them())

    def rules(self) -> list[tuple[str, str, str]]:
        return [(hit.action, each.rule, each.place) for hit in self.told for each in hit.findings]


def test_a_service_is_asked_about_what_is_new_and_knows_who_asks(
    service: GuardrailService,
) -> None:
    # Given a service that lets all pass, when a conversation grows, then it is asked about each
    # text once, in LiteLLM's words, with its key and a signature that it can check.
    worker = Worker(service.url + "/check", api_key="of-the-service", signing_key=SIGNING_KEY)
    longer = {**BODY, "messages": [*BODY["messages"], {"role": "user", "content": "more"}]}
    sent = worker.send(BODY, longer, longer)
    assert sent == [json.dumps(body).encode() for body in (BODY, longer, longer)]
    first, second = service.questions
    assert first.json == {
        "input_type": "request",
        "litellm_call_id": "tg_1",
        "litellm_trace_id": "s",
        "model": None,
        "request_data": {
            "user_api_key_hash": "h" * 64,
            "user_api_key_alias": "ana",
            "user_api_key_user_id": None,
            "user_api_key_team_id": "blue",
        },
        "texts": ["be kind", 'say "hi"\n', "and é"],
    }
    assert second.json["texts"] == ["more"]
    assert (first.path, first.headers["x-api-key"]) == ("/check", "of-the-service")
    question_id, at = (first.headers[f"webhook-{name}"] for name in ("id", "timestamp"))
    assert abs(int(at) - time.time()) < 60
    assert question_id != second.headers["webhook-id"]
    signed = f"{question_id}.{at}.".encode() + first.body
    mac = base64.b64encode(hmac.digest(SIGNING_KEY.encode(), signed, hashlib.sha256)).decode()
    assert first.headers["webhook-signature"] == f"v1,{mac}"
    assert worker.told == []


def test_a_service_changes_texts_and_all_else_stays(service: GuardrailService) -> None:
    # Given a service that takes a word out, then the texts are sent as it gives them, the same in
    # the next request without asking again, and it is told once. Where its word is only logged,
    # they are sent as they came.
    service.decide = lambda texts: {
        "action": "GUARDRAIL_INTERVENED",
        "texts": [text.replace('"hi"', "[\n]") for text in texts],
    }
    worker = Worker(service.url)
    expected = json.dumps(BODY).replace(r"\"hi\"", r"[\n]").encode()
    assert worker.send(BODY, BODY) == [expected, expected]
    assert len(service.questions) == 1
    assert worker.rules() == [("mask", "changed", "messages[0]")]
    log = Worker(service.url, "log")
    assert log.send(BODY) == [json.dumps(BODY).encode()]
    assert log.rules() == [("log", "changed", "messages[0]")]


def test_a_service_blocks_and_the_user_reads_its_reason(service: GuardrailService) -> None:
    # Given a service that blocks, then its reason is shown in one line; where its word is only
    # logged, then the request goes on as it came, and that is told once.
    service.decide = lambda _: {"action": "BLOCKED", "blocked_reason": "no\nkittens \x00 here"}
    worker = Worker(service.url)
    with pytest.raises(Forbidden, match=r"guardrail ours: no kittens here$"):
        worker.send(BODY)
    assert worker.rules() == [("block", "blocked", "messages")]
    log = Worker(service.url, "log")
    assert log.send(BODY, BODY) == 2 * [json.dumps(BODY).encode()]
    assert log.rules() == [("log", "blocked", "messages")]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (500, "the status 500"),
        (302, "the status 302"),
        (b"<html>", "not one of this API"),
        ({"action": "PERHAPS"}, "not one of this API"),
        ({"action": "GUARDRAIL_INTERVENED", "texts": ["one"]}, "others than it was asked about"),
        ({"action": "GUARDRAIL_INTERVENED"}, "others than it was asked about"),
        ({"action": "NONE", "padding": "x" * 2000}, "longer than"),
    ],
)
def test_no_proper_answer_lets_nothing_pass_unless_the_settings_say_so(
    service: GuardrailService, monkeypatch: pytest.MonkeyPatch, answer: Any, said: str
) -> None:
    # Given a service that answers in some other way, then the request is refused for a while, or
    # goes on where the settings say fail_open; both are told, and it is asked again next time.
    monkeypatch.setattr(webhooks, "ANSWER_BYTES_MAX", 1000)
    service.decide = lambda _: answer
    closed = Worker(service.url)
    with pytest.raises(Unavailable, match=f"nothing was sent: .*{said}") as refusal:
        closed.send(BODY)
    assert refusal.value.headers["retry-after"] == "1"
    opened = Worker(service.url, unreachable_fallback="fail_open")
    assert opened.send(BODY, BODY) == 2 * [json.dumps(BODY).encode()]
    assert closed.rules() == [("block", "unreachable", "messages")]
    assert opened.rules() == 2 * [("log", "unreachable", "messages")]
    assert [question.path for question in service.questions] == 3 * ["/"]


def test_a_service_that_is_silent_or_away_is_not_waited_for(service: GuardrailService) -> None:
    # Given a service that does not answer, and a port where nobody listens, then the time-out or
    # the error is what the refusal says.
    done = threading.Event()
    service.decide = lambda _: done.wait(30) or {"action": "NONE"}
    with pytest.raises(ApiError, match=r"no answer within 0.1 s"):
        Worker(service.url, timeout_s=0.1).send(BODY)
    done.set()
    with pytest.raises(ApiError, match=r"cannot be asked \(ConnectError\)"):
        Worker("http://127.0.0.1:9").send(BODY)


def test_long_texts_are_asked_about_in_several_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given texts of more bytes than a question carries, then none is left out or cut.
    monkeypatch.setattr(webhooks, "TEXTS_BYTES_MAX", 4)
    assert batches_of([]) == []
    assert batches_of(["éé", "a", "b", "ccccc", "d", "eee"]) == [
        ["éé"],
        ["a", "b"],
        ["ccccc"],
        ["d", "eee"],
    ]
