"""The registry snapshot: what REGISTRY holds, in memory, kept current by the stream.

The proxy and the admin service hold one each. The proxy also keeps a copy on disk (0600, hashes
only), so that it starts and serves while NATS is down.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import msgspec

from schemas.events import (
    decode_config_event,
    decode_key_event,
    decode_model_event,
    decode_team_event,
    decode_user_event,
)
from schemas.registry import (
    ConfigChange,
    KeyRecord,
    ModelRecord,
    TeamMember,
    TeamRecord,
    UserRecord,
)
from schemas.streams import (
    CONFIG_SUBJECT,
    REGISTRY,
    key_subject,
    model_subject,
    team_subject,
    user_subject,
)
from services.runtime.bus import Bus, BusError, StreamMessage, StreamState
from services.runtime.folder import write_private
from services.runtime.registry_copy import (
    KINDS,
    Copy,
    ReadCopy,
    encoded_copy,
    gc_paused,
    read_copy,
)
from services.runtime.registry_memory import SharedValues

__all__ = ["Record", "RegistrySnapshot", "follow_registry", "subject_of"]

log = logging.getLogger(__name__)

CACHE_INTERVAL_S = 1.0
"""The copy on disk is at most so much older than the memory it copies."""
RETRY_WAIT_S = 0.2
HISTORY_MESSAGES_MAX = 1_000_000
"""So much history is read whole by who knows nothing yet, in some ten seconds. To give the last
message of each of 100,000 subjects takes nats-server minutes: that is for a longer one alone."""

Record: TypeAlias = KeyRecord | TeamRecord | UserRecord | ModelRecord | ConfigChange
"""What an event of REGISTRY carries: the new state of one thing."""

_KEY_SUBJECT = key_subject("")


class RegistrySnapshot:
    """All keys (by id and by hash), teams, users and models, and the sequence they stand at.

    Deleted keys stay by id (their history is asked for) and are gone by hash; deleted teams,
    users and models stay by id, too. `models_revision` counts the changes of models.
    `config_change` is the last word on the configuration file.
    """

    def __init__(self) -> None:
        self.keys: dict[str, KeyRecord] = {}
        self.teams: dict[str, TeamRecord] = {}
        self.users: dict[str, UserRecord] = {}
        self.models: dict[str, ModelRecord] = {}
        self.models_revision = 0
        self.config_change: ConfigChange | None = None
        self.subject_sequences: dict[str, int] = {}
        self._key_sequences: dict[str, int] = {}
        self._shared = SharedValues()
        self.sequence = 0
        self.stream_created = ""
        self.loaded = False
        self._by_hash: dict[str, KeyRecord] = {}
        self._past_hashes: set[str] = set()
        self._memberships: dict[str, dict[str, TeamMember]] = {}

    def by_hash(self, key_hash: str) -> KeyRecord | None:
        """Return the key with this SHA-256, unless it was deleted or replaced.

        One that was replaced is found until its grace period ends by the clock of this process.
        """
        record = self._by_hash.get(key_hash)
        if record is None or record.key_hash == key_hash:
            return record
        until_us = record.former_key_until_us
        return record if until_us is not None and time.time_ns() < until_us * 1000 else None

    def owners_of(self, key: KeyRecord) -> list[TeamRecord | UserRecord]:
        """Return the team and the user that a key names, where the registry knows them."""
        owners: list[TeamRecord | UserRecord] = []
        if key.team_id is not None and (team := self.teams.get(key.team_id)) is not None:
            owners.append(team)
        if key.user_id is not None and (user := self.users.get(key.user_id)) is not None:
            owners.append(user)
        return owners

    def memberships(self, user_id: str) -> dict[str, TeamMember]:
        """Return a user's place in each live team that the user is a member of, by team id."""
        return self._memberships.get(user_id, {})

    def sequence_of(self, subject: str) -> int:
        """Return the stream sequence of the last message of a subject, 0 where there is none."""
        if subject.startswith(_KEY_SUBJECT):
            return self._key_sequences.get(subject[len(_KEY_SUBJECT) :], 0)
        return self.subject_sequences.get(subject, 0)

    def holds(self, record: KeyRecord | TeamRecord | UserRecord | ModelRecord) -> bool:
        """Tell whether this is the last known state of a key, team, user or model."""
        if isinstance(record, ModelRecord):
            return self.models.get(record.model_id) == record
        if isinstance(record, KeyRecord):
            return self.keys.get(record.key_id) == record
        if isinstance(record, TeamRecord):
            return self.teams.get(record.team_id) == record
        return self.users.get(record.user_id) == record

    def knew_hash(self, key_hash: str) -> bool:
        """Tell whether this is or was a key's hash: such a value is a secret of this gateway."""
        return key_hash in self._by_hash or key_hash in self._past_hashes

    @property
    def config_sequence(self) -> int:
        """The stream sequence of `config_change`, 0 without one."""
        return self.subject_sequences.get(CONFIG_SUBJECT, 0)

    def apply(self, message: StreamMessage) -> Record | None:
        """Take one message of REGISTRY in; return the record that it changed.

        A message that cannot be read is logged and skipped: what it is about keeps its last known
        state.
        """
        self.sequence = message.sequence
        try:
            record, subject = _read(message)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            log.error(
                "a registry event cannot be read and is skipped: %s",
                error,
                extra={"subject": message.subject, "sequence": message.sequence},
            )
            return None
        if record is None:
            return None
        if message.subject != subject:
            # Only the admin service may write a key's state, and it writes it in its own place.
            log.error(
                "a registry event about another thing than its subject's is skipped",
                extra={"subject": message.subject, "sequence": message.sequence},
            )
            return None
        if message.sequence < self.sequence_of(subject):
            # The history is read anew, and what is known of this is newer.
            return None
        if isinstance(record, KeyRecord):
            self.put(record, message.sequence)
            return record
        self.subject_sequences[message.subject] = message.sequence
        if isinstance(record, ModelRecord):
            self.put_model(record)
        elif isinstance(record, TeamRecord | UserRecord):
            self.put_owner(record)
        else:
            self.config_change = record
        return record

    def put_owner(self, record: TeamRecord | UserRecord) -> None:
        """Set the state of one team or user."""
        if isinstance(record, UserRecord):
            self.users[record.user_id] = record
            return
        before = self.teams.get(record.team_id)
        self.teams[record.team_id] = record
        if before is not None:
            for member in before.members_with_roles:
                self._memberships.get(member.user_id, {}).pop(record.team_id, None)
        if not record.deleted:
            for member in record.members_with_roles:
                self._memberships.setdefault(member.user_id, {})[record.team_id] = member

    def put_model(self, record: ModelRecord) -> None:
        """Set the state of one model."""
        self.models[record.model_id] = record
        self.models_revision += 1

    def live_models(self) -> list[ModelRecord]:
        """Return the models that were not deleted, in the order of their ids."""
        return [self.models[each] for each in sorted(self.models) if not self.models[each].deleted]

    def put(self, record: KeyRecord, sequence: int = 0) -> None:
        """Set the state of one key, as the message with this stream sequence says (0: none)."""
        self._shared.share(record)
        before = self.keys.get(record.key_id)
        if before is not None:
            for old in (before.key_hash, before.former_key_hash):
                if old is None:
                    continue
                if old != record.key_hash:
                    self._past_hashes.add(old)
                if self._holds_hash(record, old):
                    del self._by_hash[old]
        self.keys[record.key_id] = record
        if sequence:
            self._key_sequences[record.key_id] = sequence
        if record.deleted:
            self._past_hashes.add(record.key_hash)
        else:
            self._by_hash[record.key_hash] = record
        former = record.former_key_hash
        if former is None:
            return
        self._past_hashes.add(former)
        if not record.deleted and record.former_key_until_us is not None:
            # Another key's own hash goes before a former one.
            self._by_hash.setdefault(former, record)

    def _holds_hash(self, record: KeyRecord, key_hash: str) -> bool:
        holder = self._by_hash.get(key_hash)
        return holder is not None and holder.key_id == record.key_id

    def clear(self) -> None:
        """Forget everything (the stream is another one)."""
        self.keys.clear()
        self.teams.clear()
        self.users.clear()
        self.models.clear()
        self.models_revision += 1
        self.config_change = None
        self.subject_sequences.clear()
        self._key_sequences.clear()
        self._shared.clear()
        self._by_hash.clear()
        self._past_hashes.clear()
        self._memberships.clear()
        self.sequence = 0
        self.loaded = False

    def copied(self) -> Copy:
        """Return the state as it is at this moment: records are never changed."""
        keys = list(self.keys.values())
        sequences = self._key_sequences
        return Copy(
            stream_created=self.stream_created,
            sequence=self.sequence,
            subject_sequences=dict(self.subject_sequences),
            kinds=KINDS,
            models=list(self.models.values()),
            config_change=self.config_change,
            teams=list(self.teams.values()),
            users=list(self.users.values()),
            key_sequences=[sequences.get(key.key_id, 0) for key in keys],
            keys=keys,
        )

    def save(self, path: Path) -> None:
        """Write the copy on disk, whole or not at all."""
        write_private(path, encoded_copy(self.copied()))

    def load(self, path: Path) -> bool:
        """Read the copy on disk; False where there is none or it cannot be believed."""
        with gc_paused():
            copy = read_copy(path)
            if copy is None:
                return False
            try:
                self._put_all(copy)
            except msgspec.MsgspecError as error:
                log.warning("the registry's copy on disk is not used: %s", error)
                self.clear()
                return False
        for model in copy.models:
            self.put_model(model)
        for team in copy.teams:
            self.put_owner(team)
        for user in copy.users:
            self.put_owner(user)
        self.config_change = copy.config_change
        self.subject_sequences.update(copy.subject_sequences)
        # Sequence 0 reads the stream anew, but its keys are known until then.
        is_whole = set(KINDS) <= set(copy.kinds) and copy.key_sequences is not None
        self.sequence = copy.sequence if is_whole else 0
        self.stream_created = copy.stream_created
        self.loaded = True
        return True

    def _put_all(self, copy: ReadCopy) -> None:
        sequences = iter(copy.key_sequences or ())
        by_subject = copy.subject_sequences if copy.key_sequences is None else {}
        for piece in copy.pieces():
            for record in piece:
                older = by_subject.get(key_subject(record.key_id), 0) if by_subject else 0
                self.put(record, next(sequences, older))


