"""The events: every version ever written decodes for ever, and docs/events.md is current."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import alerts, budgets, events
from services.runtime import event_docs

ROOT = Path(__file__).resolve().parents[2]
FROZEN = ROOT / "tests" / "contracts" / "frozen_events"
PAGE = ROOT / "docs" / "events.md"

DECODERS = {
    "request": events.decode_usage_event,
    "usage": events.decode_usage_event,
    "guardrail": events.decode_usage_event,
    "key": events.decode_key_event,
    "team": events.decode_team_event,
    "user": events.decode_user_event,
    "budget": budgets.decode_budget_event,
    "marks": budgets.decode_marks,
    "model": events.decode_model_event,
    "config": events.decode_config_event,
    "price": events.decode_price_event,
    "requests": events.decode_reprice_event,
    "model.unpriced.v1": alerts.decode_alert_event,
    "guardrail.noticed.v1": alerts.decode_alert_event,
    "ledger": alerts.decode_alert_event,
    "quota": alerts.decode_alert_event,
    "alert": alerts.decode_alert_event,
}


def frozen_lines() -> list[tuple[str, bytes]]:
    return [
        (path.stem, line)
        for path in sorted(FROZEN.glob("*.jsonl"))
        for line in path.read_bytes().splitlines()
    ]


@pytest.mark.parametrize(("tag", "line"), frozen_lines())
def test_every_event_ever_written_decodes_and_keeps_its_meaning(tag: str, line: bytes) -> None:
    # Given the bytes of an event as some version wrote them, when they are decoded and written
    # again, then nothing that they said is lost or changed.
    event = (DECODERS.get(tag) or DECODERS[tag.split(".", 1)[0]])(line)
    again = msgspec.json.decode(events.encode_event(event))
    before = msgspec.json.decode(line)
    assert again["type"] == tag
    assert {name: again[name] for name in before} == before


def test_every_event_type_has_its_frozen_bytes() -> None:
    # Given all event types, when the corpus is listed, then none is missing: a new type or
    # version is added to the corpus with the change that brings it.
    tags = {event.__struct_config__.tag for event in event_docs._event_types()}
    assert tags <= {path.stem for path in FROZEN.glob("*.jsonl")}


def test_the_page_of_events_is_current() -> None:
    # Given the contract, when the page is made anew, then it is the page that is there.
    assert PAGE.read_text("utf-8") == event_docs.page(), (
        "run: python -m services.runtime.event_docs docs/events.md"
    )


@given(st.binary(max_size=300))
def test_random_bytes_are_refused_with_an_error_that_callers_catch(payload: bytes) -> None:
    # Given any bytes, when they are decoded as an event, then only the documented errors come.
    for decode in DECODERS.values():
        try:
            decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue


@given(st.integers(min_value=0, max_value=253402300799999999))
def test_times_keep_every_microsecond(time_us: int) -> None:
    # Given a time in microseconds, when it becomes a datetime and back, then nothing is lost.
    assert events.us_from_time(events.time_from_us(time_us)) == time_us
