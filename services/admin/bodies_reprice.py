"""What the route about repricing takes and answers."""

from typing import Annotated

import msgspec

from schemas.prices import REPRICE_MODELS_MAX, ModelName, PriceOverlay
from schemas.reprice import RepriceLine, RepriceSums

__all__ = ["GivenReprice", "Reprice", "Repriced"]

Day = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")]
Models = Annotated[tuple[ModelName, ...], msgspec.Meta(max_length=REPRICE_MODELS_MAX)]
Reason = Annotated[str, msgspec.Meta(max_length=1000)]


class Reprice(msgspec.Struct, frozen=True, kw_only=True):
    """Whose costs are to be computed anew, by what prices; only with `apply` does anything change.

    Days are those of UTC on which requests started; `to` is the first that is not meant.
    """

    from_: Day = msgspec.field(name="from")
    to: Day | None = None
    models: Models = ()
    prices: tuple[PriceOverlay, ...] = ()
    reason: Reason = ""
    apply: bool = False


class GivenReprice(msgspec.Struct, frozen=True, kw_only=True):
    """`Reprice` as it is read first: the prices are checked by the file's own rules."""

    from_: Day = msgspec.field(name="from")
    to: Day | None = None
    models: Models = ()
    prices: msgspec.Raw = msgspec.Raw(b"[]")
    reason: Reason = ""
    apply: bool = False


class Repriced(msgspec.Struct, frozen=True, kw_only=True):
    """What changes, or has changed where `applied`: then `sequence` is the message that did it.

    `total` are all requests that are meant, `lines` those whose cost becomes another one.
    """

    applied: bool
    sequence: int | None
    total: RepriceSums
    lines: tuple[RepriceLine, ...]
