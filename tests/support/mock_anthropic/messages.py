"""Anthropic's shapes: usage objects, messages, stream events, errors and headers.

Pure functions. Every message, tool use and request has an id of its own: the real client merges
answers whose ids repeat.
"""

import itertools
import secrets
import time
from functools import lru_cache
from typing import Any

import msgspec

from tests.support.mock_anthropic.scenario import Scenario, ToolCall, UsageFigures

__all__ = [
    "ERROR_TYPES",
    "Ids",
    "StreamEvent",
    "answer_headers",
    "count_tool_results",
    "error_body",
    "message_body",
    "model_list_body",
    "stream_events",
    "usage_at_end",
    "usage_at_start",
]

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""Anthropic's error types by HTTP status; all others are `api_error`."""

_WORDS = ("Hi", " from", " the", " mock", " of", " the", " API", ".")
_ORGANIZATION_ID = "11111111-2222-4333-8444-555555555555"
_MODELS = (
    ("claude-opus-5-5", "Claude Opus 5.5"),
    ("claude-sonnet-5-5", "Claude Sonnet 5.5"),
    ("claude-haiku-5-5", "Claude Haiku 5.5"),
)
_json = msgspec.json.Encoder()


class Ids:
    """Ids that no other answer of any process has: a random start and a counter."""

    def __init__(self) -> None:
        """Choose the random part."""
        self._start = secrets.token_hex(8)
        self._numbers = itertools.count(1)

    def new(self, prefix: str) -> str:
        """Return a fresh id such as `msg_01…` for the prefix `msg`."""
        return f"{prefix}_01{self._start}{next(self._numbers):06d}"


class StreamEvent(msgspec.Struct, frozen=True):
    """One server-sent event: its bytes, and the usage that it tells (None: it tells none)."""

    data: bytes
    told: dict[str, Any] | None = None
    final: bool = False


def _event(kind: str, fields: dict[str, Any]) -> StreamEvent:
    body = _json.encode({"type": kind, **fields})
    return StreamEvent(b"event: %b\ndata: %b\n\n" % (kind.encode(), body))


def _overlay(figures: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = {**figures, **changes}
    return {name: value for name, value in merged.items() if value is not None}


def _cache_creation_total(usage: UsageFigures) -> int:
    return usage.ephemeral_5m_input_tokens + usage.ephemeral_1h_input_tokens


def usage_at_start(usage: UsageFigures, number: int) -> dict[str, Any]:
    """Return the usage of `message_start` for the request of that number."""
    figures: dict[str, Any] = {
        "input_tokens": usage.input_tokens + (number % 97 if usage.vary else 0),
        "cache_creation_input_tokens": _cache_creation_total(usage),
        "cache_read_input_tokens": usage.cache_read_input_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.ephemeral_5m_input_tokens,
            "ephemeral_1h_input_tokens": usage.ephemeral_1h_input_tokens,
        }
        if usage.split
        else None,
        "output_tokens": usage.output_tokens_at_start,
        "service_tier": usage.service_tier,
        "inference_geo": usage.inference_geo,
        "speed": usage.speed,
    }
    return _overlay(figures, usage.start)


def usage_at_end(usage: UsageFigures, number: int) -> dict[str, Any]:
    """Return the usage of `message_delta`: cumulative totals, without the split of cache writes."""
    searched = usage.web_search_requests or usage.web_fetch_requests
    figures: dict[str, Any] = {
        "input_tokens": usage.input_tokens + (number % 97 if usage.vary else 0),
        "cache_creation_input_tokens": _cache_creation_total(usage),
        "cache_read_input_tokens": usage.cache_read_input_tokens,
        "output_tokens": usage.output_tokens + (number % 89 if usage.vary else 0),
        "server_tool_use": {
            "web_search_requests": usage.web_search_requests,
            "web_fetch_requests": usage.web_fetch_requests,
        }
        if searched
        else None,
        "iterations": usage.iterations,
    }
    return _overlay(figures, usage.final)


def count_tool_results(messages: list[dict[str, Any]]) -> int:
    """Return how many messages of a conversation bring results of tools."""
    return sum(
        isinstance(content := message.get("content"), list)
        and any(isinstance(b, dict) and b.get("type") == "tool_result" for b in content)
        for message in messages
    )


