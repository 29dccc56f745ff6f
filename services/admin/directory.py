"""Finding virtual keys in the registry snapshot: by what a request names, and page by page. Pure.

The scans are linear. At 100,000 keys one takes some ten milliseconds, in a service that answers a
few requests a second; an index would have to follow every change and every reload.
"""

import re
from collections.abc import Iterator
from math import ceil
from operator import attrgetter

from schemas.keys import hash_key
from schemas.registry import KeyRecord, ModelRecord, TeamRecord, UserRecord
from services.admin.bodies import KeyListQuery
from services.admin.principal import Principal
from services.admin.shapes import status_of
from services.runtime.registry import RegistrySnapshot, subject_of

__all__ = ["alias_holders", "find_key", "live_keys", "page_of_keys", "sequence_of"]

_HASH = re.compile(r"[0-9a-f]{64}")
_SORT_FIELDS = {
    "created_at": "created_at_us",
    "updated_at": "updated_at_us",
    "key_alias": "key_alias",
    "expires": "expires_at_us",
    "max_budget": "max_budget_usd",
}
_ALWAYS_THERE = frozenset(("created_at", "updated_at"))


def find_key(
    snapshot: RegistrySnapshot, given: str, *, with_deleted: bool = False
) -> KeyRecord | None:
    """Return the key that a request names: by the key itself, its SHA-256 or its key id."""
    key_hash = given if _HASH.fullmatch(given) else hash_key(given)
    record = snapshot.keys.get(given) or snapshot.by_hash(key_hash)
    if record is None and with_deleted:
        same = (old for old in snapshot.keys.values() if old.key_hash == key_hash)
        record = next(same, None)
    if record is not None and record.deleted and not with_deleted:
        return None
    return record


def sequence_of(
    snapshot: RegistrySnapshot, record: KeyRecord | TeamRecord | UserRecord | ModelRecord
) -> int:
    """Return the stream sequence of a record's last event; 0 where it has none.

    It belongs to the record while nothing was awaited since that was taken from the snapshot.
    """
    return snapshot.sequence_of(subject_of(record))


def live_keys(snapshot: RegistrySnapshot) -> Iterator[KeyRecord]:
    """Yield the keys that were not deleted."""
    return (record for record in snapshot.keys.values() if not record.deleted)


def alias_holders(snapshot: RegistrySnapshot, key_alias: str) -> list[KeyRecord]:
    """Return the live keys with this alias, the one whose event is oldest first."""
    found = [record for record in live_keys(snapshot) if record.key_alias == key_alias]
    return sorted(found, key=lambda record: sequence_of(snapshot, record))


def page_of_keys(
    snapshot: RegistrySnapshot, query: KeyListQuery, now_us: int, caller: Principal
) -> tuple[list[KeyRecord], int, int]:
    """Return one page of the keys that match, how many match, and how many pages they make.

    Keys that the caller does not see are as if they were not there.

    Keys without the value that is sorted by come last, whichever the order is; equal ones come in
    the order in which the snapshot got to know them.
    """
    matching = _matching(snapshot, query, now_us)
    found = list(matching if caller.sees_all else filter(caller.sees_key, matching))
    value = attrgetter(_SORT_FIELDS[query.sort_by])
    if query.sort_by in _ALWAYS_THERE:
        with_value, without = found, []
    else:
        with_value = [record for record in found if value(record) is not None]
        without = [record for record in found if value(record) is None]
    with_value.sort(key=value, reverse=query.sort_order == "desc")
    ordered = with_value + without
    first = (query.page - 1) * query.size
    return ordered[first : first + query.size], len(ordered), ceil(len(ordered) / query.size)


def _matching(snapshot: RegistrySnapshot, query: KeyListQuery, now_us: int) -> Iterator[KeyRecord]:
    """Yield the keys that match; only filters that are given cost anything."""
    found = iter(snapshot.keys.values())
    if query.status is None:
        found = (record for record in found if not record.deleted)
    else:
        found = (record for record in found if status_of(record, now_us) == query.status)
    if query.key_hash is not None:
        names = query.key_hash
        found = (record for record in found if names in (record.key_hash, record.key_id))
    if query.team_id is not None:
        found = (record for record in found if record.team_id == query.team_id)
    if query.user_id is not None:
        found = _holding(found, "user_id", query.user_id, part=query.substring_matching)
    if query.key_alias is not None:
        found = _holding(found, "key_alias", query.key_alias, part=query.substring_matching)
    if query.search is not None:
        wanted = query.search.lower()
        found = (record for record in found if wanted in _searched(record))
    return found


def _holding(
    records: Iterator[KeyRecord], field: str, wanted: str, *, part: bool
) -> Iterator[KeyRecord]:
    """Yield the records whose field is this text, or with `part` holds it in any case."""
    value = attrgetter(field)
    if not part:
        return (record for record in records if value(record) == wanted)
    lower = wanted.lower()
    return (record for record in records if lower in (value(record) or "").lower())


def _searched(record: KeyRecord) -> str:
    """Return all that `search` looks through; no filter holds the line breaks between them."""
    texts = (record.key_alias, record.user_id, record.team_id, record.key_name, record.key_id)
    return "\n".join(filter(None, texts)).lower()
