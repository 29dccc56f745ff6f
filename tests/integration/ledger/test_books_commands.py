"""`tallygate verify` and `replay`, as typed, against ledgers that run, and against none."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from schemas.streams import USAGE
from services.runtime.bus import Bus
from services.runtime.folder import DataFolder
from services.runtime.nats_server import EmbeddedNats, running_nats_url
from tests.support.ledger import LedgerProcess, Producer, batch, publish, read_books, run
from tests.support.made_up import made_up_messages
from tests.support.nats import NatsServer

REQUESTS = 100_000
"""So many must a replay show to be the same in every run of the tests."""


def tallygate(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )


def proved(nats: NatsServer, data: Path) -> dict[str, Any]:
    """Return what `verify` says in JSON; it must have proved the books."""
    done = tallygate("verify", "--json", "--data", data, "--nats-url", nats.url)
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["proved"] is True
    return answer


@pytest.fixture
def ledgers(tmp_path: Path, nats_server: NatsServer) -> Iterator[dict[str, LedgerProcess]]:
    """Both roles, not started, on one data folder."""
    both = {role: LedgerProcess(tmp_path, nats_server.url, role) for role in ("writer", "reader")}
    yield both
    for ledger in both.values():
        ledger.stop()


@pytest.mark.timeout(300)
def test_a_replay_of_a_hundred_thousand_requests_is_the_live_ledger(
    tmp_path: Path, nats_server: NatsServer, ledgers: dict[str, LedgerProcess]
) -> None:
    # Given a stream of 100,000 requests of every kind, of which the ledger took in the first half
    # live and the second half as a backlog, when books are built anew from it up to both points,
    # then each has the digest of the live ones there.
    messages = list(made_up_messages(REQUESTS, events_per_message=1000))
    half = len(messages) // 2
    publish(nats_server.url, messages[:half])
    ledgers["writer"].start()
    ledgers["writer"].wait_ready()
    at_half = proved(nats_server, ledgers["writer"].data)
    assert at_half["missing"] == ["reader"]
    ledgers["writer"].kill()
    publish(nats_server.url, messages[half:])
    for ledger in ledgers.values():
        ledger.start()
        ledger.wait_ready()
    at_end = proved(nats_server, ledgers["writer"].data)
    assert at_end["proofs"][0]["rows"] == REQUESTS
    # One message more than were published here: the price book.
    assert (at_half["sequence"], at_end["sequence"]) == (half + 1, len(messages) + 1)
    for live, until in ((at_half, ["--until", half + 1]), (at_end, [])):
        path = tmp_path / f"replayed-{live['sequence']}.duckdb"
        done = tallygate("replay", "--json", "--into", path, "--nats-url", nats_server.url, *until)
        assert done.returncode == 0, done.stderr
        replayed = json.loads(done.stdout)
        assert replayed["digest"] == live["digests"]["writer"]
        assert replayed["sequence"] == live["sequence"]
        assert f"{live['sequence']:,} (100 %)" in done.stderr
        counted = read_books(path, "SELECT count(*) FROM requests")
        assert counted == [(replayed["requests"],)]


@pytest.mark.timeout(240)
def test_books_are_proved_while_they_are_written(
    nats_server: NatsServer, ledgers: dict[str, LedgerProcess]
) -> None:
    # Given events that keep coming, when the books are proved again and again, then both roles
    # agree at one message each time, and nothing that was under way is taken for a fault.
    publish(nats_server.url, [])
    for ledger in ledgers.values():
        ledger.start()
        ledger.wait_ready()
    over = threading.Event()

    def feed() -> None:
        async def work(bus: Bus) -> None:
            producer = Producer("feed")
            while not over.is_set():
                record = producer.record()
                await bus.publish("usage.0", batch(producer.started(record)))
                await bus.publish("usage.0", batch(producer.recorded(record)))

        run(work, nats_server.url, "feed")

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        answers = [proved(nats_server, ledgers["writer"].data) for _ in range(4)]
    finally:
        over.set()
        feeder.join()
    sequences = [answer["sequence"] for answer in answers]
    assert sequences == sorted(set(sequences))
    for answer in answers:
        assert len(answer["digests"]) == 2
        assert answer["proofs"][0]["rows"] > 0


def test_a_fault_a_difference_and_unreadable_books_have_their_exit_codes(
    nats_server: NatsServer, ledgers: dict[str, LedgerProcess]
) -> None:
    # Given books with a gap that both roles saw, then it is a fault of each with what to do; given
    # books that differ, then that is told; given none, or damaged ones, then they cannot be read.
    data = ledgers["writer"].data
    options = ("--data", data, "--nats-url", nats_server.url)
    publish(nats_server.url, [])
    nothing = tallygate("verify", *options)
    assert nothing.returncode == 78
    assert "there are no books" in nothing.stderr

    producer = Producer()
    events = [producer.recorded(producer.record()) for _ in range(9)]
    publish(nats_server.url, [batch(*events[:4], *events[6:])])
    for ledger in ledgers.values():
        ledger.start()
        ledger.wait_ready()
    gaps = tallygate("verify", *options)
    assert gaps.returncode == 1
    assert gaps.stdout.count("2 events never arrived (test: 5 to 6)") == 2
    assert gaps.stdout.count("what to do: ") == 2
    assert "NOT PROVED: 2 faults" in gaps.stdout
    assert "both digests are the same" in gaps.stdout

    for ledger in ledgers.values():
        assert ledger.stop() == 0
    connection = duckdb.connect(str(ledgers["reader"].database))
    connection.execute(
        "UPDATE requests SET key_alias = 'somebody else' WHERE producer_sequence = 1"
    )
    connection.close()
    differs = tallygate("verify", *options)
    assert differs.returncode == 1
    assert "FAULT (both, digest): the books differ at message 2" in differs.stdout
    assert "tallygate replay" in differs.stdout

    ledgers["writer"].database.write_bytes(b"\x55" * 20_000)
    damaged = tallygate("verify", *options)
    assert damaged.returncode == 78
    assert "built anew from the stream" in damaged.stderr
    away = tallygate("verify", "--data", data, "--nats-url", "nats://127.0.0.1:9")
    assert away.returncode == 78
    assert "NATS" in away.stderr
    assert "Traceback" not in away.stderr + damaged.stderr + nothing.stderr


def test_what_a_replay_cannot_do_is_said_and_leaves_no_file(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    # Given a file that exists, a folder that does not, a message after the end, and a stream that
    # lost its beginning, then each is refused with what to do and nothing is left behind.
    producer = Producer()
    publish(nats_server.url, [batch(producer.recorded(producer.record())) for _ in range(4)])
    folder = tmp_path / "out"
    folder.mkdir()
    taken = folder / "taken.duckdb"
    taken.write_bytes(b"mine")
    options = ("--nats-url", nats_server.url)
    for into, more, said in (
        (taken, (), "exists: name a file that does not"),
        (folder / "none" / "x.duckdb", (), "there is no folder"),
        (folder / "x.duckdb", ("--until", "5"), "ends at message 4"),
    ):
        done = tallygate("replay", "--into", into, *options, *more)
        assert (done.returncode, said in done.stderr) == (78, True), done.stderr

    async def purge(bus: Bus) -> None:
        await bus._link.js.purge_stream(USAGE.name, seq=3)

    run(purge, nats_server.url)
    done = tallygate("replay", "--into", folder / "x.duckdb", *options)
    assert (done.returncode, "Restore it from a backup" in done.stderr) == (78, True)
    assert taken.read_bytes() == b"mine"
    assert list(folder.iterdir()) == [taken]


@pytest.mark.timeout(240)
def test_a_gateway_that_has_stopped_is_proved_and_replayed_by_its_data_folder_alone(
    tmp_path: Path,
) -> None:
    # Given the data folder of a gateway that does not run, when its books are proved and built
    # anew, then the commands run its own nats-server for a while; while that one runs, they use it.
    folder = DataFolder(tmp_path / "data")
    server = EmbeddedNats(folder)
    process = subprocess.Popen(server.command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    replayed = {}
    try:
        writer = LedgerProcess(tmp_path, server.url("ledger-writer"))
        writer.start()
        writer.wait_ready()

        async def feed(bus: Bus) -> None:
            for payload in made_up_messages(500):
                await bus.publish("usage.0", payload)

        run(feed, server.url("proxy"), "proxy")
        assert running_nats_url(folder.path, "admin") == server.url("admin")
        last = len(list(made_up_messages(500))) + 1  # the price book was there before
        caught_up = '"digest at message'
        while caught_up != f"stands at message {last:,};":
            done = tallygate("verify", "--data", folder.path)
            assert done.returncode == 0, done.stderr
            caught_up = f"stands at message {last:,};"
            caught_up = caught_up if caught_up in done.stdout else ""
        done = tallygate("replay", "--json", "--into", tmp_path / "a.duckdb", "--data", folder.path)
        replayed["running"] = json.loads(done.stdout)["digest"]
        assert writer.stop() == 0
    finally:
        process.terminate()
        process.wait(20)
    assert running_nats_url(folder.path, "admin") is None
    done = tallygate("verify", "--json", "--data", folder.path)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    assert answer["proofs"][0]["stream"]["last_sequence"] == last
    replayed["live"] = answer["digests"]["writer"]
    done = tallygate("replay", "--json", "--into", tmp_path / "b.duckdb", "--data", folder.path)
    replayed["stopped"] = json.loads(done.stdout)["digest"]
    assert len(set(replayed.values())) == 1
    assert running_nats_url(folder.path, "admin") is None


def test_a_folder_without_books_or_nats_is_said_to_be_so(tmp_path: Path) -> None:
    # Given no folder, or one without a nats-server, then nothing is made and it is said what to do.
    done = tallygate("verify", "--data", tmp_path / "none")
    assert (done.returncode, "there is no data folder" in done.stderr) == (78, True)
    (tmp_path / "empty").mkdir()
    done = tallygate("verify", "--data", tmp_path / "empty")
    assert (done.returncode, "has no embedded nats-server" in done.stderr) == (78, True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["empty"]


@pytest.mark.timeout(240)
def test_dead_letters_are_told_by_a_running_ledger_and_counted_by_a_stopped_one(
    tmp_path: Path,
) -> None:
    # Given books of an older version that could not read one event, and an event that nobody can
    # read, when it is asked while the ledger runs, then each is told; when nothing runs, then the
    # one is counted once and in its place, the other stays, and the old file is kept.
    folder = DataFolder(tmp_path / "data")
    server = EmbeddedNats(folder)
    process = subprocess.Popen(server.command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    producer = Producer()
    events = [producer.recorded(producer.record()) for _ in range(5)]
    try:
        ledgers = [
            LedgerProcess(tmp_path, server.url(f"ledger-{role}"), role)
            for role in ("writer", "reader")
        ]
        for ledger in ledgers:
            ledger.start()
            ledger.wait_ready()

        async def feed(bus: Bus) -> None:
            await bus.publish("usage.0", batch(*events[:2], b'{"type":"later.v1"}', *events[2:]))

        run(feed, server.url("proxy"), "proxy")
        told = ""
        while "1 dead letters" not in told:
            done = tallygate("ledger", "retry-dead-letters", "--data", folder.path)
            assert done.returncode == 0, done.stderr
            told = done.stdout
        assert "message 2, event 2: " in told
        assert "of which this version can read 0" in told
        for ledger in ledgers:
            assert ledger.stop() == 0
    finally:
        process.terminate()
        process.wait(20)
    database = folder.ledger_database
    right = tmp_path / "right.duckdb"
    shutil.copy(database, right)
    connection = duckdb.connect(str(database))
    connection.execute("DELETE FROM requests WHERE producer_sequence = 4")
    connection.execute(
        "INSERT INTO dead_letters VALUES (2, 4, 'older', $1, octet_length($1::BLOB), 'test', 4)",
        [events[3]],
    )
    connection.close()

    faulty = tallygate("verify", "--data", folder.path)
    assert faulty.returncode == 1
    assert "tallygate ledger retry-dead-letters" in faulty.stdout
    done = tallygate("ledger", "retry-dead-letters", "--json", "--data", folder.path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["counted"] is True
    assert [each["unreadable"] is None for each in answer["letters"]] == [False, True]
    assert tallygate("verify", "--data", folder.path).returncode == 0
    facts = "SELECT * FROM requests ORDER BY producer_sequence"
    assert read_books(database, facts) == read_books(right, facts)
    assert read_books(database, "SELECT position FROM dead_letters") == [(2,)]
    assert len(list(folder.path.glob("ledger.duckdb.*.old"))) == 1
    again = tallygate("ledger", "retry-dead-letters", "--data", folder.path)
    assert "1 dead letters, of which this version can read 0" in again.stdout
    assert len(list(folder.path.glob("ledger.duckdb.*.old"))) == 1
