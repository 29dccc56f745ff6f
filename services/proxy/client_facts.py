"""What a request tells of its client: read of the headers and of a body that is decoded already.

Nothing here refuses a request or raises: what is odd, or longer than its limit, is not told. What
clients repeat in request after request (their user agent, betas, ids, options) is read once and
remembered.
"""

import re
from functools import lru_cache

import msgspec

from schemas.client_facts import (
    BETAS_MAX,
    COUNT_MAX,
    TAGS_MAX,
    TEXT_MAX,
    USER_MAX,
    ClientFacts,
    Purpose,
)
from services.proxy.body import RequestBody
from services.proxy.client_identity import PART_BYTES_MAX, REMEMBERED_MAX, identity_of

__all__ = [
    "client_of",
    "of_headers",
    "with_end_user",
]

_TAGS = b"x-litellm-tags"
_PROBE_BYTES_MAX = 2048
_AGENT = re.compile(r"([!-.0-9:-~]{1,128})/([!-'*-~]{1,128})")
_CLAUDE_CODE = "claude-cli"
_KIND = re.compile(r"\([^(),]*, ?([0-9A-Za-z_.-]{1,128})")
_LINE = re.compile(
    rb'\s*\[\s*\{[^{}\[\]\\]{0,64}"x-anthropic-billing-header:([^"\\]{0,1024})"', re.DOTALL
)
_LINE_BYTES_MAX = 1280
_ENTRYPOINT = re.compile(rb"\bcc_entrypoint=([0-9A-Za-z_.-]{1,128})")
_SUBAGENT = b"cc_is_subagent=true"
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class _Typed(msgspec.Struct):
    type: str


class _Schema(msgspec.Struct):
    properties: dict[str, msgspec.Raw]


class _Format(msgspec.Struct):
    schema: _Schema


class _Options(msgspec.Struct):
    effort: object = None
    format: msgspec.Raw = msgspec.Raw(b"null")


class _Message(msgspec.Struct):
    content: object = None


class _Probe(msgspec.Struct):
    messages: list[_Message]


_typed_decoder = msgspec.json.Decoder(_Typed)
_options_decoder = msgspec.json.Decoder(_Options)
_format_decoder = msgspec.json.Decoder(_Format)
_probe_decoder = msgspec.json.Decoder(_Probe)


def of_headers(headers: dict[bytes, bytes]) -> ClientFacts:
    """Return what the headers tell by themselves."""
    name, version, entrypoint = _program(_short(headers.get(b"user-agent")))
    return ClientFacts(
        name=name,
        version=version,
        entrypoint=entrypoint,
        betas=_betas(_short(headers.get(b"anthropic-beta"))),
        tags=_tags(headers[_TAGS]) if _TAGS in headers else None,
    )


def client_of(
    headers: dict[bytes, bytes], body: bytes, read: RequestBody, *, is_count: bool
) -> ClientFacts:
    """Return what a Messages request, or one that counts tokens (`is_count`), tells."""
    parts = read.parts
    name, version, kind = _program(_short(headers.get(b"user-agent")))
    entrypoint, is_subagent = _billing_line(parts.system)
    effort, is_title = _options(_small(parts.output_config))
    agent_id = _text(headers.get(b"x-claude-code-agent-id"))
    who = identity_of(read.metadata)
    max_tokens = _number(parts.max_tokens)
    tool_count = len(parts.tools) if parts.tools is not None else None
    message_count = len(parts.messages) if parts.messages is not None else None
    purpose: Purpose | None = None
    if is_count:
        purpose = "count_tokens"
    elif name == _CLAUDE_CODE:
        if max_tokens == 1 and message_count == 1 and _is_probe(body):
            purpose = "quota_probe"
        elif is_subagent or agent_id is not None:
            purpose = "agent"
        elif is_title and not tool_count:
            purpose = "title"
        elif tool_count:
            purpose = "main"
    return ClientFacts(
        name=name,
        version=version,
        entrypoint=entrypoint or kind,
        purpose=purpose,
        agent_id=agent_id,
        parent_agent_id=_text(headers.get(b"x-claude-code-parent-agent-id")),
        device_hash=who.device_hash,
        account_hash=who.account_hash,
        effort=effort,
        thinking=_thinking(_small(parts.thinking)),
        betas=_betas(_short(headers.get(b"anthropic-beta"))),
        tool_count=tool_count,
        message_count=message_count,
        max_tokens=max_tokens,
        tags=_tags(headers[_TAGS]) if _TAGS in headers else None,
    )


