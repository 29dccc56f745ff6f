"""What a virtual key may call: its `allowed_routes`, paths and names of groups of them. Pure.

LiteLLM's names and rules, for the API that the proxy serves and for the management API: they limit
what the key could call otherwise, and never add to it. A path stands for itself and for all below
it, one that ends in `*` for all that begins so, and a segment in braces for any one segment.
Routes of the management API are known by their templates (`/key/{key}/regenerate`).
"""

import re
from collections.abc import Sequence
from functools import lru_cache

__all__ = [
    "GROUPS",
    "KEY_TYPE_ROUTES",
    "ROUTE_CHARACTERS_MAX",
    "is_allowed",
    "normal_route",
    "routes_refusal",
]

ROUTE_CHARACTERS_MAX = 256
"""An entry of `allowed_routes` is at most so long."""
_PREFIX = "/anthropic"
_PATH = re.compile(r"(?:/(?:[A-Za-z0-9_.~:@-]+|\{[A-Za-z0-9_:]+\}))+(?:/?\*)?|/\*")
_SEGMENT = re.compile(r"\\\{[^}]*\\\}")

_SPEND = (
    "/spend",
    "/global/spend",
    "/global/activity",
    "/user/daily/activity",
    "/team/daily/activity",
)
_MODELS = ("/models", "/v1/models")
_READING_METHODS = frozenset(("GET", "HEAD"))
_SECRET = "/prompt/info"  # noqa: S105 - a path
_SQL = "/ledger/sql"
_CALCULATE = "/spend/calculate"

GROUPS = (
    "llm_api_routes",
    "anthropic_routes",
    "management_routes",
    "info_routes",
    "spend_tracking_routes",
    "analyst_routes",
)
"""The groups of routes that `allowed_routes` may name."""

KEY_TYPE_ROUTES: dict[str, tuple[str, ...]] = {
    "default": (),
    "llm_api": ("llm_api_routes",),
    "management": ("management_routes",),
    "read_only": ("info_routes",),
    "analyst": ("analyst_routes",),
}
"""What each `key_type` of LiteLLM may call; nothing listed: everything. `analyst` is our own."""


def normal_route(entry: str) -> str | None:
    """Return an entry as it is kept, without LiteLLM's prefix `/anthropic`; None: it is none."""
    if entry in GROUPS:
        return entry
    if len(entry) > ROUTE_CHARACTERS_MAX or _PATH.fullmatch(entry) is None:
        return None
    if entry.startswith(_PREFIX + "/"):
        entry = entry[len(_PREFIX) :]
    return entry


def is_allowed(allowed: Sequence[str], method: str, path: str) -> bool:
    """Tell whether a key with these `allowed_routes` may call a route. None listed: it may.

    `path` is without the prefix `/anthropic`, and a template where the management API serves it.
    """
    if not allowed:
        return True
    return any(
        _matches(entry, path) if entry.startswith("/") else _is_in_group(entry, method, path)
        for entry in allowed
    )


def routes_refusal(name: str, allowed: Sequence[str], method: str, path: str) -> str:
    """Return what a key is told that may not call a route. `name` is the key's own."""
    return (
        f"The virtual key {name} may not call {method} {path[:ROUTE_CHARACTERS_MAX]}. "
        f"Its allowed_routes are: {', '.join(allowed)}"
    )


def _is_in_group(group: str, method: str, path: str) -> bool:
    is_api = path == "/v1" or path.startswith("/v1/")
    is_models = any(_is_below(each, path) for each in _MODELS)
    if group in ("llm_api_routes", "anthropic_routes"):
        return is_api or is_models
    if group == "analyst_routes":
        return path == _SQL
    if group == "spend_tracking_routes":
        return any(_is_below(each, path) for each in _SPEND)
    is_managing = not is_api and path != _SQL
    if group == "management_routes":
        return is_managing
    is_reading = method in _READING_METHODS and path != _SECRET
    return group == "info_routes" and (
        is_models or (is_managing and (is_reading or path == _CALCULATE))
    )


def _matches(entry: str, path: str) -> bool:
    if entry.endswith("*"):
        return path.startswith(entry[:-1])
    if "{" in entry:
        return _pattern(entry).fullmatch(path) is not None
    return _is_below(entry, path)


def _is_below(entry: str, path: str) -> bool:
    return path == entry or path.startswith(entry + "/")


@lru_cache(maxsize=1024)
def _pattern(entry: str) -> re.Pattern[str]:
    return re.compile(_SEGMENT.sub("[^/]+", re.escape(entry)) + "(?:/.*)?")
