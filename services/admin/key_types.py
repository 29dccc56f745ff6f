"""What a virtual key may call: `key_type`, `allowed_routes` and `aliases` as requests give them.

Pure.
"""

from collections.abc import Iterable
from difflib import get_close_matches

import msgspec
from msgspec import UNSET, UnsetType

from schemas.errors import BadRequest, Forbidden
from schemas.registry import KeyRecord
from services.admin.bodies import GenerateKey
from services.runtime.key_routes import (
    GROUPS,
    KEY_TYPE_ROUTES,
    ROUTE_CHARACTERS_MAX,
    is_allowed,
    normal_route,
    routes_refusal,
)

__all__ = ["allowed_routes", "check_routes", "model_aliases", "refuse_other_routes", "typed"]

_API = ("/v1", "/*")


def typed(body: GenerateKey) -> GenerateKey:
    """Return a request with what its `key_type` stands for. Raises BadRequest.

    An `analyst` is given the permission of that name, too, where the request does not say which.
    """
    if body.key_type is None or body.key_type == "default":
        return body
    if body.allowed_routes is not UNSET and body.allowed_routes:
        raise BadRequest(
            f"key_type {body.key_type} and allowed_routes both say what the key may call: send "
            "one of them",
            param="allowed_routes",
        )
    body = msgspec.structs.replace(body, allowed_routes=KEY_TYPE_ROUTES[body.key_type])
    if body.key_type != "analyst":
        return body
    if body.analyst is UNSET:
        return msgspec.structs.replace(body, analyst=True)
    if not body.analyst:
        raise BadRequest(
            "a key of the key_type analyst needs the permission `analyst`: leave it out, or say "
            "team or all",
            param="analyst",
        )
    return body


def allowed_routes(given: Iterable[str]) -> tuple[str, ...]:
    """Return entries as they are kept, each once. Raises BadRequest for what is none."""
    found: dict[str, None] = {}
    for entry in given:
        normal = normal_route(entry)
        if normal is None:
            raise BadRequest(_no_route(entry), param="allowed_routes")
        found[normal] = None
    return tuple(found)


def model_aliases(given: dict[str, str]) -> dict[str, str]:
    """Return aliases of models as they are kept. Raises BadRequest for one that cannot be meant.

    An alias is one name, so that what a request means does not hang on the order of patterns.
    """
    for alias, name in given.items():
        if "*" in alias or "*" in name:
            raise BadRequest(
                "aliases: an alias and what it stands for are names of models, without *",
                param="aliases",
            )
        if alias == name:
            raise BadRequest(f"aliases: {alias[:128]!r} stands for itself", param="aliases")
    return given


def check_routes(given: tuple[str, ...] | UnsetType | None, known: Iterable[str]) -> None:
    """Raise BadRequest for a path that no route has; `known` are those of the management API.

    A key that is limited to a path that does not exist could call nothing. All below `/v1` may be
    there: the configuration lets further paths of the API pass.
    """
    paths = tuple(known)
    for entry in allowed_routes(() if given is UNSET else given or ()):
        if entry in GROUPS or entry.startswith(_API):
            continue
        if any(is_allowed((entry,), "GET", path) for path in paths):
            continue
        near = get_close_matches(entry, paths, n=1)
        advice = f"did you mean {near[0]}?" if near else "GET /openapi.json tells them all"
        raise BadRequest(
            f"allowed_routes: no route of this gateway is {entry[:ROUTE_CHARACTERS_MAX]!r}: "
            f"{advice}",
            param="allowed_routes",
        )


def refuse_other_routes(key: KeyRecord | None, method: str, path: str) -> None:
    """Raise Forbidden where a key is limited to other routes; None stands for the master key."""
    if key is not None and not is_allowed(key.allowed_routes, method, path):
        name = key.key_alias or key.key_name
        raise Forbidden(routes_refusal(name, key.allowed_routes, method, path))


def _no_route(entry: str) -> str:
    shown = entry[:ROUTE_CHARACTERS_MAX]
    if entry.startswith("/"):
        return (
            f"allowed_routes: {shown!r} is no path: it has segments of letters, digits and "
            "`_.~:@-` or of a name in braces, may end in *, and not in /"
        )
    near = get_close_matches(entry[:ROUTE_CHARACTERS_MAX], GROUPS, n=1)
    advice = f"did you mean {near[0]}?" if near else f"groups are {', '.join(GROUPS)}"
    return f"allowed_routes: {shown!r} is neither a path nor a group of routes: {advice}"
