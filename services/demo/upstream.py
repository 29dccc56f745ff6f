"""A small stand-in for the Anthropic API: enough for Claude Code to talk to the demo's gateway.

Its usage follows from the request: the tokens of its bytes, most of them read from the cache.
"""

import asyncio
import hashlib
import itertools
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeAlias

import msgspec

from services.demo.people import HAIKU, OPUS, SONNET
from services.demo.quota import TOKEN_PREFIX, Standings, standing_headers

__all__ = ["upstream_app"]

_Scope: TypeAlias = dict[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[dict[str, Any]]]
_Send: TypeAlias = Callable[[dict[str, Any]], Awaitable[None]]

BODY_BYTES_MAX = 32 * 1024 * 1024
ACCOUNTS_MAX = 1000
"""So many accounts are remembered; then the one that came first is forgotten."""
_BYTES_PER_TOKEN = 4
_TOKENS_MIN = 12_400
_TOKENS_PER_MESSAGE = 1850
_OVERLOADED_EVERY = 41
_SENTENCES = (
    "I read the module and its tests. ",
    "The failing case is the one where the window ends at midnight, ",
    "so I moved the comparison to the zone of the budget. ",
    "All 214 tests pass now, and the change is in one function. ",
    "Shall I write the changelog's line as well? ",
)
_json = msgspec.json.Encoder()


class _Message(msgspec.Struct):
    role: str = "user"
    content: msgspec.Raw = msgspec.Raw(b'""')


class _Asked(msgspec.Struct):
    """What is read of a request."""

    model: str = SONNET
    stream: bool = False
    messages: list[_Message] = []
    max_tokens: int = 1024


_decoder = msgspec.json.Decoder(_Asked)


