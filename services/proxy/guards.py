"""Which guardrails a request must pass, and how it is refused."""

from collections.abc import Iterable, Sequence

from schemas.errors import Forbidden, Unavailable
from schemas.guardrails import Guardrail
from schemas.registry import KeyRecord, OwnerRecord

__all__ = ["Guards", "blocked", "refuse_unchecked", "unreachable"]


class Guards:
    """The guardrails of one configuration."""

    def __init__(self, guardrails: Iterable[Guardrail]) -> None:
        self._by_name = {each.name: each for each in guardrails}
        self._on_for_all = tuple(each for each in self._by_name.values() if each.default_on)

    def chosen(self, key: KeyRecord, owners: Sequence[OwnerRecord]) -> tuple[Guardrail, ...]:
        """Return those that a request with this key must pass, in the order of the file.

        Raises Forbidden where the key, its team or its user names one that is not configured: a
        request that cannot be checked does not pass.
        """
        names = key.guardrails
        for owner in owners:
            names += owner.guardrails
        if not names:
            return self._on_for_all
        missing = [name for name in names if name not in self._by_name]
        if missing:
            raise Forbidden(
                f"The guardrail {missing[0]}, which requests with this key must pass, is not in "
                "the gateway's configuration. Ask your administrator to put it back, or to take "
                "it off the key"
            )
        wanted = set(names)
        return tuple(
            each for each in self._by_name.values() if each.default_on or each.name in wanted
        )


def blocked(guardrail: Guardrail, reason: str) -> Forbidden:
    """Return the refusal of a request that a guardrail does not let pass."""
    text = f"Blocked by the guardrail {guardrail.name}: {reason}"
    if guardrail.message is not None:
        text += f" · {guardrail.message}"
    return Forbidden(text)


def unreachable(guardrail: Guardrail, reason: str) -> Unavailable:
    """Return the refusal of a request that cannot be checked now."""
    return Unavailable(
        f"The guardrail {guardrail.name} cannot be asked, so nothing was sent: {reason}",
        {"retry-after": "1"},
    )


def refuse_unchecked(guardrails: Sequence[Guardrail], *, is_file: bool = False) -> None:
    """Raise Forbidden for a request that brings content by a way that no guardrail looks at.

    Of files, those about texts look at the texts.
    """
    for guardrail in guardrails:
        if is_file and guardrail.kind != "request_rules":
            continue
        if guardrail.action != "log" and guardrail.looks_at_requests:
            raise Forbidden(
                f"The guardrail {guardrail.name} checks messages alone, and what this request "
                "brings would pass it by: requests with this key may not use this path"
            )