def with_end_user(facts: ClientFacts, headers: dict[bytes, bytes]) -> ClientFacts:
    """Return facts with the end user whom the headers of a gateway in front name.

    Only for keys that may speak for others. The headers are those of Claude's own gateway, which
    says LiteLLM's name too; the first that is there counts.
    """
    return msgspec.structs.replace(
        facts,
        end_user_id=_user(headers.get(b"x-claude-gateway-user-id"))
        or _user(headers.get(b"x-litellm-end-user-id")),
        end_user_email=_user(headers.get(b"x-claude-gateway-user-email")),
    )


def _small(part: msgspec.Raw) -> bytes:
    """Return a part's bytes, none where there are too many."""
    return bytes(part) if len(memoryview(part)) <= PART_BYTES_MAX else b""


def _short(value: bytes | None) -> bytes:
    return value if value is not None and len(value) <= PART_BYTES_MAX else b""


def _text(value: bytes | None) -> str | None:
    return value.decode("latin-1")[:TEXT_MAX] if value else None


def _user(value: bytes | None) -> str | None:
    text = value.decode("utf-8", "replace").strip() if value else ""
    return text if 1 <= len(text) <= USER_MAX else None


def _number(part: msgspec.Raw) -> int | None:
    digits = bytes(part) if len(memoryview(part)) <= 16 else b""  # noqa: PLR2004 - COUNT_MAX
    number = int(digits) if digits.isdigit() else -1
    return number if 0 <= number <= COUNT_MAX else None


@lru_cache(maxsize=REMEMBERED_MAX)
def _program(agent: bytes) -> tuple[str | None, str | None, str | None]:
    """Return the name, the version and the entrypoint that a user agent tells."""
    text = agent.decode("latin-1")
    found = _AGENT.match(text)
    if found is None:
        return None, None, None
    name, version = found.groups()
    kind = _KIND.search(text) if name == _CLAUDE_CODE else None
    return name, version, kind[1] if kind is not None else None


@lru_cache(maxsize=REMEMBERED_MAX)
def _betas(value: bytes) -> str | None:
    """Return the betas in order, so that equal sets are equal texts; only whole names are kept."""
    names = sorted({name.strip() for name in value.decode("latin-1").split(",")} - {""})
    while names and len(",".join(names)) > BETAS_MAX:
        names.pop()
    return ",".join(names) or None


@lru_cache(maxsize=REMEMBERED_MAX)
def _tags(value: bytes) -> str | None:
    """Return the tags in order, each once; what is too long for one, or odd, is none."""
    names = {name.strip() for name in _short(value).decode("utf-8", "replace").split(",")}
    good = sorted(each for each in names if 1 <= len(each) <= TEXT_MAX and each.isprintable())
    return ",".join(good[:TAGS_MAX]) or None


def _billing_line(system: msgspec.Raw) -> tuple[str | None, bool]:
    """Return the entrypoint, and whether a sub-agent asks, of the line that Claude Code puts first.

    Only the first block of the system prompt is looked at, and only its beginning.
    """
    return _read_line(bytes(memoryview(system)[:_LINE_BYTES_MAX]))


@lru_cache(maxsize=REMEMBERED_MAX)
def _read_line(beginning: bytes) -> tuple[str | None, bool]:
    line = _LINE.match(beginning)
    if line is None:
        return None, False
    entrypoint = _ENTRYPOINT.search(line[1])
    return entrypoint[1].decode() if entrypoint is not None else None, _SUBAGENT in line[1]


@lru_cache(maxsize=REMEMBERED_MAX)
def _options(output_config: bytes) -> tuple[str | None, bool]:
    """Return the effort, and whether an object with a title alone is asked for."""
    try:
        options = _options_decoder.decode(output_config)
    except _UNREADABLE:
        return None, False
    effort = options.effort[:TEXT_MAX] if isinstance(options.effort, str) else None
    try:
        asked = _format_decoder.decode(options.format).schema.properties
    except _UNREADABLE:
        return effort, False
    return effort, asked.keys() == {"title"}


@lru_cache(maxsize=REMEMBERED_MAX)
def _thinking(part: bytes) -> str | None:
    try:
        return _typed_decoder.decode(part).type[:TEXT_MAX]
    except _UNREADABLE:
        return None


def _is_probe(body: bytes) -> bool:
    """Tell whether a body with one message asks for a word on the quota only."""
    if len(body) > _PROBE_BYTES_MAX:
        return False
    try:
        return [each.content for each in _probe_decoder.decode(body).messages] == ["quota"]
    except _UNREADABLE:
        return False
