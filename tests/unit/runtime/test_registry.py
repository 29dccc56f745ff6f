"""The registry snapshot: the last word of every key, in memory and on disk."""

import hashlib
import random
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.events import ConfigChanged, KeyCreated, ModelCreated, encode_event
from schemas.registry import ConfigChange, KeyRecord, ModelRecord
from schemas.streams import CONFIG_SUBJECT, key_subject, model_subject
from services.runtime.bus import StreamMessage
from services.runtime.registry import RegistrySnapshot
from services.runtime.registry_copy import PIECE, encoded_copy


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


def test_replaced_key_is_found_until_its_grace_period_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a key whose secret was replaced, with a grace period until 100 s,
    snapshot = RegistrySnapshot()
    rotated = record(key_hash="bb", former_key_hash="aa", former_key_until_us=100_000_000)
    snapshot.apply(message(1, record(key_hash="aa")))
    snapshot.apply(message(2, rotated))
    # When the clock stands before, at and after its end, then the old hash is known before alone.
    for now_ns, found in ((99_999_999_999, rotated), (100_000_000_000, None), (10**12, None)):
        monkeypatch.setattr(time, "time_ns", lambda now_ns=now_ns: now_ns)
        assert snapshot.by_hash("aa") == found
        assert snapshot.by_hash("bb") == rotated
    # And when it is replaced again or deleted, then both are gone, and still secrets.
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    snapshot.apply(message(3, record(key_hash="cc", former_key_hash="bb")))
    assert (snapshot.by_hash("aa"), snapshot.by_hash("bb")) == (None, None)
    snapshot.apply(message(4, msgspec.structs.replace(rotated, deleted=True)))
    assert (snapshot.by_hash("aa"), snapshot.by_hash("bb"), snapshot.by_hash("cc")) == (None,) * 3
    assert snapshot.knew_hash("aa")


def test_former_hash_does_not_hide_the_key_that_has_it_now() -> None:
    # Given a key with the hash that is another's former one, when the other changes, then it stays.
    snapshot = RegistrySnapshot()
    other = record("key_1", "bb", former_key_hash="aa", former_key_until_us=1)
    snapshot.apply(message(1, other))
    snapshot.apply(message(2, record("key_2", "aa")))
    snapshot.apply(message(3, msgspec.structs.replace(other, blocked=True)))
    assert snapshot.by_hash("aa") == record("key_2", "aa")


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
    for key_id in before.keys:
        subject = f"registry.key.{key_id}"
        assert after.sequence_of(subject) == before.sequence_of(subject) > 0
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


def model_message(sequence: int, model: ModelRecord, subject: str | None = None) -> StreamMessage:
    event = ModelCreated(source="/admin", id=str(sequence), time=datetime.now(UTC), data=model)
    return StreamMessage(sequence, subject or model_subject(model.model_id), encode_event(event))


def config_message(sequence: int, digest: str) -> StreamMessage:
    change = ConfigChange(sha256=digest, path="config.yaml")
    event = ConfigChanged(source="/admin", id=str(sequence), time=datetime.now(UTC), data=change)
    return StreamMessage(sequence, CONFIG_SUBJECT, encode_event(event))


def model(model_id: str = "m1", **fields: Any) -> ModelRecord:
    params = {"model": "anthropic/claude-opus-4-5", **fields.pop("litellm_params", {})}
    return ModelRecord(model_id=model_id, model_name="opus", litellm_params=params, **fields)


def test_models_and_the_last_word_on_the_file_are_followed_and_kept_on_disk(tmp_path: Path) -> None:
    # Given events of models and of the file, when they are taken in and the copy is read again,
    # then the last word of each is there, and a deleted model is no live one.
    before = snapshot_of(3)
    revision = before.models_revision
    before.apply(model_message(4, model("m2")))
    before.apply(model_message(5, model("m1")))
    before.apply(config_message(6, "aa" * 32))
    before.apply(model_message(7, model("m2", deleted=True)))
    before.apply(config_message(8, "bb" * 32))
    assert before.models_revision == revision + 3
    before.save(tmp_path / "registry.json")

    after = RegistrySnapshot()

    assert after.load(tmp_path / "registry.json")
    for snapshot in (before, after):
        assert snapshot.live_models() == [model("m1")]
        assert snapshot.config_change == ConfigChange(sha256="bb" * 32, path="config.yaml")
        assert (snapshot.config_sequence, snapshot.sequence) == (8, 8)


def test_model_event_on_the_subject_of_another_changes_nothing() -> None:
    snapshot = RegistrySnapshot()
    snapshot.apply(model_message(1, model()))

    assert snapshot.apply(model_message(2, model("m2"), model_subject("m1"))) is None
    assert snapshot.live_models() == [model()]


