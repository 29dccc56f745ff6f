"""The names of guardrails that keys, teams and users may be given. Pure."""

from collections.abc import Iterable

from msgspec import UNSET, UnsetType

from schemas.errors import BadRequest
from services.runtime.config_keys import nearest

__all__ = ["check_guardrails"]


def check_guardrails(given: tuple[str, ...] | UnsetType | None, known: Iterable[str]) -> None:
    """Raise BadRequest for a name that the configuration does not have.

    Requests that have to pass a guardrail that is not there are refused, all of them.
    """
    names = tuple(known)
    for name in () if given is UNSET else given or ():
        if name in names:
            continue
        near = nearest(name, names)
        if near is not None:
            advice = f"did you mean {near}?"
        elif names:
            advice = f"known are {', '.join(sorted(names))}"
        else:
            advice = "there is none yet; add it to config.yaml and let the gateway take it"
        raise BadRequest(
            f"guardrails: {name[:128]!r} is not in the configuration's guardrails: {advice}",
            param="guardrails",
        )
