"""What the real Claude Code 2.1.330 sends: header lists as recorded, and bodies of its shape.

`recordings/client_requests.json` holds method, target and headers of one request of each kind, in
the order and case of the wire; credentials and the session id in it are made up. Bodies are not
recorded but made here: the keys, their order, the tools and the sizes are the client's, the texts
are filler, so that a body has the right shape and length without its wording.
"""

import json
from pathlib import Path
from typing import Any, Literal

import msgspec

__all__ = [
    "BODY_BYTES",
    "RecordedRequest",
    "RequestKind",
    "claude_code_body",
    "filler",
    "recorded_request",
    "recorded_requests",
]

BODY_BYTES = 49_049
"""The size of the body with which the client says hi to the model, without any conversation."""

RequestKind = Literal[
    "oauth_with_virtual_key",
    "api_key",
    "auth_token",
    "api_key_helper",
    "hello_probe",
    "model_discovery",
    "several_custom_headers",
    "interactive_quota_probe",
    "interactive_title",
    "interactive_turn",
    "interactive_count_tokens",
    "whole_answer_after_broken_stream",
    "tool_result_turn",
]

SESSION_ID = "00000000-0000-4000-8000-000000000000"
_RECORDINGS = Path(__file__).parent / "recordings" / "client_requests.json"
_SENTENCE = "The quick brown fox names every part of the garden before it sleeps, and says why. "
_SCHEMA_PROPERTY_CHARACTERS = 205
_SYSTEM_PROMPT_CHARACTERS = 6_716
_REMINDER_CHARACTERS = 576

_TOOLS: tuple[tuple[str, int, tuple[str, ...]], ...] = (
    (
        "Agent",
        3_225,
        (
            "description",
            "effort",
            "isolation",
            "model",
            "prompt",
            "run_in_background",
            "subagent_type",
        ),
    ),
    (
        "Bash",
        2_110,
        ("command", "dangerouslyDisableSandbox", "description", "run_in_background", "timeout"),
    ),
    ("Edit", 360, ("file_path", "new_string", "old_string", "replace_all")),
    ("ListAgents", 1_433, ("channel", "cursor", "q")),
    ("Read", 790, ("allow_large", "file_path", "limit", "offset", "pages")),
    ("ReportFindings", 574, ("findings", "level")),
    ("ScheduleWakeup", 3_148, ("delaySeconds", "noop", "prompt", "reason", "stop")),
    ("Skill", 1_417, ("args", "skill")),
    ("ToolSearch", 952, ("max_results", "query")),
    (
        "Workflow",
        3_496,
        ("args", "description", "name", "resumeFromRunId", "script", "scriptPath", "title"),
    ),
    ("DeferredToolPlaceholder", 83, ()),
    ("Write", 240, ("content", "file_path")),
)
"""The tools in the order of the wire: name, characters of the description, input properties."""


class RecordedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request of the client. `body_keys` are the top-level keys of its body, in order."""

    method: str
    target: str
    body_bytes: int
    body_keys: tuple[str, ...]
    headers: tuple[tuple[str, str], ...]

    def headers_for(
        self, body: bytes, *, replaced: dict[str, str] | None = None
    ) -> list[tuple[str, str]]:
        """Return the headers for another body and, by lower-case name, other values.

        Host is left to the HTTP client; Content-Length is that of the body.
        """
        values = {"content-length": str(len(body))} | (replaced or {})
        return [
            (name, values.get(name.lower(), text))
            for name, text in self.headers
            if name.lower() != "host"
        ]


def recorded_requests() -> dict[RequestKind, RecordedRequest]:
    """Return all recorded requests by their kind."""
    return msgspec.json.decode(_RECORDINGS.read_bytes(), type=dict[RequestKind, RecordedRequest])


def recorded_request(kind: RequestKind) -> RecordedRequest:
    """Return the recorded request of a kind."""
    return recorded_requests()[kind]


def filler(characters: int) -> str:
    """Return readable text of exactly that length (ASCII, no newline)."""
    return (_SENTENCE * (characters // len(_SENTENCE) + 1))[:characters]


def claude_code_body(
    *,
    model: str = "anthropic-claude",
    prompt: str = "say hi",
    stream: bool = True,
    max_tokens: int = 32_000,
    cache_ttl: Literal["5m", "1h"] = "1h",
    session_id: str = SESSION_ID,
    body_bytes: int = BODY_BYTES,
) -> bytes:
    """Return a body as the headless client sends it, of exactly `body_bytes` bytes.

    The model stands first and `stream` last, the environment is a message of the role `system`
    after the prompt, and a subscriber's cache writes last an hour (`cache_ttl` "5m" for an API
    key). Raises ValueError where the size is too small for the fixed parts.
    """
    cache = {"type": "ephemeral"} | ({"ttl": "1h"} if cache_ttl == "1h" else {})
    environment = {"type": "text", "text": "", "cache_control": cache}
    reminder = f"<system-reminder>\n{filler(_REMINDER_CHARACTERS - 19)}\n"
    user_id = {"device_id": "0" * 64, "account_uuid": "", "session_id": session_id}
    body: dict[str, Any] = {
        "model": model,
        "messages": [
            {"role": "user", "content": [_text(reminder), _text(prompt)]},
            {"role": "system", "content": [environment]},
        ],
        "system": [
            _text("x-anthropic-billing-header: cc_version=2.1.330.440; cc_entrypoint=sdk-cli;"),
            _text(filler(62)) | {"cache_control": cache},
            _text(filler(_SYSTEM_PROMPT_CHARACTERS)) | {"cache_control": cache},
        ],
        "tools": [_tool(*entry) for entry in _TOOLS],
        "metadata": {"user_id": json.dumps(user_id, separators=(",", ":"))},
        "max_tokens": max_tokens,
        "thinking": {"type": "adaptive", "display": "omitted"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "high"},
        "stream": stream,
    }
    missing = body_bytes - len(_encode(body))
    if missing < 0:
        raise ValueError(f"{body_bytes} bytes are too few for a body of the client")
    environment["text"] = filler(missing)
    return _encode(body)


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _tool(name: str, characters: int, properties: tuple[str, ...]) -> dict[str, Any]:
    described = {"description": filler(_SCHEMA_PROPERTY_CHARACTERS), "type": "string"}
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": dict.fromkeys(properties, described),
        "required": list(properties[:1]),
        "additionalProperties": False,
    }
    tool = {"name": name, "description": filler(characters), "input_schema": schema}
    return tool if properties else tool | {"defer_loading": True}


def _encode(body: dict[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()
