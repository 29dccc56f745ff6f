"""The meter reads the same usage however a stream is cut, and nothing makes it fail."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.usage import TOKENS_MAX, IterationUsage, Usage
from services.proxy.meter import LINE_BYTES_MAX, JsonMeter, StreamMeter

START_USAGE = {
    "input_tokens": 1213,
    "cache_creation_input_tokens": 1818,
    "cache_read_input_tokens": 45677,
    "cache_creation": {"ephemeral_5m_input_tokens": 1511, "ephemeral_1h_input_tokens": 307},
    "output_tokens": 3,
    "service_tier": "standard",
    "inference_geo": "us",
}
FINAL_USAGE = {"output_tokens": 357, "server_tool_use": {"web_search_requests": 2}}
EXPECTED = Usage(
    input_tokens=1213,
    output_tokens=357,
    cache_read_tokens=45677,
    cache_write_5m_tokens=1511,
    cache_write_1h_tokens=307,
    web_search_requests=2,
    service_tier="standard",
    inference_geo="us",
)
TEXTS = ["Hello", " wörld \U0001f600", '"message_delta" {"usage":', "line\nbreak", "\\", ""]


def event(kind: str, **fields: Any) -> bytes:
    data = json.dumps({"type": kind, **fields}, separators=(",", ":"), ensure_ascii=False)
    return f"event: {kind}\ndata: {data}\n\n".encode()


def start(usage: Any = START_USAGE, **fields: Any) -> bytes:
    message = {"id": "msg_1", "type": "message", "model": "claude-x", "usage": usage, **fields}
    return event("message_start", message=message)


def text(value: str, kind: str = "text_delta", name: str = "text") -> bytes:
    return event("content_block_delta", index=0, delta={"type": kind, name: value})


def final(usage: Any = FINAL_USAGE, stop_reason: str = "end_turn") -> bytes:
    return event("message_delta", delta={"stop_reason": stop_reason}, usage=usage)


STREAM = b"".join(
    [
        start(),
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        event("ping"),
        *(text(value) for value in TEXTS),
        event("content_block_stop", index=0),
        final(),
        event("message_stop"),
    ]
)


def metered(stream: bytes, cuts: list[int] | None = None) -> StreamMeter:
    meter = StreamMeter()
    edges = [0, *sorted(cuts or []), len(stream)]
    for left, right in itertools.pairwise(edges):
        meter.feed(stream[left:right])
    return meter


def seen(meter: StreamMeter) -> tuple[Any, ...]:
    return (
        meter.usage(),
        meter.complete,
        meter.error_type,
        meter.message_id,
        meter.model,
        meter.stop_reason,
        meter.text_bytes,
        meter.boundary,
    )


def test_every_single_cut_gives_the_same() -> None:
    whole = metered(STREAM)
    assert seen(whole)[:6] == ((EXPECTED, None), True, None, "msg_1", "claude-x", "end_turn")
    for cut in range(len(STREAM) + 1):
        assert seen(metered(STREAM, [cut])) == seen(whole), cut


@given(st.lists(st.text(max_size=40), max_size=30), st.data())
def test_text_read_at_once_counts_as_text_read_line_by_line(
    texts: list[str], data: st.DataObject
) -> None:
    # Given a stream with any texts, when it comes in pieces of any size, then as many bytes of
    # text are counted as there are.
    stream = STREAM + b"".join(text(each) for each in texts)
    cuts = data.draw(st.lists(st.integers(len(STREAM), len(stream)), max_size=8))
    counted = metered(stream, cuts).text_bytes - metered(STREAM).text_bytes
    assert counted == sum(len(json.dumps(each, ensure_ascii=False).encode()) - 2 for each in texts)


def test_byte_by_byte_gives_the_same() -> None:
    assert seen(metered(STREAM, list(range(len(STREAM))))) == seen(metered(STREAM))


@given(st.data())
def test_any_chunking_with_either_line_end_gives_the_same(data: st.DataObject) -> None:
    stream = STREAM.replace(b"\n", b"\r\n") if data.draw(st.booleans()) else STREAM
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=40))

    assert seen(metered(stream, cuts)) == seen(metered(STREAM))


@given(st.lists(st.binary(max_size=300), max_size=12), st.lists(st.integers(0, 400), max_size=8))
def test_garbage_never_raises_and_is_read_alike_in_any_chunking(
    parts: list[bytes], cuts: list[int]
) -> None:
    stream = b"\n".join([b"data:" + part if i % 2 else part for i, part in enumerate(parts)])
    stream += b"\n"

    assert seen(metered(stream, [min(c, len(stream)) for c in cuts])) == seen(metered(stream))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
usage_fields = st.dictionaries(
    st.sampled_from([*START_USAGE, *FINAL_USAGE, "iterations", "speed"]), json_values
)


@given(usage_fields, usage_fields)
def test_usage_of_any_form_never_raises_and_never_gives_impossible_counts(
    first: dict[str, Any], last: dict[str, Any]
) -> None:
    meter = metered(start(first) + final(last) + event("message_stop"))

    usage, basis = meter.usage()

    assert usage is not None
    for name in ("input_tokens", "output_tokens", "cache_read_tokens", "web_search_requests"):
        assert 0 <= getattr(usage, name) <= TOKENS_MAX
    odd = any(
        isinstance(value, bool | float) or (isinstance(value, int) and not 0 <= value <= TOKENS_MAX)
        for key, value in {**first, **{k: v for k, v in last.items() if v is not None}}.items()
        if key in {"input_tokens", "output_tokens", "cache_read_input_tokens"}
    )
    if odd:
        assert basis is not None


@pytest.mark.parametrize("odd", [-1, TOKENS_MAX + 1, 10**30, 1.5, "12", True, [1], {"a": 1}])
def test_one_impossible_figure_costs_no_other(odd: Any) -> None:
    """Given one figure that cannot be, then the others stand and the record is an estimate."""
    usage, basis = metered(
        start({**START_USAGE, "input_tokens": odd}) + final() + event("message_stop")
    ).usage()

    assert usage is not None
    assert usage.input_tokens == 0
    assert usage.cache_read_tokens == 45677
    assert usage.output_tokens == 357
    assert basis == "impossible figures of the upstream were left out"


def test_final_figures_replace_and_are_never_added() -> None:
    usage, _ = metered(
        start()
        + final({"output_tokens": 100, "input_tokens": 2000, "cache_read_input_tokens": 1})
        + final({"output_tokens": 200, "input_tokens": None})
        + event("message_stop")
    ).usage()

    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens) == (2000, 200, 1)
    assert usage.cache_write_1h_tokens == 307


@pytest.mark.parametrize(
    ("total", "split", "expected"),
    [
        (
            20_000,
            {"ephemeral_5m_input_tokens": 1500, "ephemeral_1h_input_tokens": 500},
            (19500, 500),
        ),
        (2000, {"ephemeral_5m_input_tokens": 1500, "ephemeral_1h_input_tokens": 500}, (1500, 500)),
        (2000, None, (2000, 0)),
        (None, {"ephemeral_1h_input_tokens": 500}, (0, 500)),
        (0, {"ephemeral_5m_input_tokens": None, "ephemeral_1h_input_tokens": 7}, (0, 7)),
    ],
)
def test_cache_writes_beyond_their_split_are_five_minute_writes(
    total: int | None, split: dict[str, int | None] | None, expected: tuple[int, int]
) -> None:
    first = {"input_tokens": 1, "cache_creation": split, "cache_creation_input_tokens": 10}
    stream = start(first) + final({"output_tokens": 1, "cache_creation_input_tokens": total})
    usage, _ = metered(stream + event("message_stop")).usage()

    assert usage is not None
    if total is None:
        expected = (0 if split is None else max(0, 10 - 500), 500)
    assert (usage.cache_write_5m_tokens, usage.cache_write_1h_tokens) == expected


def test_iterations_are_kept_with_their_own_models() -> None:
    entries = [
        {"type": "message", "input_tokens": 5, "output_tokens": 1},
        {"type": "compaction", "input_tokens": 100, "cache_creation_input_tokens": 9},
        {"type": "advisor_message", "model": "claude-opus-5", "input_tokens": 50},
        {"type": "new_kind", "cache_creation": {"ephemeral_1h_input_tokens": 4}},
    ]
    usage, basis = metered(
        start() + final({"output_tokens": 1, "iterations": entries}) + event("message_stop")
    ).usage()

    assert basis is None
    assert usage is not None
    assert usage.iterations == (
        IterationUsage(type="message", input_tokens=5, output_tokens=1),
        IterationUsage(type="compaction", input_tokens=100, cache_write_5m_tokens=9),
        IterationUsage(type="advisor_message", model="claude-opus-5", input_tokens=50),
        IterationUsage(type="new_kind", cache_write_1h_tokens=4),
    )


def test_too_many_iterations_make_an_estimate() -> None:
    entries = [{"type": "message"}] * 257
    usage, basis = metered(
        start() + final({"output_tokens": 1, "iterations": entries}) + event("message_stop")
    ).usage()

    assert usage is not None
    assert usage.iterations == ()
    assert basis is not None


def test_broken_stream_is_estimated_from_the_text_alone() -> None:
    """Given 40 bytes of text, then 10 tokens: the frames around the text are not counted."""
    signature = text("s" * 500, "signature_delta", "signature")
    thinking = text("b" * 20, "thinking_delta", "thinking")
    tool_input = text('{"', "input_json_delta", "partial_json")
    meter = metered(start() + text("a" * 16) + signature + thinking + tool_input)

    usage, basis = meter.usage()

    assert meter.text_bytes == 16 + 20 + 3  # the quote is escaped on the wire
    assert usage is not None
    assert usage.output_tokens == 10
    assert usage.input_tokens == 1213
    assert basis == "the answer broke off: output from the bytes that passed, 4 a token"


def test_reported_output_counts_where_it_is_more_than_the_estimate() -> None:
    usage, basis = metered(start() + text("abcd") + final()).usage()

    assert usage is not None
    assert usage.output_tokens == 357
    assert basis is not None


def test_error_event_is_the_answers_error() -> None:
    stream = start() + event("error", error={"type": "overloaded_error", "message": "x"})
    assert metered(stream).error_type == "overloaded_error"
    for odd in (None, 1, {}, {"type": 3}):
        assert metered(event("error", error=odd)).error_type == "api_error"


@pytest.mark.parametrize("pieces", [1, 2, 7, 100])
def test_giant_event_is_passed_over_without_losing_the_usage(pieces: int) -> None:
    """Given a text event above the limit, then the figures are final and no estimate."""
    giant = text("x" * (3 * LINE_BYTES_MAX))
    stream = start() + giant + final() + event("message_stop")
    step = -(-len(stream) // pieces)
    meter = metered(stream, list(range(step, len(stream), step)))

    assert meter.usage() == (EXPECTED, None)
    assert 3 * LINE_BYTES_MAX <= meter.text_bytes <= 3 * LINE_BYTES_MAX + 200


def test_line_without_end_takes_no_memory() -> None:
    meter = StreamMeter()
    for _ in range(200):
        meter.feed(b"data: " + b"y" * 65_536)

    assert len(meter._tail) <= LINE_BYTES_MAX + 65_542
    assert meter.usage() == (None, None)
    assert not meter.boundary


def test_giant_report_is_not_believed_to_be_read() -> None:
    stream = start() + final({"output_tokens": 9, "x": "y" * LINE_BYTES_MAX})
    usage, basis = metered(stream + event("message_stop")).usage()

    assert usage is not None
    assert usage.output_tokens == 3
    assert basis == "a part of the answer could not be read"


def test_end_without_a_line_break_is_read() -> None:
    meter = metered(STREAM.rstrip(b"\n"))
    assert not meter.complete
    meter.finish()
    assert meter.complete


@given(st.integers(0, len(STREAM)))
@settings(max_examples=40)
def test_boundary_is_true_between_two_events_alone(cut: int) -> None:
    meter = metered(STREAM[:cut])

    assert meter.boundary is (cut == 0 or STREAM[:cut].endswith(b"\n\n"))


@pytest.mark.parametrize("pieces", [1, 3, 1000])
def test_json_answer_is_read_at_its_end(pieces: int) -> None:
    body = json.dumps(
        {
            "id": "msg_1",
            "type": "message",
            "model": "claude-x",
            "stop_reason": "end_turn",
            "content": [{"type": "text", "text": "hi"}],
            "usage": {**START_USAGE, **FINAL_USAGE},
        }
    ).encode()
    meter = JsonMeter(1_000_000)
    step = -(-len(body) // pieces)
    for left in range(0, len(body), step):
        meter.feed(body[left : left + step])
    assert not meter.complete
    meter.finish()

    assert meter.usage() == (EXPECTED, None)
    assert (meter.complete, meter.message_id, meter.stop_reason) == (True, "msg_1", "end_turn")


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_json_of_any_form_never_raises(body: bytes) -> None:
    meter = JsonMeter(10_000)
    meter.feed(body)
    meter.finish()
    meter.usage()


def test_json_above_the_limit_is_not_kept() -> None:
    meter = JsonMeter(1000)
    for _ in range(100):
        meter.feed(b"x" * 100)
    meter.finish()

    assert not meter._chunks
    assert not meter.complete
    assert meter.text_bytes == 10_000
