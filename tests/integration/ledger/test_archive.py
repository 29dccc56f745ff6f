"""The archive: what leaves the stream is never lost, and reads as if it had stayed."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.config import Settings
from schemas.streams import USAGE
from services.ledger.archive import Archive, ArchiveDamaged
from services.ledger.archiver import Archiver
from services.ledger.history import follow_history
from services.ledger.worker import Worker
from services.runtime.bus import Bus, StreamMessage, StreamState
from tests.support.ledger import LedgerProcess, publish, read_books, run
from tests.support.made_up import made_up_messages
from tests.support.nats import NatsServer

SMALL = "tallygate: {usage_stream_bytes_max: 65536}\n"
DAY_US = 24 * 3600 * 1_000_000
DIE_AT = """
import asyncio, os, sys
from pathlib import Path
from schemas.config import Settings
from services.ledger import archive, archiver
from services.runtime.bus import Bus

url, folder, step = sys.argv[1], Path(sys.argv[2]), sys.argv[3]

def dying(*_, **__):
    os._exit(9)

if step == "write": archive.pq.write_table = dying
if step == "fsync": archive.os.fsync = dying
if step == "rename": archive.os.rename = dying
if step == "folder": archive._sync_folder = dying
if step == "verify": archive.Archive.verify_file = dying
if step == "drop": Bus.drop = dying
if step == "dropped":
    drop = Bus.drop
    async def dropped(*arguments):
        await drop(*arguments)
        os._exit(9)
    Bus.drop = dropped

class Books:
    sequence = 30

async def main():
    bus = await Bus.connect(url, "killed")
    settings = archiver.Settings(usage_retention_days=0, usage_stream_bytes_max=65536)
    await archiver.Archiver(bus, Books(), folder, settings).archive_due()

