"""Guardrails that look at texts: what is looked at, what is masked, what is told, and how often."""

import asyncio
import json
import threading
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.config import GatewayConfig
from schemas.errors import BadRequest, Forbidden
from schemas.events import GuardrailHit
from schemas.guardrails import FINDINGS_MAX, Guardrail, RequestRules
from schemas.registry import KeyRecord
from services.proxy import guarding as module
from services.proxy import scanning
from services.proxy.draft import Draft
from services.proxy.guarding import Guarding
from services.proxy.json_texts import Patch, patched, places_in, texts_in
from services.proxy.said import said_in
from services.proxy.scanning import Memory, Verdict
from services.proxy.setup import make_setup

SETTINGS = {"lists": [{"name": "codename", "category": "projects", "words": ["Falcon"]}]}
KEY = KeyRecord(key_id="k", key_hash="h", key_name="sk-...abcd")


def guardrail(action: str, name: str = "no projects", word: str = "Falcon") -> Guardrail:
    lists = [{"name": word.lower(), "category": "projects", "words": [word]}]
    return Guardrail(
        name=name,
        kind="block_list",
        action=action,  # type: ignore[arg-type]
        settings=msgspec.json.encode({"lists": lists}),
    )


class Worker:
    """A worker with some guardrails: what it sends on, and what it told."""

    def __init__(self, *guardrails: Guardrail) -> None:
        self.guardrails = guardrails
        self.told: list[GuardrailHit] = []
        self.guarding = Guarding(self.told.append)
        self.setup = make_setup(GatewayConfig(path="", guardrails=guardrails), "sk-x")

    def send(self, body: bytes | dict[str, Any], endpoint: Any = "messages") -> bytes:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        draft = Draft("tg_1", 1, endpoint, self.setup, KEY, guardrails=self.guardrails)
        return asyncio.run(self.guarding.check(draft, [], text))

    def places(self) -> list[tuple[str, int]]:
        return [(each.place, each.count) for hit in self.told for each in hit.findings]


def user(*texts: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": text} for text in texts]}


SAID = [
    {"messages": [{"role": "user", "content": "about Falcon"}]},
    {"messages": [user("a", "about falcon")]},
    {"system": "You know FALCON.", "messages": []},
    {"system": [{"type": "text", "text": "Falcon"}]},
    {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": "Falcon"}]}]},
    {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "content": [{"type": "text", "text": "Falcon"}]}
                ],
            }
        ]
    },
    {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "document", "source": {"type": "text", "data": "Falcon"}, "title": "x"}
                ],
            }
        ]
    },
    {"messages": [{"role": "user", "content": [{"type": "of_next_year", "says": ["Falcon"]}]}]},
    {"messages": [{"role": "system", "content": "Falcon"}]},
]


@pytest.mark.parametrize("body", SAID, ids=lambda body: json.dumps(body)[:60])
def test_what_is_said_anywhere_in_a_request_is_found(body: dict[str, Any]) -> None:
    # Given a word that may not leave the house, in whatever part of a request, also to count its
    # tokens, then nothing is sent, the user is told where it is, and the word is in no message.
    worker = Worker(guardrail("block"))
    for endpoint in ("messages", "count_tokens"):
        with pytest.raises(Forbidden, match=r"it found falcon in (messages|system)") as refusal:
            worker.send(body, endpoint)
        assert "Falcon" not in refusal.value.message
    assert [hit.action for hit in worker.told] == ["block", "block"]
    assert "Falcon" not in str(worker.told)


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "assistant", "content": "Falcon"}]},
        {"messages": [{"role": "user", "content": [{"type": "falcon", "id": "falcon"}]}]},
        {"messages": [user("falconry")], "metadata": {"user_id": "falcon"}, "model": "falcon"},
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"source": {"type": "base64", "data": "AAAA" * 100 + "/Falcon/" + "A" * 92}}
                    ],
                }
            ]
        },
    ],
    ids=("assistant", "names of things", "other fields", "base64"),
)
def test_what_is_no_text_of_the_user_passes(body: dict[str, Any]) -> None:
    # Given the word where nobody says it, then the request goes on, the very bytes.
    worker = Worker(guardrail("block"))
    text = json.dumps(body).encode()
    assert worker.send(text) is text
    assert worker.told == []


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages":[{"role":"user","content":"Falcon"}],"messages":[]}',
        b'{"messages":[{"role":"user","role":"assistant","content":"Falcon"}]}',
        b'{"messages":[{"role":"user","r\\u006fle":"assistant","content":"Falcon"}]}',
        b'{"messages":[{"role":"user","content":"ok","content":"F\\u0061lcon"}]}',
        b'{"messages":[{"role":"user","content":[{"type":"text","text":"Falcon","text":"ok"}]}]}',
        b'{"messages":{"role":"user","content":"Falcon"}}',
    ],
)
def test_a_text_is_not_hidden_by_the_form_of_a_request(body: bytes) -> None:
    # Given the word under a key that stands twice, or spelled with escapes, then it does not pass.
    with pytest.raises(Exception, match=r"falcon|each key once"):
        Worker(guardrail("block")).send(body)


