"""Quotas: what the API says, in the headers of its answers, of how much of an account is used up.

An account (a *seat*) is told by a hash. For a subscription it is that of the account's id, which
Claude Code names in `metadata.user_id`: it stays the same when the OAuth token is renewed. Where no
id is named, and for API keys, it is the hash of the credential itself. The id is the client's own
word: it decides under which name an observation is kept, and nothing else.
"""

import hashlib
import re

import msgspec

from schemas.events import QuotaSeen
from services.proxy.headers import RawHeaders

__all__ = ["HEADERS_MAX", "INTERVAL_US", "SEATS_MAX", "VALUE_MAX", "Quotas", "seat_of"]

HEADERS_MAX = 40
"""So many headers about quotas are kept of an answer; the API sends about a dozen."""
NAME_MAX = 64
VALUE_MAX = 128
"""A header whose name or value is longer is left out."""
SEATS_MAX = 1000
"""Of so many seats the last observation is remembered; of others each answer is one."""
INTERVAL_US = 10_000_000
"""Counters of an API key change with every answer: without a change of a subscription's quota or of
a status, a seat is observed once in so many microseconds."""

_PREFIX = b"anthropic-ratelimit-"
_UNIFIED = "unified-"
_ACCOUNT = re.compile(r"_account_([0-9A-Za-z-]{1,64})(?:_|\Z)")
_ACCOUNT_MAX = 128
_HASH_CHARACTERS = 32


class _Metadata(msgspec.Struct):
    user_id: str


class _UserId(msgspec.Struct):
    account_uuid: str = ""


_metadata_decoder = msgspec.json.Decoder(_Metadata)
_user_id_decoder = msgspec.json.Decoder(_UserId)


class Quotas:
    """The last observation of each seat, so that only what is new becomes part of an event."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, int, dict[str, str]]] = {}

    def seen(
        self,
        headers: RawHeaders,
        *,
        status: int,
        credential: bytes,
        metadata: msgspec.Raw | None,
        now_us: int,
    ) -> QuotaSeen | None:
        """Return what an answer's headers tell of a quota, None: nothing, or nothing new.

        `credential` is the value that was sent to the API; `metadata` that of a subscription's
        request, None for an API key.
        """
        told = [header for header in headers if header[0].startswith(_PREFIX)]
        if not told:
            return None
        kept = {
            name[len(_PREFIX) :].decode("latin-1"): value.decode("latin-1")
            for name, value in told[:HEADERS_MAX]
            if len(name) <= NAME_MAX and len(value) <= VALUE_MAX
        }
        seat = seat_of(credential, metadata)
        if not kept or not self._is_new(seat, status, kept, now_us):
            return None
        return QuotaSeen(seat=seat, headers=kept)

    def _is_new(self, seat: str, status: int, kept: dict[str, str], now_us: int) -> bool:
        """Tell whether an observation is worth an event, and remember it if so."""
        before = self._last.pop(seat, None)
        if before is not None:
            observed_at_us, last_status, last = before
            is_same = last_status == status and _unified(last) == _unified(kept)
            if is_same and (last == kept or 0 <= now_us - observed_at_us < INTERVAL_US):
                self._last[seat] = before
                return False
        # The seat that was heard of last stands last: the first one is forgotten first.
        self._last[seat] = (now_us, status, kept)
        if len(self._last) > SEATS_MAX:
            del self._last[next(iter(self._last))]
        return True


def seat_of(credential: bytes, metadata: msgspec.Raw | None) -> str:
    """Return the hash that stands for an account: 32 hexadecimal digits."""
    account = _account(metadata) if metadata is not None else None
    known = b"account\0" + account.encode() if account else b"credential\0" + credential
    return hashlib.sha256(b"tallygate seat\0" + known).hexdigest()[:_HASH_CHARACTERS]


def _account(metadata: msgspec.Raw) -> str | None:
    """Return the account's id in `metadata.user_id`: in the JSON that it holds, or in its words."""
    try:
        user_id = _metadata_decoder.decode(metadata).user_id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    try:
        return _user_id_decoder.decode(user_id).account_uuid[:_ACCOUNT_MAX] or None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = _ACCOUNT.search(user_id)
        return found[1] if found is not None else None


def _unified(kept: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in kept.items() if name.startswith(_UNIFIED)}
