"""What the routes about prices take and answer."""

from typing import Annotated, Any

import msgspec

from schemas.prices import PriceOverlay

__all__ = ["GivenPrices", "PriceChangeMade", "PricesInForce", "PricesSet", "SetPrices"]

Sequence = Annotated[int, msgspec.Meta(ge=0)]


class SetPrices(msgspec.Struct, frozen=True, kw_only=True):
    """All entries that the API is to have from now on; `sequence` is that of those it has."""

    prices: tuple[PriceOverlay, ...]
    sequence: Sequence | None = None


class GivenPrices(msgspec.Struct, frozen=True, kw_only=True):
    """`SetPrices` as it is read first: the entries are checked by the file's own rules."""

    prices: msgspec.Raw
    sequence: Sequence | None = None


class PricesSet(msgspec.Struct, frozen=True, kw_only=True):
    """What was stored: the entries, and the message of the stream from which on they hold."""

    sequence: int
    prices: tuple[PriceOverlay, ...]


class PriceChangeMade(msgspec.Struct, frozen=True, kw_only=True):
    """One change of prices: of what, at which message of the stream, when, by whom."""

    kind: str
    sequence: int
    changed_at: str
    changed_by: str | None


class PricesInForce(msgspec.Struct, frozen=True, kw_only=True):
    """What every model costs (the table `prices`), the API's entries, and all changes."""

    sequence: int
    api: tuple[PriceOverlay, ...]
    prices: tuple[dict[str, Any], ...]
    changes: tuple[PriceChangeMade, ...]
