"""Scenarios: what one answer of the mock shall look like, well behaved or not.

A scenario is a small JSON object; each field left out keeps its default, and an empty object is a
short text with realistic usage. A name that is not known is refused, so that a typing error in a
test cannot pass for good behaviour.
"""

from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec

__all__ = [
    "EVENTS_MAX",
    "GIANT_EVENT_MIB_MAX",
    "Fault",
    "ReplyKind",
    "Scenario",
    "ScenarioPlan",
    "ToolCall",
    "UsageFigures",
    "decode_plan",
    "decode_scenario",
]

EVENTS_MAX = 1_000_000
"""The most text events that one answer may be asked to have."""

GIANT_EVENT_MIB_MAX = 1024
"""The largest single event (before compression, in MiB) that may be asked for."""

Count = Annotated[int, msgspec.Meta(ge=0)]
Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=600_000)]

ReplyKind = Literal["text", "tools", "error", "html", "garbage", "redirect"]
"""`tools` asks for one tool after the other and ends with a text once all have been answered."""

Fault = Literal["stall", "reset", "close", "half_chunk", "truncate", "error_event"]
"""What goes wrong in an answer: silence, RST, FIN, FIN within a chunk (or within the status line),
a clean end without `message_stop`, an SSE `error` event. Of an answer that is not streamed, all but
the first two leave half of the body and FIN."""


class ToolCall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A use of a tool that the answer asks the client for."""

    name: str
    input: dict[str, Any]


_DEFAULT_TOOLS = (
    ToolCall(name="Bash", input={"command": "echo tally-$((40+2))", "description": "echo"}),
)


class UsageFigures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The usage that the answer reports, in Anthropic's own names (counts are tokens).

    The defaults are odd numbers on purpose: a cost made of them has many decimals, so that a
    rounding error shows. `vary` adds small amounts that depend on the number of the request, so
    that two answers can hardly be taken for each other. `split` False leaves out the
    `cache_creation` object. `start` and `final` are laid over what `message_start` and
    `message_delta` say (a null removes the field); in answers that are not streamed both are laid
    over the one usage object.
    """

    input_tokens: Count = 1_213
    output_tokens: Count = 357
    output_tokens_at_start: Count = 3
    cache_read_input_tokens: Count = 45_677
    ephemeral_5m_input_tokens: Count = 1_511
    ephemeral_1h_input_tokens: Count = 307
    web_search_requests: Count = 0
    web_fetch_requests: Count = 0
    service_tier: str | None = "standard"
    inference_geo: str | None = "not_available"
    speed: str | None = None
    iterations: tuple[dict[str, Any], ...] | None = None
    split: bool = True
    vary: bool = False
    start: dict[str, Any] = {}
    final: dict[str, Any] = {}


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One answer.

    - `name`: a label for the log.
    - `reply`: what kind of answer; `model`, `stop_reason`: None takes the request's model and what
      fits the answer.
    - `events`, `text`: the number of text events and the text that is spread over them (None: one
      word an event); `thinking_events` come first, in a block of their own; `pings` follow
      `message_start`.
    - `tools`: the calls of the reply `tools`, one for each turn of the conversation.
    - `delay_ms` before the headers, `pace_ms` before every event but the first.
    - `burst`: all events in one chunk; `chunk_bytes`: chunks of this size, each written by itself.
    - `giant_event_mib`: one text event of this size (with `gzip` that is a compression bomb).
    - `gzip`: the answer is compressed; `early_hints`, `unasked_continue`: a 103 or a 100 first.
    - `fault` happens after `fault_after_events` events; None is before the status line. Where the
      answer is not streamed, any number means: in the middle of the body.
    - `status`, `error_type`, `error_message`: the reply `error`, and what `error_event` says (None:
      the type that belongs to the status).
    - `headers`: laid over the headers of the answer; `location`: where `redirect` points.
    - `caches`: the figures of the prompt follow from what this process was sent before.
    - `content_length_offset`: added to the true length of an answer that is not streamed.
    """

    name: str = ""
    reply: ReplyKind = "text"
    model: str | None = None
    stop_reason: str | None = None
    events: Annotated[int, msgspec.Meta(ge=0, le=EVENTS_MAX)] = 8
    text: str | None = None
    thinking_events: Count = 0
    pings: Count = 1
    tools: tuple[ToolCall, ...] = _DEFAULT_TOOLS
    usage: UsageFigures = msgspec.field(default_factory=UsageFigures)
    delay_ms: Milliseconds = 0
    pace_ms: Milliseconds = 0
    burst: bool = False
    chunk_bytes: Count = 0
    giant_event_mib: Annotated[int, msgspec.Meta(ge=0, le=GIANT_EVENT_MIB_MAX)] = 0
    gzip: bool = False
    early_hints: bool = False
    unasked_continue: bool = False
    fault: Fault | None = None
    fault_after_events: Count | None = None
    status: Annotated[int, msgspec.Meta(ge=200, le=599)] = 500
    error_type: str | None = None
    error_message: str = "The mock was asked to fail."
    headers: dict[str, str] = {}
    location: str = "/v1/messages?redirected=1"
    caches: bool = False
    content_length_offset: int = 0

    @property
    def flows(self) -> bool:
        """Whether a stream has nothing between its events and nothing odd about their bytes."""
        slowed = self.pace_ms or self.chunk_bytes or self.burst
        return not (slowed or self.fault or self.gzip or self.giant_event_mib)

    def __post_init__(self) -> None:
        """Refuse a fault that needs an answer which has begun. Raises ValueError."""
        if self.fault in {"truncate", "error_event"} and self.fault_after_events is None:
            message = f"the fault {self.fault} needs fault_after_events"
            raise ValueError(message)


class ScenarioPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `POST /__mock__/scenario` sets, for clients that cannot send the scenario themselves.

    `queue` is used up first, one entry a request; `default` answers all others. A field that is
    left out changes nothing.
    """

    default: Scenario | None = None
    queue: tuple[Scenario, ...] | None = None


_scenario_decoder = msgspec.json.Decoder(Scenario)
_plan_decoder = msgspec.json.Decoder(ScenarioPlan)


@lru_cache(maxsize=64)
def decode_scenario(payload: bytes) -> Scenario:
    """Return the scenario in a JSON object. Raises msgspec.DecodeError."""
    return _scenario_decoder.decode(payload)


def decode_plan(payload: bytes) -> ScenarioPlan:
    """Return the plan in a JSON object. Raises msgspec.DecodeError."""
    return _plan_decoder.decode(payload)