def test_a_mask_leaves_every_other_byte_as_it_was() -> None:
    # Given odd but valid JSON with the word twice in one text and once in the system prompt, when
    # it is masked, then nothing else changes, the escapes of before included, and it is told once.
    worker = Worker(guardrail("mask"))
    body = (
        b'{ "system" : "\\u0046alcon",\n "model":"m", "messages":[ {"role":"user","content":'
        b'[{"type":"text","text":"\\u00e9 \\ud83d\\ude00 \\/ falcon\\n\xc3\xa9 '
        b'FALCON\\""}]} ] ,"x":1e3}'
    )
    masked = worker.send(body)
    assert masked == (
        b'{ "system" : "[MASKED:falcon]",\n "model":"m", "messages":[ {"role":"user","content":'
        b'[{"type":"text","text":"\\u00e9 \\ud83d\\ude00 \\/ [MASKED:falcon]\\n\xc3\xa9 '
        b'[MASKED:falcon]\\""}]} ] ,"x":1e3}'
    )
    assert worker.places() == [("system", 1), ("messages[0].content[0]", 2)]


def test_a_conversation_is_looked_at_once_and_masked_the_same_each_time() -> None:
    # Given a conversation that grows, when it is sent again, then only what is new is looked at,
    # what was masked once is masked to the same bytes (the prompt cache holds), and told once.
    worker = Worker(guardrail("mask"))
    looked: list[int] = []

    class Counting(scanning.Screening):
        def __init__(self, parts: Any, looks: Any) -> None:
            looked.extend(len(part) for part, _ in parts)
            super().__init__(parts, looks)

    first = {"system": "s", "messages": [user("Falcon"), {"role": "assistant", "content": "ok"}]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "Screening", Counting)
        before = json.loads(worker.send(first))
        assert len(looked) == 3
        later = {**first, "messages": [*first["messages"], user("more falcon")]}
        after = json.loads(worker.send(later))
    assert len(looked) == 4
    assert after["messages"][:2] == before["messages"]
    assert after["messages"][2]["content"][0]["text"] == "more [MASKED:falcon]"
    assert worker.places() == [("messages[0].content[0]", 1), ("messages[2].content[0]", 1)]


def test_what_is_blocked_stays_blocked_and_is_told_each_time() -> None:
    # Given a text that was refused, when it comes again in the conversation, then it is again.
    worker = Worker(guardrail("block"))
    for _ in range(2):
        with pytest.raises(Forbidden, match=r"/rewind or /clear"):
            worker.send({"messages": [user("Falcon")]})
    assert len(worker.told) == 2


def test_each_request_of_a_batch_is_looked_at() -> None:
    # Given a batch, when some of its requests say what may not leave the house, or break a rule,
    # then it is refused with their places, or masked there and nowhere else; a large one, too.
    params = {"model": "m", "max_tokens": 9, "messages": [user("Falcon")], "system": "Falcon"}
    fine = {**params, "messages": [user("ok")], "system": "ok"}
    batch = {"requests": [{"custom_id": "falcon", "params": each} for each in (fine, params, fine)]}
    text = json.dumps(batch, indent=1).encode()
    mask = Worker(guardrail("mask"))
    assert mask.send(text, "batches") == text.replace(b'"Falcon"', b'"[MASKED:falcon]"')
    places = [("requests[1].system", 1), ("requests[1].messages[0].content[0]", 1)]
    assert mask.places() == places
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "REMEMBERED_PARTS_MAX", 3)
        patch.setattr(scanning, "TOGETHER_BYTES", 60)
        large = Worker(guardrail("mask"))
        assert large.send(text, "batches") == mask.send(text, "batches")
        assert large.places() == places
        assert len(large.guarding._memory) == 0
    with pytest.raises(Forbidden, match=r"it found falcon in requests\[1\].system"):
        Worker(guardrail("block")).send(text, "batches")
    rules = Guardrail(name="r", kind="request_rules", rules=RequestRules(max_tokens_max=9))
    worker = Worker(rules)
    assert worker.send(text, "batches") is text
    with pytest.raises(Forbidden, match="max_tokens is 10"):
        worker.send(text.replace(b": 9,", b": 10,", 1), "batches")
    assert worker.places() == [("requests[0].body", 1)]
    for odd in (b"{}", b'{"requests":[{}]}', b'{"requests":[{"params":{"a":1,"a":2}}]}'):
        with pytest.raises(BadRequest, match="each key once"):
            worker.send(odd, "batches")


