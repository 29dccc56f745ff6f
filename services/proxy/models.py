"""GET /v1/models: the models that a virtual key may use, in OpenAI's shape or Anthropic's."""

import re
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

import msgspec

from schemas.prices import PriceBookFile
from schemas.registry import KeyRecord, OwnerRecord
from services.proxy.routing import Router, names_allowed
from services.runtime.model_names import matches

__all__ = [
    "anthropic_list",
    "anthropic_model",
    "display_name",
    "openai_list",
    "openai_model",
    "usable_names",
]

_UNKNOWN_CREATED_AT = "1970-01-01T00:00:00Z"
"""As Anthropic's API says it of a release that is not known."""
_CREATED_S = 1704067200
_DATED = re.compile(r"-(20[0-9]{2})([0-9]{2})([0-9]{2})$")


class _Named(msgspec.Struct):
    id: str
    aliases: tuple[str, ...] = ()


class _Known(msgspec.Struct, frozen=True):
    """What the price book tells of a model."""

    display_name: str
    created_at: str


@cache
def _book() -> tuple[_Named, ...]:
    content = resources.files("prices").joinpath("anthropic.json").read_bytes()
    book = msgspec.json.decode(content, type=PriceBookFile)
    return tuple(msgspec.json.decode(model, type=_Named) for model in book.models)


@cache
def _known_models() -> tuple[str, ...]:
    """Return the names of all models in the price book, for patterns to be spelled out with."""
    return tuple(model.id for model in _book())


@cache
def _known() -> dict[str, _Known]:
    """Return what is known of every name in the price book.

    A model's day is the date in its name, or else the one in another name of it.
    """
    known: dict[str, _Known] = {}
    for model in _book():
        names = (model.id, *model.aliases)
        days = {name: "-".join(found.groups()) for name in names if (found := _DATED.search(name))}
        first = next(iter(days.values()), None)
        for name in names:
            day = days.get(name, first)
            created_at = f"{day}T00:00:00Z" if day is not None else _UNKNOWN_CREATED_AT
            known[name] = _Known(display_name(model.id), created_at)
    return known


def display_name(model_id: str) -> str:
    """Return a model's name for people: `claude-opus-4-1` is "Claude Opus 4.1"."""
    words: list[str] = []
    for part in _DATED.sub("", model_id).split("-"):
        if part.isdigit() and words and words[-1][-1].isdigit():
            # The point releases follow a model whose own number ends in no `.0` for people.
            words[-1] += f".{part}" if part != "0" else ""
        else:
            words.append(part.capitalize())
    return " ".join(words)


def usable_names(
    router: Router, record: KeyRecord, owners: Sequence[OwnerRecord] = ()
) -> list[str]:
    """Return the model names that a key may use; a pattern stands for the known models it fits.

    What the key may use, its `owners` must be allowed, too.

    An alias may be used where it is allowed itself, or the name that it stands for. Those of the
    key come last; they bind its owners to nothing.
    """
    names: dict[str, None] = {}
    holders: list[KeyRecord | OwnerRecord] = [record, *owners]
    for name in router.names:
        spelled_out = [name]
        if "*" in name:
            spelled_out = [known for known in _known_models() if matches(name, known) is not None]
        names.update(
            (each, None)
            for each in spelled_out
            if all(
                names_allowed(holder.models, each)
                or names_allowed(holder.models, router.target_of(each))
                for holder in holders
            )
        )
    for alias, name in record.aliases.items():
        meant = (name, router.target_of(name))
        if (
            router.serves(name)
            and any(names_allowed(record.models, each) for each in (alias, *meant))
            and all(any(names_allowed(owner.models, each) for each in meant) for owner in owners)
        ):
            names[alias] = None
    return list(names)


def openai_model(name: str) -> dict[str, Any]:
    """Return one model in OpenAI's shape, as LiteLLM answers by default."""
    return {"id": name, "object": "model", "created": _CREATED_S, "owned_by": "anthropic"}


def anthropic_model(name: str) -> dict[str, Any]:
    """Return one model in Anthropic's shape.

    A name of the company's own is its own display name: people must see what they choose.
    """
    known = _known().get(name)
    return {
        "type": "model",
        "id": name,
        "display_name": known.display_name if known is not None else name,
        "created_at": known.created_at if known is not None else _UNKNOWN_CREATED_AT,
    }


def openai_list(names: list[str]) -> dict[str, Any]:
    """Return all models in OpenAI's shape."""
    return {"data": [openai_model(name) for name in names], "object": "list"}


def anthropic_list(names: list[str], *, has_more: bool) -> dict[str, Any]:
    """Return a page of models in Anthropic's shape; `has_more`: others follow it."""
    return {
        "data": [anthropic_model(name) for name in names],
        "has_more": has_more,
        "first_id": names[0] if names else None,
        "last_id": names[-1] if names else None,
    }
