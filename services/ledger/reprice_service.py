"""The reader says what a repricing would change: computed by the rules that would apply it."""

import asyncio
import logging
from typing import Any

import duckdb
import msgspec

from schemas.money import usd_from_picos
from schemas.prices import Repricing
from schemas.reprice import REPRICE_LINES_MAX, RepriceLine, RepriceReply, RepriceSums
from schemas.streams import REPRICE_ASK_SUBJECT, USAGE
from services.ledger.asked import answer_until_cancelled
from services.ledger.price_history import PriceState, book_in_force, read_price_changes
from services.ledger.reprice_rows import REPRICED_ROWS_MAX, RepriceCount, rows_meant
from services.ledger.repricing import laid_over, new_costs
from services.ledger.store import read_checkpoint
from services.runtime.bus import Bus
from services.runtime.price_book import PriceBook

__all__ = ["RepriceService"]

log = logging.getLogger(__name__)


class RepriceService:
    """Works one question out at a time, with a connection of its own. `shipped` is our own book."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, shipped: PriceBook, bus: Bus) -> None:
        self._connection = connection.cursor()
        self._shipped = shipped
        self._bus = bus
        self._turn = asyncio.Lock()

    async def serve(self) -> None:
        """Answer until cancelled."""
        await answer_until_cancelled(self._bus, REPRICE_ASK_SUBJECT, self.answer, parallel_max=2)

    async def answer(self, payload: bytes) -> bytes:
        """Answer a Repricing with a RepriceReply; never raises."""
        try:
            repricing = msgspec.json.decode(payload, type=Repricing)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return msgspec.json.encode(RepriceReply(error=f"the request is none: {error}"))
        async with self._turn:
            reply = await asyncio.to_thread(self._worked_out, repricing)
        return msgspec.json.encode(reply)

    def _worked_out(self, repricing: Repricing) -> RepriceReply:
        try:
            self._connection.execute("BEGIN TRANSACTION")
            try:
                return self._count(repricing)
            finally:
                self._connection.execute("ROLLBACK")
        except duckdb.Error as error:
            log.error("what a repricing would change could not be told: %s", error)
            return RepriceReply(error=f"the reader's books could not be read: {error}")

    def _count(self, repricing: Repricing) -> RepriceReply:
        states: dict[str, PriceState] = {
            each.change.kind: each for each in read_price_changes(self._connection)
        }
        book = laid_over(book_in_force(self._shipped, states), repricing)
        checkpoint = read_checkpoint(self._connection, USAGE.name)
        sequence = checkpoint.sequence if checkpoint is not None else 0
        meant = rows_meant(self._connection, book, repricing, sequence + 1)
        if meant > REPRICED_ROWS_MAX:
            return RepriceReply(
                error=f"{meant:,} requests are meant, and {REPRICED_ROWS_MAX:,} may be at once: "
                "choose fewer days or models",
                too_large=True,
            )
        total = RepriceCount()
        lines: dict[tuple[str, str | None, str], RepriceCount] = {}
        for cost in new_costs(self._connection, book, repricing, sequence + 1):
            total.add(cost)
            if cost.is_other:
                key = (cost.day.isoformat(), cost.key_id, cost.model)
                lines.setdefault(key, RepriceCount()).add(cost)
                if len(lines) > REPRICE_LINES_MAX:
                    return RepriceReply(
                        error=f"more than {REPRICE_LINES_MAX:,} days, keys and models change: "
                        "choose fewer days or models",
                        too_large=True,
                    )
        return RepriceReply(
            total=RepriceSums(**_sums(total)),
            lines=tuple(
                RepriceLine(day=day, key_id=key_id, model=model, **_sums(count))
                for (day, key_id, model), count in sorted(
                    lines.items(), key=lambda item: tuple(part or "" for part in item[0])
                )
            ),
            stream_sequence=sequence,
        )

    def close(self) -> None:
        """Stop what runs and give the connection back."""
        self._connection.interrupt()
        self._connection.close()


def _sums(count: RepriceCount) -> dict[str, Any]:
    return {
        "requests": count.requests,
        "changed_requests": count.changed_requests,
        "cost_before_usd": usd_from_picos(count.before_picos),
        "cost_after_usd": usd_from_picos(count.after_picos),
        "difference_usd": usd_from_picos(count.after_picos - count.before_picos),
        "unpriced_before": count.unpriced_before,
        "unpriced_after": count.unpriced_after,
    }
