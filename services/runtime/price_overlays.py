"""What differs from the price book: which entry decides for a model and a day, and what it makes.

An entry names a model or is a pattern. Of the entries that hold for a model on a day one decides,
by itself: one of a repricing before one of the API before one of the file, the model's name before
a pattern, of patterns the one with more letters. docs/prices.md tells it with examples.
"""

import re
from collections.abc import Collection, Iterable
from datetime import date
from functools import lru_cache
from typing import Literal, NamedTuple

import msgspec

from schemas.prices import PriceOverlay, PricePeriod, TokenPrices

__all__ = [
    "NO_OVERLAYS",
    "Origin",
    "Overlays",
    "covers",
    "is_pattern",
    "is_whole",
    "matches",
    "merged",
    "missing_parts",
    "normal_name",
]

Origin = Literal["book", "file", "api", "repricing"]
PATTERNS_CACHED_MAX = 1000
_TOKENS = TokenPrices.__struct_fields__
_REPLACED = (
    "context_tiers",
    "batch_multiplier",
    "fast_multiplier",
    "inference_geo_multipliers",
    "usd_per_1000_web_searches",
    "source",
)
_NEEDED = ("batch_multiplier", "usd_per_1000_web_searches")
_DEFAULT_SOURCE = "an entry of its own"


class Overlays(NamedTuple):
    """All entries in force: those of the configuration file, of the API, and of one repricing."""

    file: tuple[PriceOverlay, ...] = ()
    api: tuple[PriceOverlay, ...] = ()
    repricing: tuple[PriceOverlay, ...] = ()

    def deciding(self, names: Collection[str], day: date) -> tuple[Origin, PriceOverlay] | None:
        """Return the entry that decides for a model on a day, None where the book alone does.

        `names` are the model's names, of which the first is compared with patterns.
        """
        candidates: tuple[tuple[Origin, tuple[PriceOverlay, ...]], ...]
        candidates = (
            ("repricing", self.repricing),
            ("api", self.api),
            ("file", self.file),
        )
        for origin, entries in candidates:
            found = _best(entries, names, day)
            if found is not None:
                return origin, found
        return None


NO_OVERLAYS = Overlays()


def normal_name(model: str) -> str:
    """Return a model name without the `anthropic/` prefix and the `[1m]` suffix.

    The suffix only asks for the long context; a date in the name is part of the model and stays.
    """
    return model.removeprefix("anthropic/").removesuffix("[1m]")


def is_pattern(entry: PriceOverlay) -> bool:
    """Tell whether an entry is for all models that it matches."""
    return "*" in entry.model


def matches(entry: PriceOverlay, names: Iterable[str]) -> bool:
    """Tell whether an entry is for the model with these names."""
    if not is_pattern(entry):
        return normal_name(entry.model) in names
    first = next(iter(names), "")
    return _regex(entry.model).fullmatch(first) is not None


def covers(entry: PriceOverlay | PricePeriod, day: date) -> bool:
    """Tell whether a day is between an entry's bounds."""
    if entry.valid_from is not None and day < entry.valid_from:
        return False
    return entry.valid_to is None or day < entry.valid_to


def is_whole(entry: PriceOverlay) -> bool:
    """Tell whether an entry prices a model that the book does not know."""
    return not missing_parts(entry)


def missing_parts(entry: PriceOverlay) -> tuple[str, ...]:
    """Return what an entry lacks to price a model that the book does not know."""
    tokens = [
        f"usd_per_mtok.{name}"
        for name in _TOKENS
        if entry.usd_per_mtok is None or getattr(entry.usd_per_mtok, name) is None
    ]
    return (*tokens, *(name for name in _NEEDED if getattr(entry, name) is None))


def merged(period: PricePeriod | None, entry: PriceOverlay) -> PricePeriod | None:
    """Return a period of the book with what an entry says in its place.

    Without a period the entry is all there is; None where it lacks something then. The entry's
    own `multiplier` is not in it: it multiplies the cost as a whole.
    """
    changes = {name: value for name in _REPLACED if (value := getattr(entry, name)) is not None}
    tokens = {
        name: value
        for name in _TOKENS
        if entry.usd_per_mtok is not None
        and (value := getattr(entry.usd_per_mtok, name)) is not None
    }
    if period is None:
        if not is_whole(entry):
            return None
        base = {"source": _DEFAULT_SOURCE, "usd_per_mtok": tokens}
        return msgspec.convert(
            base | {name: msgspec.to_builtins(value) for name, value in changes.items()},
            PricePeriod,
        )
    usd_per_mtok = msgspec.structs.replace(period.usd_per_mtok, **tokens)
    return msgspec.structs.replace(period, usd_per_mtok=usd_per_mtok, **changes)


def _best(
    entries: tuple[PriceOverlay, ...], names: Collection[str], day: date
) -> PriceOverlay | None:
    best: PriceOverlay | None = None
    for entry in entries:
        if (
            matches(entry, names)
            and covers(entry, day)
            and (best is None or _weight(entry) > _weight(best))
        ):
            best = entry
    return best


def _weight(entry: PriceOverlay) -> tuple[bool, int]:
    """Return how exactly an entry says which model it means.

    Two names of one model say it alike, however long they are: the first entry decides.
    """
    if not is_pattern(entry):
        return True, 0
    return False, len(entry.model.replace("*", ""))


@lru_cache(PATTERNS_CACHED_MAX)
def _regex(pattern: str) -> re.Pattern[str]:
    parts = (re.escape(part) for part in normal_name(pattern).split("*"))
    return re.compile(".*".join(parts), re.DOTALL)
