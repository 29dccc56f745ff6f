"""Checking entries of `prices:` against the price book, before any request is priced by them."""

from collections.abc import Iterator, Sequence
from datetime import date
from itertools import combinations, pairwise
from typing import NamedTuple

import msgspec

from schemas.prices import PRICE_CHANGE_BYTES_MAX, PriceOverlay
from services.runtime.config_keys import nearest
from services.runtime.price_book import PriceBook
from services.runtime.price_overlays import is_pattern, is_whole, matches, missing_parts

__all__ = ["OVERLAYS_MAX", "OverlayProblem", "check_overlays"]

OVERLAYS_MAX = 100
"""So many entries there may be in the file, and as many more through the API."""
_PRICE_FIELDS = tuple(
    name
    for name in PriceOverlay.__struct_fields__
    if name not in {"model", "valid_from", "valid_to", "source"}
)


class OverlayProblem(NamedTuple):
    """What is wrong with one entry: its place, and the problem in words that name it not."""

    place: int
    text: str


def check_overlays(book: PriceBook, overlays: Sequence[PriceOverlay]) -> list[OverlayProblem]:
    """Return everything that is wrong with some entries, in their order; empty: all is well."""
    if len(overlays) > OVERLAYS_MAX:
        return [OverlayProblem(OVERLAYS_MAX, f"is one too many: {OVERLAYS_MAX} entries at most")]
    problems = [
        OverlayProblem(index, text)
        for index, entry in enumerate(overlays)
        for text in _own_problems(book, entry)
    ]
    problems += _overlaps(book, overlays)
    if not problems and len(msgspec.json.encode(overlays)) > PRICE_CHANGE_BYTES_MAX:
        text = f"and those before it are longer than {PRICE_CHANGE_BYTES_MAX} bytes: use patterns"
        problems.append(OverlayProblem(len(overlays) - 1, text))
    return sorted(problems)


def _own_problems(book: PriceBook, entry: PriceOverlay) -> Iterator[str]:
    if entry.valid_from and entry.valid_to and entry.valid_from >= entry.valid_to:
        yield f"ends on {entry.valid_to} (valid_to), not after it begins"
    if all(getattr(entry, name) is None for name in _PRICE_FIELDS):
        yield "changes no price: give usd_per_mtok, a multiplier, or remove the entry"
    thresholds = [tier.above_prompt_tokens for tier in entry.context_tiers or ()]
    if any(low >= high for low, high in pairwise(thresholds)):
        yield f"has context_tiers that do not rise: {thresholds}"
    if is_whole(entry) or _meant(book, entry):
        return
    missing = ", ".join(missing_parts(entry))
    if is_pattern(entry):
        yield f"matches no model of the price book; a new model needs {missing}, too"
        return
    names = tuple(name for model in book.models for name in (model.id, *model.aliases))
    near = nearest(entry.model, names)
    advice = f"did you mean {near}? " if near else ""
    yield f"names a model that the price book does not know: {advice}A new one needs {missing}, too"


def _meant(book: PriceBook, entry: PriceOverlay) -> frozenset[str]:
    """Return the ids of the models of the book that an entry is for."""
    return frozenset(
        model.id for model in book.models if matches(entry, (model.id, *model.aliases))
    )


def _overlaps(book: PriceBook, overlays: Sequence[PriceOverlay]) -> Iterator[OverlayProblem]:
    """Yield each pair of entries of which none goes before the other."""
    meant = [_meant(book, entry) for entry in overlays]
    for (one, earlier), (two, later) in combinations(enumerate(overlays), 2):
        if is_pattern(earlier) != is_pattern(later) or not _meet(earlier, later):
            continue
        common = meant[one] & meant[two]
        same_name = earlier.model == later.model
        if is_pattern(earlier) and _letters(earlier) != _letters(later):
            continue
        if common or same_name:
            name = min(common) if common else later.model
            text = (
                f"holds for {name} on the same days as prices[{one}] ({earlier.model}): end one of "
                "them (valid_to) before the other begins (valid_from)"
            )
            yield OverlayProblem(two, text)


def _letters(entry: PriceOverlay) -> int:
    return len(entry.model.replace("*", ""))


def _meet(one: PriceOverlay, two: PriceOverlay) -> bool:
    """Tell whether two entries have a day in common."""
    return (one.valid_from or date.min) < (two.valid_to or date.max) and (
        two.valid_from or date.min
    ) < (one.valid_to or date.max)
