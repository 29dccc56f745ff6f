"""The scanners of guardrails that look at texts: each made once in a process."""

from functools import lru_cache

import msgspec

from schemas.guardrails import GUARDRAILS_MAX, Guardrail
from services.guardrails import Scanner, build_scanner

__all__ = ["scanner_of"]


def scanner_of(guardrail: Guardrail) -> Scanner:
    """Return the scanner of a guardrail. Raises ConfigError for settings that it does not know.

    The first time may take a second of CPU: the configuration is checked by it, in a thread where
    an event loop runs.
    """
    return _built(guardrail.kind, guardrail.settings)


@lru_cache(maxsize=2 * GUARDRAILS_MAX)
def _built(kind: str, settings: bytes) -> Scanner:
    return build_scanner(kind, msgspec.json.decode(settings))
