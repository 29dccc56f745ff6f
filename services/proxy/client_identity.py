"""Whom a request's `metadata.user_id` names: a Claude Code session, a device and an account."""

import hashlib
import re
from functools import lru_cache

import msgspec

from schemas.client_facts import TEXT_MAX

__all__ = ["PART_BYTES_MAX", "REMEMBERED_MAX", "Identity", "identity_of"]

PART_BYTES_MAX = 4096
"""A part of a request that is longer than this (its metadata, its output_config) is not read."""
REMEMBERED_MAX = 1024
"""So many different values of each kind are remembered, those used last."""

_HASH_CHARACTERS = 32
_ID_MAX = 128
_USER_ID = re.compile(
    r"user_([0-9A-Za-z]{1,128})_account_([0-9A-Za-z-]{0,128})(?:_session_([0-9A-Za-z-]{1,128}))?"
)
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Identity(msgspec.Struct, frozen=True, gc=False):
    """Whom `metadata.user_id` names: its session, and hashes for the device and the account."""

    session_id: str | None = None
    device_hash: str | None = None
    account_hash: str | None = None


class _Metadata(msgspec.Struct):
    user_id: str


class _UserId(msgspec.Struct):
    device_id: object = None
    account_uuid: object = None
    session_id: object = None


_metadata_decoder = msgspec.json.Decoder(_Metadata)
_user_id_decoder = msgspec.json.Decoder(_UserId)


def identity_of(metadata: msgspec.Raw) -> Identity:
    """Return whom a request's `metadata` names, in either form of Claude Code's `user_id`."""
    size = len(memoryview(metadata))
    return _identity(bytes(metadata) if size <= PART_BYTES_MAX else b"")


@lru_cache(maxsize=REMEMBERED_MAX)
def _identity(metadata: bytes) -> Identity:
    try:
        user_id = _metadata_decoder.decode(metadata).user_id
    except _UNREADABLE:
        return Identity()
    found = _USER_ID.fullmatch(user_id)
    if found is not None:
        device, account, session = found.groups()
        return Identity(session, _hash(device), _hash(account))
    try:
        told = _user_id_decoder.decode(user_id)
    except _UNREADABLE:
        return Identity()
    session_id = told.session_id if isinstance(told.session_id, str) else None
    return Identity(
        session_id[:TEXT_MAX] if session_id else None,
        _hash(told.device_id),
        _hash(told.account_uuid),
    )


def _hash(value: object) -> str | None:
    """Return what stands for an id: the beginning of its SHA-256, in hexadecimal digits."""
    if not isinstance(value, str) or not 1 <= len(value) <= _ID_MAX:
        return None
    return hashlib.sha256(value.encode("utf-8", "replace")).hexdigest()[:_HASH_CHARACTERS]
