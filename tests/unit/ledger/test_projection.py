"""The projection: each event counts once, in whatever way the messages come."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events import (
    Event,
    Rejection,
    RequestFacts,
    RequestRejected,
    RequestStarted,
    UsageRecord,
    UsageRecorded,
    encode_event,
)
from schemas.money import usd_from_picos
from schemas.usage import TOKENS_MAX, IterationUsage, Usage
from services.ledger.projection import (
    DEAD_LETTER_BYTES_MAX,
    LOST_AFTER_S,
    Projected,
    Projection,
    ProjectionState,
    why_unreadable,
)
from services.ledger.rows import REQUEST_COLUMNS
from services.runtime.bus import StreamMessage
from services.runtime.price_book import PriceBook

BOOK = PriceBook.load()
AT = datetime(2026, 11, 24, tzinfo=UTC)
START_US = 1_795_478_400_000_000
COLUMNS = [name for name, _ in REQUEST_COLUMNS]


def started(number: int, request: str = "tg_1", producer: str = "p") -> bytes:
    facts = RequestFacts(request_id=request, started_at_us=START_US, key_id="key_a")
    return encode(RequestStarted, number, producer, facts)


def recorded(number: int, request: str = "tg_1", producer: str = "p", **fields: Any) -> bytes:
    values: dict[str, Any] = {
        "request_id": request,
        "started_at_us": START_US,
        "ended_at_us": START_US + 2_000_000,
        "key_id": "key_a",
        "model": "claude-sonnet-4-20250514",
        "usage": Usage(input_tokens=1000, output_tokens=10),
        **fields,
    }
    return encode(UsageRecorded, number, producer, UsageRecord(**values))


def encode(kind: type[Any], number: int, producer: str, data: msgspec.Struct) -> bytes:
    event: Event = kind(source=f"/proxy/{producer}", id=str(number), time=AT, data=data)
    return encode_event(event)


def message(sequence: int, *events: bytes, at_s: int = 0) -> StreamMessage:
    return StreamMessage(sequence, "usage.0", b"[" + b",".join(events) + b"]", at_s * 1_000_000)


def projection() -> Projection:
    return Projection(BOOK, ProjectionState(), lambda _: set())


def row(out: Projected, index: int = 0) -> dict[str, Any]:
    return named(out.requests[index])


def named(cells: Sequence[Any]) -> dict[str, Any]:
    """Return a row by its columns' names, its costs in dollars."""
    found = dict(zip(COLUMNS, cells, strict=True))
    for name in COLUMNS:
        if name.endswith("cost_usd") and found[name] is not None:
            found[name] = usd_from_picos(found[name])
    return found


def test_a_request_becomes_one_row_with_its_exact_cost() -> None:
    # Given a started and an ended request, when they are projected, then there is one whole row.
    out = projection().project([message(7, started(1), recorded(2))])
    found = row(out)
    assert len(out.requests) == 1
    assert str(found["cost_usd"]) == "0.003150000000"
    assert (found["prompt_tokens"], found["total_tokens"]) == (1000, 1010)
    assert (found["duration_ms"], found["status"], found["unpriced"]) == (2000, "success", False)
    assert (found["producer"], found["producer_sequence"], found["stream_sequence"]) == ("p", 2, 7)
    assert out.opened == {}
    assert out.closed == []
    assert out.sequence == 7
    assert [(s.key_id, s.cost_picos) for s in out.spends] == [("key_a", 3_150_000_000)]


def test_a_request_under_way_is_open_until_its_end_comes_in_a_later_batch() -> None:
    # Given a start in one batch and the end in another, then it is opened and then closed.
    ledger = projection()
    first = ledger.project([message(1, started(1))])
    second = ledger.project([message(2, recorded(2))])
    assert list(first.opened) == ["tg_1"]
    assert (second.opened, second.closed) == ({}, ["tg_1"])


def test_a_repeated_event_changes_nothing() -> None:
    # Given events that came before, when they come again in any grouping, then no row is added.
    ledger = projection()
    ledger.project([message(1, started(1), recorded(2))])
    again = ledger.project([message(2, recorded(2)), message(3, started(1), recorded(2))])
    assert again.requests == []
    assert again.spends == []
    assert again.counts.repeats == 3


