"""What the page of health complains of: every fault once, nothing where all is well."""

from typing import Any

import pytest

from schemas.rpc import ReaderState
from services.admin.ui.health import LAG_MESSAGES_WANTED, complaints_of

WELL: dict[str, Any] = {"missing": 0, "dead_letters": 0}
READER = ReaderState(uptime_s=10)


def row(**changed: Any) -> dict[str, Any]:
    return {
        "part": "proxy-0",
        "is_up": True,
        "problem": None,
        "events_lost": 0,
        "outbox_share": 0.0,
        **changed,
    }


def test_nothing_is_complained_of_where_all_is_well() -> None:
    assert complaints_of(connected=True, rows=[row()], books=WELL, lag=3, reader=READER) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"connected": False}, "NATS cannot be reached"),
        ({"rows": [row(is_up=False)]}, "proxy-0 does not answer"),
        ({"rows": [row(problem="line 3 is no YAML")]}, "has not taken the configuration"),
        ({"rows": [row(events_lost=2.0)]}, "lost events"),
        ({"rows": [row(outbox_share=40.0)]}, "is filling up"),
        ({"books": {**WELL, "missing": 4}}, "4 events are missing"),
        ({"books": {**WELL, "dead_letters": 1}}, "could not be read"),
        ({"books": None}, "reader does not answer"),
        ({"lag": LAG_MESSAGES_WANTED + 1}, "is behind"),
        ({"reader": ReaderState(uptime_s=1, rebuilding=True, last_sequence=9)}, "being rebuilt"),
    ],
)
def test_each_fault_is_told_once_with_what_to_do(changed: dict[str, Any], words: str) -> None:
    # Given one fault, when health is looked at, then it alone is told, with more than its name.
    state: dict[str, Any] = {
        "connected": True,
        "rows": [row()],
        "books": WELL,
        "lag": 0,
        "reader": READER,
    }
    found = complaints_of(**{**state, **changed})
    assert [words in each.title for each in found] == [True]
    assert found[0].text
