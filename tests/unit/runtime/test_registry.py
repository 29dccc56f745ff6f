"""The registry snapshot: the last word of every key, in memory and on disk."""

import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from schemas.events import KeyCreated, encode_event
from schemas.registry import KeyRecord
from schemas.streams import key_subject
from services.runtime.bus import StreamMessage
from services.runtime.registry import RegistrySnapshot


def record(key_id: str = "key_1", key_hash: str = "aa" * 32, **fields: Any) -> KeyRecord:
    return KeyRecord(key_id=key_id, key_hash=key_hash, key_name="sk-...abcd", **fields)


def message(sequence: int, state: KeyRecord, subject: str | None = None) -> StreamMessage:
    event = KeyCreated(source="/admin", id=str(sequence), time=datetime.now(UTC), data=state)
    return StreamMessage(sequence, subject or key_subject(state.key_id), encode_event(event))


def test_rotated_key_is_known_by_its_new_hash_alone() -> None:
    snapshot = RegistrySnapshot()
    snapshot.apply(message(1, record(key_hash="aa")))
    snapshot.apply(message(2, record(key_hash="bb")))

    assert snapshot.by_hash("aa") is None
    assert snapshot.by_hash("bb") == record(key_hash="bb")
    assert snapshot.knew_hash("aa")


def test_deleted_key_is_gone_by_hash_and_stays_by_id() -> None:
    snapshot = RegistrySnapshot()
    snapshot.apply(message(1, record()))
    snapshot.apply(message(2, record(deleted=True)))

    assert snapshot.by_hash("aa" * 32) is None
    assert snapshot.keys["key_1"].deleted


def test_news_of_an_old_key_does_not_take_its_hash_from_the_new_holder() -> None:
    """Given a key that was deleted and made again, then late news of the first is harmless."""
    snapshot = RegistrySnapshot()
    snapshot.apply(message(1, record("key_1")))
    snapshot.apply(message(2, record("key_1", deleted=True)))
    snapshot.apply(message(3, record("key_2")))
    snapshot.apply(message(4, record("key_1", deleted=True, key_alias="renamed")))

    found = snapshot.by_hash("aa" * 32)
    assert found is not None
    assert found.key_id == "key_2"


@pytest.mark.parametrize(
    "bad",
    [
        StreamMessage(2, "registry.key.key_1", b"garbage"),
        StreamMessage(2, "registry.key.key_1", b"\xff"),
        StreamMessage(2, "registry.key.key_1", b"[" * 100_000),
        StreamMessage(2, "registry.team.t", b"{}"),
        message(2, record(blocked=True), "registry.key.other"),
    ],
)
def test_message_that_cannot_be_believed_changes_nothing(bad: StreamMessage) -> None:
    snapshot = RegistrySnapshot()
    snapshot.apply(message(1, record()))

    assert snapshot.apply(bad) is None
    assert snapshot.by_hash("aa" * 32) == record()
    assert snapshot.sequence == 2


def snapshot_of(keys: int) -> RegistrySnapshot:
    snapshot = RegistrySnapshot()
    for number in range(keys):
        snapshot.apply(message(number + 1, record(f"key_{number}", f"{number:064x}")))
    snapshot.stream_created = "2026-11-24T00:00:00Z"
    return snapshot


def test_copy_on_disk_is_the_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "registry.json"
    before = snapshot_of(20)
    before.save(path)

    after = RegistrySnapshot()

    assert after.load(path)
    assert after.loaded
    assert (after.keys, after.sequence) == (before.keys, 20)
    assert after.subject_sequences == before.subject_sequences
    assert after.by_hash(f"{7:064x}") == before.by_hash(f"{7:064x}")
    assert path.stat().st_mode & 0o777 == 0o600


def test_copy_with_any_bit_flipped_or_cut_anywhere_is_not_believed(tmp_path: Path) -> None:
    """A flipped bit could unblock a key or put its end off: no such copy admits anybody."""
    path = tmp_path / "registry.json"
    snapshot_of(3).save(path)
    content = path.read_bytes()
    draw = random.Random(3)
    damaged = [content[:cut] for cut in draw.sample(range(len(content)), 60)]
    for bit in draw.sample(range(len(content) * 8), 200):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << (bit % 8)
        damaged.append(bytes(flipped))
    for bad in [*damaged, b"", b"{}", b"\n{}"]:
        path.write_bytes(bad)
        snapshot = RegistrySnapshot()
        assert not snapshot.load(path)
        assert not snapshot.loaded
        assert not snapshot.keys


def test_forgotten_snapshot_admits_nobody() -> None:
    snapshot = snapshot_of(2)
    snapshot.loaded = True

    snapshot.clear()

    assert not snapshot.loaded
    assert snapshot.by_hash(f"{0:064x}") is None
    assert snapshot.sequence == 0
