"""Virtual keys: their format, their hash and how they are shown.

A virtual key is `sk-` and 43 URL-safe characters (256 random bits). Only its SHA-256 is ever
stored or published; the key itself is shown once, in the answer that created it.
"""

import hashlib
import hmac
import re
import secrets

__all__ = [
    "KEY_LENGTH_MAX",
    "KEY_PREFIX",
    "hash_key",
    "key_name",
    "looks_like_key",
    "new_key",
    "new_key_id",
    "same_secret",
]

KEY_PREFIX = "sk-"
KEY_LENGTH_MAX = 512
"""A credential longer than this is refused before it is hashed."""

_FORM = re.compile(r"sk-[A-Za-z0-9_-]{43}")


def new_key() -> str:
    """Return a fresh virtual key with 256 bits of randomness."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def new_key_id() -> str:
    """Return a fresh key id, stable over the key's life (a rotated key keeps it)."""
    return "key_" + secrets.token_hex(12)


def hash_key(key: str) -> str:
    """Return the lowercase hex SHA-256 of a key: the only form in which it is stored."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def looks_like_key(text: str) -> bool:
    """Tell whether a text has the form of `new_key()`, whoever made it."""
    return _FORM.fullmatch(text) is not None


def key_name(key: str) -> str:
    """Return how a key is recognised by people: `sk-...` and its last four characters."""
    return f"{KEY_PREFIX}...{key[-4:]}"


def same_secret(given: str, expected: str) -> bool:
    """Tell in constant time whether two secrets are equal (compared as SHA-256 digests)."""
    given_digest = hashlib.sha256(given.encode("utf-8", "surrogateescape")).digest()
    expected_digest = hashlib.sha256(expected.encode("utf-8", "surrogateescape")).digest()
    return hmac.compare_digest(given_digest, expected_digest)
