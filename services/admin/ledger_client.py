"""Asking the ledger's reader, by request and reply on NATS."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from decimal import Decimal
from typing import Literal

import msgspec

from schemas.config import GatewayConfig
from schemas.errors import ApiError, BadRequest, Unavailable
from schemas.registry import KeyRecord, TeamRecord, UserRecord
from schemas.rpc import (
    QUERY_ROWS_MAX,
    QUERY_TIMEOUT_S,
    QueryControl,
    QueryReply,
    QueryRequest,
    ReaderState,
)
from schemas.streams import QUERY_CONTROL_SUBJECT, QUERY_SUBJECT, READER_STATE_SUBJECT
from services.admin.budget_spend import spend_of_budgets, spend_of_everybody, spend_of_members
from services.admin.shapes import KeySpend, window_of
from services.admin.spends import Column, spends_of
from services.runtime.bus import Bus, BusUnavailable, NobodyServes
from services.runtime.tasks import end_tasks

__all__ = ["LedgerClient", "QueryTimeout"]

REPLY_MARGIN_S = 3.0
"""The reader is given so much longer than the query itself before it counts as gone."""
READER_LOOK_INTERVAL_S = 0.5
"""While an answer is waited for, the reader is asked so often whether it still is the one."""
SPEND_TIMEOUT_S = 3.0
"""Spend beside a key's settings: the settings are not kept waiting for longer than this."""

CANCEL_TIMEOUT_S = 5.0
"""The reader gets so long to say that it has heard of a cancellation."""

_NOTHING = KeySpend(window_usd=Decimal(0), total_usd=Decimal(0))


class QueryTimeout(ApiError):
    """408: the query took longer than it may; a narrower one may not."""

    http_status = 408
    error_type = "timeout_error"


class LedgerClient:
    """Sends queries to the reader and turns its refusals into answers of the API."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._timezone = "UTC"
        self._with_subscriptions = True
        self._telling: set[asyncio.Task[None]] = set()

    def take(self, config: GatewayConfig) -> None:
        """Take what a configuration says of budgets: the zone of windows, and what counts."""
        self._timezone = config.timezone
        self._with_subscriptions = config.settings.budgets_count_subscriptions

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
            query_id=secrets.token_hex(16),
        )
        return await self._query(request)

    async def query_in_parts(
        self,
        sql: str,
        parameters: Sequence[object],
        *,
        rows_max: int,
        answer_format: Literal["csv", "arrow"],
        team_id: str | None,
    ) -> tuple[QueryReply, AsyncGenerator[bytes, None]]:
        """Return the first part of the reader's answer, and the contents of all its parts.

        A part is asked for when the one before it was taken. Raises as `query` does; where a
        further part fails, the generator does.
        """
        request = QueryRequest(
            query=sql,
            parameters=tuple(parameters),
            rows_max=rows_max,
            format=answer_format,
            team_id=team_id,
            query_id=secrets.token_hex(16),
            in_parts=True,
        )
        first = await self._query(request)
        return first, self._contents(request, first)

    async def _contents(
        self, request: QueryRequest, part: QueryReply
    ) -> AsyncGenerator[bytes, None]:
        is_whole = False
        try:
            yield part.content
            while part.more:
                control = QueryControl(query_id=request.query_id, action="next")
                part = self._checked(
                    request, await self._ask(QUERY_CONTROL_SUBJECT, control, request.timeout_s)
                )
                yield part.content
            is_whole = True
        finally:
            if not is_whole:
                self._cancel(request.query_id)

    async def _query(self, request: QueryRequest) -> QueryReply:
        try:
            payload = await self._ask(QUERY_SUBJECT, request, request.timeout_s)
        except asyncio.CancelledError:
            self._cancel(request.query_id)
            raise
        return self._checked(request, payload)

    def _checked(self, request: QueryRequest, payload: bytes) -> QueryReply:
        """Return the reader's reply. Raises what its error means to the API."""
        reply = msgspec.json.decode(payload, type=QueryReply)
        if reply.error is None:
            if reply.team_id != request.team_id:
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

    def _cancel(self, query_id: str) -> None:
        """Tell the reader that nobody waits for this query any more; it is not waited for."""
        control = QueryControl(query_id=query_id, action="cancel")

        async def tell() -> None:
            # A reader that cannot be told ends the query at its limit of time.
            with contextlib.suppress(BusUnavailable):
                await self._bus.request(
                    QUERY_CONTROL_SUBJECT, msgspec.json.encode(control), timeout_s=CANCEL_TIMEOUT_S
                )

        task = asyncio.create_task(tell())
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _ask(self, subject: str, question: msgspec.Struct, time_s: float) -> bytes:
        """Return the reader's reply. Raises Unavailable as soon as the reader is known dead."""
        try:
            return await self._reply(
                subject, msgspec.json.encode(question), time_s + REPLY_MARGIN_S
            )
        except BusUnavailable:
            raise Unavailable(
                "the ledger's reader cannot be reached at the moment; requests go on being "
                "counted meanwhile. Try again in some seconds"
            ) from None

    async def _reply(self, subject: str, payload: bytes, timeout_s: float) -> bytes:
        asked_at_s = time.monotonic()
        asking = asyncio.create_task(self._bus.request(subject, payload, timeout_s=timeout_s))
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
        windows = [window_of(record, now_us, self._timezone) for record in records]
        starts_us = [each.start_us for each in windows]
        ids = [record.key_id for record in records]
        try:
            spends = await self.spends_since("key_id", ids, starts_us)
        except ApiError as error:
            unknown = KeySpend(error=error.message, budgets=None)
            return dict.fromkeys(ids, unknown)
        budgets = await self.spend_of_budgets(records, now_us)
        return {
            key_id: msgspec.structs.replace(
                spend := spends.get(key_id, _NOTHING),
                budgets=spent,
                window_usd=(spend.window_usd or 0) + window.before_usd,
            )
            for key_id, spent, window in zip(ids, budgets, windows, strict=True)
        }

    async def spends_since(
        self, column: Column, ids: Sequence[str], starts_us: Sequence[int]
    ) -> dict[str, KeySpend]:
        """Return what keys, teams or users spent since some moments, and ever. Raises ApiError."""

        async def ask(sql: str, parameters: Sequence[object]) -> QueryReply:
            return await self.query(sql, parameters, timeout_s=SPEND_TIMEOUT_S)

        return await spends_of(ask, column, ids, starts_us)

    async def spend_of_everybody(self, since_us: int) -> Decimal:
        """Return what counts for the budget of all keys together since then. Raises ApiError."""
        return await spend_of_everybody(
            self.query, since_us, with_subscriptions=self._with_subscriptions
        )

    async def spend_of_members(
        self, member_ids: Sequence[str], since_us: Sequence[int]
    ) -> list[Decimal]:
        """Return what counts for members of teams since some moments. Raises ApiError."""
        return await spend_of_members(
            self.query, member_ids, since_us, with_subscriptions=self._with_subscriptions
        )

    async def spend_of_budgets(
        self, records: Sequence[KeyRecord | TeamRecord | UserRecord], now_us: int
    ) -> list[dict[str, Decimal] | None]:
        """Return what was spent of the records' further budgets; never raises an ApiError."""

        async def ask(sql: str, parameters: Sequence[object]) -> QueryReply:
            return await self.query(sql, parameters, timeout_s=SPEND_TIMEOUT_S)

        return await spend_of_budgets(
            ask,
            records,
            now_us,
            self._timezone,
            with_subscriptions=self._with_subscriptions,
        )
