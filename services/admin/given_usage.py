"""Usage as the API is given it: Anthropic's object, or OpenAI's as LiteLLM makes it. Pure."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from schemas.errors import BadRequest
from schemas.usage import TOKENS_MAX, IterationUsage, Usage

__all__ = ["BYTES_PER_TOKEN", "likely_prompt", "usage_from"]

BYTES_PER_TOKEN = 4
ITERATIONS_MAX = 256

Count = Annotated[int, Meta(ge=0, le=TOKENS_MAX)]
Text = Annotated[str, Meta(max_length=200)]


class _Writes(msgspec.Struct):
    ephemeral_5m_input_tokens: Count | None = None
    ephemeral_1h_input_tokens: Count | None = None


class _Tools(msgspec.Struct):
    web_search_requests: Count | None = None
    web_fetch_requests: Count | None = None


class _Details(msgspec.Struct):
    cached_tokens: Count | None = None
    cache_creation_tokens: Count | None = None


class _Iteration(msgspec.Struct):
    type: Text | None = None
    model: Text | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    cache_creation: _Writes | None = None


class _Given(_Iteration):
    """Anthropic's usage, and beside it OpenAI's names; what else there is changes no cost."""

    server_tool_use: _Tools | None = None
    service_tier: Text | None = None
    speed: Text | None = None
    inference_geo: Text | None = None
    iterations: Annotated[tuple[_Iteration, ...], Meta(max_length=ITERATIONS_MAX)] | None = None
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    prompt_tokens_details: _Details | None = None


def usage_from(value: Any) -> Usage:
    """Return a usage object as the ledger would have booked it. Raises BadRequest.

    Anthropic's `input_tokens` exclude what the cache gave or took; OpenAI's `prompt_tokens` are
    the whole prompt. Where both are given, Anthropic's count.
    """
    try:
        given = msgspec.convert(value, _Given)
    except msgspec.ValidationError as error:
        raise BadRequest(f"usage: {error}", param="completion_response") from None
    if given.input_tokens is None and given.prompt_tokens is None:
        raise BadRequest(
            "usage needs input_tokens (Anthropic's shape) or prompt_tokens (OpenAI's)",
            param="completion_response",
        )
    details = given.prompt_tokens_details or _Details()
    if given.cache_read_input_tokens is None:
        given.cache_read_input_tokens = details.cached_tokens
    if given.cache_creation_input_tokens is None:
        given.cache_creation_input_tokens = details.cache_creation_tokens
    writes_5m, writes_1h = _writes(given)
    reads = given.cache_read_input_tokens or 0
    uncached = given.input_tokens
    if uncached is None:
        uncached = (given.prompt_tokens or 0) - reads - writes_5m - writes_1h
        if uncached < 0:
            raise BadRequest(
                "usage: prompt_tokens are fewer than those of the cache, which they include",
                param="completion_response",
            )
    tools = given.server_tool_use or _Tools()
    return Usage(
        input_tokens=uncached,
        output_tokens=given.output_tokens or given.completion_tokens or 0,
        cache_read_tokens=reads,
        cache_write_5m_tokens=writes_5m,
        cache_write_1h_tokens=writes_1h,
        web_search_requests=tools.web_search_requests or 0,
        web_fetch_requests=tools.web_fetch_requests or 0,
        service_tier=given.service_tier,
        speed=given.speed,
        inference_geo=given.inference_geo,
        iterations=tuple(_iteration(each) for each in given.iterations or ()),
    )


def likely_prompt(messages: tuple[Any, ...]) -> Usage:
    """Return what a prompt of these messages is likely to have: a token for four bytes of JSON."""
    size = len(msgspec.json.encode(messages))
    return Usage(input_tokens=-(-size // BYTES_PER_TOKEN))


def _iteration(given: _Iteration) -> IterationUsage:
    writes_5m, writes_1h = _writes(given)
    return IterationUsage(
        type=given.type or "message",
        model=given.model,
        input_tokens=given.input_tokens or 0,
        output_tokens=given.output_tokens or 0,
        cache_read_tokens=given.cache_read_input_tokens or 0,
        cache_write_5m_tokens=writes_5m,
        cache_write_1h_tokens=writes_1h,
    )


def _writes(given: _Iteration) -> tuple[int, int]:
    """Return cache writes of 5 minutes and of 1 hour; what is not split counts as the former."""
    split = given.cache_creation or _Writes()
    writes_5m = split.ephemeral_5m_input_tokens or 0
    writes_1h = split.ephemeral_1h_input_tokens or 0
    total = given.cache_creation_input_tokens or 0
    return writes_5m + max(0, total - writes_5m - writes_1h), writes_1h