def _texts(scenario: Scenario) -> tuple[str, ...]:
    count, text = scenario.events, scenario.text
    if text is None:
        return tuple(itertools.islice(itertools.cycle(_WORDS), count))
    size = -(-len(text) // max(count, 1)) or 1
    return tuple(text[start : start + size] for start in range(0, len(text), size))


def _thoughts(scenario: Scenario) -> tuple[str, ...]:
    return ("Hm. ",) * scenario.thinking_events


def _blocks(scenario: Scenario, tool: ToolCall | None, ids: Ids) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if scenario.thinking_events:
        thinking = "".join(_thoughts(scenario))
        blocks.append({"type": "thinking", "thinking": thinking, "signature": "bW9jaw=="})
    if tool is not None:
        blocks.append(
            {"type": "tool_use", "id": ids.new("toolu"), "name": tool.name, "input": tool.input}
        )
    else:
        blocks.append({"type": "text", "text": "".join(_texts(scenario))})
    return blocks


def _stop_reason(scenario: Scenario, tool: ToolCall | None) -> str:
    return scenario.stop_reason or ("tool_use" if tool is not None else "end_turn")


def message_body(
    scenario: Scenario,
    *,
    message_id: str,
    model: str,
    usage: dict[str, Any],
    tool: ToolCall | None,
    ids: Ids,
) -> bytes:
    """Return the JSON of an answer that is not streamed."""
    blocks = _blocks(scenario, tool, ids)
    if scenario.giant_event_mib and blocks[-1]["type"] == "text":
        blocks[-1]["text"] = "x" * (scenario.giant_event_mib << 20)
    return _json.encode(
        {
            "id": message_id,
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": blocks,
            "stop_reason": _stop_reason(scenario, tool),
            "stop_sequence": None,
            "usage": usage,
        }
    )


@lru_cache(maxsize=64)
def _delta_events(index: int, kind: str, field: str, texts: tuple[str, ...]) -> list[StreamEvent]:
    """Return the deltas of a block. They hold no id, so a benchmark need not make them anew."""
    return [
        _event("content_block_delta", {"index": index, "delta": {"type": kind, field: text}})
        for text in texts
    ]


def _block_events(index: int, block: dict[str, Any], scenario: Scenario) -> list[StreamEvent]:
    if block["type"] == "tool_use":
        opening = {**block, "input": {}}
        whole = _json.encode(block["input"]).decode()
        half = len(whole) // 2
        parts = ("", whole[:half], whole[half:])
        deltas = _delta_events(index, "input_json_delta", "partial_json", parts)
    elif block["type"] == "thinking":
        opening = {"type": "thinking", "thinking": "", "signature": ""}
        signature = (block["signature"],)
        deltas = [
            *_delta_events(index, "thinking_delta", "thinking", _thoughts(scenario)),
            *_delta_events(index, "signature_delta", "signature", signature),
        ]
    else:
        opening = {"type": "text", "text": ""}
        deltas = _delta_events(index, "text_delta", "text", _texts(scenario))
    return [
        _event("content_block_start", {"index": index, "content_block": opening}),
        *deltas,
        _event("content_block_stop", {"index": index}),
    ]


def stream_events(
    scenario: Scenario,
    *,
    message_id: str,
    model: str,
    number: int,
    tool: ToolCall | None,
    ids: Ids,
) -> list[StreamEvent]:
    """Return the events of a streamed answer, from `message_start` to `message_stop`."""
    start_usage = usage_at_start(scenario.usage, number)
    end_usage = usage_at_end(scenario.usage, number)
    start = _event(
        "message_start",
        {
            "message": {
                "id": message_id,
                "type": "message",
                "role": "assistant",
                "model": model,
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": start_usage,
            }
        },
    )
    delta = {"stop_reason": _stop_reason(scenario, tool), "stop_sequence": None}
    end = _event("message_delta", {"delta": delta, "usage": end_usage})
    events = [StreamEvent(start.data, start_usage)]
    events.extend([_event("ping", {})] * scenario.pings)
    for index, block in enumerate(_blocks(scenario, tool, ids)):
        events.extend(_block_events(index, block, scenario))
    events.append(StreamEvent(end.data, end_usage, final=True))
    events.append(_event("message_stop", {}))
    return events


def error_body(error_type: str, message: str, request_id: str) -> bytes:
    """Return Anthropic's error object."""
    return _json.encode(
        {
            "type": "error",
            "error": {"type": error_type, "message": message},
            "request_id": request_id,
        }
    )


def model_list_body() -> bytes:
    """Return the answer of `GET /v1/models`."""
    models = [
        {
            "type": "model",
            "id": model_id,
            "display_name": name,
            "created_at": "2026-01-01T00:00:00Z",
        }
        for model_id, name in _MODELS
    ]
    return _json.encode(
        {
            "data": models,
            "has_more": False,
            "first_id": models[0]["id"],
            "last_id": models[-1]["id"],
        }
    )


def answer_headers(request_id: str, *, subscription: bool) -> dict[str, str]:
    """Return the headers that every answer of the API has, `subscription` for OAuth tokens."""
    headers = {"request-id": request_id, "anthropic-organization-id": _ORGANIZATION_ID}
    reset = int(time.time()) // 3600 * 3600 + 3600
    if subscription:
        prefix = "anthropic-ratelimit-unified-"
        headers[prefix + "status"] = "allowed"
        headers[prefix + "reset"] = str(reset)
        headers[prefix + "5h-status"] = "allowed"
        headers[prefix + "5h-reset"] = str(reset)
        headers[prefix + "5h-utilization"] = "0.07"
    else:
        prefix = "anthropic-ratelimit-"
        headers[prefix + "requests-limit"] = "4000"
        headers[prefix + "requests-remaining"] = "3999"
        headers[prefix + "requests-reset"] = "2026-01-01T00:00:00Z"
        headers[prefix + "tokens-limit"] = "4000000"
        headers[prefix + "tokens-remaining"] = "3990000"
        headers[prefix + "tokens-reset"] = "2026-01-01T00:00:00Z"
    return headers
