"""What a guardrail was told to let pass: values, their hashes, or patterns of whole values."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from schemas.errors import ConfigError
from services.guardrails.engine import linear_pattern

__all__ = ["ALLOWED_MAX", "Allowed", "build_allowed"]

ALLOWED_MAX = 1_000
"""Values and patterns of one guardrail."""

_HASH = "sha256:"


class Allowed:
    """Tells whether a value that a rule found is known to be harmless."""

    def __init__(self, values: frozenset[str], hashes: frozenset[str], patterns: list[Any]) -> None:
        self._values = values
        self._hashes = hashes
        self._patterns = patterns

    def covers(self, value: str) -> bool:
        """Tell whether a value is allowed: by itself, by its hash, or as a whole by a pattern."""
        if value in self._values:
            return True
        if self._hashes and sha256(value.encode("utf-8", "replace")).hexdigest() in self._hashes:
            return True
        data = value.encode("utf-8", "replace")
        return any(pattern.fullmatch(data) is not None for pattern in self._patterns)


def build_allowed(values: Sequence[str], patterns: Sequence[str]) -> Allowed | None:
    """Return what is allowed, None for nothing. Raises ConfigError.

    A value is written as it is, or as `sha256:` and the 64 hexadecimal digits of its hash: then
    the configuration does not hold what must not leave the house.
    """
    if len(values) + len(patterns) > ALLOWED_MAX:
        raise ConfigError(
            f"allow, allow_patterns: {len(values) + len(patterns)} entries, "
            f"{ALLOWED_MAX} are allowed in one guardrail"
        )
    plain: set[str] = set()
    hashes: set[str] = set()
    for number, value in enumerate(values):
        if not value.startswith(_HASH):
            plain.add(value)
            continue
        digits = value.removeprefix(_HASH).lower()
        if len(digits) != sha256().digest_size * 2 or not set(digits) <= set("0123456789abcdef"):
            raise ConfigError(f"allow[{number}]: sha256: is followed by 64 hexadecimal digits")
        hashes.add(digits)
    compiled = [
        linear_pattern(pattern, f"allow_patterns[{number}]")
        for number, pattern in enumerate(patterns)
    ]
    if not (plain or hashes or compiled):
        return None
    return Allowed(frozenset(plain), frozenset(hashes), compiled)
