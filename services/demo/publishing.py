"""Publishes a made-up history to the real streams, as the services themselves do."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from schemas.events import (
    GuardrailHit,
    GuardrailTriggered,
    Rejection,
    RequestRejected,
    RequestStarted,
    UsageEvent,
    UsageRecord,
    UsageRecorded,
    encode_event,
)
from schemas.prompts import StoredPrompt, encode_prompt
from schemas.streams import (
    USAGE_BATCH_BYTES_MAX,
    USAGE_BATCH_EVENTS_MAX,
    prompt_subject,
    usage_subject,
)
from services.demo.company import Change
from services.demo.history import Entry, entry_time
from services.runtime.bus import Bus

__all__ = ["batches_of", "publish_changes", "publish_prompts", "publish_usage", "usage_events"]

_SEPARATORS = 2


async def publish_changes(bus: Bus, changes: Iterable[Change]) -> None:
    """Publish changes of the registry, each only if nobody else wrote its subject meanwhile."""
    last: dict[str, int] = {}
    for subject, event in changes:
        last[subject] = await bus.publish(
            subject,
            encode_event(event),
            message_id=event.id,
            expected_last_subject_sequence=last.get(subject, 0),
        )


async def publish_usage(bus: Bus, entries: Sequence[Entry], producer: str) -> int:
    """Publish all entries as the events of one producer; return how many messages that took."""
    messages = 0
    for batch in batches_of(usage_events(entries, producer)):
        await bus.publish(usage_subject(), batch)
        messages += 1
    return messages


async def publish_prompts(bus: Bus, prompts: Iterable[StoredPrompt]) -> None:
    """Publish what was asked and answered, word for word."""
    for prompt in prompts:
        await bus.publish(prompt_subject(prompt.request_id), encode_prompt(prompt))


def usage_events(entries: Iterable[Entry], producer: str) -> Iterator[UsageEvent]:
    """Yield the entries as events that one producer numbered."""
    source = f"/proxy/{producer}"
    for number, entry in enumerate(entries, 1):
        # Which kind goes with which entry the types cannot say.
        kind: Any
        if isinstance(entry, UsageRecord):
            kind = UsageRecorded
        elif isinstance(entry, Rejection):
            kind = RequestRejected
        elif isinstance(entry, GuardrailHit):
            kind = GuardrailTriggered
        else:
            kind = RequestStarted
        yield kind(
            source=source,
            id=str(number),
            time=entry_time(entry),
            subject=entry.request_id,
            data=entry,
        )


def batches_of(events: Iterable[UsageEvent]) -> Iterator[bytes]:
    """Yield micro-batches: JSON arrays within the limits of the USAGE stream."""
    waiting: list[bytes] = []
    size = 0
    for event in events:
        payload = encode_event(event)
        is_full = len(waiting) >= USAGE_BATCH_EVENTS_MAX
        if waiting and (is_full or size + len(payload) + _SEPARATORS > USAGE_BATCH_BYTES_MAX):
            yield b"[" + b",".join(waiting) + b"]"
            waiting, size = [], 0
        waiting.append(payload)
        size += len(payload) + _SEPARATORS
    if waiting:
        yield b"[" + b",".join(waiting) + b"]"
