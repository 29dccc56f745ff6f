"""The page of one request: as the walkthrough shows it, and for those alone who may see it."""

import asyncio
import html
import re
from collections.abc import Iterator

import pytest

from schemas.prompts import StoredPrompt, encode_prompt
from schemas.streams import PROMPTS, prompt_subject
from services.runtime.bus import Bus
from tests.support.admin import MASTER_KEY, RunningAdmin
from tests.support.dashboard import LoggedIn, log_in
from tests.support.nats import NatsServer
from tests.support.query_reader import request_row, running_query_reader

HOSTILE = "<script>alert(1)</script>"
# Its first digits are the microseconds at which it began, as those of every id are.
LATE_ID = f"tg_{1_795_780_800_000_000:014x}{'ab' * 9}"
_PRICE = {
    "model": "claude-sonnet-4",
    "names": ["claude-sonnet-4", "claude-sonnet-4-20250514"],
    "above_prompt_tokens": 0,
    "up_to_prompt_tokens": 200_000,
    "input_usd_per_mtok": "3",
    "output_usd_per_mtok": "15",
    "cache_read_usd_per_mtok": "0.30",
    "cache_write_5m_usd_per_mtok": "3.75",
    "cache_write_1h_usd_per_mtok": "6",
    "usd_per_1000_web_searches": "10",
    "batch_multiplier": "0.5",
    "inference_geo_multipliers": {"key": ["us"], "value": ["1.1"]},
    "multiplier": "1",
    "origin": "book",
    "source": "the API's price page",
}


async def _store_prompt(url: str) -> None:
    """Keep the words of the walkthrough's request, as the ledger and a proxy do."""
    prompt = StoredPrompt(
        request_id="tg_walkthrough",
        started_at_us=1,
        key_id=None,
        request=b'{"messages":[{"role":"user","content":"' + HOSTILE.encode() + b'"}]}',
        status=200,
        response=b'data: {"type":"content_block_delta","delta":{"text":"Good morning"}}\n',
    )
    bus = await Bus.connect(url, "tests")
    await bus.ensure_expiring(PROMPTS, age_s_max=3600)
    await bus.publish(prompt_subject("tg_walkthrough"), encode_prompt(prompt))
    await bus.close()


@pytest.fixture(scope="module")
def own(admin: RunningAdmin) -> dict[str, object]:
    return admin.generate(key_alias="claude-code-test")


