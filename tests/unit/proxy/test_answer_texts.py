"""What a model said, put together from an answer of whatever form."""

import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.guardrails import Guardrail, GuardrailFinding
from services.proxy import answer_texts
from services.proxy.answer_texts import heard_of, texts_of_answer
from services.proxy.hearing import findings_in

INPUT = {"command": 'echo "Falcon" > /tmp/x', "description": "é"}


def stream(*events: dict[str, object]) -> bytes:
    return b"".join(
        b"event: %s\ndata: %s\n\n" % (str(event["type"]).encode(), json.dumps(event).encode())
        for event in events
    )


def deltas(index: int, kind: str, field: str, *pieces: str) -> list[dict[str, object]]:
    return [
        {"type": "content_block_delta", "index": index, "delta": {"type": kind, field: piece}}
        for piece in pieces
    ]


def test_pieces_of_a_stream_are_put_together_block_by_block() -> None:
    # Given a stream whose words are cut anywhere, thinking and the input of a tool among it, then
    # each block's texts are whole; what is no event, or cut off, is left out.
    text = json.dumps(INPUT)
    body = stream(
        {"type": "message_start", "message": {"content": []}},
        *deltas(0, "thinking_delta", "thinking", "Fal", "con?"),
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": "F"}},
        *deltas(1, "text_delta", "text", "al", "con"),
        *deltas(2, "input_json_delta", "partial_json", text[:9], text[9:20], text[20:]),
        {"type": "message_stop"},
    )
    texts = texts_of_answer(body + b'data: {"ind', is_stream=True)
    assert texts == {0: ["Falcon?"], 1: ["Falcon"], 2: list(INPUT.values())}


def test_the_blocks_of_a_whole_answer_are_read() -> None:
    # Given an answer that is not streamed, then its texts are read; one that is no answer has none.
    blocks = [{"type": "text", "text": "Falcon"}, {"type": "tool_use", "id": "x", "input": INPUT}]
    body = json.dumps({"type": "message", "content": blocks}).encode()
    assert texts_of_answer(body, is_stream=False) == {0: ["Falcon"], 1: list(INPUT.values())}
    for other in (b"", b"[]", b'{"content": 3}', body[:-5]):
        assert texts_of_answer(other, is_stream=False) == {}


def test_findings_in_answers_name_the_block_and_nothing_else() -> None:
    # Given a block list, when it looks at an answer, then it tells how often, and in which block.
    guardrail = Guardrail(
        name="a",
        kind="block_list",
        modes=("post_call",),
        action="log",
        settings=b'{"lists":[{"name":"falcon","category":"projects","words":["Falcon"]}]}',
    )
    body = stream(*deltas(3, "text_delta", "text", "Falcon, Fal", "con"))
    ((found, findings),) = findings_in([guardrail], body, is_stream=True)
    assert found is guardrail
    assert findings == [
        GuardrailFinding(rule="falcon", category="projects", place="answer.content[3]", count=2)
    ]
    assert findings_in([guardrail], b"", is_stream=True) == []


@given(st.binary(max_size=400), st.integers(1, 50), st.booleans())
def test_a_copy_of_an_answer_is_unpacked_and_bounded(
    body: bytes,
    size: int,
    is_packed: bool,  # noqa: FBT001 - hypothesis gives it by name
) -> None:
    # Given an answer in pieces, packed or not, then its beginning is kept as it was, and no more.
    sent = zlib.compress(body) if is_packed else body
    heard, feed = heard_of(b"deflate" if is_packed else b"")
    for start in range(0, len(sent), size):
        feed(sent[start : start + size])
    heard.finish()
    assert heard.body == body
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answer_texts, "ANSWER_BYTES_MAX", 500)
        heard.feed(bytes(501 - len(body)))
        heard.feed(b"more")
    assert len(heard.body) == 500


@given(st.binary(max_size=200))
def test_any_bytes_of_an_answer_are_read_without_an_error(body: bytes) -> None:
    # Given any bytes, then what can be read of them is, and nothing is raised.
    for is_stream in (True, False):
        texts_of_answer(b"data: " + body, is_stream=is_stream)
        texts_of_answer(b'{"content":' + body, is_stream=is_stream)
