"""The meter of batch results: each result once, whichever way its bytes are cut."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.proxy.batch_results import BatchResult, ResultsMeter, result_request_id
from services.proxy.metering import Unpacker

LINE_BYTES_MAX = 2000


def line(name: str, kind: str = "succeeded", text: str = "hi", **usage: Any) -> bytes:
    result: dict[str, Any] = {"type": kind}
    if kind == "succeeded":
        result["message"] = {
            "id": f"msg_{name}",
            "type": "message",
            "model": "claude-sonnet-4-20250514",
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 3, "output_tokens": 5, **usage},
        }
    else:
        result["error"] = {"type": "error", "error": {"type": "api_error", "message": text}}
    return json.dumps({"custom_id": name, "result": result}).encode()


def metered(chunks: list[bytes]) -> tuple[list[BatchResult], ResultsMeter]:
    found: list[BatchResult] = []
    meter = ResultsMeter(found.append, LINE_BYTES_MAX)
    for chunk in chunks:
        meter.feed(chunk)
    meter.finish()
    return found, meter


LINES = [
    line("a"),
    b"",
    line("b", "errored"),
    line("long", text="x" * 3000),
    line("é", text="\n\r\u2028", service_tier="standard"),
    line("c", "expired"),
    line("d", "canceled"),
    line("last", output_tokens=7),
]
WHOLE = b"\n".join(LINES)


@given(st.lists(st.integers(0, len(WHOLE)), max_size=30), st.sampled_from([b"", b"\n", b"\r\n"]))
def test_results_are_the_same_under_every_cut(cuts: list[int], end: bytes) -> None:
    # Given results cut anywhere, with and without a last line break, then the same are found.
    edges = [0, *sorted(cuts), len(WHOLE)]
    chunks = [WHOLE[start:stop] for start, stop in pairwise(edges)]
    found, meter = metered([*chunks, end])

    assert [each.custom_id for each in found] == ["a", "long", "é", "last"]
    assert [each.usage is None for each in found] == [False, True, False, False]
    tiers = {each.usage.service_tier for each in found if each.usage is not None}
    assert tiers == {"batch"}
    assert found[-1].usage is not None
    assert (found[-1].usage.input_tokens, found[-1].usage.output_tokens) == (3, 7)
    assert found[-1].line_bytes == len(LINES[-1]) + (end == b"\r\n")
    assert (meter.complete, meter.error_type, meter.usage()) == (True, None, (None, None))


@pytest.mark.parametrize(
    "bad",
    [
        b"{",
        b'{"custom_id":"a"}',
        b'{"custom_id":1,"result":{"type":"succeeded"}}',
        b"\xff",
        b'{"result":{"type":"succeeded"},"x":"' + b"x" * 3000 + b'"}',
        b"[" * 1500,
    ],
)
def test_a_line_that_cannot_be_read_is_told_and_stops_nothing(bad: bytes) -> None:
    # Given a line that is no result, then the lines around it count and the fetch is marked.
    found, meter = metered([line("a") + b"\n" + bad + b"\n" + line("b") + b"\n"])

    assert [each.custom_id for each in found] == ["a", "b"]
    assert meter.error_type == "unreadable_results"


def test_a_result_without_usage_is_reported_as_such() -> None:
    # Given a message that tells no usage, or odd figures, then it is not taken for a free one.
    nothing = line("a").replace(b'"usage"', b'"other"')
    odd = line("b", input_tokens=-1)
    found, _ = metered([nothing + b"\n" + odd])

    assert found[0].usage is None
    assert found[1].usage is not None
    assert found[1].estimate_basis is not None


def test_a_long_line_takes_no_more_memory_than_its_limit() -> None:
    # Given a line without an end, then no more of it is held than a line may have.
    found: list[BatchResult] = []
    meter = ResultsMeter(found.append, LINE_BYTES_MAX)
    for _ in range(100):
        meter.feed(b"x" * 1000)
        assert len(meter._tail) <= 4096


def test_results_that_unpack_to_far_too_much_are_not_read_on() -> None:
    # Given packed bytes that are no gzip, then the fetch is marked.
    found: list[BatchResult] = []
    meter = ResultsMeter(found.append, LINE_BYTES_MAX)
    Unpacker(meter).feed(b"no gzip at all")
    assert meter.error_type == "unreadable_results"


@given(st.text(max_size=9), st.text(max_size=9), st.text(max_size=9), st.text(max_size=9))
def test_request_ids_tell_results_apart(a: str, b: str, c: str, d: str) -> None:
    # Given two results, then their ids are equal where batch and name are, and only there.
    same = (a, b) == (c, d)
    if "\0" in a + b + c + d:
        return
    assert (result_request_id(a, b) == result_request_id(c, d)) is same
    assert result_request_id(a, b).startswith("tg_batch_")