def test_a_missing_number_is_reported_as_a_gap_and_the_rest_counts() -> None:
    # Given numbers 1 and 5 of a producer, then 2 to 4 are reported missing and both rows count.
    out = projection().project([message(1, recorded(1, "tg_1")), message(2, recorded(5, "tg_2"))])
    assert out.gaps == [("p", 2, 4, 2)]
    assert len(out.requests) == 2


def test_producers_are_counted_apart() -> None:
    # Given two producers with the same numbers, then both count.
    out = projection().project(
        [message(1, recorded(1, "tg_1", "a")), message(2, recorded(1, "tg_2", "b"))]
    )
    assert len(out.requests) == 2
    assert out.gaps == []
    assert out.producers == {"a": 1, "b": 1}


@pytest.mark.parametrize(
    "poison",
    [
        b"not json",
        b'{"type":"usage.recorded.v1"}',
        b'{"type":"usage.recorded.v99","source":"/proxy/p","id":"2"}',
        recorded(2, usage=Usage(input_tokens=-1)),
        recorded(2, usage=Usage(input_tokens=TOKENS_MAX + 1)),
        recorded(2, usage=Usage(iterations=(IterationUsage(output_tokens=-5),))),
        recorded(2, http_status=-1),
        recorded(2).replace(b'"/proxy/p"', b'"/elsewhere"'),
        recorded(2).replace(b'"id":"2"', b'"id":"two"'),
        recorded(2).replace(b'"id":"2"', b'"id":"0"'),
        recorded(2, request_bytes=2**63 - 1),
        recorded(2).replace(b'"request_id":"tg_1"', b'"request_id":"' + b"x" * 5000 + b'"'),
        b"[[[[",
        b"1e999",
        b"\xff\xfe",
    ],
    ids=lambda poison: repr(poison[:24]),
)
def test_an_event_that_cannot_be_read_is_kept_and_spoils_no_neighbour(poison: bytes) -> None:
    # Given a bad event between good ones, then the good ones count and the bad one is kept.
    ledger = projection()
    good = [message(1, recorded(1, "tg_0")), message(3, recorded(3, "tg_9"))]
    try:
        msgspec.json.decode(b"[" + poison + b"]")
        batch = message(2, poison)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        batch = StreamMessage(2, "usage.0", poison)
    out = ledger.project([good[0], batch, good[1]])
    assert [found[0] for found in out.requests] == ["tg_0", "tg_9"]
    assert len(out.dead_letters) == 1
    sequence, _, reason, payload, length, _, _ = out.dead_letters[0]
    assert sequence == 2
    assert reason
    assert payload == poison[:DEAD_LETTER_BYTES_MAX]
    assert length == len(poison)


def test_a_dead_letter_with_a_number_is_no_gap() -> None:
    # Given an event whose figures are impossible, when the next one comes, then nothing is missing.
    out = projection().project(
        [
            message(1, recorded(1, "tg_1")),
            message(2, recorded(2, "tg_2", usage=Usage(input_tokens=-1)), recorded(3, "tg_3")),
        ]
    )
    assert out.gaps == []
    assert len(out.dead_letters) == 1


def test_an_unknown_model_is_unpriced_and_never_zero() -> None:
    # Given a model without a price, then the cost is NULL, the reason told, no budget charged.
    out = projection().project([message(1, recorded(1, model="claude-unheard-of"))])
    found = row(out)
    assert found["cost_usd"] is None
    assert found["unpriced"] is True
    assert "claude-unheard-of" in found["unpriced_reason"]
    assert out.spends == []


def test_the_model_that_answered_decides_the_price_where_it_is_known() -> None:
    # Given an answer of another model than was asked for, then the answering one is priced; a name
    # that the book does not know falls back on the one that was asked for.
    usage = Usage(output_tokens=1_000_000)
    known = recorded(1, "tg_1", usage=usage, response_model="claude-opus-4-20250514")
    unknown = recorded(2, "tg_2", usage=usage, response_model="some-proxy-name")
    out = projection().project([message(1, known, unknown)])
    assert [str(named(found)["cost_usd"]) for found in out.requests] == [
        "75.000000000000",
        "15.000000000000",
    ]