@pytest.fixture(scope="module", autouse=True)
def _reader(
    own: dict[str, object], nats: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    walkthrough = request_row(
        request_id="tg_walkthrough",
        key_id=str(own["key_id"]),
        key_alias="claude-code-test",
        response_model="claude-sonnet-4-20250514",
        ttfb_ms=1000,
        input_cost_usd="0.000006",
        output_cost_usd="0.004995",
        cache_read_cost_usd="0.0075426",
        cache_write_1h_cost_usd="0.23721",
        session_id="5e55-10a",
        stop_reason="end_turn",
        producer="worker-a",
        producer_sequence=41,
        stream_sequence=1207,
    )
    others = [
        request_row(
            request_id=LATE_ID,
            started_at="2026-11-26 12:00:00",
            key_id="key_other",
            key_alias=HOSTILE,
            user_agent=HOSTILE,
            status="refused",
            http_status=403,
            reason=HOSTILE,
            betas=f"a-2025,{HOSTILE}",
            attempt_of="tg_first",
        ),
        request_row(
            request_id="tg_first",
            started_at="2026-11-26 11:59:59",
            deployment="first-deployment",
            status="failure",
            http_status=529,
            cost_usd=None,
            unpriced=True,
            unpriced_reason="no price for the model",
        ),
    ]
    finding = {
        "found_at": "2026-11-20 10:00:00.500",
        "request_id": "tg_walkthrough",
        "guardrail": "house-rules",
        "action": "mask",
        "rule": "names",
        "hits": 2,
        "key_id": str(own["key_id"]),
        "stream_sequence": 1206,
    }
    under_way = {"request_id": "tg_open", "model_name": "claude-opus", "facts": "{}"}
    under_way |= dict.fromkeys(("started_at", "opened_at"), "2026-11-26 12:00:00")
    asyncio.run(_store_prompt(nats.url))
    with running_query_reader(
        tmp_path_factory.mktemp("reader"),
        nats.url,
        [walkthrough, *others],
        {"prices": [_PRICE], "guardrail_events": [finding], "open_requests": [under_way]},
    ):
        yield


@pytest.fixture(scope="module")
def master(admin: RunningAdmin) -> LoggedIn:
    return log_in(admin.url, MASTER_KEY)


def _words(text: str) -> str:
    """Return a page's words as they are read."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def test_request_is_shown_as_in_the_walkthrough(master: LoggedIn) -> None:
    # Given the walkthrough's request, when it is opened, then its page says what that one's does,
    # and shows how its cost comes about and what happened to it, in order.
    text = master.get("/ui/logs/tg_walkthrough").text
    words = _words(text)
    for said in (
        "Request of claude-code-test",
        "Model anthropic/claude-sonnet-4-20250514",
        "65,012 (64,679 prompt + 333 completion)",
        "$0.249754",
        "Status Success 200",
        "Duration 2.0 s",
        "Input 2 $3.00 $0.000006",
        "Cache write, 1 h 39,535 $6.00 $0.23721",
        "Cache read 25,142 $0.30 $0.0075426",
        "Output 333 $15.00 $0.004995",
        "Total 65,012 $0.2497536",
        "to the last digit. These are the price book's figures.",
    ):
        assert said in words, said
    assert 'href="/ui/sessions/5e55-10a?from=' in text
    events = re.findall(r"<code>([a-z]+[. ][a-z]+)</code>", text)
    assert events == ["request.started", "guardrail.triggered", "first byte", "usage.recorded"]
    assert "1,207 worker-a #41" in words


def test_hostile_words_are_words(master: LoggedIn) -> None:
    # Given a request whose every text is hostile, when it is opened, then nothing of it runs, its
    # first attempt is linked, and that one says that it has no price.
    text = master.get(f"/ui/logs/{LATE_ID}").text
    assert HOSTILE not in text
    assert html.escape(HOSTILE) in text
    assert "request.rejected" in text
    assert 'href="/ui/logs/tg_first"' in text
    first = _words(master.get("/ui/logs/tg_first").text)
    assert "no price for the model" in first
    assert "A further attempt at a deployment: refused (403)" in first


def test_request_is_shown_to_those_alone_who_may_see_it(
    admin: RunningAdmin, own: dict[str, object], master: LoggedIn
) -> None:
    # Given a key without a role, when it opens requests, then its own is there, without the words
    # of the prompt, and another's, one under way and one that never was look the same.
    session = log_in(admin.url, str(own["key"]))
    mine = session.get("/ui/logs/tg_walkthrough")
    assert mine.status_code == 200
    assert "/prompt" not in mine.text
    assert "this route needs" in _words(session.part("/ui/logs/tg_walkthrough/prompt").text)
    for request_id in (LATE_ID, "tg_first", "tg_open", "tg_nobody"):
        answer = session.get(f"/ui/logs/{request_id}")
        assert answer.status_code == 404
        assert "no request of this id" in answer.text
    assert "Request in progress" in master.get("/ui/logs/tg_open").text
    assert master.get("/ui/logs/tg_nobody").status_code == 404


def test_words_of_a_request_are_shown_where_they_were_kept(master: LoggedIn) -> None:
    # Given a request whose words were kept, when they are asked for, then both sides stand there
    # as text; of one whose words nobody kept the page says why not.
    assert "/ui/logs/tg_walkthrough/prompt" in master.get("/ui/logs/tg_walkthrough").text
    text = master.part("/ui/logs/tg_walkthrough/prompt").text
    assert HOSTILE not in text
    words = html.unescape(text)
    assert '"role": "user"' in words
    assert HOSTILE in words
    assert "Good morning" in words
    assert "store_prompts" in master.part("/ui/logs/tg_first/prompt").text
