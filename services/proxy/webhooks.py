"""Asks services of one's own what they think of texts: the guardrail `webhook`.

Question and answer are those of LiteLLM's generic guardrail API, so that what was written for it
can be asked: `texts` go out; `NONE`, `BLOCKED` with a reason, or `GUARDRAIL_INTERVENED` with the
texts to send instead come back.
"""

import asyncio
import ssl
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import httpx
import msgspec

from schemas.guardrails import Webhook
from schemas.webhooks import signed_headers
from services.proxy.tls import tls_context

__all__ = [
    "ANSWER_BYTES_MAX",
    "CALLS_MAX",
    "TEXTS_BYTES_MAX",
    "Decision",
    "WebhookFailed",
    "Webhooks",
    "batches_of",
]

CALLS_MAX = 100
"""So many questions of a worker are under way at a time; others wait, no longer than one may."""
TEXTS_BYTES_MAX = 1024 * 1024
"""A question carries texts of so many bytes together, or one text that is longer."""
ANSWER_BYTES_MAX = 64 * 1024 * 1024
_REASON_MAX = 300


class Decision(msgspec.Struct, frozen=True):
    """What a service answers. `texts` are those to send instead, as many as were asked about."""

    action: Literal["NONE", "BLOCKED", "GUARDRAIL_INTERVENED"]
    blocked_reason: str | None = None
    texts: list[str] | None = None

    @property
    def reason(self) -> str:
        """The reason for people: one line, not too long."""
        said = self.blocked_reason or ""
        words = "".join(each if each.isprintable() else " " for each in said).split()
        return " ".join(words)[:_REASON_MAX]


class WebhookFailed(Exception):
    """A service gave no proper answer; the message says why, and holds nothing of the answer."""


_decoder = msgspec.json.Decoder(Decision)


def batches_of(texts: Sequence[str]) -> list[Sequence[str]]:
    """Return texts in groups, each for one question."""
    groups: list[Sequence[str]] = []
    begin = size = 0
    for number, text in enumerate(texts):
        length = len(text.encode("utf-8", "replace"))
        if number > begin and size + length > TEXTS_BYTES_MAX:
            groups.append(texts[begin:number])
            begin, size = number, 0
        size += length
    if begin < len(texts):
        groups.append(texts[begin:])
    return groups


class Webhooks:
    """The connections of one worker to the services that it asks."""

    def __init__(self) -> None:
        self._clients: dict[tuple[bool, str | None], httpx.AsyncClient] = {}

    async def ask(
        self,
        webhook: Webhook,
        texts: Sequence[str],
        about: Mapping[str, Any],
        *,
        ca_file: str | None = None,
    ) -> Decision:
        """Return a service's decision about texts. Raises WebhookFailed.

        `about` is what else the question says; `ca_file` holds certificates of further CAs.
        """
        content = msgspec.json.encode({"input_type": "request", **about, "texts": _plain(texts)})
        headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",
            **signed_headers(webhook.signing_key, str(uuid.uuid4()), int(time.time()), content),
        }
        if webhook.api_key is not None:
            headers["x-api-key"] = webhook.api_key
        try:
            async with (
                asyncio.timeout(webhook.timeout_s),
                self._client(webhook.url, ca_file).stream(
                    "POST", webhook.url, content=content, headers=headers, timeout=webhook.timeout_s
                ) as response,
            ):
                answer = await _read(response)
        except (httpx.TimeoutException, TimeoutError):
            raise WebhookFailed(f"no answer within {webhook.timeout_s:g} s") from None
        except httpx.HTTPError as error:
            raise WebhookFailed(f"it cannot be asked ({type(error).__name__})") from None
        try:
            decision = _decoder.decode(answer)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise WebhookFailed("its answer is not one of this API") from None
        if decision.action == "GUARDRAIL_INTERVENED" and (
            decision.texts is None or len(decision.texts) != len(texts)
        ):
            raise WebhookFailed("it changed texts and gave others than it was asked about")
        return decision

    def _client(self, url: str, ca_file: str | None) -> httpx.AsyncClient:
        is_tls = url.startswith("https:")
        client = self._clients.get((is_tls, ca_file))
        if client is None:
            # Without TLS the roots, which take a while to load, are not needed; this trusts nobody.
            trust = tls_context(ca_file) if is_tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            client = self._clients[is_tls, ca_file] = httpx.AsyncClient(
                verify=trust,
                trust_env=False,
                follow_redirects=False,
                limits=httpx.Limits(max_connections=CALLS_MAX, max_keepalive_connections=CALLS_MAX),
            )
        return client

    async def aclose(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()


async def _read(response: httpx.Response) -> bytes:
    """Return an answer. Raises WebhookFailed for a status but 200, or too long a body."""
    if response.status_code != 200:  # noqa: PLR2004
        raise WebhookFailed(f"it answered with the status {response.status_code}")
    pieces: list[bytes] = []
    size = 0
    async for piece in response.aiter_raw():
        size += len(piece)
        if size > ANSWER_BYTES_MAX:
            raise WebhookFailed(f"its answer is longer than {ANSWER_BYTES_MAX} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def _plain(texts: Sequence[str]) -> list[str]:
    """Return texts as UTF-8 can carry them: half of a surrogate pair becomes a question mark."""
    return [text.encode("utf-8", "replace").decode() for text in texts]
