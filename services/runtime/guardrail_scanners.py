"""The scanners of guardrails that look at texts: each made once in a process.

Their engines are loaded with the first one: most processes, and gateways without such guardrails,
need none of them.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from schemas.guardrails import GUARDRAILS_MAX, TEXT_KINDS, Guardrail

if TYPE_CHECKING:
    from services.guardrails import Scanner

__all__ = ["scanner_of", "warm_scanners"]


def scanner_of(guardrail: Guardrail) -> "Scanner":
    """Return the scanner of a guardrail. Raises ConfigError for settings that it does not know."""
    return _built(guardrail.kind, guardrail.settings)


def warm_scanners(guardrails: Iterable[Guardrail]) -> None:
    """Make all that scanners make when they first look at a text.

    That may take a second of CPU, in which other threads run.
    """
    for guardrail in guardrails:
        if guardrail.kind in TEXT_KINDS:
            scanner_of(guardrail).scan(" ")


@lru_cache(maxsize=2 * GUARDRAILS_MAX)
def _built(kind: str, settings: bytes) -> "Scanner":
    from services.guardrails import build_scanner

    return build_scanner(kind, msgspec.json.decode(settings))
