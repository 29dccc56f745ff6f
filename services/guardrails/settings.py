"""Reads the settings of a guardrail: unknown names are refused with the nearest known one."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from schemas.errors import ConfigError

__all__ = ["chosen_rules", "nearest_hint", "read_settings"]

Settings = TypeVar("Settings", bound=msgspec.Struct)


def nearest_hint(name: str, known: Iterable[str]) -> str:
    """Return `: did you mean …?` for a name that is like a known one, else nothing."""
    found = difflib.get_close_matches(name[:100], list(known), n=1, cutoff=0.6)
    return f": did you mean {found[0]}?" if found else ""


def read_settings(given: object, into: type[Settings], where: str = "") -> Settings:
    """Return settings as a struct whose fields have been checked. Raises ConfigError."""
    place = f"{where}: " if where else ""
    if not isinstance(given, Mapping):
        raise ConfigError(f"{place}expected settings by name, got {type(given).__name__}")
    known = into.__struct_fields__
    for name in given:
        if name not in known:
            raise ConfigError(
                f'{place}"{str(name)[:100]}" is not known here{nearest_hint(str(name), known)}'
                f" (known are {', '.join(known)})"
            )
    try:
        return msgspec.convert(dict(given), into)
    except msgspec.ValidationError as error:
        # "Expected `str`, got `int` - at `$.words[0]`": the path is the reader's own.
        raise ConfigError(f"{place}{str(error).replace('`$.', '`')}") from None


def chosen_rules(names: tuple[str, ...], only: list[str] | None, without: list[str]) -> set[str]:
    """Return the names that stay of all: those of `only` (None: all), but those of `without`.

    Raises ConfigError for a name that no rule has, and where no rule is left.
    """
    for setting, given in (("rules", only or ()), ("exclude_rules", without)):
        for name in given:
            if name not in names:
                raise ConfigError(
                    f'{setting}: there is no rule "{name[:100]}"{nearest_hint(name, names)}'
                )
    left = set(names if only is None else only) - set(without)
    if not left:
        raise ConfigError("rules, exclude_rules: no rule is left; leave the guardrail out instead")
    return left