def subject_of(record: KeyRecord | TeamRecord | UserRecord | ModelRecord) -> str:
    """Return the subject that holds the state of a key, team, user or model."""
    if isinstance(record, ModelRecord):
        return model_subject(record.model_id)
    if isinstance(record, KeyRecord):
        return key_subject(record.key_id)
    if isinstance(record, TeamRecord):
        return team_subject(record.team_id)
    return user_subject(record.user_id)


async def follow_registry(
    bus: Bus,
    snapshot: RegistrySnapshot,
    *,
    cache: Path | None = None,
    on_progress: Callable[[], None] | None = None,
) -> None:
    """Keep a snapshot current for ever. `snapshot.loaded` is set once it is up to date.

    `on_progress` is called after each batch that was taken in.
    """
    state = await _stream_state(bus)
    if snapshot.stream_created != state.created or snapshot.sequence > state.last_sequence:
        if snapshot.keys:
            log.warning("the registry is another stream than before: it is read anew")
        snapshot.clear()
        snapshot.stream_created = state.created
    is_long = snapshot.sequence == 0 and state.messages > HISTORY_MESSAGES_MAX
    copy = _Copy(snapshot, cache) if cache is not None else None
    async for batch in bus.follow(REGISTRY.name, snapshot.sequence + 1, last_per_subject=is_long):
        for message in batch.messages:
            snapshot.apply(message)
        if batch.pending == 0:
            snapshot.loaded = True
        if on_progress is not None:
            on_progress()
        if copy is not None and snapshot.loaded:
            copy.save_soon()


