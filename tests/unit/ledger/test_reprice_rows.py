"""Repricings in the stream: the books are the same however made, and say what was done."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.budgets import BudgetId
from schemas.events import (
    PriceChanged,
    RequestsRepriced,
    UsageRecord,
    UsageRecorded,
    encode_event,
)
from schemas.prices import PriceChange, PriceOverlay, Repricing, SomeTokenPrices
from schemas.registry import KeyRecord
from schemas.streams import REPRICE_SUBJECT, price_subject
from schemas.usage import Usage
from services.ledger import reprice_rows
from services.ledger.books import Books
from services.ledger.projection import why_unreadable
from services.ledger.recompute import differing_costs
from services.ledger.rollups import ROLLUPS, differing
from services.ledger.store import Store, digest
from services.runtime.bus import StreamMessage
from services.runtime.price_book import PriceBook

BOOK = PriceBook.load()
AT = datetime(2026, 11, 24, tzinfo=UTC)
START_US = 1_795_478_400_000_000
DAY_US = 86_400_000_000
MODEL, NEW = "claude-opus-5", "claude-of-tomorrow"
LIST_USD = Fraction(1000 * 5, 10**6)
"""What 1,000 input tokens of MODEL cost."""
REASON = "the contract of last month"


def usage(sequence: int, day: int = 0, model: str = MODEL, **fields: Any) -> StreamMessage:
    values: dict[str, Any] = {"usage": Usage(input_tokens=1000)} | fields
    record = UsageRecord(
        request_id=f"tg_{sequence}",
        started_at_us=START_US + day * DAY_US,
        ended_at_us=START_US + day * DAY_US,
        key_id="key_a",
        model=model,
        **values,
    )
    event = UsageRecorded(source="/proxy/p", id=str(sequence), time=AT, data=record)
    return StreamMessage(sequence, "usage.0", b"[" + encode_event(event) + b"]")


def price(sequence: int, multiplier: str) -> StreamMessage:
    change = PriceChange(kind="file", overlays=(discount(multiplier),))
    event = PriceChanged(source="/ledger", id=str(sequence), time=AT, data=change)
    return StreamMessage(sequence, price_subject("file"), encode_event(event))


def reprice(sequence: int, *overlays: PriceOverlay, **fields: Any) -> StreamMessage:
    values: dict[str, Any] = {"from_us": 0, "reason": REASON, "repriced_by": "master_key"} | fields
    data = Repricing(overlays=overlays, **values)
    event = RequestsRepriced(source="/admin", id=str(sequence), time=AT, data=data)
    return StreamMessage(sequence, REPRICE_SUBJECT, encode_event(event))


def discount(multiplier: str, model: str = MODEL) -> PriceOverlay:
    return PriceOverlay(model=model, multiplier=multiplier)


def whole(usd: str) -> PriceOverlay:
    """Return prices of NEW."""
    return PriceOverlay(
        model=NEW,
        usd_per_mtok=SomeTokenPrices(
            input=usd, output=usd, cache_read=usd, cache_write_5m=usd, cache_write_1h=usd
        ),
        batch_multiplier="0.5",
        usd_per_1000_web_searches="10",
    )


def made(messages: Sequence[StreamMessage], *ends: int, path: Path = Path(":memory:")) -> Store:
    """Return books of some messages, which are committed in groups that end there."""
    store = Store(path)
    bounds = sorted({*ends, len(messages)} - {0})
    for begin, end in zip([0, *bounds], bounds, strict=False):
        # Each group by books that know only what the file holds.
        books = Books(store, BOOK, timezone="UTC", with_budgets=False)
        books.project(messages[begin:end])
        books.commit("USAGE", "now")
    return store


def costs(store: Store) -> dict[str, Decimal | None]:
    found = store.connection.execute("SELECT request_id, cost_usd FROM requests").fetchall()
    return dict(found)


def prove(store: Store) -> None:
    assert differing_costs(store.connection, BOOK) == []
    assert [differing(store.connection, rollup) for rollup in ROLLUPS] == [0] * len(ROLLUPS)


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_the_books_are_those_of_a_replay_whatever_was_repriced(data: st.DataObject) -> None:
    # Given any stream of requests, changes of prices and repricings, when it is read in any groups,
    # then costs and digest are those of one go and of an independent computation, the digest at an
    # earlier message is that of books which end there, and the proof finds nothing.
    kinds = data.draw(st.lists(st.sampled_from(["usage", "new", "price", "reprice"]), max_size=10))
    multipliers = st.sampled_from(["0.5", "0.25", "2"])
    messages: list[StreamMessage] = []
    expected: dict[str, tuple[int, str, Fraction | None]] = {}
    share, prices_of_new = Fraction(1), None
    for sequence, kind in enumerate(kinds, 1):
        day = data.draw(st.integers(0, 2))
        if kind == "usage":
            messages.append(usage(sequence, day))
            expected[f"tg_{sequence}"] = (day, MODEL, LIST_USD * share)
        elif kind == "new":
            messages.append(usage(sequence, day, NEW))
            expected[f"tg_{sequence}"] = (day, NEW, prices_of_new)
        elif kind == "price":
            multiplier = data.draw(multipliers)
            messages.append(price(sequence, multiplier))
            share = Fraction(multiplier)
        else:
            until = data.draw(st.integers(0, 3))
            models = data.draw(st.sampled_from([(), (MODEL,), (NEW,)]))
            own = data.draw(st.none() | multipliers)
            overlays = () if own is None else (discount(own), whole(own))
            bounds = {"from_us": START_US + day * DAY_US, "to_us": START_US + until * DAY_US}
            messages.append(reprice(sequence, *overlays, models=models, **bounds))
            for request_id, (of_day, model, _) in expected.items():
                if day <= of_day < until and (not models or model in models):
                    of_new = None if own is None else Fraction(own) / 1000
                    of_known = LIST_USD * (share if own is None else Fraction(own))
                    cost = of_known if model == MODEL else of_new
                    expected[request_id] = (of_day, model, cost)
    groups = data.draw(st.sets(st.integers(1, max(1, len(messages)))))
    plain, grouped = made(messages), made(messages, *groups)
    wanted = {request_id: cost for request_id, (_, _, cost) in expected.items()}
    assert costs(plain) == costs(grouped) == wanted
    assert digest(plain.connection) == digest(grouped.connection)
    for store in (plain, grouped):
        prove(store)
    for sequence in data.draw(st.sets(st.integers(0, len(messages)), max_size=3)):
        shorter = made(messages[:sequence])
        assert digest(grouped.connection, sequence) == digest(shorter.connection)
        shorter.close()
    plain.close()
    grouped.close()


def test_the_digest_at_an_earlier_message_is_still_told() -> None:
    # Given requests before and after a repricing, which means one of two before it, when the digest
    # at each message is asked for, then it is that of books which end there.
    messages = [
        usage(1),
        usage(2, model=NEW),
        reprice(3, discount("0.5"), models=(MODEL,)),
        usage(4),
        reprice(5, discount("0.25"), whole("1")),
    ]
    store = made(messages)
    for sequence in range(len(messages) + 1):
        shorter = made(messages[:sequence])
        assert digest(store.connection, sequence) == digest(shorter.connection)
        shorter.close()
    store.close()


def test_a_repricing_says_who_when_why_and_what_it_came_to() -> None:
    # Given a priced and an unpriced request, when they are repriced at half the price and with a
    # price for the unknown model, then the table tells it, and the rows which message it was.
    store = made(
        [
            usage(1),
            usage(2, model=NEW),
            usage(3, usage=None, status="failure"),
            reprice(4, discount("0.5"), whole("1"), repriced_at_us=START_US),
        ]
    )
    found = store.connection.execute(
        "SELECT stream_sequence, epoch_us(repriced_at), repriced_by, reason, applied, requests, "
        "changed_requests, cost_before_usd, cost_after_usd, unpriced_before, unpriced_after "
        "FROM repricings"
    ).fetchall()
    after = Decimal("0.0025") + Decimal("0.001")
    assert found == [(4, START_US, "master_key", REASON, True, 2, 2, Decimal("0.005"), after, 1, 0)]
    ask = store.connection.execute
    sequences = ask("SELECT stream_sequence, priced_sequence FROM requests ORDER BY 1").fetchall()
    assert sequences == [(1, 4), (2, 4), (3, 3)]
    (spend,) = ask("SELECT sum(cost_usd), sum(unpriced_requests) FROM spend_by_day").fetchall()
    assert spend == (after, 0)
    store.close()


def test_budgets_follow() -> None:
    # Given a budget that a request has spent, when that is repriced at half the price, then the
    # budget's key is among those to look at, and it is not spent any more.
    store = Store(Path(":memory:"))
    books = Books(store, BOOK, timezone="UTC", with_budgets=True)
    record = KeyRecord(
        key_id="key_a", key_hash="0" * 64, key_name="sk-...a", max_budget_usd=Decimal("0.004")
    )
    books.put_keys([record])
    budget_id = BudgetId("key", "key_a")
    for message, spend, is_exceeded in (
        (usage(1), Decimal("0.005"), True),
        (reprice(2, discount("0.5")), Decimal("0.0025"), False),
    ):
        books.project([message])
        books.commit("USAGE", "now")
        changes = books.budget_changes((), START_US)
        assert changes.sequence == message.sequence
        standing = changes.standings[budget_id]
        assert standing is not None
        assert (standing.state.spend_usd, standing.is_exceeded) == (spend, is_exceeded)
    store.close()


def test_a_repricing_that_is_too_large_changes_nothing_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given room for two rows, when three are meant, then none is changed, in every copy of the
    # books, and the table says so.
    monkeypatch.setattr(reprice_rows, "REPRICED_ROWS_MAX", 2)
    store = made([usage(1), usage(2), usage(3), reprice(4, discount("0.5"))])
    assert set(costs(store).values()) == {Decimal("0.005")}
    found = store.connection.execute("SELECT applied, requests FROM repricings").fetchall()
    assert found == [(False, 3)]
    prove(store)
    store.close()


@pytest.mark.parametrize(
    "spoiled",
    [
        "UPDATE requests SET priced_sequence = stream_sequence WHERE request_id = 'tg_1'",
        "UPDATE requests SET cost_usd = 0.005, input_cost_usd = 0.005 WHERE request_id = 'tg_1'",
        "DELETE FROM repricings",
    ],
)
def test_the_proof_finds_rows_that_a_repricing_has_missed(spoiled: str) -> None:
    # Given repriced books, when one row has its old cost, or does not say by what it is priced, or
    # the repricing is not there, then the proof names it.
    store = made([usage(1), usage(2), reprice(3, discount("0.5"))])
    prove(store)
    store.connection.execute(spoiled)
    assert "tg_1" in {each.request_id for each in differing_costs(store.connection, BOOK)}
    store.close()


def test_what_is_no_repricing_is_a_dead_letter() -> None:
    # Given bytes, another event and times that no calendar has on the subject of repricings, then
    # each is kept as a dead letter, and one that could be read would not be one.
    wrong = [
        StreamMessage(2, REPRICE_SUBJECT, b"not JSON"),
        StreamMessage(3, REPRICE_SUBJECT, price(3, "2").payload),
        reprice(4, from_us=-1),
        reprice(5, to_us=2**62),
    ]
    store = made([usage(1), *wrong])
    letters = store.connection.execute("SELECT stream_sequence FROM dead_letters").fetchall()
    assert letters == [(2,), (3,), (4,), (5,)]
    assert why_unreadable(BOOK, wrong[0].payload, -1) is not None
    assert why_unreadable(BOOK, reprice(6).payload, -1) is None
    store.close()
