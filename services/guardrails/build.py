"""One scanner per kind of guardrail that looks at text."""

from collections.abc import Callable

from schemas.errors import ConfigError
from services.guardrails.block_list import build_block_list
from services.guardrails.chosen import build_chosen
from services.guardrails.findings import Scanner
from services.guardrails.own_secrets import secret_rules
from services.guardrails.personal_data import personal_data_rules
from services.guardrails.settings import nearest_hint

__all__ = ["KINDS", "build_scanner"]

_BUILDERS: dict[str, Callable[[object], Scanner]] = {
    "secrets": lambda settings: build_chosen(settings, secret_rules()),
    "personal_data": lambda settings: build_chosen(settings, personal_data_rules()),
    "block_list": build_block_list,
}

KINDS = tuple(_BUILDERS)
"""The kinds of guardrails that look at text."""


def build_scanner(kind: str, settings: object) -> Scanner:
    """Return the scanner of a kind with its settings (names and values, as the configuration has).

    Raises ConfigError, which says what is wrong and where; the caller names the guardrail.
    Building a block list, and the first scan of the other kinds, may take a second of CPU
    (Vectorscan compiles, other threads run meanwhile): in a thread where an event loop runs.
    """
    builder = _BUILDERS.get(kind)
    if builder is None:
        raise ConfigError(
            f'"{kind[:100]}" is no kind of guardrail{nearest_hint(kind, KINDS)}'
            f" (known are {', '.join(KINDS)})"
        )
    return builder(settings)
