"""Tells where every budget stands: marks, by which proxies act near a limit (docs/adr/0030).

They are told to who listens and kept by nobody: whoever missed some asks for all of them. Only the
writer tells them, from its memory; the books decide what they are.
"""

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from schemas.budgets import (
    MARKS_AT_ONCE_MAX,
    BudgetId,
    BudgetState,
    Marks,
    MarksQuestion,
    MarksTold,
)
from schemas.events import encode_event
from schemas.prices import PriceOverlay
from schemas.streams import MARKS_ASK_SUBJECT, MARKS_SUBJECT
from services.ledger.asked import answer_until_cancelled
from services.ledger.budgets import Standing
from services.runtime.bus import Bus, BusUnavailable

__all__ = ["MarkTeller"]

log = logging.getLogger(__name__)

QUESTIONS_AT_ONCE_MAX = 4

_question_decoder = msgspec.json.Decoder(MarksQuestion)


class MarkTeller:
    """Holds the marks as they were told last, tells the next, and answers who asks for all."""

    def __init__(self, bus: Bus, source: str) -> None:
        self._bus = bus
        self._source = source
        self._marks: dict[BudgetId, BudgetState] = {}
        self._number = 0
        self._usage_sequence = 0
        self._prices: tuple[PriceOverlay, ...] = ()
        self._is_ready = asyncio.Event()

    async def tell(
        self,
        sequence: int,
        standings: Mapping[BudgetId, Standing | None],
        prices: tuple[PriceOverlay, ...] = (),
    ) -> None:
        """Tell what changed, and that all marks count up to a message of USAGE.

        `prices` are the entries of the API that are in force.
        """
        new_prices = prices if prices != self._prices else None
        self._prices = prices
        changed: list[BudgetState | BudgetId] = []
        for budget_id, standing in standings.items():
            if standing is None:
                if self._marks.pop(budget_id, None) is not None:
                    changed.append(budget_id)
            elif self._marks.get(budget_id) != standing.state:
                self._marks[budget_id] = standing.state
                changed.append(standing.state)
        messages = self._messages(changed, sequence, new_prices)
        self._is_ready.set()
        for message in messages:
            try:
                await self._bus.tell(MARKS_SUBJECT, message)
            except BusUnavailable as error:
                # Who listens connects anew, too, and asks for all marks then.
                log.debug("marks are not told: %s", error)
                return

    def _messages(
        self,
        changed: list[BudgetState | BudgetId],
        sequence: int,
        prices: tuple[PriceOverlay, ...] | None,
    ) -> list[bytes]:
        """Return the messages that tell this; only after the last of them all marks are new."""
        messages = []
        for start in range(0, max(1, len(changed)), MARKS_AT_ONCE_MAX):
            part = changed[start : start + MARKS_AT_ONCE_MAX]
            if start + MARKS_AT_ONCE_MAX >= len(changed):
                self._usage_sequence = sequence
            self._number += 1
            told = Marks(
                usage_sequence=self._usage_sequence,
                marks=tuple(each for each in part if isinstance(each, BudgetState)),
                gone=tuple(each for each in part if not isinstance(each, BudgetState)),
                prices=prices if start == 0 else None,
            )
            messages.append(self._encoded(told))
        return messages

    def _encoded(self, marks: Marks) -> bytes:
        return encode_event(
            MarksTold(source=self._source, id=str(self._number), time=datetime.now(UTC), data=marks)
        )

    async def serve(self) -> None:
        """Answer who asks for all marks, for ever, once they have been counted."""
        await self._is_ready.wait()
        await answer_until_cancelled(
            self._bus, MARKS_ASK_SUBJECT, self.answer, parallel_max=QUESTIONS_AT_ONCE_MAX
        )

    async def answer(self, payload: bytes) -> bytes:
        """Return the next marks after those that the asker has. Its `id` is the last number told.

        Raises msgspec.MsgspecError for what is no question.
        """
        after = _question_decoder.decode(payload).after
        ids = sorted(
            self._marks if after is None else (each for each in self._marks if each > after)
        )
        some = ids[:MARKS_AT_ONCE_MAX]
        return self._encoded(
            Marks(
                usage_sequence=self._usage_sequence,
                marks=tuple(self._marks[each] for each in some),
                more=len(ids) > len(some),
                prices=self._prices if after is None else None,
            )
        )
