"""A new batch: each request's model is found where it is, and nothing else is touched."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import BadRequest
from services.proxy.batch_body import batch_models, value_span, with_models

NAMES = {"alias": "claude-sonnet-4-20250514", "other": 'claude-"odd"', "same": "same"}
texts = st.text(max_size=8) | st.sampled_from(["model", "params", "requests", 'a"model":"x"', "\\"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | texts,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            texts | st.sampled_from(["model", "params", "requests"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
others = st.dictionaries(texts.filter(lambda t: t not in {"model", "params", "requests"}), values)


@st.composite
def batches(draw: st.DrawFn) -> tuple[bytes, list[str], dict[str, Any]]:
    """Draw a batch as bytes, its models, and what it must be after the change."""
    models = draw(st.lists(st.sampled_from(sorted(NAMES)), min_size=1, max_size=4))

    def with_key(key: str, value: Any) -> dict[str, Any]:
        fields = list(draw(others).items())
        fields.insert(draw(st.integers(0, len(fields))), (key, value))
        return dict(fields)

    spelled = [with_key("params", with_key("model", model)) for model in models]
    batch = with_key("requests", spelled)
    wanted = json.loads(json.dumps(batch))
    for request in wanted["requests"]:
        request["params"]["model"] = NAMES[request["params"]["model"]]
    body = json.dumps(
        batch,
        indent=draw(st.sampled_from([None, 0, 3])),
        ensure_ascii=draw(st.booleans()),
        separators=draw(st.sampled_from([(",", ":"), (" , ", " :\t")])),
    )
    return body.encode(), models, wanted


@given(batches())
def test_every_model_is_found_and_changed_and_no_other_byte(
    drawn: tuple[bytes, list[str], dict[str, Any]],
) -> None:
    # Given a batch written in any way, with "model" in all places, then its models are found in
    # order, and the body with other names differs at their values alone.
    body, models, wanted = drawn
    found = list(batch_models(body))
    assert [model.name for model in found] == models
    changed = with_models(body, found, NAMES)
    assert json.loads(changed) == wanted
    shortest, at = [], 0
    for model in found:
        shortest.append(body[at : model.span[0]])
        at = model.span[1]
    pieces = [*shortest, body[at:]]
    names = [msgspec.json.encode(NAMES[model.name]) for model in found]
    kept = [body[slice(*model.span)] for model in found]
    inserts = [
        kept[index] if NAMES[model.name] == model.name else names[index]
        for index, model in enumerate(found)
    ]
    rebuilt = b"".join(
        piece + insert for piece, insert in zip(pieces, [*inserts, b""], strict=True)
    )
    assert changed == rebuilt
    assert with_models(body, found, {name: name for name in NAMES}) is body


@given(
    st.binary(max_size=60)
    | st.text(max_size=60).map(str.encode)
    | values.map(json.dumps).map(str.encode)
)
def test_any_other_bytes_are_refused_with_words(body: bytes) -> None:
    # Given anything, when it is read as a batch, then it is one, or is refused as a bad request.
    try:
        models = list(batch_models(body))
    except BadRequest:
        return
    assert models


@pytest.mark.parametrize(
    "body",
    [
        b'{"key":1,"key":2}',
        b'{"\\u006bey":1}',
        b'{"key":1,"\\u006bey":2}',
        b'{"b":{"key":1}}',
        b"[1]",
        b'{"key":',
        b'{"key" 1}',
        b'{"key":1}x',
        b"[" * 100_000,
    ],
)
def test_a_key_that_is_not_there_once_and_plainly_is_refused(body: bytes) -> None:
    # Given objects without the key, with it twice or in escapes, or no objects, then none is read.
    with pytest.raises(BadRequest):
        value_span(body, "key")


def test_marks_of_all_kinds_in_the_body_are_told_apart() -> None:
    # Given a body whose strings begin with most of the marks, then the key is still found.
    body = b'{"~":1,"^":2,"|":3,"`":"!","@":4,"model":"x"}'
    start, end = value_span(body, "model")
    assert body[start:end] == b'"x"'