def test_refusals_errors_and_token_counts_cost_nothing_and_are_priced() -> None:
    # Given a refusal, an error of the API and a count of tokens, then each is a row of cost zero.
    refusal = Rejection(
        request_id="tg_r",
        started_at_us=START_US,
        ended_at_us=START_US,
        http_status=429,
        error_type="billing_error",
        reason="Budget used up",
    )
    out = projection().project(
        [
            message(
                1,
                encode(RequestRejected, 1, "p", refusal),
                recorded(2, "tg_e", usage=None, status="failure", http_status=529),
                recorded(3, "tg_c", usage=None, endpoint="count_tokens"),
            )
        ]
    )
    assert [found[COLUMNS.index("status")] for found in out.requests] == [
        "refused",
        "failure",
        "success",
    ]
    assert {str(named(found)["cost_usd"]) for found in out.requests} == {"0E-12"}
    assert not any(found[COLUMNS.index("unpriced")] for found in out.requests)
    assert row(out)["reason"] == "Budget used up"


@given(st.integers(0, 2**32), st.integers(1, 40))
@settings(max_examples=60)
def test_repeats_and_regrouping_of_a_stream_give_the_same_rows(seed: int, count: int) -> None:
    # Given a producer's events, when they are grouped anew and repeated at random (each only after
    # it has come once in order), then the rows are those of the plain stream.
    events = [recorded(n, f"tg_{n}") for n in range(1, count + 1)]
    plain = projection().project([message(1, *events)])
    chance = random.Random(seed)
    messages, sequence, done = [], 0, 0
    while done < count:
        sequence += 1
        begin = chance.randint(max(0, done - 5), done)
        end = chance.randint(done, min(count, done + 4))
        messages.append(message(sequence, *events[begin : max(end, begin)]))
        done = max(done, end)
    mixed = projection().project(messages)
    at = COLUMNS.index("stream_sequence")
    # The place in the stream, twice: the next column says by which message it is priced.
    assert COLUMNS[at + 1] == "priced_sequence"
    facts = [[found[:at] + found[at + 2 :] for found in out.requests] for out in (mixed, plain)]
    assert facts[0] == facts[1]
    assert mixed.gaps == []


@given(st.binary(max_size=200))
def test_any_bytes_are_taken_in_without_a_fault(payload: bytes) -> None:
    # Given any message, when it is projected, then nothing is raised and the sequence moves on.
    out = projection().project([StreamMessage(5, "usage.0", payload)])
    assert out.sequence == 5


def result(number: int, name: str, producer: str = "p", **fields: Any) -> bytes:
    return recorded(
        number,
        f"tg_batch_{name}",
        producer,
        **{
            "endpoint": "batch_result",
            "batch_id": "msgbatch_1",
            "custom_id": name,
            "usage": Usage(input_tokens=1000, output_tokens=10, service_tier="batch"),
            **fields,
        },
    )


def test_a_batch_result_counts_once_whoever_fetches_it_and_however_often() -> None:
    # Given results that two proxies report, twice in one message and again later, when they are
    # projected, then each is one row at half price, and each event's number is taken as come.
    stored: set[str] = set()
    asked: list[tuple[str, str]] = []

    def booked(results: Sequence[tuple[str, str]]) -> set[str]:
        asked.extend(results)
        return stored & {request for _, request in results}

    books = Projection(BOOK, ProjectionState(), booked)
    first = books.project([message(1, result(1, "a"), result(2, "b"), result(3, "a"))])
    stored |= {str(row[0]) for row in first.requests}
    second = books.project(
        [message(2, result(1, "b", "q"), result(2, "c", "q")), message(3, result(3, "c", "q"))]
    )

    rows = [named(row) for row in first.requests + second.requests]
    assert [row["custom_id"] for row in rows] == ["a", "b", "c"]
    assert [row["batch_id"] for row in rows] == ["msgbatch_1"] * 3
    # 1000 x $3 and 10 x $15 a million, half of it.
    assert {row["cost_usd"] for row in rows} == {Decimal("0.001575000000")}
    assert len(first.spends) + len(second.spends) == 3
    assert (first.counts.again, second.counts.again) == (1, 2)
    assert (first.counts.events, second.counts.events) == (3, 3)
    assert (first.gaps, second.gaps) == ([], [])
    assert second.producers == {"q": 3}
    assert ("msgbatch_1", "tg_batch_c") in asked


