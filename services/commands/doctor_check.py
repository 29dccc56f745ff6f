"""What a check of `tallygate doctor` says, and what all of them are told of the installation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from schemas.config import GatewayConfig
from services.runtime.metrics import Series

__all__ = ["Check", "Place", "failed", "fine", "warned"]

_WANTED = ("ledger-writer", "ledger-reader", "admin", "proxy-0")

Status = Literal["ok", "warn", "fail"]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the report. `remedy` says what to do; empty where all is well.

    `lines` are to be pasted somewhere, which the remedy says.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""
    lines: tuple[str, ...] = ()


def fine(name: str, detail: str) -> Check:
    """Return a check that found nothing."""
    return Check(name=name, status="ok", detail=detail)


def warned(name: str, detail: str, remedy: str, lines: tuple[str, ...] = ()) -> Check:
    """Return a check that found what wants attention, while the gateway does its work."""
    return Check(name=name, status="warn", detail=detail, remedy=remedy, lines=lines)


def failed(name: str, detail: str, remedy: str, lines: tuple[str, ...] = ()) -> Check:
    """Return a check that found what keeps the gateway from its work, or loses numbers."""
    return Check(name=name, status="fail", detail=detail, remedy=remedy, lines=lines)


class Place(msgspec.Struct, kw_only=True):
    """The installation that is looked at.

    `config` is None where it cannot be read; `series` are the metrics of the processes that have a
    socket in the data folder.
    """

    data: Path
    url: str
    environment: Mapping[str, str]
    nats_url: str | None = None
    config: GatewayConfig | None = None
    series: tuple[Series, ...] = ()

    @property
    def parts_told(self) -> set[str]:
        """The processes that answer, or were killed."""
        return {each.labels["part"] for each in self.named("tallygate_up")}

    @property
    def parts_wanted(self) -> set[str]:
        """The processes that `tallygate serve` runs at least; none where one alone runs here."""
        return set(_WANTED) if len(self.parts_told) > 1 else set()

    @property
    def parts_up(self) -> set[str]:
        """The processes that answer."""
        return {each.labels["part"] for each in self.named("tallygate_up") if each.value}

    def named(self, name: str) -> list[Series]:
        """Return all series of a metric."""
        return [each for each in self.series if each.name == name]

    def value(self, name: str, part: str) -> float | None:
        """Return a metric of one process; None where it is not told."""
        for each in self.named(name):
            if each.labels["part"] == part:
                return each.value
        return None
