"""What the routes about the configuration take and answer."""

from typing import Annotated

import msgspec

__all__ = ["ConfigStanding", "ProcessStanding", "ReloadConfig", "Reloaded"]

Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class ReloadConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The order to take the file as it is now; `sha256` is what the caller believes to be in it."""

    sha256: Sha256 | None = None


class ProcessStanding(msgspec.Struct, frozen=True, kw_only=True):
    """How one process stands. `taken`: it has the file in force that was ordered last."""

    part: str
    process: str
    path: str
    sha256: str
    taken: bool
    problem: str | None
    restart_needed: tuple[str, ...]
    unusable_models: tuple[str, ...]


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """What a reload has done. All names are those of keys and models: values are never shown."""

    sha256: str
    path: str
    changed: tuple[str, ...]
    notices: tuple[str, ...]
    restart_needed: tuple[str, ...]
    taken_by_all: bool
    processes: tuple[ProcessStanding, ...]


class ConfigStanding(msgspec.Struct, frozen=True, kw_only=True):
    """Which file was ordered last, and how every process stands."""

    ordered_sha256: str | None
    changed_at_us: int | None
    changed_by: str | None
    same_everywhere: bool
    restart_needed: tuple[str, ...]
    processes: tuple[ProcessStanding, ...]
