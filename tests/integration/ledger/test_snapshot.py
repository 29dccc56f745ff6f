"""`tallygate snapshot`: a copy of one moment, while the books are written, and what is refused."""

import asyncio
import json
import subprocess
import sys
import threading
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

from schemas.snapshot import SnapshotReply, SnapshotRequest
from services import cli
from services.ledger import snapshot, snapshot_child
from services.ledger.books import Books
from services.ledger.snapshot import SnapshotFailed, make_snapshot, remove_leftovers
from services.ledger.snapshot_service import SnapshotService
from services.ledger.store import Store, digest
from services.ledger.worker import Worker
from services.runtime.bus import Bus
from tests.support.ledger import LedgerProcess, publish
from tests.support.made_up import made_up_messages
from tests.support.nats import NatsServer


def tallygate(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.timeout(240)
def test_a_snapshot_under_ingest_is_the_books_of_one_message(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    # Given a writer that takes in usage all the time, when a snapshot is made, then it opens in
    # plain DuckDB, stands at one message of the stream, and has the digest that a replay up to
    # there has; the writer loses nothing by it. A second one replaces it when that is asked for,
    # and so does one of a ledger that does not run.
    messages = list(made_up_messages(6000, events_per_message=20))
    publish(nats_server.url, messages[:50])
    writer = LedgerProcess(tmp_path, nats_server.url)
    options = ("--data", writer.data, "--nats-url", nats_server.url)
    file = tmp_path / "books.duckdb"
    publishing = threading.Thread(target=publish, args=(nats_server.url, messages[50:]))
    try:
        writer.start()
        writer.wait_ready()
        publishing.start()
        done = tallygate("snapshot", "--json", file, *options)
        publishing.join(60)
        assert done.returncode == 0, done.stdout + done.stderr
        told = json.loads(done.stdout)
        assert (told["path"], file.stat().st_mode & 0o777) == (str(file), 0o600)
        assert list((writer.data / "snapshots").iterdir()) == []
        with duckdb.connect(str(file), read_only=True) as connection:
            found = connection.execute("SELECT sequence FROM checkpoints").fetchall()
            assert found == [(told["sequence"],)]
            assert digest(connection) == told["digest"]
        assert told["sequence"] > 50
        replayed = tallygate(
            *("replay", "--json", "--until", told["sequence"]),
            *("--into", tmp_path / "replayed.duckdb", *options),
        )
        assert json.loads(replayed.stdout)["digest"] == told["digest"], replayed.stderr

        again = tallygate("snapshot", file, *options)
        assert (again.returncode, "--force" in again.stderr) == (78, True), again.stderr
        file.with_name(file.name + ".wal").write_bytes(b"the log of another database")
        again = tallygate("snapshot", "--force", file, *options)
        assert again.returncode == 0, again.stderr
        assert "the books stood still for" in again.stdout
        duckdb.connect(str(file), read_only=True).close()
        proved = tallygate("verify", "--json", *options)
        assert proved.returncode == 0, proved.stdout
        assert writer.stop() == 0
        alone = tallygate("snapshot", "--json", "--force", file, *options)
        live = json.loads(proved.stdout)["digests"]["writer"]
        assert json.loads(alone.stdout)["digest"] == live, alone.stderr
    finally:
        writer.stop()


@pytest.fixture
def books(tmp_path: Path) -> Path:
    """A data folder with empty books that nobody keeps."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    Store(data / "ledger.duckdb").close()
    return data


def test_a_snapshot_of_a_gateway_that_does_not_run_needs_nothing_but_its_folder(
    tmp_path: Path, books: Path
) -> None:
    # Given a data folder on which nothing runs, and which nobody else uses, when a snapshot is
    # made, then it is; while another process has the books open, then that is said.
    file = tmp_path / "books.duckdb"
    done = tallygate("snapshot", "--json", file, "--data", books)
    assert (done.returncode, json.loads(done.stdout)["requests"]) == (0, 0), done.stderr
    store = Store(books / "ledger.duckdb")
    done = tallygate("snapshot", "--force", file, "--data", books)
    store.close()
    assert (done.returncode, "cannot be opened" in done.stderr) == (78, True), done.stderr


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("data/ledger.duckdb", "keeps files of its own"),
        ("data/reader/reader.duckdb", "there is no folder"),
        ("data/ledger.duckdb.wal", "keeps files of its own"),
        ("none/books.duckdb", "there is no folder"),
        ("data", "keeps files of its own"),
        ("", "is a folder"),
    ],
)
def test_a_snapshot_never_takes_the_place_of_the_books(
    tmp_path: Path, books: Path, target: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given books, when a snapshot is to be made in the place of one of the gateway's own files, or
    # where no file can be, then it is refused, even by force, and the books are as they were.
    before = (books / "ledger.duckdb").read_bytes()
    code = cli.run(["snapshot", "--force", str(tmp_path / target), "--data", str(books)])
    told = capsys.readouterr().err
    assert (code, said in told) == (78, True), told
    assert (books / "ledger.duckdb").read_bytes() == before


def test_nothing_is_committed_while_the_books_are_copied(
    tmp_path: Path, books: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a writer that has something to commit, when a copy is under way, then the commit comes
    # after it: the copy runs in the one thread that writes.
    order: list[str] = []

    async def both() -> SnapshotReply:
        worker = Worker(Bus.__new__(Bus), Books.__new__(Books), lambda _: None, tmp_path)
        loop = asyncio.get_running_loop()
        committed: list[asyncio.Future[None]] = []

        def begin_commit() -> None:
            work = worker.in_books(lambda: order.append("committed"))
            committed.append(loop.create_task(work))

        def slow_copy(child: Any) -> float:
            loop.call_soon_threadsafe(begin_commit)
            held_s = copy(child)
            order.append("copied")
            return held_s

        copy = snapshot._Child.copy
        monkeypatch.setattr(snapshot._Child, "copy", slow_copy)
        service = SnapshotService(Bus.__new__(Bus), worker, books / "ledger.duckdb", tmp_path)
        request = msgspec.json.encode(SnapshotRequest(id="one"))
        reply = msgspec.json.decode(await service.answer(request), type=SnapshotReply)
        await committed[0]
        await service.close()
        worker.close()
        return reply

    reply = asyncio.run(both())
    assert reply.snapshot is not None, reply.error
    assert order == ["copied", "committed"]


async def quietly(copy: Callable[[], float]) -> float:
    return copy()


def test_a_snapshot_that_fails_leaves_nothing(
    tmp_path: Path, books: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a disk without room, a copy that takes too long, and books that are damaged, then each
    # is said, and neither a file nor a process is left.
    made = tmp_path / "made"
    made.mkdir()
    source = books / "ledger.duckdb"

    def fails(said: str) -> None:
        with pytest.raises(SnapshotFailed, match=said):
            asyncio.run(make_snapshot(source, made, quietly))
        assert list(made.iterdir()) == []

    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - what shutil gives
    with monkeypatch.context() as patched:
        patched.setattr(snapshot.shutil, "disk_usage", lambda _: usage(9, 9, 1024))
        fails("has 0 MiB free")
    with monkeypatch.context() as patched:
        patched.setattr(snapshot, "HOLD_MAX_S", 0.0)
        fails("may stand still")
    whole = source.read_bytes()
    source.write_bytes(whole[:100])
    fails("could not be copied")
    source.write_bytes(whole)
    (made / "left.duckdb.partial").touch()
    remove_leftovers(made, older_than_s=60)
    assert len(list(made.iterdir())) == 1
    remove_leftovers(made)
    assert asyncio.run(make_snapshot(source, made, quietly)).digest == f"0:{0:016x}"


def test_a_copy_is_whole_where_blocks_cannot_be_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a file system that knows no copying by ranges, when a file is copied, then byte by byte.
    source = tmp_path / "source"
    source.write_bytes(bytes(range(256)) * 9000)

    def refused(*_: object) -> int:
        raise OSError(18, "Invalid cross-device link")

    snapshot_child.copy_file(source, tmp_path / "shared")
    monkeypatch.setattr(snapshot_child.os, "copy_file_range", refused)
    snapshot_child.copy_file(source, tmp_path / "copied")
    for name in ("shared", "copied"):
        assert (tmp_path / name).read_bytes() == source.read_bytes()
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
