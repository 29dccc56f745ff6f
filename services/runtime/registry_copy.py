"""The copy of a registry snapshot on disk: a line with its SHA-256, then the state as JSON.

Keys are written and read piece by piece. One call for 100,000 of them would hold up every request
for a tenth of a second, in whatever thread it ran; and what a record has in common with others is
freed before the next piece needs the room.
"""

import gc
import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from schemas.registry import ConfigChange, KeyRecord, ModelRecord, TeamRecord, UserRecord

__all__ = ["KINDS", "PIECE", "Copy", "ReadCopy", "encoded_copy", "gc_paused", "read_copy"]

log = logging.getLogger(__name__)

PIECE = 500
"""So many keys are written or read in one go, which takes about a millisecond."""

KINDS = ("key", "model", "config", "team", "user")
"""The kinds of records that this version understands. A copy on disk that was written by one that
understood fewer lacks what it passed over, so the stream is then read anew."""


class _Head(msgspec.Struct, frozen=True, kw_only=True):
    """All but the keys. `stream_created` names the stream that `sequence` counts in.

    `key_sequences` are those of the keys' last events, in the order of `keys`; None: the copy is
    of an older version, which had them by subject.
    """

    stream_created: str
    sequence: int
    subject_sequences: dict[str, int]
    kinds: tuple[str, ...] = ("key",)
    models: list[ModelRecord] = []
    config_change: ConfigChange | None = None
    teams: list[TeamRecord] = []
    users: list[UserRecord] = []
    key_sequences: list[int] | None = None


class Copy(_Head, frozen=True, kw_only=True):
    """The copy, as it is written."""

    keys: list[KeyRecord] = []


class ReadCopy(_Head, frozen=True, kw_only=True):
    """The copy, as it is read: `keys` are pieces, each a list of keys."""

    keys: list[msgspec.Raw] = []

    def pieces(self) -> Iterator[list[KeyRecord]]:
        """Yield the keys. Raises msgspec.MsgspecError where an unknown version wrote them."""
        for piece in self.keys:
            content = bytes(piece)
            if content[:1] == b"{":
                # Of an older version, which wrote them one by one.
                yield [_key_decoder.decode(content)]
            else:
                yield _keys_decoder.decode(content)


_key_decoder = msgspec.json.Decoder(KeyRecord)
_keys_decoder = msgspec.json.Decoder(list[KeyRecord])


def encoded_copy(copy: Copy) -> bytes:
    """Return the copy for the disk."""
    bare = msgspec.structs.replace(copy, keys=[], key_sequences=[])
    head = msgspec.json.encode(bare)
    end = b'"key_sequences":[],"keys":[]}'
    assert head.endswith(end), "these are the last fields"
    pieces = [head[: -len(end)], b'"key_sequences":']
    pieces += [msgspec.json.encode(copy.key_sequences), b',"keys":[']
    pieces += _array(copy.keys)
    pieces.append(b"]}")
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return b"".join((digest.hexdigest().encode(), b"\n", *pieces))


def _array(keys: list[KeyRecord]) -> Iterator[bytes]:
    for start in range(0, len(keys), PIECE):
        if start:
            yield b","
        yield msgspec.json.encode(keys[start : start + PIECE])


def read_copy(path: Path) -> ReadCopy | None:
    """Return the copy on disk; None where there is none or it cannot be believed."""
    try:
        digest, _, state = path.read_bytes().partition(b"\n")
        if digest != hashlib.sha256(state).hexdigest().encode():
            log.warning("the registry's copy on disk is damaged and not used")
            return None
        return msgspec.json.decode(state, type=ReadCopy)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        log.warning("the registry's copy on disk is not used: %s", error)
        return None


@contextmanager
def gc_paused() -> Iterator[None]:
    """Look for no garbage meanwhile: among 100,000 new records, all in use, it takes longest."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