def test_copy_of_a_version_that_knew_no_models_makes_the_stream_be_read_anew(
    tmp_path: Path,
) -> None:
    # Given a copy on disk as versions before models wrote it, which may have passed some over,
    # when it is loaded, then its keys are known and the stream is read from its beginning.
    path = tmp_path / "registry.json"
    before = snapshot_of(3)
    state = msgspec.json.decode(encoded_copy(before.copied()).partition(b"\n")[2])
    for name in ("kinds", "models", "config_change"):
        del state[name]
    content = msgspec.json.encode(state)
    path.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)

    after = RegistrySnapshot()

    assert after.load(path)
    assert after.keys == before.keys
    assert after.sequence == 0


@pytest.mark.parametrize(
    "params",
    [
        {"api_key": "sk-ant-api03-literal"},
        {"api_key": "plain"},
        {"api_key": "os.environ/AWS_SECRET_ACCESS_KEY"},
        {"api_key": "os.environ/NOT A NAME API_KEY"},
        {"api_key": ["os.environ/ANTHROPIC_API_KEY"]},
        {"api_base": "https://user:password@host"},
        {"api_base": "os.environ/OTHER_API_KEY"},
        {"extra_headers": {"x-api-key": "sk-ant-api03-literal"}},
        {"tags": ["a", ["Bearer abc"]]},
    ],
)
def test_no_event_of_a_model_can_hold_a_secret(params: dict[str, Any]) -> None:
    # Given a secret, or the name of a variable that is no API key, somewhere in a model, when the
    # record is made or comes as an event, then it is refused, and the message quotes no value.
    with pytest.raises(ValueError, match=r"secret|API_KEY") as refused:
        model(litellm_params=params)
    assert "literal" not in str(refused.value)
    assert "password" not in str(refused.value)
    good = model_message(1, model(litellm_params={"api_key": "os.environ/TEAM_API_KEY_2"}))
    event = msgspec.json.decode(good.payload)
    event["data"]["litellm_params"] = {"model": "anthropic/x", **params}
    snapshot = RegistrySnapshot()
    assert snapshot.apply(StreamMessage(2, good.subject, msgspec.json.encode(event))) is None
    assert snapshot.apply(good) is not None


def test_copy_of_a_version_that_wrote_keys_one_by_one_makes_the_stream_be_read_anew(
    tmp_path: Path,
) -> None:
    # Given a copy as older versions wrote it, keys one by one and sequences by subject, when it is
    # loaded, then its keys are known and the stream is read from its beginning.
    path = tmp_path / "registry.json"
    before = snapshot_of(3)
    state = msgspec.json.decode(encoded_copy(before.copied()).partition(b"\n")[2])
    sequences = state.pop("key_sequences")
    (state["keys"],) = state["keys"]
    for key, sequence in zip(state["keys"], sequences, strict=True):
        state["subject_sequences"][f"registry.key.{key['key_id']}"] = sequence
    content = msgspec.json.encode(state)
    path.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
    after = RegistrySnapshot()
    assert after.load(path)
    assert (after.keys, after.sequence, after.loaded) == (before.keys, 0, True)
    # And an older message of a key takes nothing back of what is known of it.
    late = msgspec.structs.replace(record("key_2", f"{2:064x}"), blocked=True)
    assert after.apply(message(1, late)) is None
    assert after.keys == before.keys
    assert after.apply(message(4, late)) == late
    assert after.keys["key_2"].blocked


def test_copy_of_many_keys_comes_back_whole_and_shares_what_they_have_in_common(
    tmp_path: Path,
) -> None:
    # Given more keys than are written in one piece, when their copy is loaded, then each is as it
    # was, with its sequence; equal teams and lists are one object, and what is empty is one too.
    path = tmp_path / "registry.json"
    before = RegistrySnapshot()
    for number in range(2 * PIECE + 1):
        changes = {"team_id": "blue", "models": ("claude-a", "claude-b"), "created_at_us": number}
        key = record(f"key_{number}", f"{number:064x}")
        before.apply(message(number + 1, msgspec.structs.replace(key, **changes)))
    before.save(path)
    after = RegistrySnapshot()
    assert after.load(path)
    assert after.keys == before.keys
    assert [*after.keys] == [*before.keys]
    for number in (0, PIECE, 2 * PIECE):
        assert after.sequence_of(f"registry.key.key_{number}") == number + 1
    for name in ("team_id", "models", "metadata", "aliases"):
        assert len({id(getattr(key, name)) for key in after.keys.values()}) == 1
    # And what a piece of an unknown version holds is not believed.
    state = msgspec.json.decode(path.read_bytes().partition(b"\n")[2])
    state["keys"][1][0]["blocked"] = "perhaps"
    content = msgspec.json.encode(state)
    path.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
    other = RegistrySnapshot()
    assert not other.load(path)
    assert (other.keys, other.loaded) == ({}, False)