def test_other_guardrails_look_again() -> None:
    # Given a text that passed, when the configuration changes, then it is looked at anew.
    worker = Worker(guardrail("block", word="Eagle"))
    body = {"messages": [user("Falcon")]}
    worker.send(body)
    worker.guardrails = (guardrail("block"),)
    worker.setup = make_setup(GatewayConfig(path="", guardrails=worker.guardrails), "sk-x")
    with pytest.raises(Forbidden):
        worker.send(body)


def test_several_guardrails_each_look_at_the_request_as_it_came() -> None:
    # Given one that logs, two that mask overlapping texts and one that blocks another word, then
    # all are told of in order, and the masks cover all that was found.
    worker = Worker(
        guardrail("log", "log"),
        guardrail("mask", "mask"),
        guardrail("mask", "wider", "the Falcon"),
        guardrail("block", "block", "Eagle"),
    )
    sent = json.loads(worker.send({"messages": [user("see the Falcon fly")]}))
    assert sent["messages"][0]["content"][0]["text"] == "see [MASKED:the falcon] fly"
    assert [hit.guardrail for hit in worker.told] == ["log", "mask", "wider"]
    with pytest.raises(Forbidden, match="guardrail block"):
        worker.send({"messages": [user("the Falcon"), user("an Eagle")]})