def test_what_has_no_known_price_is_unpriced_and_not_free() -> None:
    # Given a pass-through request and a batch result that could not be read, when they are
    # projected, then their cost is NULL with a reason; what is free by nature costs 0.
    out = projection().project(
        [
            message(
                1,
                recorded(1, "tg_1", endpoint="pass_through", path="/v1/new", usage=None),
                result(2, "long", usage=None),
                recorded(3, "tg_3", endpoint="files", path="/v1/files", usage=None),
                recorded(4, "tg_4", endpoint="batches", path="/v1/messages/batches", usage=None),
            )
        ]
    )

    rows = [named(row) for row in out.requests]
    assert [row["cost_usd"] for row in rows] == [None, None, 0, 0]
    assert [row["unpriced"] for row in rows] == [True, True, False, False]
    assert "pass-through" in rows[0]["unpriced_reason"]
    assert "batch result" in rows[1]["unpriced_reason"]
    assert rows[0]["path"] == "/v1/new"


def test_a_batch_result_without_its_batch_is_a_dead_letter() -> None:
    # Given a batch result that cannot be told from its repeats, then it becomes no row.
    out = projection().project([message(1, result(1, "a", batch_id=None))])

    assert out.requests == []
    assert len(out.dead_letters) == 1


DAY_S = LOST_AFTER_S
"""What is lost is so after this much of the stream's time."""


def test_a_request_whose_end_never_comes_is_closed_as_lost_by_the_streams_clock() -> None:
    # Given a start, when later messages bring the stream's time to the limit, then it is a failed
    # row of its own at the first that reaches it, openly unpriced, and no longer open.
    ledger = projection()
    ledger.project([message(1, started(1), at_s=1000)])
    early = ledger.project([message(2, recorded(1, "tg_x", "q"), at_s=999 + DAY_S)])
    late = ledger.project([message(3, at_s=1000 + DAY_S), message(4, at_s=9000 + DAY_S)])
    assert early.lost == []
    found = named(late.lost[0])
    assert len(late.lost) == 1
    assert (found["request_id"], found["key_id"], found["status"]) == ("tg_1", "key_a", "failure")
    assert (found["error_type"], found["estimated"], found["cost_usd"]) == ("lost", True, None)
    assert (found["producer"], found["producer_sequence"], found["stream_sequence"]) == ("p", 1, 3)
    assert late.closed == ["tg_1"]
    assert (late.counts.lost, late.counts.closed) == (1, 0)


def test_the_streams_time_does_not_go_back_with_the_servers_clock() -> None:
    # Given a server whose clock is put back by two days, then nothing is lost too early or late.
    ledger = projection()
    ledger.project([message(1, recorded(1, "tg_0", "q"), at_s=2 * DAY_S)])
    ledger.project([message(2, started(1), at_s=10)])
    assert ledger.project([message(3, at_s=3 * DAY_S - 1)]).lost == []
    assert len(ledger.project([message(4, at_s=3 * DAY_S)]).lost) == 1


def test_the_late_end_of_a_lost_request_corrects_it_once() -> None:
    # Given a lost request, when its end comes after all, and again, then it replaces the row once.
    ledger = projection()
    ledger.project([message(1, started(1), at_s=0)])
    ledger.project([message(2, at_s=DAY_S)])
    out = ledger.project([message(3, recorded(2), recorded(2), at_s=DAY_S + 5)])
    assert out.corrected == [("tg_1", 2, 3)]
    assert [each[0] for each in out.requests] == ["tg_1"]
    assert (out.counts.corrected, out.counts.repeats, out.counts.closed) == (1, 1, 0)
    assert len(out.spends) == 1


def test_a_second_start_of_a_request_opens_nothing_anew() -> None:
    # Given a start that comes twice with two numbers, and once more when the request is lost, then
    # it is one request, closed as lost once.
    ledger = projection()
    out = ledger.project([message(1, started(1), started(2), at_s=0)])
    late = ledger.project([message(2, at_s=DAY_S), message(3, started(3), at_s=3 * DAY_S)])
    last = ledger.project([message(4, at_s=9 * DAY_S)])
    assert (out.counts.started, out.counts.again) == (1, 1)
    assert (len(late.lost), late.counts.again, last.lost) == (1, 1, [])


