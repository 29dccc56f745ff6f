"""A service's verdict on the parts of a request that are new."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import msgspec

from schemas.guardrails import Webhook
from services.proxy.draft import Draft
from services.proxy.json_texts import Patch, TextAt, texts_in
from services.proxy.said import is_of_assistant
from services.proxy.scanning import Seen, Verdict
from services.proxy.webhooks import WebhookFailed, Webhooks, batches_of

__all__ = ["Asker", "Objection", "texts_to_ask"]


class Objection(Exception):
    """A service does not let a request pass (`is_block`), or cannot be asked; `reason` says why."""

    def __init__(self, reason: str, *, is_block: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_block = is_block


def texts_to_ask(part: bytes, *, is_message: bool) -> list[TextAt]:
    """Return the texts of a part. Raises ValueError as is_of_assistant does."""
    return [] if is_message and is_of_assistant(part) else list(texts_in(part))


class Asker:
    """Asks services, and reads their answers as verdicts."""

    def __init__(self) -> None:
        self._webhooks = Webhooks()

    async def verdicts(
        self, webhook: Webhook, parts: Sequence[Sequence[TextAt]], draft: Draft
    ) -> list[Verdict | None]:
        """Return the verdict on the texts of each part, None: send it as it is. Raises Objection.

        A changed text is replaced as a whole.
        """
        asked = [text for texts in parts for text in texts]
        answered: list[str | None] = []
        about = _about(draft)
        ca_file = draft.setup.settings.upstream_ca_file
        for batch in batches_of([each.text for each in asked]):
            try:
                decision = await self._webhooks.ask(webhook, batch, about, ca_file=ca_file)
            except WebhookFailed as failure:
                raise Objection(str(failure), is_block=False) from None
            if decision.action == "BLOCKED":
                raise Objection(decision.reason or "it gave no reason", is_block=True)
            is_changed = decision.action == "GUARDRAIL_INTERVENED"
            answered += (decision.texts or []) if is_changed else [None] * len(batch)
        replies = iter(answered)
        return [_verdict(texts, [next(replies) for _ in texts]) for texts in parts]

    async def aclose(self) -> None:
        """Close all connections."""
        await self._webhooks.aclose()


def _about(draft: Draft) -> dict[str, Any]:
    """Return what a question says of the request, in LiteLLM's names."""
    key = draft.key
    return {
        "litellm_call_id": draft.request_id,
        "litellm_trace_id": draft.session_id,
        "model": draft.model_name,
        "request_data": {
            "user_api_key_hash": key.key_hash if key else None,
            "user_api_key_alias": key.key_alias if key else None,
            "user_api_key_user_id": key.user_id if key else None,
            "user_api_key_team_id": key.team_id if key else None,
        },
    }


def _verdict(texts: Sequence[TextAt], replies: Sequence[str | None]) -> Verdict | None:
    patches: list[Patch] = []
    seen: list[Seen] = []
    for at, reply in zip(texts, replies, strict=True):
        if reply is None or reply == at.text:
            continue
        patches.append(Patch(at.start, at.end, msgspec.json.encode(reply)[1:-1]))
        digest = sha256(at.text.encode("utf-8", "replace")).digest()
        seen.append(Seen("changed", "webhook", None, 1, digest))
    return Verdict(tuple(seen), tuple(patches)) if patches else None
