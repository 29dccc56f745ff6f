"""Which variables point Claude Code at a gateway (docs/claude-code.md has the reasons)."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

__all__ = [
    "ANTHROPIC_MODELS",
    "ANTHROPIC_PREFIX",
    "CA_CERTIFICATES",
    "Mode",
    "Setup",
    "spoiling_variables",
    "variables_without_gateway",
    "wanted_variables",
]

Mode = Literal["subscription", "api-key"]
"""Who pays: the developer's own subscription (or own API key), or the company's API key."""

KEY_HEADER = "x-litellm-api-key"
ANTHROPIC_PREFIX = "sk-ant-"
"""What a credential of Anthropic's begins with, and no virtual key."""
ANTHROPIC_MODELS = ("claude-", "opus", "sonnet", "haiku", "default")
"""What the names of models begin with that Claude Code knows without a gateway."""

BASE_URL = "ANTHROPIC_BASE_URL"
CUSTOM_HEADERS = "ANTHROPIC_CUSTOM_HEADERS"
TOKEN = "ANTHROPIC_AUTH_TOKEN"  # noqa: S105 - the name of a variable
API_KEY = "ANTHROPIC_API_KEY"
MODEL = "ANTHROPIC_MODEL"
CA_CERTIFICATES = "NODE_EXTRA_CA_CERTS"


class Setup(NamedTuple):
    """What Claude Code is pointed at; without a `model` it keeps the one that it has."""

    url: str
    key: str
    mode: Mode
    model: str | None = None
    ca_file: str | None = None
    """Holds the company's own CA, where the gateway's certificate is of that."""


def wanted_variables(setup: Setup, before: Mapping[str, str]) -> dict[str, str | None]:
    """Return what the variables must be, given those of `before`; None: it must not be there.

    Other custom headers stay. A virtual key from before that the new one would have to compete
    with goes; a developer's own credential (`sk-ant-…`) and file of CAs stay.
    """
    wanted: dict[str, str | None] = {BASE_URL: setup.url, **_without_virtual_keys(before)}
    if setup.mode == "subscription":
        others = wanted.get(CUSTOM_HEADERS)
        own = f"{KEY_HEADER}: Bearer {setup.key}"
        wanted[CUSTOM_HEADERS] = own if others is None else f"{others}\n{own}"
    else:
        wanted[TOKEN] = setup.key
    if setup.model is not None:
        wanted[MODEL] = setup.model
    if setup.ca_file is not None:
        wanted[CA_CERTIFICATES] = before.get(CA_CERTIFICATES, setup.ca_file)
    return wanted


def variables_without_gateway(before: Mapping[str, str]) -> dict[str, str | None]:
    """Return what the variables must be so that Claude Code asks Anthropic directly again.

    A model goes where its name is one that gateways alone know.
    """
    wanted = _without_virtual_keys(before)
    if BASE_URL in before:
        wanted[BASE_URL] = None
    if MODEL in before and not before[MODEL].startswith(ANTHROPIC_MODELS):
        wanted[MODEL] = None
    return wanted


def _without_virtual_keys(before: Mapping[str, str]) -> dict[str, str | None]:
    """Return the variables that hold a virtual key as they are without it, and custom headers."""
    wanted: dict[str, str | None] = {
        name: None
        for name in (TOKEN, API_KEY)
        if name in before and not before[name].startswith(ANTHROPIC_PREFIX)
    }
    if CUSTOM_HEADERS in before:
        headers = [line for line in before[CUSTOM_HEADERS].split("\n") if line.strip()]
        others = [line for line in headers if _header_name(line) != KEY_HEADER]
        wanted[CUSTOM_HEADERS] = "\n".join(others) or None
    return wanted


def spoiling_variables(mode: Mode, environment: Mapping[str, str]) -> list[str]:
    """Return the variables of a shell that Claude Code would take in place of the new setup.

    A settings file cannot take a shell's variables away, so whoever has them must be told.
    """
    virtual = [
        name
        for name in (TOKEN, API_KEY)
        if environment.get(name) and not environment[name].startswith(ANTHROPIC_PREFIX)
    ]
    # In the other mode the new token stands in the place of one, and goes before the other.
    return virtual if mode == "subscription" else []


def _header_name(line: str) -> str:
    return line.partition(":")[0].strip().lower()
