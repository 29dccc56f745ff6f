"""Made-up texts of the newest requests, as `store_prompts` keeps them."""

import json
import random
from collections.abc import Iterable, Iterator

from schemas.events import UsageRecord
from schemas.prompts import StoredPrompt

__all__ = ["stored_prompts"]

_ASKED = (
    "The tests of the importer are slow. Find out which fixture costs the most and why.",
    "Add paging to GET /orders. Keep the order stable while rows are added.",
    "Review this branch as a careful colleague would; begin with what could lose data.",
    "Explain what src/billing/window.py does, for someone who joins today.",
    "The build is red since yesterday evening. Bisect it and propose the smallest fix.",
)
_ANSWERED = (
    (
        "Most of the time goes into a database that each test makes anew: 1.8 of 2.1 seconds. One "
        "for the module is enough, since every test works in a transaction of its own."
    ),
    (
        "I read the callers first. The cursor is the last row's id, so that rows which are added "
        "while somebody pages are neither shown twice nor left out."
    ),
    "Three things stand out. The first is that the file is removed before its copy is on disk.",
)


def stored_prompts(rng: random.Random, records: Iterable[UsageRecord]) -> Iterator[StoredPrompt]:
    """Yield the texts of requests that were answered."""
    for record in records:
        if record.status != "success":
            continue
        answer = rng.choice(_ANSWERED)
        asked = {
            "model": record.model_name,
            "max_tokens": 32_000,
            "stream": record.stream,
            "system": [
                {
                    "type": "text",
                    "text": "You are Claude Code, Anthropic's official CLI for Claude.",
                }
            ],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": rng.choice(_ASKED)}]}
            ],
        }
        answered = {
            "id": record.message_id,
            "type": "message",
            "role": "assistant",
            "model": record.response_model,
            "content": [{"type": "text", "text": answer}],
            "stop_reason": record.stop_reason,
        }
        yield StoredPrompt(
            request_id=record.request_id,
            started_at_us=record.started_at_us,
            key_id=record.key_id,
            request=json.dumps(asked).encode(),
            status=200,
            response=json.dumps(answered).encode(),
            response_type="application/json",
        )
