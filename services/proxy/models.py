"""GET /v1/models: the models that a virtual key may use, in OpenAI's shape or Anthropic's."""

from functools import cache
from importlib import resources
from typing import Any

import msgspec

from schemas.prices import PriceBookFile
from schemas.registry import KeyRecord
from services.proxy.routing import Router, matches, names_allowed

__all__ = ["anthropic_list", "anthropic_model", "openai_list", "openai_model", "usable_names"]

_CREATED_AT = "2024-01-01T00:00:00Z"
_CREATED_S = 1704067200


class _Named(msgspec.Struct):
    id: str


@cache
def _known_models() -> tuple[str, ...]:
    """Return the names of all models in the price book, for patterns to be spelled out with."""
    content = resources.files("prices").joinpath("anthropic.json").read_bytes()
    book = msgspec.json.decode(content, type=PriceBookFile)
    return tuple(msgspec.json.decode(model, type=_Named).id for model in book.models)


def usable_names(router: Router, record: KeyRecord) -> list[str]:
    """Return the model names that a key may use; a pattern stands for the known models it fits."""
    names: dict[str, None] = {}
    for name in router.names:
        spelled_out = [name]
        if "*" in name:
            spelled_out = [known for known in _known_models() if matches(name, known) is not None]
        names.update((each, None) for each in spelled_out if names_allowed(record.models, each))
    return list(names)


def openai_model(name: str) -> dict[str, Any]:
    """Return one model in OpenAI's shape, as LiteLLM answers by default."""
    return {"id": name, "object": "model", "created": _CREATED_S, "owned_by": "anthropic"}


def anthropic_model(name: str) -> dict[str, Any]:
    """Return one model in Anthropic's shape."""
    return {"type": "model", "id": name, "display_name": name, "created_at": _CREATED_AT}


def openai_list(names: list[str]) -> dict[str, Any]:
    """Return all models in OpenAI's shape."""
    return {"data": [openai_model(name) for name in names], "object": "list"}


def anthropic_list(names: list[str]) -> dict[str, Any]:
    """Return all models in Anthropic's shape, whole (`has_more` is false)."""
    return {
        "data": [anthropic_model(name) for name in names],
        "has_more": False,
        "first_id": names[0] if names else None,
        "last_id": names[-1] if names else None,
    }
