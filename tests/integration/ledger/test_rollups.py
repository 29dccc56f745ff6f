"""The rollups: they are the sums of the facts, whatever happens to the facts."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.events import RequestFacts
from services.ledger import rollups
from services.ledger.projection import LOST_AFTER_S, Projection
from services.ledger.rollups import ROLLUPS, count, differing
from services.ledger.store import Store
from services.runtime.bus import StreamMessage
from services.runtime.price_book import PriceBook
from tests.support.ledger import Producer, batch
from tests.support.made_up import made_up_messages

BOOK = PriceBook.load()
REQUESTS = 400


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "ledger.duckdb")
    yield store
    store.close()


def take(store: Store, messages: list[StreamMessage], chance: random.Random) -> None:
    """Have messages in the books, so many to a commit as chance says."""
    projection = Projection(BOOK, store.projection_state("USAGE"), store.booked_results)
    while messages:
        some = [messages.pop(0) for _ in range(min(len(messages), chance.randint(1, 4)))]
        store.commit("USAGE", "then", projection.project(some))


def ask(store: Store, query: str) -> list[tuple[Any, ...]]:
    return store.connection.execute(query).fetchall()


def differences(store: Store) -> list[int]:
    return [differing(store.connection, rollup) for rollup in ROLLUPS]


@pytest.mark.parametrize("unmerged_max", [10, 10**6])
@pytest.mark.parametrize("seed", [1, 2])
def test_rollups_are_the_sums_of_the_facts_whatever_happens(
    books: Store, monkeypatch: pytest.MonkeyPatch, seed: int, unmerged_max: int
) -> None:
    # Given requests of every kind, some lost and some of those ended after all, in commits of any
    # size, whether parts are merged or not: then every group adds up, and the view tells the same
    # as the facts; and so it is after rows were changed as `count` says.
    monkeypatch.setattr(rollups, "PARTS_UNMERGED_MAX", unmerged_max)
    chance = random.Random(seed)
    late = Producer("late")
    records = [late.record(request_id=f"tg_late_{n}", key_id="key_0001") for n in range(6)]
    payloads = [batch(*(late.started(record) for record in records))]
    payloads += made_up_messages(REQUESTS, seed=seed, events_per_message=40)
    payloads += [batch(late.recorded(record)) for record in records[:4]]
    take(
        books,
        [
            StreamMessage(n, "usage.0", payload, (n > 1) * (LOST_AFTER_S + n) * 1_000_000)
            for n, payload in enumerate(payloads, 1)
        ],
        chance,
    )
    assert ask(books, "SELECT count(*) FROM corrections") == [(4,)]
    assert differences(books) == [0, 0]
    same = (
        "SELECT {day} AS day, team_id, status, sum({requests})::BIGINT, "
        "sum(prompt_tokens)::HUGEINT, sum(cost_usd) FROM {source} GROUP BY ALL ORDER BY ALL"
    )
    facts = ask(books, same.format(day="started_at::DATE", requests="1", source="requests"))
    view = ask(books, same.format(day="day", requests="requests", source="spend_by_day"))
    assert view == facts
    merged = ask(books, "SELECT count(*) FROM spend_parts WHERE merged")[0][0]
    assert (merged > 0) == (unmerged_max == 10)

    chosen = "team_id = ?"
    books.connection.execute("BEGIN")
    count(books.connection, "out", "requests", chosen, ["team_1"])
    books.connection.execute(
        "UPDATE requests SET cost_usd = cost_usd * 2, unpriced = NOT unpriced, ttfb_ms = 7 "
        f"WHERE {chosen}",
        ["team_1"],
    )
    assert differences(books)[0] > 0
    count(books.connection, "in", "requests", chosen, ["team_1"])
    books.connection.execute("COMMIT")
    assert differences(books) == [0, 0]


def test_rows_that_all_left_leave_nothing_behind(
    books: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a lost request whose end came, then the view has no group of what it was; and when the
    # parts are merged, no part of it is left.
    monkeypatch.setattr(rollups, "PARTS_UNMERGED_MAX", 0)
    late = Producer("late")
    record = late.record(request_id="tg_late")
    messages = [
        StreamMessage(1, "usage.0", batch(late.started(record)), 0),
        StreamMessage(2, "usage.0", batch(), LOST_AFTER_S * 1_000_000),
        StreamMessage(3, "usage.0", batch(late.recorded(record)), LOST_AFTER_S * 1_000_001),
    ]
    take(books, messages, random.Random(1))
    assert ask(books, "SELECT status, requests FROM spend_by_day") == [("success", 1)]
    assert ask(books, "SELECT status, requests, merged FROM spend_parts") == [("success", 1, True)]


def test_times_to_the_first_byte_fall_into_spans_that_hold_them(books: Store) -> None:
    # Given times from none to a day, then each is counted in a span that holds it, which is
    # a sixteenth of it wide at most.
    producer = Producer("p")
    waits = [*range(70), 1000, 1023, 1024, 65_535, 86_400_000]
    events = []
    for wait_ms in waits:
        record = producer.record(request_id=f"tg_{wait_ms}")
        fields = {name: getattr(record, name) for name in RequestFacts.__struct_fields__}
        at_us = record.started_at_us + wait_ms * 1000
        timed = type(record)(**fields, ended_at_us=at_us, first_byte_at_us=at_us)
        events.append(producer.recorded(timed))
    take(books, [StreamMessage(1, "usage.0", batch(*events), 0)], random.Random(1))
    assert differences(books) == [0, 0]
    spans = ask(books, "SELECT ttfb_from_ms, ttfb_below_ms, requests FROM ttfb_by_day")
    assert sum(requests for _, _, requests in spans) == len(waits)
    for low, below, requests in spans:
        assert requests == sum(low <= wait < below for wait in waits)
        assert below - low <= max(1, low / 16)
