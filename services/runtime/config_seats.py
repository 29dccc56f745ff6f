"""Reading `seats:`: what subscriptions cost a month, and whose they are."""

from collections.abc import Mapping
from decimal import Decimal

from schemas.config import SeatPrice
from services.runtime.config_prices import amount, read_day, read_words
from services.runtime.config_reader import ConfigReader
from services.runtime.yaml_lines import Node

__all__ = ["SEATS_MAX", "read_seats"]

SEATS_MAX = 10_000
"""A file has at most so many entries."""
_NAME_LENGTH_MAX = 256


def read_seats(reader: ConfigReader, node: Node | None) -> tuple[SeatPrice, ...]:
    """Return the entries of `seats:`; what is wrong is noted, and then left out."""
    seats: list[SeatPrice] = []
    for place, item in enumerate(reader.items(node, "seats", SEATS_MAX)):
        where = f"seats[{place}]"
        seat = _read_seat(reader, item, where)
        if seat is None:
            continue
        if any(_overlap(seat, other) for other in seats):
            reader.problem(
                item.line,
                f"{where} is for the same person and the same days as an entry before it: "
                "let the one end (valid_to) where the other begins (valid_from)",
            )
            continue
        seats.append(seat)
    return tuple(seats)


def _read_seat(reader: ConfigReader, item: Node, where: str) -> SeatPrice | None:
    if not isinstance(item.value, Mapping):
        reader.problem(item.line, f"{where} must be a mapping: user_id or key_alias, monthly_usd")
        return None
    given = reader.section(item, "seats", where)
    count = len(reader.problem_texts)
    names = {
        name: read_words(reader, given.get(name), f"{where}.{name}", _NAME_LENGTH_MAX)
        for name in ("user_id", "key_alias", "plan")
    }
    first, end = (
        read_day(reader, given.get(name), f"{where}.{name}") for name in ("valid_from", "valid_to")
    )
    monthly = amount(reader, given.get("monthly_usd"), f"{where}.monthly_usd")
    if len(reader.problem_texts) > count:
        return None
    if (names["user_id"] is None) == (names["key_alias"] is None):
        reader.problem(item.line, f"{where} must name a user_id or a key_alias, and not both")
        return None
    if monthly is None:
        reader.problem(item.line, f"{where}.monthly_usd is missing: what it costs, such as 100")
        return None
    if first is not None and end is not None and first >= end:
        reader.problem(item.line, f"{where}.valid_to must be a later day than valid_from")
        return None
    return SeatPrice(**names, monthly_usd=Decimal(monthly), valid_from=first, valid_to=end)


def _overlap(one: SeatPrice, other: SeatPrice) -> bool:
    if (one.user_id, one.key_alias) != (other.user_id, other.key_alias):
        return False
    ends_before = one.valid_to is not None and (
        other.valid_from is not None and one.valid_to <= other.valid_from
    )
    begins_after = other.valid_to is not None and (
        one.valid_from is not None and other.valid_to <= one.valid_from
    )
    return not (ends_before or begins_after)
