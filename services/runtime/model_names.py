"""Model names and the patterns that match them. Pure."""

from schemas.registry import KeyRecord

__all__ = ["key_models", "matches"]


def matches(pattern: str, name: str) -> str | None:
    """Return what the `*` of a pattern stands for in a name ("" without a star), None: no match."""
    before, star, after = pattern.partition("*")
    if not star:
        return "" if pattern == name else None
    if len(name) < len(before) + len(after):
        return None
    if not name.startswith(before) or not name.endswith(after):
        return None
    return name[len(before) : len(name) - len(after)]


def key_models(record: KeyRecord) -> tuple[str, ...]:
    """Return the names and patterns that a key may use, with what its aliases among them stand for.

    None: it may use all.
    """
    if not record.models or not record.aliases:
        return record.models
    stood_for = (
        name
        for alias, name in record.aliases.items()
        if any(matches(each, alias) is not None for each in record.models)
    )
    return (*record.models, *stood_for)
