"""The model is found at the top level alone, and nothing else is ever touched."""

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import BadRequest
from services.proxy.body import read_body, with_model
from services.proxy.client_identity import identity_of
from tests.support.recorded import SESSION_ID, claude_code_body

texts = st.one_of(
    st.sampled_from(['"model"', 'model":"x', '{"model":"y"}', "~0000", '"', "\\", "\n", "é"]),
    st.text(max_size=12),
)
keys = st.one_of(
    st.sampled_from(["messages", "metadata", "stream", "~0000", "^0001", "mode", "Model", "x"]),
    st.text(max_size=8).filter(lambda key: key != "model"),
)
nested = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(keys | st.just("model"), inner, max_size=3)
    ),
    max_leaves=12,
)
spaces = st.sampled_from(["", " ", "\n", "\t ", "\r\n  "])


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, str, int]:
    """A JSON object with one top-level model, at any place; where its value stands, in bytes."""
    model = draw(st.text(min_size=1, max_size=20))
    pairs: list[tuple[str, str]] = [
        (json.dumps(key), json.dumps(value, ensure_ascii=draw(st.booleans())))
        for key, value in draw(st.dictionaries(keys, nested, max_size=5)).items()
    ]
    at = draw(st.integers(0, len(pairs)))
    value = json.dumps(model, ensure_ascii=draw(st.booleans()))
    pairs.insert(at, ('"model"', value))
    text = draw(spaces) + "{"
    position = 0
    for index, (key, encoded) in enumerate(pairs):
        text += ("," if index else "") + draw(spaces) + key + draw(spaces) + ":" + draw(spaces)
        if index == at:
            position = len(text.encode("utf-8", "surrogatepass"))
        text += encoded + draw(spaces)
    return (text + "}" + draw(spaces)).encode("utf-8", "surrogatepass"), model, position


def decodes(body: bytes) -> bool:
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


@given(bodies(), st.text(min_size=1, max_size=30))
def test_only_the_value_of_the_top_level_model_changes(
    made: tuple[bytes, str, int], other: str
) -> None:
    body, model, position = made
    if not decodes(body):  # lone surrogates and numbers out of range are no JSON for anybody
        with pytest.raises(BadRequest):
            read_body(body)
        return

    read = read_body(body)
    changed = with_model(body, read, other)

    assert read.model == model
    assert read.model_span[0] == position
    if other == model:
        assert changed == body
        return
    encoded = msgspec.json.encode(other)
    start, end = read.model_span
    assert changed[:start] == body[:start]
    assert changed[start : start + len(encoded)] == encoded
    assert changed[start + len(encoded) :] == body[end:]
    assert read_body(changed).model == other


@given(st.binary(max_size=200))
def test_random_bytes_are_read_or_refused_never_a_fault(raw: bytes) -> None:
    for body in (raw, b'{"model":"m",' + raw, b'{"x":' + raw + b',"model":"m"}'):
        with contextlib.suppress(BadRequest):
            read_body(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","model":"b"}',
        b'{"model":"a","x":1,"model":"a"}',
        b'{"x":1,"model":"a","model":"b"}',
        b'{"model":"a","mod\\u0065l":"b"}',
        b'{"mod\\u0065l":"b","model":"a"}',
        b'{"mod\\u0065l":"b"}',
        b'{"x":{"model":"a"}}',
        b'{"model":null}',
        b'{"model":1,"x":2}',
        b'{"model":["a"],"x":2}',
        b'{"model":""}',
        b'{"model":"' + b"m" * 257 + b'"}',
        b'{"model":"a",}',
        b'{"model":"a"',
        b'{"model":"a","x":1}}',
        b'["model"]',
        b'"model"',
        b"",
        b"\xff\xfe",
        b'{"model":"\xff","x":1}',
        b'{"model":"\\ud800","x":1}',
        b'{"x":' + b"[" * 100_000,
        b'{"model":"a","x":' + b"[" * 100_000,
        b'{"x":1,' + b'"model":1,' * 70_000 + b'"y":2}',
    ],
)
def test_body_without_exactly_one_model_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        read_body(body)


def test_body_of_the_real_client_is_read_whole() -> None:
    body = claude_code_body(model="anthropic-claude")

    read = read_body(body)

    assert (read.model, read.is_stream) == ("anthropic-claude", True)
    assert identity_of(read.metadata).session_id == SESSION_ID
    assert body[slice(*read.model_span)] == b'"anthropic-claude"'


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize(
    ("stream", "expected"),
    [(True, True), (False, False), (None, False), ("true", False), (1, False)],
)
def test_stream_is_what_the_body_says(place: str, stream: Any, *, expected: bool) -> None:
    fields = {"model": "m", "stream": stream, "messages": []}
    if place == "last":
        fields = dict(reversed(fields.items()))

    assert read_body(json.dumps(fields).encode()).is_stream is expected


@pytest.mark.parametrize(
    "metadata",
    [None, 1, [], {}, {"user_id": 1}, {"user_id": "plain"}, {"user_id": '{"session_id":1}'}],
)
def test_metadata_of_any_form_names_no_session(metadata: Any) -> None:
    body = json.dumps({"model": "m", "metadata": metadata}).encode()

    assert identity_of(read_body(body).metadata).session_id is None


def test_marks_do_not_meet_keys_of_the_body() -> None:
    """Given keys that look like the marks of the reader, then the right model is found."""
    body = b'{"~0000":{"model":"in"},"^0000":"model","|0000":1,"model":"out"}'

    read = read_body(body)

    assert read.model == "out"
    assert with_model(body, read, "new") == body.replace(b'"out"', b'"new"')
