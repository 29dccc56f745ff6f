"""Quotas: what an answer's headers say of an account becomes part of an event when it is new."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.proxy.headers import RawHeaders
from services.proxy.quota import (
    HEADERS_MAX,
    INTERVAL_US,
    NAME_MAX,
    SEATS_MAX,
    VALUE_MAX,
    Quotas,
    seat_of,
)

TOKEN = b"Bearer sk-ant-oat01-first"
RENEWED = b"Bearer sk-ant-oat01-second"
UUID = "11111111-2222-4333-8444-555555555555"


def metadata(user_id: str) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode({"user_id": user_id}))


JSON_FORM = metadata(f'{{"device_id":"d","account_uuid":"{UUID}","session_id":"s"}}')
WORD_FORM = metadata(f"user_abc_account_{UUID}_session_s")
NO_ACCOUNT = metadata('{"device_id":"d","account_uuid":"","session_id":"s"}')


def unified(used: str, **others: str) -> RawHeaders:
    headers = [(b"content-type", b"text/plain"), (b"request-id", b"req_1")]
    told = {"unified-status": "allowed", "unified-5h-utilization": used, **others}
    return headers + [(f"anthropic-ratelimit-{n}".encode(), v.encode()) for n, v in told.items()]


def test_a_seat_is_the_same_when_its_token_is_renewed() -> None:
    # Given two tokens of one account, in both forms of the id, then there is one seat; and without
    # an account, or with an API key, the credential is the seat. None of them holds what it hides.
    assert seat_of(TOKEN, JSON_FORM) == seat_of(RENEWED, JSON_FORM) == seat_of(TOKEN, WORD_FORM)
    assert seat_of(TOKEN, NO_ACCOUNT) != seat_of(RENEWED, NO_ACCOUNT)
    assert seat_of(TOKEN, NO_ACCOUNT) == seat_of(TOKEN, None) != seat_of(TOKEN, JSON_FORM)


def seen(quotas: Quotas, headers: RawHeaders, now_us: int = 0, status: int = 200) -> bool:
    found = quotas.seen(headers, status=status, credential=TOKEN, metadata=JSON_FORM, now_us=now_us)
    return found is not None


def test_only_what_is_new_is_told() -> None:
    # Given answers of one seat, when the quota or the status changes it is told at once; the
    # counters beside it are told once in an interval; and nothing is told twice.
    quotas = Quotas()
    assert not seen(quotas, [(b"request-id", b"req_1")])
    assert seen(quotas, unified("0.1", **{"requests-remaining": "9"}))
    assert not seen(quotas, unified("0.1", **{"requests-remaining": "9"}), INTERVAL_US * 2)
    assert not seen(quotas, unified("0.1", **{"requests-remaining": "8"}), INTERVAL_US - 1)
    assert seen(quotas, unified("0.1", **{"requests-remaining": "7"}), INTERVAL_US)
    assert seen(quotas, unified("0.2"), INTERVAL_US + 1)
    assert seen(quotas, unified("0.2"), INTERVAL_US + 2, status=429)


def test_what_is_kept_has_limits() -> None:
    # Given an answer with too many and too long headers, then what is kept stays within its limits.
    long = [(b"anthropic-ratelimit-" + b"n" * NAME_MAX, b"1"), (b"anthropic-ratelimit-a", b"v")]
    long.append((b"anthropic-ratelimit-b", b"v" * (VALUE_MAX + 1)))
    many = [(b"anthropic-ratelimit-x%d" % number, b"1") for number in range(2 * HEADERS_MAX)]
    quotas = Quotas()
    found = quotas.seen(long, status=200, credential=b"a", metadata=None, now_us=0)
    assert found is not None
    assert found.headers == {"a": "v"}
    found = quotas.seen(many, status=200, credential=b"b", metadata=None, now_us=0)
    assert found is not None
    assert len(found.headers) == HEADERS_MAX
    for number in range(SEATS_MAX + 5):
        quotas.seen(many, status=200, credential=b"%d" % number, metadata=None, now_us=0)
    assert len(quotas._last) == SEATS_MAX


@pytest.mark.parametrize(
    "raw", [b"null", b"[]", b'{"user_id":1}', b'{"user_id":"[[["}', b'{"user_id":"\\ud800"}', b"{"]
)
def test_hostile_metadata_only_means_that_the_credential_is_the_seat(raw: bytes) -> None:
    # Given metadata that names no account, then the seat is that of the credential.
    assert seat_of(TOKEN, msgspec.Raw(raw)) == seat_of(TOKEN, None)


@given(st.binary(max_size=60), st.text(max_size=60))
def test_no_metadata_raises(raw: bytes, user_id: str) -> None:
    # Given any bytes and any user_id, when the seat is asked for, then there is one.
    assert len(seat_of(TOKEN, msgspec.Raw(raw))) == len(seat_of(TOKEN, metadata(user_id))) == 32