asyncio.run(main())
"""


class Committed(Worker):
    """Stands for books that have committed up to a message."""

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence


def messages(count: int) -> list[bytes]:
    return [b"%d:" % number + b"x" * 6000 for number in range(1, count + 1)]


def state_of(url: str) -> StreamState:
    state: StreamState = run(lambda bus: bus.stream_state(USAGE.name), url)
    return state


def history(url: str, folder: Path, last: int) -> list[tuple[int, str, bytes, int]]:
    """Return all messages of archive and stream as one sequence."""

    async def work(bus: Bus) -> list[tuple[int, str, bytes, int]]:
        found: list[StreamMessage] = []
        state = await bus.stream_state(USAGE.name)
        async for batch in follow_history(bus, folder, state, 1):
            found += batch.messages
            if len(found) >= last:
                break
        return [(each.sequence, each.subject, each.payload, each.stored_at_us) for each in found]

    found: list[tuple[int, str, bytes, int]] = run(work, url)
    return found


def test_a_kill_at_any_step_of_archiving_loses_and_doubles_no_message(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    # Given a stream that is too large, when what archives it is killed at each of its steps and
    # then runs on, then archive and stream together are what the stream was, to the byte, and what
    # is beyond the books has stayed in the stream.
    publish(nats_server.url, messages(45))
    before = history(nats_server.url, tmp_path / "none", 45)
    folder = tmp_path / "archive"
    created = state_of(nats_server.url).created
    for step in ("write", "fsync", "rename", "folder", "verify", "drop", "dropped"):
        done = subprocess.run(
            [sys.executable, "-c", DIE_AT, nats_server.url, str(folder), step], check=False
        )
        assert done.returncode == 9, step
        assert history(nats_server.url, folder, 45) == before, step
    assert Archive(folder, created).last() == 30

    async def again(bus: Bus) -> int:
        settings = Settings(usage_stream_bytes_max=65536)
        return await Archiver(bus, Committed(45), folder, settings).archive_due()

    assert run(again, nats_server.url) == 15
    assert run(again, nats_server.url) == 0
    assert history(nats_server.url, folder, 45) == before
    state = state_of(nats_server.url)
    assert (state.first_sequence, state.last_sequence, state.messages) == (46, 45, 0)
    assert [path.suffix for path in folder.rglob("*.*") if path.is_file()] == [".parquet"] * 2
    assert Archive(folder, created).check() == []


def test_whole_days_are_archived_when_they_are_old_enough(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    # Given messages of today and a retention of two days, then none is archived until the day after
    # tomorrow is over, and then all are.
    publish(nats_server.url, messages(3))
    today_us = history(nats_server.url, tmp_path, 3)[0][3] // DAY_US * DAY_US
    folder = tmp_path / "archive"

    async def archive(bus: Bus) -> list[int]:
        clock = [0]
        settings = Settings(usage_retention_days=2)
        archiver = Archiver(bus, Committed(3), folder, settings, now_us=lambda: clock[0])
        moved = []
        for now_us in (today_us, today_us + 3 * DAY_US - 1, today_us + 3 * DAY_US + 1):
            clock[0] = now_us
            moved.append(await archiver.archive_due())
        return moved

    assert run(archive, nats_server.url) == [0, 0, 3]


def test_a_disk_that_takes_nothing_drops_nothing(
    tmp_path: Path, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a disk that is full at one of the steps, then the stream keeps everything and no file is
    # left; when there is room again, then it is archived.
    publish(nats_server.url, messages(20))
    folder = tmp_path / "archive"

    async def archive(bus: Bus) -> int:
        settings = Settings(usage_stream_bytes_max=65536)
        return await Archiver(bus, Committed(20), folder, settings).archive_due()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("services.ledger.archive.os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            run(archive, nats_server.url)
    assert state_of(nats_server.url).messages == 20
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    assert run(archive, nats_server.url) == 20


def damage_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damage_byte, "is damaged"),
        (lambda path: path.write_bytes(b""), "is damaged"),
        (lambda path: shutil.copy(path.with_name(f"{1:020}-{2:020}.parquet"), path), "damaged"),
        (lambda path: path.unlink(), "messages 3 to 4 are not in the archive"),
    ],
)
def test_a_changed_or_missing_file_of_the_archive_is_found(
    tmp_path: Path, damage: Callable[[Path], object], said: str
) -> None:
    # Given an archive of three files, when one is changed, emptied, exchanged or taken away, then
    # reading it all says so, and names it.
    archive = Archive(tmp_path, "2026-11-25T00:00:00Z")
    for first in (1, 3, 5):
        archive.write(
            [StreamMessage(first + n, "usage.0", b"payload %d" % n, 10 + n) for n in range(2)]
        )
    assert archive.check() == []
    assert [each.sequence for some in archive.read(2) for each in some] == [2, 3, 4, 5, 6]
    damage(archive.files()[1].path)
    assert said in "\n".join(archive.check())
    if said.endswith("damaged"):
        with pytest.raises(ArchiveDamaged, match="restore this file"):
            list(archive.read(1))


def tallygate(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.timeout(240)
def test_books_whose_stream_has_its_older_part_in_the_archive_alone_are_built_anew(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    # Given ledgers with a small stream, when its older part is archived, then a replay, a writer
    # whose file is lost and a reader whose file is lost have the digest of the live books, prices
    # can still be changed, and verify proves the archive too; without the archive, that is said.
    publish(nats_server.url, list(made_up_messages(2000, events_per_message=20)))
    both = [LedgerProcess(tmp_path, nats_server.url, role) for role in ("writer", "reader")]
    config = tmp_path / "config.yaml"
    config.write_text(config.read_text() + SMALL)
    writer, reader = both
    data = writer.data
    options = ("--data", data, "--nats-url", nats_server.url)
    try:
        writer.start()
        writer.wait_for(lambda: '"usage is archived"' in writer.log() or None, "it is archived")
        writer.wait_ready()
        writer.wait_for(
            lambda: state_of(nats_server.url).bytes <= 65536 or None, "the stream is small"
        )
        reader.start()
        reader.wait_ready()

        def proved() -> dict[str, str]:
            done = tallygate("verify", "--json", *options)
            assert done.returncode == 0, done.stdout + done.stderr
            answer = json.loads(done.stdout)
            assert answer["proofs"][0]["archived"] > 50
            digests: dict[str, str] = answer["digests"]
            return digests

        live = proved()
        assert live["writer"] == live["reader"]
        done = tallygate("replay", "--json", "--into", tmp_path / "replayed.duckdb", *options)
        assert json.loads(done.stdout)["digest"] == live["writer"], done.stderr
        for ledger in both:
            ledger.kill()
            ledger.database.unlink()
            ledger.database.with_name(ledger.database.name + ".wal").unlink(missing_ok=True)
        config.write_text(
            config.read_text()
            + "prices: [{model: claude-sonnet-4-0, multiplier: 0.5, source: a contract}]\n"
        )
        for ledger in both:
            ledger.start()
            ledger.wait_ready()
        assert proved() == live
        for ledger in both:
            assert ledger.stop() == 0
        query = "SELECT count(*) FROM price_changes"
        assert read_books(writer.database, query) == read_books(reader.database, query) == [(2,)]

        (data / "archive").rename(data / "lost")
        gone = tallygate("verify", *options)
        assert (gone.returncode, "neither in the stream nor" in gone.stdout) == (1, True), (
            gone.stdout + gone.stderr
        )
        done = tallygate("replay", "--into", tmp_path / "again.duckdb", *options)
        assert (done.returncode, "has lost its messages" in done.stderr) == (78, True)
        # Books that are there go on without it, and say that something is missing.
        writer.start()
        writer.wait_ready()
        assert writer.stop() == 0
    finally:
        for ledger in both:
            ledger.stop()


def test_an_archive_that_is_ahead_of_its_stream_is_refused(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    # Given a stream that was restored from a backup older than the archive, then nothing new may
    # be taken in under the numbers of what the archive holds: it is said.
    publish(nats_server.url, messages(3))
    state = state_of(nats_server.url)
    Archive(tmp_path / "data" / "archive", state.created).write(
        [StreamMessage(number, "usage.0", b"[]", 5) for number in range(1, 5)]
    )
    ledger = LedgerProcess(tmp_path, nats_server.url)
    ledger.start()
    assert ledger.wait_end() == 78
    assert "it was restored from an older backup" in ledger.log()
