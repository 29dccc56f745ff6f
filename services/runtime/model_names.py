"""Model names and the patterns that match them. Pure."""

__all__ = ["matches"]


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
