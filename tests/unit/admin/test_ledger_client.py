"""What the admin service makes of the reader's answers, without a network."""

import asyncio
from decimal import Decimal
from typing import Any, cast

import msgspec
import pytest

from schemas.errors import ApiError
from schemas.registry import KeyRecord
from schemas.rpc import QueryReply, QueryRequest, ReaderState
from schemas.streams import QUERY_SUBJECT, READER_STATE_SUBJECT
from services.admin import ledger_client
from services.admin.ledger_client import LedgerClient
from services.runtime.bus import Bus, BusUnavailable, NobodyServes

NOW_US = 1_795_478_400_000_000  # 2026-11-24 00:00 UTC


class Reader:
    """Stands where the bus stands: answers each request with one reply, or not at all."""

    def __init__(self, reply: QueryReply | None) -> None:
        self.reply = reply
        self.asked: list[QueryRequest] = []

    async def request(self, subject: str, payload: bytes, *, timeout_s: float) -> bytes:
        request = msgspec.json.decode(payload, type=QueryRequest)
        assert subject == QUERY_SUBJECT
        assert timeout_s > request.timeout_s
        self.asked.append(request)
        if self.reply is None:
            raise BusUnavailable("nobody serves it")
        return msgspec.json.encode(self.reply)


def client_of(reply: QueryReply | None) -> tuple[LedgerClient, Reader]:
    reader = Reader(reply)
    return LedgerClient(cast("Bus", cast("Any", reader))), reader


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("refused", 400),
        ("invalid", 400),
        ("too_large", 400),
        ("timeout", 408),
        ("unavailable", 503),
        ("something new", 503),
        (None, 503),
    ],
)
def test_each_kind_of_the_readers_errors_has_its_status(kind: str | None, status: int) -> None:
    # Given an error of the reader, when it is asked, then the API's error says the same.
    client, _ = client_of(QueryReply(error="what went wrong", error_kind=kind))
    with pytest.raises(ApiError, match="what went wrong") as raised:
        asyncio.run(client.query("SELECT 1"))
    assert raised.value.http_status == status


def test_missing_reader_is_503() -> None:
    client, _ = client_of(None)
    with pytest.raises(ApiError, match="cannot be reached") as raised:
        asyncio.run(client.query("SELECT 1"))
    assert raised.value.http_status == 503


def test_spend_of_keys_asks_once_for_all_with_each_window() -> None:
    # Given keys with and without a window, when their spend is asked for, then one query asks
    # for all; what is not in its answer has spent nothing.
    reply = QueryReply(rows=(("k1", "1.5", "0.5", None),))  # no day is known of its last request
    client, reader = client_of(reply)
    records = [
        KeyRecord(key_id="k1", key_hash="a", key_name="n", budget_duration="1d"),
        KeyRecord(key_id="k2", key_hash="b", key_name="n"),
    ]
    spends = asyncio.run(client.spend_of(records, NOW_US + 1))
    assert [request.parameters[:2] for request in reader.asked] == [(["k1", "k2"], [NOW_US, 0])]
    assert (spends["k1"].total_usd, spends["k1"].window_usd) == (Decimal("1.5"), Decimal("0.5"))
    assert (spends["k2"].total_usd, spends["k2"].window_usd) == (Decimal(0), Decimal(0))


def test_no_keys_ask_nothing() -> None:
    client, reader = client_of(None)
    assert asyncio.run(client.spend_of([], NOW_US)) == {}
    assert reader.asked == []


def test_unknown_spend_is_none_and_never_zero() -> None:
    # Given a ledger that cannot be asked, when spend is asked for, then it is unknown, not 0.
    client, _ = client_of(QueryReply(error="too slow", error_kind="timeout"))
    record = KeyRecord(key_id="k1", key_hash="a", key_name="n")
    spend = asyncio.run(client.spend_of([record], NOW_US))["k1"]
    assert (spend.total_usd, spend.window_usd, spend.error) == (None, None, "too slow")


class SlowReader:
    """Stands where the bus stands: its answer comes after it was asked for its state once."""

    def __init__(self, state: ReaderState | BusUnavailable) -> None:
        self.state = state
        self.is_asked = asyncio.Event()

    async def request(self, subject: str, payload: bytes, *, timeout_s: float) -> bytes:
        if subject == QUERY_SUBJECT:
            async with asyncio.timeout(timeout_s):
                await self.is_asked.wait()
                await asyncio.sleep(0.05)
            return msgspec.json.encode(QueryReply(rows=((payload[:1].decode(),),)))
        assert subject == READER_STATE_SUBJECT
        self.is_asked.set()
        if isinstance(self.state, BusUnavailable):
            raise self.state
        return msgspec.json.encode(self.state)


@pytest.mark.parametrize(
    ("state", "is_gone"),
    [
        (NobodyServes("killed"), True),
        (ReaderState(uptime_s=0.0), True),
        (ReaderState(uptime_s=3600.0), False),
        (BusUnavailable("too busy to answer"), False),
    ],
)
def test_query_of_a_reader_that_is_gone_is_not_waited_for(
    state: ReaderState | BusUnavailable, *, is_gone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a query under way, when the reader is gone or another one has begun since, then it
    # ends at once with 503; a reader that lives, or is slow to say so, is waited for.
    monkeypatch.setattr(ledger_client, "READER_LOOK_INTERVAL_S", 0.01)
    client = LedgerClient(cast("Bus", cast("Any", SlowReader(state))))
    if is_gone:
        with pytest.raises(ApiError, match="cannot be reached") as raised:
            asyncio.run(client.query("SELECT 1"))
        assert raised.value.http_status == 503
    else:
        assert asyncio.run(client.query("SELECT 1")).rows == (("{",),)


def test_an_answer_about_all_rows_is_never_given_to_who_may_see_one_team() -> None:
    # Given a reader of an older version, which knows no teams, when a team's rows are asked for,
    # then its answer is thrown away; a reader that repeats the team is believed.
    client, reader = client_of(QueryReply(rows=(("secret",),)))
    with pytest.raises(ApiError, match="older version") as raised:
        asyncio.run(client.query("SELECT 1", team_id="blue"))
    assert raised.value.http_status == 503
    assert reader.asked[-1].team_id == "blue"
    client, _ = client_of(QueryReply(rows=((1,),), team_id="blue"))
    assert asyncio.run(client.query("SELECT 1", team_id="blue")).rows == ((1,),)
