"""The guardrail `request_rules`: what a request may ask for. Pure, over its headers and body."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from schemas.guardrails import RequestRules
from services.proxy.headers import RawHeaders, header_values
from services.proxy.json_members import Span

__all__ = ["Violation", "broken_rule"]

_SHOWN_MAX = 100

_number_decoder = msgspec.json.Decoder(int | float)


class _Tool(msgspec.Struct):
    name: Any = None
    type: Any = None


_tools_decoder = msgspec.json.Decoder(list[_Tool])
_any_decoder = msgspec.json.Decoder()


class Violation(msgspec.Struct, frozen=True):
    """A rule that a request does not keep to: its name in the configuration, and what to say."""

    rule: str
    reason: str


def broken_rule(
    rules: RequestRules, headers: RawHeaders, body: bytes, members: Mapping[str, Span]
) -> Violation | None:
    """Return the first rule that a Messages request breaks, None: it keeps to all.

    `members` says where the values of the body's keys stand.
    """
    limit = rules.request_bytes_max
    if limit is not None and len(body) > limit:
        reason = f"the request has {len(body)} bytes, at most {limit} are allowed"
        return Violation("request_bytes_max", reason)

    def value(name: str) -> bytes | None:
        span = members.get(name)
        return None if span is None else body[span[0] : span[1]]

    return (
        _too_many_tokens(rules.max_tokens_max, value("max_tokens"))
        or _denied_tool(rules.tools_denied, value("tools"))
        or _other_beta(rules.betas_allowed, headers)
        or (_no_system(value("system")) if rules.system_required else None)
    )


def _too_many_tokens(limit: int | None, text: bytes | None) -> Violation | None:
    if limit is None or text is None:
        return None
    try:
        wanted = _number_decoder.decode(text)
    except msgspec.MsgspecError:
        # A text of digits is a number, too, to some programs.
        return Violation("max_tokens_max", "max_tokens must be a number")
    if wanted <= limit:
        return None
    return Violation(
        "max_tokens_max",
        f"max_tokens is {wanted}, at most {limit} are allowed "
        f"(Claude Code: CLAUDE_CODE_MAX_OUTPUT_TOKENS={limit})",
    )


def _denied_tool(denied: tuple[str, ...] | None, text: bytes | None) -> Violation | None:
    if not denied or text is None:
        return None
    try:
        tools = _tools_decoder.decode(text)
    except msgspec.MsgspecError:
        return Violation("tools_denied", "tools must be a list of tools, each with its name")
    for tool in tools:
        for name in (tool.name, tool.type):
            if isinstance(name, str) and _is_named(name, denied):
                reason = f"the tool {name[:_SHOWN_MAX]} is not allowed: switch it off"
                return Violation("tools_denied", reason)
    return None


def _other_beta(allowed: tuple[str, ...] | None, headers: RawHeaders) -> Violation | None:
    if allowed is None:
        return None
    for line in header_values(headers, b"anthropic-beta"):
        for part in line.decode("latin-1").split(","):
            name = part.strip()
            if name and not _is_named(name, allowed):
                shown = name[:_SHOWN_MAX] if name.isprintable() else "named in anthropic-beta"
                return Violation("betas_allowed", f"the beta {shown} is not allowed")
    return None


def _no_system(text: bytes | None) -> Violation | None:
    found = _any_decoder.decode(text) if text is not None else None
    if isinstance(found, str) and found.strip():
        return None
    if isinstance(found, list) and any(
        isinstance(block, dict) and isinstance(said := block.get("text"), str) and said.strip()
        for block in found
    ):
        return None
    return Violation("system_required", "the request has no system prompt, which it must have")


def _is_named(name: str, patterns: Iterable[str]) -> bool:
    """Tell whether a name is one of these; those that end with `*` stand for any rest."""
    return any(
        name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
        for pattern in patterns
    )
