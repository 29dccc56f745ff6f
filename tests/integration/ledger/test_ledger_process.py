"""The ledger as a process, over a real stream: nothing lost, nothing doubled, nothing hidden."""

import random
import shutil
import threading
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

from schemas.budgets import BudgetExceeded, Marks, MarksQuestion, decode_budget_event, decode_marks
from schemas.registry import KeyRecord, ModelBudget, TeamMember, TeamRecord, UserRecord
from schemas.streams import BUDGET, MARKS_ASK_SUBJECT, USAGE
from services.ledger.store import Store, digest
from services.runtime.bus import Bus
from tests.support.ledger import (
    LedgerProcess,
    Producer,
    batch,
    key_event,
    publish,
    read_books,
    run,
)
from tests.support.nats import NatsServer
from tests.support.proxy import publish_owner

KEY = KeyRecord(key_id="key_test", key_hash="c" * 64, key_name="sk-...test", key_alias="test")


def last_sequence(nats_url: str) -> int:
    async def work(bus: Bus) -> int:
        return (await bus.stream_state(USAGE.name)).last_sequence

    found: int = run(work, nats_url)
    return found


def budget_words(nats_url: str) -> list[Any]:
    """Return all events of BUDGET so far."""

    async def work(bus: Bus) -> list[Any]:
        events: list[Any] = []
        async for found in bus.follow(BUDGET.name):
            events.extend(decode_budget_event(each.payload) for each in found.messages)
            if found.pending == 0:
                return events
        return events

    words: list[Any] = run(work, nats_url)
    return words


def marks(nats_url: str) -> Marks:
    """Return where all budgets stand."""
    question = msgspec.json.encode(MarksQuestion())
    reply: bytes = run(lambda bus: bus.request(MARKS_ASK_SUBJECT, question), nats_url)
    return decode_marks(reply).data


def digest_of(path: Path) -> str:
    connection = duckdb.connect(str(path), read_only=True)
    try:
        return digest(connection)
    finally:
        connection.close()


