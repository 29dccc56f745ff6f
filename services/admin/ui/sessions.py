"""Sessions of the dashboard: a signed cookie that names a credential, never holds one. Pure.

The signature's key is made from the master key, so a new master key ends every session; a virtual
key's session ends with the key (deleted, blocked, expired, replaced). Nothing is stored: a restart
logs nobody out. A session that was logged out is remembered until it would have expired.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections import OrderedDict

import msgspec

from schemas.keys import hash_key

__all__ = ["COOKIE", "SESSION_S", "SIGNED_OUT_MAX", "Session", "Sessions"]

COOKIE = "tallygate_session"
SESSION_S = 12 * 3600
"""A session lasts so long, then one logs in again."""
SIGNED_OUT_MAX = 10_000
"""So many logged-out sessions are remembered; beyond, the one that would expire first is not."""
COOKIE_LENGTH_MAX = 1024
_MASTER = "master"
_PURPOSE = b"tallygate dashboard session\0"
_CSRF = b"csrf\0"
_HASH_LENGTH = 32


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """`key_id` is None for the master key. `secret_hash` is the beginning of its SHA-256."""

    session_id: str
    key_id: str | None
    secret_hash: str
    expires_s: int

    def is_of(self, key_hash: str) -> bool:
        """Tell whether the session was opened with the secret of this SHA-256."""
        return hmac.compare_digest(self.secret_hash, key_hash[:_HASH_LENGTH])


class Sessions:
    """Signs sessions and reads them back. Times are seconds since the epoch."""

    def __init__(self) -> None:
        self._signed_out: OrderedDict[str, int] = OrderedDict()

    def open(self, key_id: str | None, key_hash: str, master_key: str, now_s: int) -> str:
        """Return the cookie's value of a new session."""
        session = Session(
            session_id=secrets.token_urlsafe(16),
            key_id=key_id,
            secret_hash=key_hash[:_HASH_LENGTH],
            expires_s=now_s + SESSION_S,
        )
        payload = base64.urlsafe_b64encode(msgspec.json.encode(session))
        return f"{payload.decode()}.{_signature(master_key, payload)}"

    def read(self, cookie: str, master_key: str, now_s: int) -> Session | None:
        """Return the session that a cookie holds; None where it is not ours, expired or ended."""
        payload, _, signature = cookie.encode("latin-1", "replace").rpartition(b".")
        if len(cookie) > COOKIE_LENGTH_MAX or not payload:
            return None
        if not hmac.compare_digest(signature, _signature(master_key, payload).encode()):
            return None
        try:
            session = msgspec.json.decode(base64.urlsafe_b64decode(payload), type=Session)
        except (binascii.Error, msgspec.MsgspecError, UnicodeDecodeError):
            return None
        if now_s >= session.expires_s or session.session_id in self._signed_out:
            return None
        return session

    def end(self, session: Session, now_s: int) -> None:
        """Log a session out: its cookie opens nothing any more."""
        for session_id, expires_s in list(self._signed_out.items()):
            if expires_s > now_s:
                break
            del self._signed_out[session_id]
        self._signed_out[session.session_id] = session.expires_s
        while len(self._signed_out) > SIGNED_OUT_MAX:
            self._signed_out.popitem(last=False)

    def csrf_token(self, session: Session, master_key: str) -> str:
        """Return the token that a session's forms carry."""
        return _signature(master_key, _CSRF + session.session_id.encode())


def _signature(master_key: str, payload: bytes) -> str:
    key = hashlib.sha256(_PURPOSE + hash_key(master_key).encode()).digest()
    return hmac.new(key, payload, hashlib.sha256).hexdigest()
