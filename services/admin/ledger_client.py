"""Asking the ledger's reader, by request and reply on NATS."""

import asyncio
import time
from collections.abc import Sequence
from decimal import Decimal
from typing import Literal

import msgspec

from schemas.errors import ApiError, BadRequest, Unavailable
from schemas.registry import KeyRecord
from schemas.rpc import QUERY_ROWS_MAX, QUERY_TIMEOUT_S, QueryReply, QueryRequest, ReaderState
from schemas.streams import QUERY_SUBJECT, READER_STATE_SUBJECT
from services.admin.shapes import KeySpend, window_start_us
from services.admin.spend_sql import SPEND_OF_KEYS, spends_from
from services.runtime.bus import Bus, BusUnavailable, NobodyServes
from services.runtime.tasks import end_tasks

__all__ = ["LedgerClient", "QueryTimeout"]

REPLY_MARGIN_S = 3.0
"""The reader is given so much longer than the query itself before it counts as gone."""
READER_LOOK_INTERVAL_S = 0.5
"""While an answer is waited for, the reader is asked so often whether it still is the one."""
SPEND_TIMEOUT_S = 3.0
"""Spend beside a key's settings: the settings are not kept waiting for longer than this."""

_NOTHING = KeySpend(window_usd=Decimal(0), total_usd=Decimal(0))


class QueryTimeout(ApiError):
    """408: the query took longer than it may; a narrower one may not."""

    http_status = 408
    error_type = "timeout_error"


class LedgerClient:
    """Sends queries to the reader and turns its refusals into answers of the API."""

    def __init__(self, bus: Bus, timezone: str) -> None:
        self._bus = bus
        self._timezone = timezone

    def set_timezone(self, timezone: str) -> None:
        """Let budget windows begin at another zone's midnights."""
        self._timezone = timezone

    async def query(
        self,
        sql: str,
        parameters: Sequence[object] = (),
        *,
        rows_max: int = QUERY_ROWS_MAX,
        timeout_s: float = QUERY_TIMEOUT_S,
        answer_format: Literal["json", "csv", "arrow"] = "json",
        team_id: str | None = None,
    ) -> QueryReply:
        """Return the reader's answer to one SELECT, about the rows of one team or (None) all.

        Raises BadRequest (not a SELECT, not valid, or an answer too large), QueryTimeout, or
        Unavailable where the reader cannot be reached.
        """
        request = QueryRequest(
            query=sql,
            parameters=tuple(parameters),
            rows_max=rows_max,
            timeout_s=timeout_s,
            format=answer_format,
            team_id=team_id,
        )
        try:
            payload = await self._ask(msgspec.json.encode(request), timeout_s + REPLY_MARGIN_S)
        except BusUnavailable:
            raise Unavailable(
                "the ledger's reader cannot be reached at the moment; requests go on being "
                "counted meanwhile. Try again in some seconds"
            ) from None
        reply = msgspec.json.decode(payload, type=QueryReply)
        if reply.error is None:
            if reply.team_id != team_id:
                raise Unavailable(
                    "the ledger's reader is of an older version, which cannot limit an answer to "
                    "the rows of a team: upgrade it with the admin service"
                )
            return reply
        match reply.error_kind:
            case "refused" | "invalid":
                raise BadRequest(reply.error, param="query")
            case "too_large":
                raise BadRequest(reply.error, param="query")
            case "timeout":
                raise QueryTimeout(reply.error, param="query")
            case _:
                raise Unavailable(reply.error)

    async def _ask(self, payload: bytes, timeout_s: float) -> bytes:
        """Return the reader's reply. Raises BusUnavailable as soon as the reader is known dead."""
        asked_at_s = time.monotonic()
        asking = asyncio.create_task(self._bus.request(QUERY_SUBJECT, payload, timeout_s=timeout_s))
        try:
            while True:
                done, _ = await asyncio.wait({asking}, timeout=READER_LOOK_INTERVAL_S)
                if not done and await self._is_gone(asked_at_s):
                    # Its answer may have come while it was asked.
                    done, _ = await asyncio.wait({asking}, timeout=0)
                    if not done:
                        raise BusUnavailable("the reader that had the query is gone")
                if done:
                    return asking.result()
        finally:
            await end_tasks(asking)

    async def _is_gone(self, asked_at_s: float) -> bool:
        """Tell whether the reader is gone that was asked then: no answer comes from another one."""
        waited_s = time.monotonic() - asked_at_s
        try:
            reply = await self._bus.request(
                READER_STATE_SUBJECT, b"", timeout_s=READER_LOOK_INTERVAL_S
            )
        except NobodyServes:
            return True
        except BusUnavailable:
            # A reader under load may be slow to say so: the query's own time-out decides.
            return False
        return msgspec.json.decode(reply, type=ReaderState).uptime_s < waited_s

    async def spend_of(self, records: Sequence[KeyRecord], now_us: int) -> dict[str, KeySpend]:
        """Return what keys spent, by key id. Where the ledger cannot say, each says why not.

        Never raises an ApiError: a key's settings are worth an answer without its spend.
        """
        if not records:
            return {}
        starts_us = [window_start_us(record, now_us, self._timezone) for record in records]
        ids = [record.key_id for record in records]
        try:
            reply = await self.query(SPEND_OF_KEYS, (ids, starts_us), timeout_s=SPEND_TIMEOUT_S)
        except ApiError as error:
            unknown = KeySpend(error=error.message)
            return dict.fromkeys(ids, unknown)
        spends = spends_from(reply)
        return {key_id: spends.get(key_id, _NOTHING) for key_id in ids}
