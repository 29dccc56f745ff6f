"""The proof of the books: sound ones are proved, and whatever is changed in them is found."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from schemas.proof import StreamFacts
from services.ledger.projection import LOST_AFTER_S, Projection
from services.ledger.proof import digest_at, prove
from services.ledger.recompute import differing_costs
from services.ledger.store import Store, digest
from services.runtime.bus import StreamMessage
from services.runtime.price_book import PriceBook
from tests.support.ledger import Producer, batch
from tests.support.made_up import made_up_messages

BOOK = PriceBook.load()
REQUESTS = 3000
STREAM = StreamFacts(created="then", first_sequence=1, last_sequence=99)


def take(store: Store, payloads: Iterator[bytes], first: int = 1, at_s: int = 0) -> int:
    """Have some messages in the books; return the sequence of the last."""
    messages = [
        StreamMessage(sequence, "usage.0", payload, at_s * 1_000_000)
        for sequence, payload in enumerate(payloads, first)
    ]
    state = store.projection_state("USAGE")
    projected = Projection(BOOK, state, store.booked_results).project(messages)
    store.commit("USAGE", "then", projected)
    return messages[-1].sequence


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed file with requests of every kind: lost, corrected, open and batch results too."""
    path = tmp_path_factory.mktemp("books") / "ledger.duckdb"
    store = Store(path)
    late, other = Producer("late"), Producer("other")
    records = [late.record(request_id=f"tg_late_{n}", key_id="key_1") for n in range(3)]
    last = take(store, iter([batch(*(late.started(record) for record in records))]))
    last = take(store, made_up_messages(REQUESTS), last + 1, LOST_AFTER_S + 5)
    open_one = other.started(other.record(request_id="tg_open"))
    told = batch(late.guarded(records[1], "tools_denied", "others"), late.recorded(records[1]))
    messages = [told, batch(open_one), batch(open_one), b"garbage"]
    take(store, iter(messages), last + 1, LOST_AFTER_S + 6)
    store.close()
    return path


@pytest.fixture
def books(sound: Path, tmp_path: Path) -> Iterator[Store]:
    """A copy of the sound books, open, to be spoiled."""
    path = tmp_path / "ledger.duckdb"
    path.write_bytes(sound.read_bytes())
    store = Store(path)
    yield store
    store.close()


def test_sound_books_are_proved_with_all_their_figures(books: Store) -> None:
    # Given books with requests of every kind and model, when they are proved, then there is no
    # finding, and each figure is what was put in.
    proof = prove(books.connection, BOOK, "writer", STREAM)
    assert proof.findings == ()
    assert (proof.rows, proof.recomputed) == (REQUESTS + 3, REQUESTS + 3)
    assert (proof.lost, proof.corrected, proof.open, proof.overdue) == (3, 1, 1, 1)
    assert (proof.dead_letters, proof.dead_letters_of_producers) == (1, 0)
    assert (proof.producers, proof.missing, proof.repeats) == (3, 0, 1)
    assert proof.refused > 0
    assert proof.guarded == 1
    assert proof.unpriced > 0
    assert proof.started == proof.closed + proof.lost + proof.open
    assert proof.digest == digest(books.connection)
    same = digest_at(books.connection, "writer", proof.sequence)
    assert (same.digest, same.sequence) == (proof.digest, proof.sequence)


