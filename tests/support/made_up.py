"""Made-up streams of usage: every model, every kind of request, the same for the same seed."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from schemas.events import (
    Rejection,
    RequestFacts,
    RequestRejected,
    RequestStarted,
    UsageRecord,
    UsageRecorded,
    encode_event,
)
from schemas.usage import IterationUsage, Usage
from services.runtime.price_book import PriceBook

__all__ = ["START_US", "made_up_messages"]

START_US = 1_795_478_400_000_000
"""2026-11-24, midnight in UTC."""
_AT = datetime(2026, 11, 24, tzinfo=UTC)
_DAY_US = 86_400_000_000


def made_up_messages(
    requests: int, *, seed: int = 1, events_per_message: int = 200, plain: bool = False
) -> Iterator[bytes]:
    """Yield messages for USAGE that hold so many requests of one producer.

    With `plain` all are successful answers of a known model, each with its start: what a busy
    gateway sends. Otherwise there are also errors, refusals, unknown models, batch results,
    iterations, and tokens around every context tier.
    """
    chance = random.Random(seed)
    models = [model.id for model in PriceBook.load().models]
    source = f"/proxy/made-up-{seed}"
    number = 0
    waiting: list[bytes] = []

    def encoded(kind: Any, data: Any) -> bytes:
        nonlocal number
        number += 1
        return encode_event(kind(source=source, id=str(number), time=_AT, data=data))

    for count in range(requests):
        facts = _facts(chance, models, count, plain=plain)
        if plain or chance.random() < 0.95:
            started = encoded(RequestStarted, RequestFacts(**facts))
            waiting += [started, encoded(UsageRecorded, _record(chance, facts, count, plain=plain))]
        else:
            refusal = {"http_status": 429, "error_type": "billing_error", "reason": "used up"}
            ended = {"ended_at_us": facts["started_at_us"]}
            waiting.append(encoded(RequestRejected, Rejection(**facts, **ended, **refusal)))
        if len(waiting) >= events_per_message:
            yield b"[" + b",".join(waiting) + b"]"
            waiting.clear()
    if waiting:
        yield b"[" + b",".join(waiting) + b"]"


def _facts(chance: random.Random, models: list[str], count: int, *, plain: bool) -> dict[str, Any]:
    days = 0 if plain else chance.randint(-800, 0)
    key = chance.randint(1, 50)
    return {
        "request_id": f"tg_{count:032x}",
        "started_at_us": START_US + days * _DAY_US + count * 1000,
        "key_id": f"key_{key:04d}",
        "key_alias": f"developer-{key}",
        "user_id": f"user_{key}",
        "team_id": f"team_{key % 5}",
        "model_name": "anthropic-claude",
        "model": chance.choice(models) if plain or chance.random() < 0.9 else "claude-unheard-of",
        "deployment": "anthropic-claude",
        "billing": chance.choice(["api", "subscription"]),
        "stream": True,
        "session_id": f"session-{chance.randint(1, 999):08x}-0000-4000-8000-000000000000",
        "user_agent": "claude-cli/2.0.1 (external, cli)",
        "request_bytes": chance.randint(1000, 90_000),
    }


def _record(
    chance: random.Random, facts: dict[str, Any], count: int, *, plain: bool
) -> UsageRecord:
    started_us = facts["started_at_us"]
    fields: dict[str, Any] = {
        "ended_at_us": started_us + chance.randint(1000, 60_000_000),
        "first_byte_at_us": started_us + 400_000,
        "response_model": facts["model"],
        "upstream_request_id": f"req_{count:024x}",
        "message_id": f"msg_{count:024x}",
        "stop_reason": "end_turn",
        "response_bytes": chance.randint(1000, 90_000),
        "usage": _usage(chance, plain=plain),
    }
    if not plain:
        fields |= chance.choice(
            [
                {},
                {},
                {},
                {"response_model": None},
                {"response_model": "some-other-name"},
                {
                    "usage": None,
                    "status": "failure",
                    "http_status": 529,
                    "error_type": "overloaded",
                },
                {"usage": None, "endpoint": "count_tokens"},
                {"usage": None, "endpoint": "pass_through", "path": "/v1/new"},
                {"endpoint": "batch_result", "batch_id": "msgbatch_1", "custom_id": str(count)},
                {"usage": None, "endpoint": "batch_result", "batch_id": "msgbatch_2"},
                {"usage": Usage()},
                {"estimated": True, "estimate_basis": "bytes", "status": "client_closed"},
            ]
        )
    return UsageRecord(**(facts | fields))


def _usage(chance: random.Random, *, plain: bool) -> Usage:
    tokens = chance.choice([3, 20_000, 100_000, 100_001, 200_000, 200_001, 900_000])
    counts = {
        "input_tokens": chance.randint(0, 20) if plain else tokens,
        "output_tokens": chance.randint(1, 4000),
        "cache_read_tokens": chance.choice([0, 40_000]),
        "cache_write_5m_tokens": chance.choice([0, 1, 3000]),
        "cache_write_1h_tokens": chance.choice([0, 7]),
        "service_tier": "standard",
    }
    if plain:
        return Usage(**counts)
    iterations: tuple[IterationUsage, ...] = ()
    if chance.random() < 0.2:
        kind = chance.choice(
            ["compaction", "advisor_message", "fallback_message", "message", "new"]
        )
        iterations = (IterationUsage(type=kind, model="claude-haiku-4-5", output_tokens=9),)
    return Usage(
        **(counts | {"service_tier": chance.choice([None, "standard", "batch", "odd"])}),
        web_search_requests=chance.choice([0, 0, 2]),
        speed=chance.choice([None, None, "fast"]),
        inference_geo=chance.choice([None, "us", "mars", "global"]),
        iterations=iterations,
    )