def upstream_app(
    standings: Standings, *, pace: float = 1.0
) -> Callable[[_Scope, _Receive, _Send], Awaitable[None]]:
    """Return the ASGI application; `pace` 0 answers without any wait.

    `standings`: how much of each account's quota is used, which it goes on counting.
    """
    numbers = itertools.count(1)

    async def app(scope: _Scope, receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http":
            return
        body = await _read(receive)
        path = scope["path"]
        headers = dict(scope["headers"])
        if scope["method"] == "POST" and path == "/v1/messages":
            told = _quota_headers(standings, headers)
            await _answer(_asked(body), len(body), told, send, next(numbers), pace)
        elif scope["method"] == "POST" and path == "/v1/messages/count_tokens":
            tokens = _prompt_tokens(_asked(body), len(body))
            await _send_json(send, 200, {"input_tokens": tokens}, [])
        elif path.startswith("/demo/"):
            # Who is told of alerts: it hears them and keeps nothing.
            await _send_json(send, 200, {}, [])
        elif path == "/v1/models":
            await _send_json(send, 200, _models(), [])
        else:
            await _send_error(send, 404, "not_found_error", f"the demo has no {path}")

    return app


async def _read(receive: _Receive) -> bytes:
    body: bytes = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body") or len(body) > BODY_BYTES_MAX:
            return body


def _asked(body: bytes) -> _Asked:
    try:
        return _decoder.decode(body)
    except msgspec.MsgspecError:
        return _Asked()


def _prompt_tokens(asked: _Asked, length: int) -> int:
    least = _TOKENS_MIN + _TOKENS_PER_MESSAGE * len(asked.messages)
    return max(length // _BYTES_PER_TOKEN, least if asked.messages else 1)


def _usage(asked: _Asked, length: int, *, is_subscription: bool) -> dict[str, Any]:
    prompt = _prompt_tokens(asked, length)
    fresh = 4 + prompt % 9
    written = min(prompt - fresh, _TOKENS_PER_MESSAGE + prompt % 700)
    return {
        "input_tokens": fresh,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": prompt - fresh - written,
        "cache_creation": {
            "ephemeral_5m_input_tokens": 0 if is_subscription else written,
            "ephemeral_1h_input_tokens": written if is_subscription else 0,
        },
        "output_tokens": 1,
        "service_tier": "standard",
    }


async def _answer(
    asked: _Asked,
    length: int,
    told: list[tuple[bytes, bytes]],
    send: _Send,
    number: int,
    pace: float,
) -> None:
    if number % _OVERLOADED_EVERY == 0:
        await _send_error(send, 529, "overloaded_error", "Overloaded")
        return
    await asyncio.sleep(pace * (0.4 + number % 7 / 5))
    count = min(len(_SENTENCES), 2 + number % 4)
    texts = ["Hi"] if asked.max_tokens <= 1 else list(_SENTENCES[:count])
    usage = _usage(asked, length, is_subscription=bool(told))
    tokens = min(asked.max_tokens, 40 + sum(len(text) for text in texts) * (2 + number % 5))
    message: dict[str, Any] = {
        "id": f"msg_01{secrets.token_hex(11)}",
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
    if not asked.stream:
        whole = {
            **message,
            "content": [{"type": "text", "text": "".join(texts)}],
            "stop_reason": "end_turn",
            "usage": {**usage, "output_tokens": tokens},
        }
        await _send_json(send, 200, whole, told)
        return
    await send(_start(200, b"text/event-stream; charset=utf-8", told))
    for event in _events(message, texts, tokens):
        await send({"type": "http.response.body", "body": event, "more_body": True})
        await asyncio.sleep(pace * 0.12)
    await send({"type": "http.response.body", "body": b""})


def _events(message: dict[str, Any], texts: list[str], tokens: int) -> Iterator[bytes]:
    """Yield the events of a streamed answer."""
    block = {"type": "text", "text": ""}
    yield _event("message_start", {"message": message})
    yield _event("content_block_start", {"index": 0, "content_block": block})
    yield _event("ping", {})
    for text in texts:
        delta = {"type": "text_delta", "text": text}
        yield _event("content_block_delta", {"index": 0, "delta": delta})
    yield _event("content_block_stop", {"index": 0})
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    yield _event("message_delta", {"delta": end, "usage": {"output_tokens": tokens}})
    yield _event("message_stop", {})


def _event(kind: str, fields: dict[str, Any]) -> bytes:
    body = _json.encode({"type": kind, **fields})
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), body)


def _quota_headers(standings: Standings, headers: dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """Return what the API says of a subscription's windows; nothing, where none pays."""
    token = headers.get(b"authorization", b"").decode("latin-1").removeprefix("Bearer ")
    if not token.startswith("sk-ant-oat"):
        return []
    account = token.removeprefix(TOKEN_PREFIX)
    if account == token:
        # Somebody's own: it is not kept.
        account = hashlib.sha256(token.encode()).hexdigest()
    if account not in standings and len(standings) >= ACCOUNTS_MAX:
        standings.pop(next(iter(standings)))
    said = standing_headers(standings, account, int(time.time()))
    return [
        (f"anthropic-ratelimit-{name}".encode(), value.encode()) for name, value in said.items()
    ]


def _models() -> dict[str, Any]:
    names = {OPUS: "Claude Opus 5.5", SONNET: "Claude Sonnet 5.5", HAIKU: "Claude Haiku 5.5"}
    models = [
        {
            "type": "model",
            "id": model,
            "display_name": name,
            "created_at": "2026-01-01T00:00:00Z",
        }
        for model, name in names.items()
    ]
    return {"data": models, "has_more": False, "first_id": OPUS, "last_id": HAIKU}


def _start(status: int, content_type: bytes, extra: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    headers = [
        (b"content-type", content_type),
        (b"request-id", b"req_011" + secrets.token_hex(10).encode()),
        *extra,
    ]
    return {"type": "http.response.start", "status": status, "headers": headers}


async def _send_json(
    send: _Send, status: int, content: dict[str, Any], extra: list[tuple[bytes, bytes]]
) -> None:
    body = _json.encode(content)
    length = (b"content-length", str(len(body)).encode())
    await send(_start(status, b"application/json", [length, *extra]))
    await send({"type": "http.response.body", "body": body})


async def _send_error(send: _Send, status: int, kind: str, message: str) -> None:
    error = {"type": "error", "error": {"type": kind, "message": message}}
    await _send_json(send, status, error, [])
