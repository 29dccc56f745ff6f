"""Which headers go on, as properties over random header lists."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.proxy.headers import (
    RawHeaders,
    forwardable_request_headers,
    forwardable_response_headers,
)

HOP_BY_HOP = [
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
]
NEVER_SENT = [
    *HOP_BY_HOP,
    b"host",
    b"content-length",
    b"expect",
    b"authorization",
    b"x-api-key",
    b"x_api_key",
    b"cookie",
    b"forwarded",
    b"via",
    b"x-real-ip",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x_forwarded_for",
    b"x-litellm-api-key",
    b"x_litellm_api_key",
    b"x-litellm-end-user-id",
    b"x-tallygate-anything",
    b"x-claude-gateway-user-email",
]
END_TO_END = [
    b"anthropic-beta",
    b"anthropic-version",
    b"anthropic-dangerous-direct-browser-access",
    b"user-agent",
    b"x-app",
    b"x-stainless-retry-count",
    b"x-claude-code-session-id",
    b"content-type",
    b"accept",
    b"idempotency-key",
    b"x-custom",
]
values = st.binary(max_size=20).map(lambda raw: bytes(b for b in raw if 32 <= b < 127))
names = st.sampled_from(NEVER_SENT + END_TO_END)


def request_headers() -> st.SearchStrategy[RawHeaders]:
    safe = st.tuples(names, values).filter(lambda header: header[0] != b"connection")
    nominating = st.lists(
        st.sampled_from([b"close", b"keep-alive", b"x-app", b"X-Custom", b""]), max_size=3
    )
    return st.tuples(st.lists(safe, max_size=30), nominating).map(
        lambda made: [*made[0], (b"connection", b", ".join(made[1]))]
    )


@given(request_headers())
def test_no_hop_by_hop_credential_or_gateway_header_survives(headers: RawHeaders) -> None:
    kept = {name for name, _ in forwardable_request_headers(headers)}

    assert kept.isdisjoint(NEVER_SENT)


@given(request_headers())
def test_every_other_header_goes_on_unchanged_and_in_order(headers: RawHeaders) -> None:
    nominated = {
        part.strip().lower()
        for name, value in headers
        if name == b"connection"
        for part in value.split(b",")
    }
    expected = [h for h in headers if h[0] in END_TO_END and h[0] not in nominated]

    assert forwardable_request_headers(headers) == expected


@given(request_headers())
def test_response_loses_hop_by_hop_and_cookies_alone(headers: RawHeaders) -> None:
    nominated = {
        part.strip().lower()
        for name, value in headers
        if name == b"connection"
        for part in value.split(b",")
    }
    dropped = {*HOP_BY_HOP, b"set-cookie", b"alt-svc", *nominated}
    given_headers = [*headers, (b"set-cookie", b"a=b"), (b"alt-svc", b"h3")]
    expected = [header for header in given_headers if header[0] not in dropped]

    assert forwardable_response_headers(given_headers) == expected


@pytest.mark.parametrize(
    "nominated",
    [
        b"authorization",
        b"X-Api-Key",
        b"anthropic-version",
        b"close, Anthropic-Beta",
        b"content-type",
    ],
)
def test_connection_that_names_a_credential_or_api_header_is_refused(nominated: bytes) -> None:
    with pytest.raises(ValueError, match="must not name"):
        forwardable_request_headers([(b"connection", nominated)])


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        (b"gzip, deflate, br, zstd", b"gzip, deflate"),
        (b"br", b"identity"),
        (b"*", b"identity"),
        (b"GZIP;q=0.5 , br;q=1", b"GZIP;q=0.5"),
        (b"identity", b"identity"),
        (b"", b"identity"),
    ],
)
def test_accept_encoding_is_narrowed_to_what_can_be_metered(asked: bytes, kept: bytes) -> None:
    headers = [(b"accept-encoding", asked)]

    assert forwardable_request_headers(headers) == [(b"accept-encoding", kept)]