def _read(message: StreamMessage) -> tuple[Record | None, str]:
    """Return a message's record and the subject that it belongs on; None for a kind not known.

    Raises msgspec.MsgspecError, UnicodeDecodeError or RecursionError.
    """
    kind = message.subject.split(".")[1]
    if kind == "key":
        key = decode_key_event(message.payload).data
        return key, key_subject(key.key_id)
    if kind == "team":
        team = decode_team_event(message.payload).data
        return team, team_subject(team.team_id)
    if kind == "user":
        user = decode_user_event(message.payload).data
        return user, user_subject(user.user_id)
    if kind == "model":
        model = decode_model_event(message.payload).data
        return model, model_subject(model.model_id)
    if kind == "config":
        return decode_config_event(message.payload).data, CONFIG_SUBJECT
    return None, message.subject


class _Copy:
    """Writes a snapshot's copy on disk, a moment after a change and once for all that came in."""

    def __init__(self, snapshot: RegistrySnapshot, path: Path) -> None:
        self._snapshot = snapshot
        self._path = path
        self._saving: asyncio.Task[None] | None = None
        self._is_due = False

    def save_soon(self) -> None:
        """Note that there is something new."""
        self._is_due = True
        if self._saving is None or self._saving.done():
            self._saving = asyncio.create_task(self._save(), name="registry copy")

    async def _save(self) -> None:
        while self._is_due:
            await asyncio.sleep(CACHE_INTERVAL_S)
            self._is_due = False
            copy = self._snapshot.copied()
            try:
                # It may take its time, and the disk too; requests must not wait for them.
                await asyncio.to_thread(_write, self._path, copy)
            except OSError as error:
                log.error("the registry's copy cannot be written: %s", error)


def _write(path: Path, copy: Copy) -> None:
    write_private(path, encoded_copy(copy))


async def _stream_state(bus: Bus) -> StreamState:
    """Return the state of REGISTRY, waiting until NATS and the stream are there."""
    while True:
        await bus.wait_connected()
        try:
            return await bus.stream_state(REGISTRY.name)
        except BusError:
            await asyncio.sleep(RETRY_WAIT_S)
