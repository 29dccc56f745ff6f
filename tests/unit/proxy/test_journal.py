"""What was written is read again, whatever happens to the end of a file, or to its middle."""

import os
import random
import resource
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.errors import ConfigError
from services.proxy.journal import RECORD_BYTES_MAX, Journal, Position, Record

PAYLOADS = [b"one", b"x" * 300, b"\x00\x01", b"four" * 50, b"five"]


def write(folder: Path, payloads: list[bytes] = PAYLOADS) -> Path:
    """Write records and end as a dead process does; return the segment's file."""
    journal = Journal(folder)
    for payload in payloads:
        journal.append(b"E", payload)
    path = journal._path(journal.segment)
    journal.close()
    return path


def payloads(folder: Path) -> list[bytes]:
    journal = Journal(folder)
    try:
        return [record.payload for record in journal.records()]
    finally:
        journal.close()


def test_records_come_back_in_order_over_segments_and_lives(tmp_path: Path) -> None:
    journal = Journal(tmp_path, segment_bytes_max=100)
    expected = []
    for number in range(50):
        payload = b"%d" % number * 5
        journal.append(b"N" if number % 3 else b"E", payload)
        expected.append(Record(b"N" if number % 3 else b"E", payload))
        if journal.is_segment_full:
            journal.rotate()
    journal.close()

    again = Journal(tmp_path, segment_bytes_max=100)
    again.append(b"E", b"later")
    assert list(again.records()) == [*expected, Record(b"E", b"later")]
    again.close()


def test_tail_torn_at_any_byte_costs_only_the_torn_record(tmp_path: Path) -> None:
    folder = tmp_path / "whole"
    folder.mkdir()
    content = write(folder).read_bytes()
    ends = [0]
    for payload in PAYLOADS:
        ends.append(ends[-1] + 9 + len(payload))
    for cut in range(1, len(content)):
        torn = tmp_path / str(cut)
        torn.mkdir()
        (torn / f"{2:012d}.journal").write_bytes(content[:cut])
        whole = sum(1 for end in ends[1:] if end <= cut)

        journal = Journal(torn)
        journal.append(b"E", b"of the next life")
        found = [record.payload for record in journal.records()]
        journal.close()

        assert found == [*PAYLOADS[:whole], b"of the next life"], cut


