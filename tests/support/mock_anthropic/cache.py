"""A prompt cache like the API's: what was read before by this very process costs little to read.

Each mock stands for one deployment with caches of its own, so a request that goes to another
deployment than the one before finds nothing there.
"""

import hashlib
from typing import Any

import msgspec

from tests.support.mock_anthropic.scenario import UsageFigures

__all__ = ["BYTES_PER_TOKEN", "PREFIXES_MAX", "PromptCache"]

BYTES_PER_TOKEN = 4
PREFIXES_MAX = 200_000
"""More beginnings of conversations than this are not remembered."""


class PromptCache:
    """Remembers every beginning of every conversation, message by message."""

    def __init__(self) -> None:
        self._known: set[bytes] = set()

    def usage(self, messages: list[dict[str, Any]], figures: UsageFigures) -> UsageFigures:
        """Return the figures of a request: the longest known beginning is read, the rest written.

        The last message is plain input until it is part of a longer conversation.
        """
        digest = hashlib.sha256()
        read = written = 0
        plain = 0
        for place, message in enumerate(messages):
            encoded = msgspec.json.encode(message)
            digest.update(encoded)
            tokens = len(encoded) // BYTES_PER_TOKEN
            if place == len(messages) - 1:
                plain = tokens
            elif digest.digest() in self._known:
                read += tokens
            else:
                written += tokens
            if len(self._known) < PREFIXES_MAX:
                self._known.add(digest.digest())
        return msgspec.structs.replace(
            figures,
            input_tokens=plain,
            cache_read_input_tokens=read,
            ephemeral_5m_input_tokens=written,
            ephemeral_1h_input_tokens=0,
        )

    def forget(self) -> None:
        """Begin with an empty cache."""
        self._known.clear()
