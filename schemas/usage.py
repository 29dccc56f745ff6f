"""Usage: the token counts of one request, as Anthropic reports them and as the meter merges them.

Merging rules (Anthropic's SDK and streaming behaviour, see docs/usage.md): the figures of
`message_delta` are cumulative totals that replace those of `message_start`; an absent field keeps
the earlier value; the 5 m / 1 h split of cache writes comes only at the start and may lag behind
the total, in which case the rest is booked as 5-minute writes.
"""

import msgspec

__all__ = ["TOKENS_MAX", "IterationUsage", "Usage"]

TOKENS_MAX = 10**9
"""A token count above this is not believed (no model has such a context): the event is refused."""


class IterationUsage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Usage of one entry of `usage.iterations`, priced by its own model where it names one.

    `type` is Anthropic's word (`message`, `compaction`, `advisor_message`, `fallback_message`, or
    one that is not known yet, which is kept as it came).
    """

    type: str = "message"
    model: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Token counts of one request. `input_tokens` excludes the cached ones, as Anthropic counts.

    The prompt, as people speak of it, is `input_tokens + cache_read_tokens +
    cache_write_5m_tokens + cache_write_1h_tokens`.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    web_search_requests: int = 0
    web_fetch_requests: int = 0
    service_tier: str | None = None
    speed: str | None = None
    inference_geo: str | None = None
    iterations: tuple[IterationUsage, ...] = ()