def test_flipped_bit_costs_only_its_own_record(tmp_path: Path) -> None:
    folder = tmp_path / "whole"
    folder.mkdir()
    content = write(folder).read_bytes()
    starts = [0]
    for payload in PAYLOADS:
        starts.append(starts[-1] + 9 + len(payload))
    draw = random.Random(7)
    for bit in draw.sample(range(len(content) * 8), 150):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << (bit % 8)
        hit = max(index for index, start in enumerate(starts[:-1]) if start <= bit // 8)
        target = tmp_path / str(bit)
        target.mkdir()
        (target / f"{2:012d}.journal").write_bytes(damaged)

        expected = [payload for index, payload in enumerate(PAYLOADS) if index != hit]
        assert payloads(target) == expected, bit


@pytest.mark.parametrize("tail", [bytes(9), bytes(4096), b"\xff" * 50, b"EEEEEEEEE"])
def test_foreign_bytes_at_the_end_are_no_records(tmp_path: Path, tail: bytes) -> None:
    """Zeros are what a crash of the machine leaves; they are no empty records."""
    path = write(tmp_path)
    path.write_bytes(path.read_bytes() + tail)

    assert payloads(tmp_path) == PAYLOADS


def test_reading_goes_on_behind_the_acknowledged_position(tmp_path: Path) -> None:
    journal = Journal(tmp_path, segment_bytes_max=200)
    for number in range(30):
        journal.append(b"E", b"%030d" % number)
        if journal.is_segment_full:
            journal.rotate()
    position = journal.read_position
    read: list[bytes] = []
    while len(read) < 17:
        records, position = journal.read(position, 1)
        read += [record.payload for record in records]
    journal.acknowledge(position)
    left = len(list(tmp_path.glob("*.journal")))
    journal.close()

    again = Journal(tmp_path)
    rest: list[bytes] = []
    position = again.read_position
    while True:
        records, position = again.read(position, 10_000)
        if not records:
            break
        rest += [record.payload for record in records]
    again.close()
    assert read + rest == [b"%030d" % number for number in range(30)]
    assert left < 7


@pytest.mark.parametrize("content", [b"", b"\x00" * 20, b"garbage that is no position", b"\x01"])
def test_damaged_position_reads_all_again(tmp_path: Path, content: bytes) -> None:
    write(tmp_path)
    (tmp_path / "position").write_bytes(content)

    journal = Journal(tmp_path)
    records, _ = journal.read(journal.read_position, 10_000)
    journal.close()

    assert [record.payload for record in records] == PAYLOADS


def test_number_of_a_segment_is_never_below_the_position(tmp_path: Path) -> None:
    """Given a position beyond what the disk still has, then new records are behind it."""
    journal = Journal(tmp_path)
    journal.acknowledge(Position(9, 100))
    journal.append(b"E", b"old")
    journal.close()

    again = Journal(tmp_path)
    again.append(b"E", b"new")
    records, _ = again.read(again.read_position, 1000)
    again.close()

    assert again.segment > 9
    assert [record.payload for record in records] == [b"new"]


def test_second_process_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with pytest.raises(ConfigError, match="in use by another process"):
        Journal(tmp_path)
    journal.close()
    Journal(tmp_path).close()


def test_files_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    write(tmp_path)

    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_record_that_no_reader_would_take_is_never_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for payload in (b"", b"x" * (RECORD_BYTES_MAX + 1)):
        with pytest.raises(AssertionError):
            journal.append(b"E", payload)
    journal.append(b"E", b"x" * RECORD_BYTES_MAX)
    assert [len(record.payload) for record in journal.records()] == [RECORD_BYTES_MAX]
    journal.close()


def test_full_disk_leaves_whole_records_and_room_is_used_again(tmp_path: Path) -> None:
    """Given a limit of 1000 bytes for files, then a record is written whole or not at all."""
    journal = Journal(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        for _ in range(10):
            journal.append(b"E", b"y" * 90)
        with pytest.raises(OSError, match="disk is full"):
            journal.append(b"E", b"y" * 90)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    journal.append(b"E", b"after")
    assert [record.payload for record in journal.records()] == [b"y" * 90] * 10 + [b"after"]
    journal.close()


def test_position_that_cannot_be_written_does_not_stop_the_reader(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(b"E", b"one")
    os.close(journal._position_file)
    journal._position_file = os.open("/dev/full", os.O_RDWR)

    records, position = journal.read(journal.read_position, 1000)
    journal.acknowledge(position)

    assert [record.payload for record in records] == [b"one"]
    assert journal.bytes_unread == 0
    journal.close()


def test_killed_writer_leaves_every_record_that_it_reported(tmp_path: Path) -> None:
    """Given a process that is killed while it writes, then all that it said it wrote is there."""
    script = (
        "import sys\nfrom pathlib import Path\nfrom services.proxy.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]), segment_bytes_max=5000)\n"
        "for number in range(10**9):\n"
        "    journal.append(b'E', b'%09d' % number)\n"
        "    journal.is_segment_full and journal.rotate()\n"
        "    sys.stdout.write('%d\\n' % number)\n    sys.stdout.flush()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        reported = [writer.stdout.readline() for _ in range(3000)]
        writer.kill()
        reported += [line for line in writer.stdout if line.endswith(b"\n")]

    found = payloads(tmp_path)
    assert [int(payload) for payload in found] == list(range(len(found)))
    assert len(found) >= int(reported[-1]) + 1


def test_header_is_as_documented(tmp_path: Path) -> None:
    content = write(tmp_path, [b"abc"]).read_bytes()

    assert struct.unpack_from("<I", content)[0] == 3
    assert content[8:9] == b"E"
    assert content[9:] == b"abc"
