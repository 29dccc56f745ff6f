"""What the addresses of Logs and Sessions have alike: filters, an order, where to go on. Pure."""

from collections.abc import Iterable, Mapping
from typing import ClassVar
from urllib.parse import urlencode

import msgspec

__all__ = ["ORDERS", "ListView", "filters_in", "problem_of"]

VALUE_CHARS_MAX = 256
"""A value of a filter is at most so long."""
ORDERS = ("desc", "asc")


class ListView(msgspec.Struct, frozen=True, kw_only=True):
    """What an address asks for. `problem`: what is wrong with it; then nothing is to be shown.

    `below` is the last row that was shown, as `value~row`.
    """

    path: ClassVar[str]
    """Where the page is."""
    usual: ClassVar[Mapping[str, str]] = {"sort": "time", "order": "desc"}
    """What an address need not say."""

    filters: dict[str, str] = {}
    sort: str = "time"
    order: str = "desc"
    below: str = ""
    problem: str = ""

    def get(self, name: str) -> str:
        """Return the value of a filter; empty where it is not set."""
        return self.filters.get(name, "")

    @property
    def by(self) -> str:
        """The order's name, for the heads of tables."""
        return self.sort

    def url(self, by: str) -> str:
        """Return the address of the same rows in another order, or the other way round."""
        turned = "asc" if self.order == "desc" else "desc"
        return self.address(self.path, sort=by, order=turned if by == self.sort else "desc")

    def address(self, path: str, **changes: object) -> str:
        """Return an address with these filters and this order; `changes` are added."""
        given: dict[str, object] = {**self.chosen, **changes}
        said = {
            name: value for name, value in given.items() if value and value != self.usual.get(name)
        }
        return f"{path}?{urlencode(said)}" if said else path

    @property
    def chosen(self) -> dict[str, str]:
        """What is chosen on the page, by the names that an address has for it."""
        return {**self.filters, "sort": self.sort, "order": self.order}


def filters_in(query: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """Return the filters that an address sets, out of those that there are."""
    return {name: value for name in names if (value := query.get(name, "").strip())}


def problem_of(
    filters: Mapping[str, str], chosen: Iterable[tuple[str, str | None, Iterable[str]]]
) -> str:
    """Return what is wrong with filters and choices; empty: nothing is.

    Each of `chosen` is a name, what an address says of it (None: nothing), and what it may say.
    """
    for name, value in filters.items():
        if len(value) > VALUE_CHARS_MAX:
            return f"The filter {name} is longer than {VALUE_CHARS_MAX} characters."
    for name, choice, known in chosen:
        if choice is not None and choice not in known:
            return f"{name} cannot be {choice[:40]!r}: it is one of {', '.join(known)}."
    return ""