_SPOILED = """
cost: UPDATE requests SET cost_usd = cost_usd + 0.000000000001, output_cost_usd = output_cost_usd
    + 0.000000000001 WHERE request_id = (SELECT min(request_id) FROM requests WHERE cost_usd > 0
    AND iterations IS NULL)
cost: UPDATE requests SET cost_usd = cost_usd - 0.000000000001, input_cost_usd = input_cost_usd -
    0.000000000001 WHERE request_id = (SELECT max(request_id) FROM requests WHERE input_cost_usd >
    0 AND iterations IS NOT NULL)
cost: UPDATE requests SET input_cost_usd = output_cost_usd, output_cost_usd = input_cost_usd WHERE
    iterations IS NULL AND cost_usd > 1
cost: UPDATE requests SET cost_usd = 1, input_cost_usd = 1 WHERE endpoint = 'count_tokens'
cost: UPDATE requests SET cost_usd = 0, unpriced = false, unpriced_reason = NULL, input_cost_usd =
    0, output_cost_usd = 0, cache_read_cost_usd = 0, cache_write_5m_cost_usd = 0,
    cache_write_1h_cost_usd = 0, web_search_cost_usd = 0 WHERE model = 'claude-unheard-of' AND
    endpoint = 'messages'
cost: UPDATE requests SET cost_usd = 0 WHERE error_type = 'lost'
cost: UPDATE requests SET unpriced = false WHERE endpoint = 'pass_through'
cost: UPDATE requests SET cost_usd = NULL WHERE status = 'refused'
cost: UPDATE requests SET output_tokens = output_tokens + 1, total_tokens = total_tokens + 1 WHERE
    cost_usd > 0
cost: UPDATE requests SET service_tier = 'batch' WHERE service_tier = 'standard'
rows: UPDATE requests SET cost_usd = cost_usd * 2 WHERE cost_usd > 0
rows: UPDATE requests SET prompt_tokens = prompt_tokens + 1 WHERE endpoint = 'files' OR
    stream_sequence = 3
rows: UPDATE producers SET last_sequence = last_sequence - 1 WHERE producer = 'late'
rows: UPDATE checkpoints SET sequence = 2
rows: INSERT INTO open_requests SELECT request_id, started_at, key_id, NULL, producer, 1, 1,
    started_at, '{}' FROM requests LIMIT 1
doubled: INSERT INTO requests SELECT * FROM requests WHERE stream_sequence = 4
doubled: UPDATE requests SET request_id = 'tg_same' WHERE stream_sequence = 4
counts: DELETE FROM requests WHERE request_id = (SELECT max(request_id) FROM requests)
counts: DELETE FROM open_requests
counts: DELETE FROM corrections
counts: DELETE FROM guardrail_events
counts: DELETE FROM producers WHERE producer = 'other'
counts: UPDATE checkpoints SET repeats = repeats, again = again + 1
gaps: INSERT INTO gaps VALUES ('late', 2, 3, 1)
dead letters: INSERT INTO dead_letters VALUES (5, 1, 'why', 'x', 1, 'late', 9)
checkpoint: UPDATE checkpoints SET stream_created = 'elsewhere'
checkpoint: UPDATE checkpoints SET sequence = 1000
rollups: UPDATE spend_parts SET cost_usd = cost_usd + 0.000000000001 WHERE day = (SELECT max(day)
    FROM spend_parts WHERE cost_usd > 0)
rollups: UPDATE spend_parts SET user_id = NULL WHERE user_id = 'user_7'
rollups: DELETE FROM spend_parts WHERE requests < 0
rollups: UPDATE ttfb_parts SET ttfb_from_ms = ttfb_from_ms + 1
rollups: DELETE FROM requests WHERE status = 'refused'
views: CREATE OR REPLACE VIEW spend_by_day AS SELECT *, 1 AS prompt_tokens FROM spend_parts WHERE
    status = 'success'
views: CREATE OR REPLACE VIEW ttfb_by_day AS SELECT * FROM ttfb_parts WHERE ttfb_from_ms = 0
views: CREATE OR REPLACE VIEW sessions AS SELECT session_id, count(*) AS requests,
    sum(prompt_tokens) AS prompt_tokens, sum(cost_usd) AS cost_usd FROM requests GROUP BY
    session_id HAVING count(*) > 5
views: CREATE OR REPLACE VIEW rejections AS SELECT * FROM requests
"""
"""Changes by the fault that each is found as; a line that is indented goes on with the last."""
SPOILED = [
    tuple(change.split(": ", 1)) for change in _SPOILED.strip().replace("\n    ", " ").splitlines()
]


@pytest.mark.parametrize(("fault", "change"), SPOILED, ids=lambda text: text[:60])
def test_whatever_is_changed_in_the_books_is_found(books: Store, fault: str, change: str) -> None:
    # Given sound books, when something in them is changed, then the proof names the fault and says
    # what to do.
    books.connection.execute(change)
    proof = prove(books.connection, BOOK, "writer", STREAM)
    found = {finding.fault: finding for finding in proof.findings}
    assert fault in found, proof.findings
    assert found[fault].detail
    assert found[fault].remedy


def test_a_stream_that_lost_what_is_to_come_is_found(books: Store) -> None:
    # Given a stream that begins after the message that the books need next, then it is told.
    stream = msgspec.structs.replace(STREAM, first_sequence=90)
    findings = prove(books.connection, BOOK, "reader", stream).findings
    assert [finding.fault for finding in findings] == ["checkpoint"]
    assert "to 89" in findings[0].detail


@pytest.mark.parametrize("seed", range(5, 9))
def test_every_cost_that_was_ever_booked_is_computed_again(tmp_path: Path, seed: int) -> None:
    # Given requests of all models, days, tiers, conditions and kinds, when their costs are computed
    # anew by another way, then each is the stored one.
    store = Store(tmp_path / "ledger.duckdb")
    take(store, made_up_messages(1500, seed=seed))
    assert differing_costs(store.connection, BOOK) == []
    priced = "SELECT count(*) FROM requests WHERE cost_usd > 0"
    assert store.connection.execute(priced).fetchall()[0][0] > 300
    store.close()


def test_empty_books_are_sound(tmp_path: Path) -> None:
    # Given books in which nothing is yet, then there is nothing against them.
    store = Store(tmp_path / "ledger.duckdb")
    proof = prove(store.connection, BOOK, "reader", STREAM)
    assert (proof.findings, proof.rows, proof.sequence) == ((), 0, 0)
    store.close()