def test_a_dead_letter_that_comes_again_is_a_repeat() -> None:
    # Given an event that cannot be read, when it is delivered twice, then it is kept once; its
    # producer and number are known.
    bad = recorded(1, usage=Usage(input_tokens=-1))
    out = projection().project([message(1, bad), message(2, bad)])
    assert [letter[5:] for letter in out.dead_letters] == [("p", 1)]
    assert (out.counts.events, out.counts.repeats) == (1, 1)


def test_a_bad_batch_result_does_not_hide_the_good_one_after_it() -> None:
    # Given a result that is poison and then the same one sound, in one message or in two, then the
    # sound one is a row either way.
    bad, good = result(1, "a", usage=Usage(input_tokens=-1)), result(2, "a")
    together = projection().project([message(1, bad, good)])
    apart = projection()
    apart.project([message(1, bad)])
    assert len(together.requests) == 1
    assert len(apart.project([message(2, good)]).requests) == 1


def test_what_this_version_can_read_is_told_from_what_it_cannot() -> None:
    # Given letters that are sound, poison, foreign, or a whole message, then only what would become
    # something is readable.
    assert why_unreadable(BOOK, recorded(7), 0) is None
    assert why_unreadable(BOOK, started(7), 3) is None
    assert why_unreadable(BOOK, b"[" + recorded(7) + b"]", -1) is None
    assert "negative" in str(why_unreadable(BOOK, recorded(7, usage=Usage(input_tokens=-1)), 0))
    assert why_unreadable(BOOK, b'{"type":"x"}', 0)
    assert why_unreadable(BOOK, b"garbage", -1)
    assert why_unreadable(BOOK, b"garbage", 0)


@given(st.integers(0, 2**32))
@settings(max_examples=80)
def test_the_grouping_of_messages_into_commits_changes_nothing(seed: int) -> None:
    # Given a stream with starts, ends, losses, late ends, poison and repeats, when it is projected
    # in commits of any size, then the rows, the counts and all else are the same.
    chance = random.Random(seed)
    events = []
    for number in range(1, 40):
        request = f"tg_{chance.randint(1, 12)}"
        bad = Usage(input_tokens=-1) if chance.random() < 0.1 else Usage(input_tokens=5)
        kind = chance.random()
        events.append(
            started(number, request)
            if kind < 0.4
            else result(number, request, usage=bad)
            if kind < 0.6
            else recorded(number, request, usage=bad)
        )
    clock_s, messages = 0, []
    for sequence in range(1, 40):
        clock_s += chance.choice([0, 10, DAY_S // 3, DAY_S])
        begin = max(0, sequence - 1 - chance.randint(0, 2))
        messages.append(message(sequence, *events[begin:sequence], at_s=clock_s))
    assert books_of(messages, [1] * len(messages)) == books_of(messages, [len(messages)])
    sizes = [chance.randint(1, 9) for _ in messages]
    assert books_of(messages, sizes) == books_of(messages, [len(messages)])


def books_of(messages: Sequence[StreamMessage], sizes: Sequence[int]) -> Any:
    """Return the books that a stream makes, in commits of the given numbers of messages."""
    rows: dict[str, list[Any]] = {}
    results: set[str] = set()
    books = Projection(BOOK, ProjectionState(), lambda _: set(results))
    whole = Projected()
    opened: dict[str, Any] = {}
    start = 0
    for size in sizes:
        out = books.project(messages[start : start + size])
        start += size
        for each in out.lost:
            rows.setdefault(each[0], []).append(each)
        for request, lost_at, _ in out.corrected:
            rows[request] = [each for each in rows[request] if lost_at_of(each) != lost_at]
        for each in out.requests:
            rows.setdefault(each[0], []).append(each)
            if named(each)["endpoint"] == "batch_result":
                results.add(each[0])
        for request in out.closed:
            del opened[request]
        opened |= out.opened
        whole.counts.add(out.counts)
        whole.corrected += out.corrected
        whole.dead_letters += out.dead_letters
        whole.gaps += out.gaps
    order = [COLUMNS.index(name) for name in ("stream_sequence", "producer_sequence")]
    for found in rows.values():
        found.sort(key=lambda cells: [cells[index] for index in order])
    return rows, opened, whole


def lost_at_of(cells: Sequence[Any]) -> int | None:
    found = named(cells)
    return found["stream_sequence"] if found["error_type"] == "lost" else None
