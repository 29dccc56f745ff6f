"""What a repricing would change: asked of the ledger's reader before anything does."""

from decimal import Decimal

import msgspec

__all__ = ["REPRICE_LINES_MAX", "RepriceLine", "RepriceReply", "RepriceSums"]

REPRICE_LINES_MAX = 5000
"""So many lines are told; beyond that a narrower repricing must be asked about."""


class RepriceSums(msgspec.Struct, frozen=True, kw_only=True):
    """What some requests cost, and will. Sums are of those with a price; money is in US dollars."""

    requests: int
    changed_requests: int
    cost_before_usd: Decimal
    cost_after_usd: Decimal
    difference_usd: Decimal
    unpriced_before: int
    unpriced_after: int


class RepriceLine(RepriceSums, frozen=True, kw_only=True):
    """The changed requests of one day (UTC), key and model: `model` is the one that prices them."""

    day: str
    key_id: str | None
    model: str


class RepriceReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to a Repricing that is only asked about: all requests that it means, and lines.

    `stream_sequence` is how far the reader's books were. `error` says why there is no answer;
    `too_large` that a narrower one would get one.
    """

    total: RepriceSums | None = None
    lines: tuple[RepriceLine, ...] = ()
    stream_sequence: int = 0
    error: str | None = None
    too_large: bool = False
