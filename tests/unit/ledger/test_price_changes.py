"""Changes of prices in the stream: they hold for what follows, whoever reads it and however."""

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events import PriceChanged, UsageRecord, UsageRecorded, encode_event
from schemas.prices import BookContent, PriceChange, PriceOverlay
from schemas.streams import PRICE_SUBJECTS, price_subject
from schemas.usage import Usage
from services.ledger.projection import Projected, Projection, ProjectionState, why_unreadable
from services.runtime.bus import StreamMessage
from services.runtime.price_book import PriceBook

BOOK = PriceBook.load()
AT = datetime(2026, 11, 24, tzinfo=UTC)
START_US = 1_795_478_400_000_000
LIST_PICOS = 1000 * 5 * 10**6


def usage(sequence: int, model: str = "claude-opus-5") -> StreamMessage:
    record = UsageRecord(
        request_id=f"tg_{sequence}",
        started_at_us=START_US,
        ended_at_us=START_US,
        key_id="key_a",
        model=model,
        usage=Usage(input_tokens=1000),
    )
    event = UsageRecorded(source="/proxy/p", id=str(sequence), time=AT, data=record)
    return StreamMessage(sequence, "usage.0", b"[" + encode_event(event) + b"]")


def change(
    sequence: int, *overlays: PriceOverlay, subject: str | None = None, **fields: Any
) -> StreamMessage:
    values: dict[str, Any] = {"kind": "file", "overlays": overlays} | fields
    data = PriceChange(**values)
    event = PriceChanged(source="/ledger", id=str(sequence), time=AT, data=data)
    return StreamMessage(sequence, subject or price_subject(data.kind), encode_event(event))


def discount(multiplier: str) -> PriceOverlay:
    return PriceOverlay(model="claude-opus-5", multiplier=multiplier)


def projection(state: ProjectionState | None = None) -> Projection:
    return Projection(BOOK, state or ProjectionState(), lambda _: set())


def costs(*parts: Projected) -> list[int | None]:
    return [spend.cost_picos for part in parts for spend in part.spends]


def test_a_change_holds_for_the_requests_that_follow_it() -> None:
    # Given requests before, between and after two changes, then each costs what was in force.
    messages = [
        usage(1),
        change(2, discount("0.5")),
        usage(3),
        change(4, discount("0.1"), kind="api"),
        usage(5),
        change(6, kind="api"),
        usage(7),
        change(8),
        usage(9),
    ]
    out = projection().project(messages)
    shares = (10, 5, 1, 5, 10)
    assert costs(out) == [LIST_PICOS * share // 10 for share in shares]
    assert [state.sequence for state in out.price_changes] == [2, 4, 6, 8]
    assert not out.dead_letters


def test_a_book_in_the_stream_goes_before_the_one_that_ships() -> None:
    # Given the book of an older version, which does not know a model, then it is unpriced until
    # the newer book comes, although this version knows it all along.
    older = BookContent(
        version=BOOK.version,
        models=tuple(model for model in BOOK.models if model.id != "claude-opus-5"),
    )
    out = projection().project(
        [
            change(1, kind="book", book=older),
            usage(2),
            change(3, kind="book", book=BOOK.content),
            usage(4),
        ]
    )
    assert costs(out) == [LIST_PICOS]
    assert len(out.requests) == 2


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_neither_grouping_nor_a_restart_changes_a_cost(data: st.DataObject) -> None:
    # Given any stream of requests and changes, when it is read in any groups, and each group by a
    # projection that knows only what the books hold, then the costs are those of one reading.
    kinds = data.draw(st.lists(st.sampled_from(["usage", "file", "api"]), max_size=12))
    messages = []
    for sequence, kind in enumerate(kinds, 1):
        if kind == "usage":
            messages.append(usage(sequence))
        else:
            multiplier = data.draw(st.sampled_from(["0.5", "0.25", "2"]))
            messages.append(change(sequence, discount(multiplier), kind=kind))
    cuts = data.draw(st.lists(st.integers(0, len(messages)), max_size=4))
    whole = projection().project(messages)
    state = ProjectionState()
    parts = []
    for start, end in pairwise(sorted([0, *cuts, len(messages)])):
        reader = projection(ProjectionState(producers=state.producers, prices=state.prices))
        parts.append(reader.project(messages[start:end]))
        state.producers |= parts[-1].producers
        state.prices |= {each.change.kind: each for each in parts[-1].price_changes}
    assert costs(*parts) == costs(whole)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (change(2, subject="price.api"), "a change of 'file' prices on the subject price.api"),
        (change(2, kind="book"), "without a book"),
        (change(2, book=BOOK.content), "with one in the wrong place"),
        (
            change(2, kind="book", book=BookContent(version=BOOK.version, models=BOOK.models * 2)),
            "larger than any may be",
        ),
        (StreamMessage(2, "price.file", b"{}"), "not a change of prices"),
        (StreamMessage(2, "price.file", b"\xff"), "not a change of prices"),
        (change(2, *[discount("1")] * 101), "larger than any may be"),
    ],
)
def test_a_change_that_cannot_be_is_a_dead_letter_and_changes_nothing(
    message: StreamMessage, reason: str
) -> None:
    if "larger" in reason and b"book" in message.payload[:300]:
        message = StreamMessage(2, "price.book", message.payload.ljust(64 * 1024 + 1))
    out = projection().project([usage(1), message, usage(3)])
    assert costs(out) == [LIST_PICOS] * 2
    ((sequence, position, told, *_),) = out.dead_letters
    assert (sequence, position) == (2, -1)
    assert reason in told
    assert out.price_changes == []


def test_prices_are_not_taken_from_a_subject_of_usage() -> None:
    # Given a change of prices that came where proxies publish, then it is a dead letter.
    forged = change(2, discount("0"), subject="usage.0")
    out = projection().project([usage(1), forged, usage(3)])
    assert costs(out) == [LIST_PICOS] * 2
    assert len(out.dead_letters) == 1


def test_a_dead_letter_that_is_a_change_of_prices_after_all_is_read_again() -> None:
    # Given the bytes of a change that an older version could not read, then this version can.
    assert why_unreadable(BOOK, change(1, discount("0.5")).payload, -1) is None
    assert why_unreadable(BOOK, b"garbage", -1) is not None


def test_every_kind_has_its_subject() -> None:
    assert {price_subject("book"), price_subject("file"), price_subject("api")} == PRICE_SUBJECTS