def test_redelivered_and_republished_events_count_once(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    # Given a stream in which whole batches and parts of them stand again and again, when the
    # ledger takes it in, is stopped and goes on, then each request has one row.
    producer = Producer()
    events = [producer.recorded(producer.record()) for _ in range(100)]
    messages = [batch(*events[n : n + 10]) for n in range(0, 100, 10)]
    publish(nats_server.url, [*messages, *messages, batch(*events)])
    with LedgerProcess.started(tmp_path, nats_server.url) as ledger:
        ledger.wait_ready()
        ledger.stop()
        publish(nats_server.url, [*messages, batch(producer.recorded(producer.record()))])
        ledger.start()
        ledger.wait_ready()
        ledger.stop()
        counted = "SELECT count(*), count(DISTINCT request_id), sum(cost_usd) FROM requests"
        assert read_books(ledger.database, counted) == [(101, 101, Decimal("1.6665"))]
        assert read_books(ledger.database, "SELECT count(*) FROM gaps") == [(0,)]
        checkpoint = read_books(ledger.database, "SELECT stream, sequence FROM checkpoints")
        assert checkpoint == [("USAGE", 33)]


def test_a_gap_and_a_dead_letter_are_told_and_the_rest_counts(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    # Given a stream with a missing event, garbage, and good events between, then the good ones
    # are rows, the missing one a gap, the garbage a dead letter.
    producer = Producer()
    good = [producer.recorded(producer.record()) for _ in range(5)]
    publish(nats_server.url, [batch(good[0]), b"garbage", batch(good[1], b'{"type":"x"}', good[3])])
    with LedgerProcess.started(tmp_path, nats_server.url) as ledger:
        ledger.wait_ready()
        ledger.stop()
        assert read_books(ledger.database, "SELECT count(*) FROM requests") == [(3,)]
        gaps = read_books(ledger.database, "SELECT producer, first_missing, last_missing FROM gaps")
        assert gaps == [("test", 3, 3)]
        letters = "SELECT stream_sequence, position, payload FROM dead_letters ORDER BY ALL"
        assert read_books(ledger.database, letters) == [
            (2, -1, b"garbage"),
            (3, 1, b'{"type":"x"}'),
        ]


@pytest.mark.timeout(240)
def test_a_ledger_killed_again_and_again_has_every_request_once(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    # Given events that keep coming, when the writer is killed at random moments, then its books
    # are those of a reader that was never killed: the same rows, the same digest.
    moments = random.Random(7)
    count = 3000
    publish(nats_server.url, [])

    def feed() -> None:
        async def work(bus: Bus) -> None:
            producer = Producer("feed")
            for start in range(0, count, 5):
                records = [producer.record() for _ in range(5)]
                events = []
                for number, record in enumerate(records):
                    named = {"request_id": f"tg_{start + number}"}
                    whole = producer.record(**named, started_at_us=record.started_at_us)
                    events += [producer.started(whole), producer.recorded(whole)]
                await bus.publish("usage.0", batch(*events))

        run(work, nats_server.url, "feed")

    feeder = threading.Thread(target=feed)
    with LedgerProcess.started(tmp_path / "reader", nats_server.url, "reader") as reader:
        ledger = LedgerProcess(tmp_path / "writer", nats_server.url)
        feeder.start()
        kills = 0
        while feeder.is_alive() or kills < 8:
            ledger.start()
            time.sleep(moments.uniform(0.5, 1.3))
            ledger.kill()
            kills += 1
        feeder.join()
        ledger.catch_up()
        reader.wait_ready()
        assert reader.stop() == 0
        counted = "SELECT count(*), count(DISTINCT request_id) FROM requests"
        assert read_books(ledger.database, counted) == [(count, count)]
        assert read_books(ledger.database, "SELECT count(*) FROM gaps") == [(0,)]
        assert read_books(ledger.database, "SELECT count(*) FROM open_requests") == [(0,)]
        assert digest_of(ledger.database) == digest_of(reader.database)


@pytest.mark.alone
def test_a_row_is_visible_soon_and_a_spent_budget_is_told_within_a_second(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    # Given a key with a budget of two cents, when its first request comes near and its second
    # passes it, then the ledger says each within a second, once, and that it is over when it is.
    key_event(nats_server.url, _with_budget("0.02"))
    producer = Producer()
    with LedgerProcess.started(tmp_path, nats_server.url) as ledger:
        ledger.wait_ready()
        publish(nats_server.url, [batch(producer.recorded(producer.record()))])
        (word,) = ledger.wait_for(lambda: budget_words(nats_server.url) or None, "it is warned of")
        assert (type(word).__name__, word.data.threshold) == ("BudgetWarned", "80_percent")
        publish(nats_server.url, [batch(producer.recorded(producer.record()))])
        began = time.monotonic()
        words = ledger.wait_for(
            lambda: budget_words(nats_server.url)[1:] or None, "the word is given"
        )
        assert time.monotonic() - began < 1.0
        assert {
            (mark.budget_id, mark.spend_usd, mark.max_budget_usd)
            for mark in marks(nats_server.url).marks
        } == {
            (("key", "key_test", "max_budget"), Decimal("0.033"), Decimal("0.02")),
            (("global", "all", "max_budget"), Decimal("0.033"), Decimal(1000)),
        }
        assert marks(nats_server.url).usage_sequence >= 2
        assert len(words) == 1
        assert isinstance(words[0], BudgetExceeded)
        assert words[0].data.spend_usd == Decimal("0.033")
        assert words[0].data.max_budget_usd == Decimal("0.02")
        publish(nats_server.url, [batch(producer.recorded(producer.record()))])
        key_event(nats_server.url, _with_budget("1"))
        after = ledger.wait_for(
            lambda: ((w := budget_words(nats_server.url)[1:])[1:] and w) or None, "it is cleared"
        )
        assert [type(each).__name__ for each in after] == ["BudgetExceeded", "BudgetCleared"]

        # When its user and its team get budgets that are spent already, then both are told.
        spent = producer.record(user_id="a@b.c", team_id="b.l u*e")
        publish(nats_server.url, [batch(producer.recorded(spent))])
        small = {"max_budget_usd": Decimal("0.01"), "budget_duration": "30d"}
        publish_owner(nats_server.url, UserRecord(user_id="a@b.c", **small))
        models = {
            "claude-*": ModelBudget(max_budget_usd=Decimal("0.016")),
            "other": ModelBudget(max_budget_usd=Decimal("0.016")),
        }
        members = (TeamMember(user_id="a@b.c"), TeamMember(user_id="nobody"))
        team = TeamRecord(
            team_id="b.l u*e",
            **small,
            model_max_budget=models,
            members_with_roles=members,
            team_member_budget_usd=Decimal("0.0165"),
        )
        publish_owner(nats_server.url, team)
        all_four = ledger.wait_for(
            lambda: ((w := budget_words(nats_server.url)[3:])[3:] and w) or None, "all are told"
        )
        assert {
            (type(each).__name__, *each.data.budget_id, each.data.spend_usd) for each in all_four
        } == {
            ("BudgetExceeded", "member", "b.l u*e/a@b.c", "max_budget", Decimal("0.0165")),
            ("BudgetExceeded", "user", "a@b.c", "max_budget", Decimal("0.0165")),
            ("BudgetExceeded", "team", "b.l u*e", "max_budget", Decimal("0.0165")),
            ("BudgetExceeded", "team", "b.l u*e", "model-claude-*", Decimal("0.0165")),
        }


def test_a_budget_passed_while_the_ledger_was_dead_is_told_at_its_start_and_once(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    # Given spend that came while no ledger ran, when it starts, and starts again, then the budget
    # is declared exceeded once.
    key_event(nats_server.url, _with_budget("0.02", budget_duration="30d"))
    producer = Producer()
    spent = [producer.recorded(producer.record()) for _ in range(3)]
    publish(nats_server.url, [batch(*spent)])
    with LedgerProcess.started(tmp_path, nats_server.url) as ledger:
        ledger.wait_for(lambda: budget_words(nats_server.url) or None, "the word is given")
        ledger.kill()
        ledger.start()
        ledger.wait_ready()
        time.sleep(1)
        words = budget_words(nats_server.url)
        assert [type(each).__name__ for each in words] == ["BudgetExceeded"]
        assert words[0].data.resets_at_us is not None
        assert words[0].data.resets_at_us > datetime.now(UTC).timestamp() * 1e6


def _with_budget(usd: str, **fields: Any) -> KeyRecord:
    return KeyRecord(
        key_id=KEY.key_id,
        key_hash=KEY.key_hash,
        key_name=KEY.key_name,
        key_alias=KEY.key_alias,
        max_budget_usd=Decimal(usd),
        **fields,
    )


def test_a_stream_that_was_made_anew_is_refused_by_the_writer_and_reread_by_the_reader(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    # Given books kept from a stream, when that stream is deleted and another stands in its place,
    # then the writer refuses to start and says what to do; the reader builds itself anew.
    producer = Producer()
    publish(nats_server.url, [batch(producer.recorded(producer.record())) for _ in range(3)])
    writer = LedgerProcess(tmp_path, nats_server.url)
    reader = LedgerProcess(tmp_path, nats_server.url, "reader")
    for ledger in (writer, reader):
        ledger.catch_up()

    async def delete(bus: Bus) -> None:
        await bus._link.js.delete_stream(USAGE.name)

    run(delete, nats_server.url)
    other = Producer("other")
    publish(nats_server.url, [batch(other.recorded(other.record())) for _ in range(5)])
    writer.start()
    assert writer.wait_end() == 78
    assert "is not the one that the ledger was kept from" in writer.log()
    reader.catch_up()
    assert read_books(reader.database, "SELECT count(*) FROM requests") == [(5,)]
    assert read_books(writer.database, "SELECT count(*) FROM requests") == [(3,)]


def test_a_stream_that_lost_messages_before_they_were_taken_in_is_refused(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    # Given messages purged before any ledger had them, then neither role goes on without them.
    producer = Producer()
    publish(nats_server.url, [batch(producer.recorded(producer.record())) for _ in range(4)])

    async def purge(bus: Bus) -> None:
        await bus._link.js.purge_stream(USAGE.name, seq=3)

    run(purge, nats_server.url)
    for role in ("writer", "reader"):
        ledger = LedgerProcess(tmp_path, nats_server.url, role)
        ledger.start()
        assert ledger.wait_end() == 78
        assert "has lost its messages 1 to 2" in ledger.log()


def test_a_second_writer_on_the_same_books_is_refused(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    # Given a running writer, when another is started on its folder, then it ends and says why.
    publish(nats_server.url, [])
    with LedgerProcess.started(tmp_path, nats_server.url) as first:
        first.wait_ready()
        second = LedgerProcess(tmp_path, nats_server.url)
        second.start()
        assert second.wait_end() == 78
        assert "is open in another process" in second.log()


def test_damaged_books_are_not_served_and_a_rebuild_gives_the_same_digest(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    # Given books whose file is damaged, then the writer says what to do; done so, it builds the
    # same books again. The reader needs nobody: it builds itself anew.
    producer = Producer()
    publish(nats_server.url, [batch(producer.recorded(producer.record())) for _ in range(20)])
    writer = LedgerProcess(tmp_path, nats_server.url)
    reader = LedgerProcess(tmp_path, nats_server.url, "reader")
    for ledger in (writer, reader):
        ledger.catch_up()
    before = digest_of(writer.database)
    for ledger in (writer, reader):
        content = bytearray(ledger.database.read_bytes())
        content[:8192] = b"\x55" * 8192
        ledger.database.write_bytes(bytes(content))
    writer.start()
    assert writer.wait_end() == 78
    assert "built anew from the stream" in writer.log()
    shutil.move(writer.database, tmp_path / "damaged")
    for ledger in (writer, reader):
        ledger.catch_up()
        assert digest_of(ledger.database) == before


def test_books_of_another_version_are_not_touched(tmp_path: Path) -> None:
    # Given a file of an unknown version, when it is opened, then the error says what to do.
    path = tmp_path / "ledger.duckdb"
    Store(path).close()
    connection = duckdb.connect(str(path))
    connection.execute("UPDATE meta SET value = '999' WHERE name = 'schema_version'")
    connection.close()
    with pytest.raises(Exception, match="another version"):
        Store(path)