def test_what_may_take_long_is_done_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given new texts, when they are looked at, then other requests wait only for those that are
    # short, or longer and have nothing in them.
    threads: list[bool] = []

    class Watched(scanning.Screening):
        def verdicts(self) -> Any:
            threads.append(threading.current_thread() is not threading.main_thread())
            return super().verdicts()

    monkeypatch.setattr(module, "Screening", Watched)
    monkeypatch.setattr(scanning, "Screening", Watched)
    worker = Worker(guardrail("mask"))
    some, long = module.INLINE_SEARCH_BYTES_MAX, module.INLINE_BYTES_MAX
    for size, word in ((some // 2, "Falcon"), (long // 2, "-"), (some, "Falcon"), (long, "-")):
        worker.send({"messages": [user(f"{word} " + "x" * size)]})
    worker.send({"messages": [user("a Falcon", *["-"] * some)]})
    assert threads == [False, False, True, True, True]
    assert [hit.findings[0].rule for hit in worker.told] == ["falcon"] * 3


def test_large_texts_are_looked_at_as_a_whole_and_many_findings_are_summed_up() -> None:
    # Given more new text than is looked at between other requests, and findings in more places
    # than an event may tell, then all are found, and the event tells the rest as one.
    worker = Worker(guardrail("mask"))
    messages = [user(f"{number} Falcon " + "x" * 1000) for number in range(FINDINGS_MAX + 20)]
    sent = worker.send({"messages": messages})
    assert len(sent) > module.INLINE_BYTES_MAX
    assert sent.count(b"[MASKED:falcon]") == FINDINGS_MAX + 20
    assert b"Falcon" not in sent
    (hit,) = worker.told
    assert len(hit.findings) == FINDINGS_MAX + 1
    assert (hit.findings[-1].rule, hit.findings[-1].count) == ("others", 20)


def test_a_memory_forgets_what_was_used_longest_ago() -> None:
    # Given a memory that is full, then what was recalled lately stays, and too much is not kept.
    memory = Memory(parts_max=2)
    memory.keep("a", None)
    memory.keep("b", None)
    assert memory.recall("a") == (True, None)
    memory.keep("c", (Verdict(),))
    assert [memory.recall(key)[0] for key in "abc"] == [True, False, True]
    memory.keep("d", (Verdict(patches=1001 * (Patch(0, 1, b""),)),))
    assert memory.recall("d") == (False, None)
    assert len(memory) == 2


TEXT = st.text(st.sampled_from('a"\\\né😀\x01/€ \ud800'), max_size=9)


@given(TEXT, st.booleans(), st.data())
def test_places_in_json_are_those_of_the_text(
    text: str,
    is_ascii: bool,  # noqa: FBT001 - hypothesis gives it by name
    data: st.DataObject,
) -> None:
    # Given any text, spelled with escapes or without, then each piece of it is found in its JSON.
    text = text.replace("\ud800", "") if not is_ascii else text
    literal = json.dumps(text, ensure_ascii=is_ascii).encode()[1:-1]
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    places = places_in(literal, text, [end, start])
    assert json.loads(b'"' + literal[places[start] : places[end]] + b'"') == text[start:end]


@settings(max_examples=40)
@given(
    st.recursive(
        TEXT | st.integers(),
        lambda x: st.lists(x, max_size=3) | st.dictionaries(TEXT, x, max_size=3),
        max_leaves=8,
    )
)
def test_every_text_of_a_value_is_seen(value: Any) -> None:
    # Given any JSON, then each string that is no key is among the texts, where it stands.
    def strings(value: Any) -> list[str]:
        if isinstance(value, str):
            return [value] if value else []
        inner = value.values() if isinstance(value, dict) else value if value != [] else []
        return [] if isinstance(value, int) else [text for each in inner for text in strings(each)]

    part = json.dumps(value).encode()
    found = list(texts_in(part))
    assert [each.text for each in found] == strings(value)
    assert all(json.loads(part[each.start - 1 : each.end + 1]) == each.text for each in found)


KEYS = st.sampled_from(["role", "type", "id", "data", "content", "r\u00f4le", 'a"b', "a/b", ""])


class Members(list[tuple[str, Any]]):
    """The members of an object; a key may come again."""


WHOLE = st.recursive(
    TEXT | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda x: st.lists(x, max_size=3) | st.lists(st.tuples(KEYS, x), max_size=4).map(Members),
    max_leaves=8,
)


def spelled(value: Any, random: Random) -> str:
    """A value as JSON with the spaces and escapes that a client may choose."""
    space = random.choice(["", "", " ", "\n"])
    if isinstance(value, Members):
        members = (f"{spelled(key, random)}:{space}{spelled(one, random)}" for key, one in value)
        return "{" + f",{space}".join(members) + "}"
    if isinstance(value, list):
        return "[" + f",{space}".join(spelled(one, random) for one in value) + "]"
    if not isinstance(value, str):
        return json.dumps(value)
    text = json.dumps(value, ensure_ascii=random.choice([True, False, "\ud800" in value]))[1:-1]
    if random.random() < 0.3:
        text = text.replace('\\"', "\\u0022").replace("a", "\\u0061").replace("/", "\\/")
    return f'"{text}"'


@settings(max_examples=200)
@given(WHOLE, st.randoms(use_true_random=False))
@example(Members([("content", "Falcon"), ("content", '"')]), Random(1))
@example(Members([("a", '""'), ("a", "Falcon"), ("c", '""')]), Random(4))
def test_no_text_is_dropped_by_reading_quickly(value: Any, random: Random) -> None:
    # Given any JSON, spelled in any way, with keys that come again, when a part is read quickly,
    # then it sees what the slow way sees, or says that it cannot tell.
    part = spelled(value, random).encode("utf-8", "surrogatepass")
    said = said_in(part, is_message=False)
    if said is not None:
        assert sorted(said) == sorted(each.text for each in texts_in(part))


def test_a_text_behind_a_key_that_comes_again_is_not_dropped_whatever_evens_out_the_count() -> None:
    # Given a dropped text, and quotes spelled with escapes so that all quotes are as many as those
    # of the texts that were kept, then the quick way does not say that it has seen all.
    hidden = b'{"content":[{"a":"Falcon","a":"' + b"\\u0022" * 4 + b'"}]}'
    assert said_in(hidden, is_message=True) is None
    plain = hidden.replace(b'"a":"Falcon",', b"").replace(b"\\u0022", b'\\"')
    assert said_in(plain, is_message=True) == ['"' * 4]
    with pytest.raises(Forbidden):
        Worker(guardrail("block")).send(b'{"messages":[' + hidden + b"]}")


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 6), st.sampled_from("xy"))))
def test_patches_replace_what_they_cover_and_nothing_else(
    spans: list[tuple[int, int, str]],
) -> None:
    # Given patches that may overlap, then no byte under one stays, and every other does.
    body = bytes(range(65, 91))
    patches = [Patch(start, start + 1 + size, mark.encode()) for start, size, mark in spans]
    covered = {at for each in patches for at in range(each.start, min(each.end, len(body)))}
    left = bytes(byte for at, byte in enumerate(body) if at not in covered)
    assert bytes(byte for byte in patched(body, patches) if byte < 97) == left
