"""What requests under way may cost at most, where strict budgets count them from their start. Pure.

A proxy tells it in `request.started` where a strict budget counts for the request. It is no part of
any spend: it is taken off when the request's end is known, whatever that was.
"""

from collections.abc import Iterable, Iterator

from schemas.events import RequestFacts
from schemas.money import picos_from_usd
from services.ledger.spends import Spend

__all__ = ["Reserved"]


class Reserved:
    """The reservations of all open requests."""

    def __init__(self) -> None:
        self._open: dict[str, Spend] = {}

    def opened(self, requests: Iterable[RequestFacts]) -> list[Spend]:
        """Take in requests that began; return what they reserve."""
        found = []
        for facts in requests:
            if facts.reserved_usd is None or facts.key_id is None:
                continue
            spend = Spend(
                facts.key_id,
                facts.started_at_us,
                picos_from_usd(facts.reserved_usd),
                facts.user_id,
                facts.team_id,
                facts.model_name,
                facts.billing == "subscription",
                facts.alias_of,
            )
            self._open[facts.request_id] = spend
            found.append(spend)
        return found

    def closed(self, request_ids: Iterable[str]) -> list[Spend]:
        """Take in requests whose end is known; return what they had reserved."""
        if not self._open:
            return []
        return [
            spend
            for request_id in request_ids
            if (spend := self._open.pop(request_id, None)) is not None
        ]

    def __iter__(self) -> Iterator[Spend]:
        """Iterate over the reservations of all open requests."""
        return iter(self._open.values())
