"""A usage object costs over the API what the ledger would book for it."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import BadRequest
from schemas.usage import TOKENS_MAX, Usage
from services.admin.given_usage import likely_prompt, usage_from
from services.proxy.meter import JsonMeter

counts = st.none() | st.integers(0, TOKENS_MAX)
words = st.none() | st.sampled_from(["standard", "batch", "fast", "us", "a" * 200])
writes = st.none() | st.fixed_dictionaries(
    {}, optional={"ephemeral_5m_input_tokens": counts, "ephemeral_1h_input_tokens": counts}
)
iterations = st.fixed_dictionaries(
    {"type": st.sampled_from(["message", "compaction", "advisor_message", "new"])},
    optional={
        "model": words,
        "input_tokens": counts,
        "output_tokens": counts,
        "cache_read_input_tokens": counts,
        "cache_creation_input_tokens": counts,
        "cache_creation": writes,
    },
)
usages = st.fixed_dictionaries(
    {"input_tokens": st.integers(0, TOKENS_MAX)},
    optional={
        "output_tokens": counts,
        "cache_read_input_tokens": counts,
        "cache_creation_input_tokens": counts,
        "cache_creation": writes,
        "server_tool_use": st.none() | st.fixed_dictionaries({"web_search_requests": counts}),
        "service_tier": words,
        "speed": words,
        "inference_geo": words,
        "iterations": st.none() | st.lists(iterations, max_size=3),
        "a_field_of_tomorrow": st.integers(),
    },
)


@given(usages)
def test_any_usage_object_is_read_as_the_meter_reads_it(usage: dict[str, Any]) -> None:
    # Given any usage object of the API, when it is read here and by the proxy's meter, then both
    # find the same.
    meter = JsonMeter(1 << 20)
    meter.feed(msgspec.json.encode({"type": "message", "model": "m", "usage": usage}))
    meter.finish()
    booked, _ = meter.usage()
    assert usage_from(usage) == booked


def test_openais_shape_includes_what_the_cache_gave() -> None:
    # Given the usage that LiteLLM makes of an answer, when it is read, then the prompt is taken
    # apart; what contradicts itself is refused.
    openai = {
        "prompt_tokens": 100,
        "completion_tokens": 7,
        "total_tokens": 107,
        "prompt_tokens_details": {"cached_tokens": 60, "cache_creation_tokens": 30},
    }
    wanted = Usage(input_tokens=10, output_tokens=7, cache_read_tokens=60, cache_write_5m_tokens=30)
    assert usage_from(openai) == wanted
    with pytest.raises(BadRequest, match="fewer than"):
        usage_from({"prompt_tokens": 1, "cache_read_input_tokens": 2})


@pytest.mark.parametrize(
    "usage",
    [None, [], {}, {"input_tokens": -1}, {"input_tokens": 1.5}, {"input_tokens": TOKENS_MAX + 1},
     {"input_tokens": True}, {"input_tokens": 1, "cache_creation": 5}],
)  # fmt: skip
def test_what_is_no_usage_is_refused(usage: Any) -> None:
    # Given something else, when it is read, then the field is named.
    with pytest.raises(BadRequest) as caught:
        usage_from(usage)
    assert caught.value.param == "completion_response"


def test_messages_are_a_token_for_four_bytes() -> None:
    assert likely_prompt(("abcd",)).input_tokens == 2
