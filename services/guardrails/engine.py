"""Patterns in linear time: where exactly one of them is in a text, by RE2.

RE2 never tries a second way through the text (no ReDoS). Which of many patterns are in a text at
all is said by Vectorscan, in services/guardrails/gate.py. Texts are UTF-8 bytes here.
"""

import re
from typing import Any

import re2

from schemas.errors import ConfigError

__all__ = ["PATTERN_CHARACTERS_MAX", "PROGRAM_SIZE_MAX", "linear_pattern"]

PATTERN_CHARACTERS_MAX = 1_000
"""Of one pattern in the configuration."""
PROGRAM_SIZE_MAX = 5_000
"""Instructions of RE2's program for one pattern in the configuration: time per byte is bound by it
in the worst case."""
_ENGINE_MEMORY_BYTES_MAX = 8 << 20
"""What RE2 may hold per pattern, its cache of states included (RE2's own default)."""

_ONE_BYTE = re.compile(r"(?<!\\)(?:\\\\)*\\C")


def linear_pattern(pattern: str, where: str = "") -> Any:
    """Return RE2's compiled pattern, to be used on UTF-8 bytes.

    `where` says that the pattern is the configuration's: then it has limits, and what is wrong
    with it is said by ConfigError.
    """
    if where and len(pattern) > PATTERN_CHARACTERS_MAX:
        raise ConfigError(
            f"{where}: the pattern has {len(pattern)} characters, "
            f"{PATTERN_CHARACTERS_MAX} are allowed; split it into several"
        )
    if where and _ONE_BYTE.search(pattern):
        raise ConfigError(f"{where}: \\C (one byte) is not supported, write . for a character")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _ENGINE_MEMORY_BYTES_MAX
    try:
        compiled = re2.compile(pattern, options)
    except (re2.error, UnicodeError) as error:
        why = error.args[0] if error.args else error
        text = why.decode("utf-8", "replace") if isinstance(why, bytes) else str(why)
        raise ConfigError(
            f"{where or pattern}: RE2 cannot use the pattern ({text}); back-references and "
            "look-around are not supported, since their time has no bound"
        ) from None
    if where and compiled.programsize > PROGRAM_SIZE_MAX:
        raise ConfigError(
            f"{where}: the pattern is too large ({compiled.programsize} instructions, "
            f"{PROGRAM_SIZE_MAX} are allowed); lower its repetitions, such as {{1,1000}}"
        )
    return compiled
