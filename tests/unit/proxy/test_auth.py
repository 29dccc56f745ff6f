"""Who asks, and with whose credential the deployment is asked."""

import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.config import Deployment
from schemas.errors import BadRequest, Unauthenticated
from schemas.keys import hash_key, new_key
from schemas.registry import KeyRecord
from services.proxy.auth import (
    OwnCredential,
    find_credentials,
    identify,
    own_credential,
    upstream_credential,
)
from services.proxy.headers import RawHeaders

KEY, OTHER, CUSTOM = new_key(), new_key(), "sk-1234"
MASTER = "sk-master-0123456789abcdef"
OAUTH, API_KEY = "sk-ant-oat01-own", "sk-ant-api03-own"
RECORDS = {
    hash_key(key): KeyRecord(key_id=f"key_{key[-3:]}", key_hash=hash_key(key), key_name="sk-...")
    for key in (KEY, OTHER, CUSTOM)
}


def headers(
    gateway: str | None = None, bearer: str | None = None, api_key: str | None = None
) -> RawHeaders:
    found = []
    if gateway is not None:
        found.append((b"x-litellm-api-key", gateway.encode()))
    if bearer is not None:
        found.append((b"authorization", f"Bearer {bearer}".encode()))
    if api_key is not None:
        found.append((b"x-api-key", api_key.encode()))
    return found


def who(raw: RawHeaders) -> str:
    return identify(find_credentials(raw), RECORDS.get, hash_key(MASTER)).key_hash


def own(raw: RawHeaders) -> OwnCredential | None:
    secrets = {*RECORDS, hash_key(MASTER)}
    return own_credential(find_credentials(raw), lambda value: hash_key(value) in secrets)


@pytest.mark.parametrize(
    ("raw", "forwarded"),
    [
        # Claude Code: virtual key in ANTHROPIC_CUSTOM_HEADERS, subscription in Authorization.
        (headers(f"Bearer {KEY}", OAUTH), (b"authorization", f"Bearer {OAUTH}", True)),
        (headers(f"bearer  {KEY}", OAUTH), (b"authorization", f"Bearer {OAUTH}", True)),
        (headers(KEY, OAUTH), (b"authorization", f"Bearer {OAUTH}", True)),
        # ANTHROPIC_API_KEY beside it.
        (headers(KEY, None, API_KEY), (b"x-api-key", API_KEY, False)),
        # ANTHROPIC_AUTH_TOKEN or ANTHROPIC_API_KEY hold the virtual key.
        (headers(None, KEY), None),
        (headers(None, None, KEY), None),
        # apiKeyHelper sends one credential in both headers.
        (headers(None, KEY, KEY), None),
        (headers(KEY, API_KEY, API_KEY), (b"x-api-key", API_KEY, False)),
        (headers(KEY, OAUTH, OAUTH), (b"authorization", f"Bearer {OAUTH}", True)),
        # Two credentials without the gateway's own header.
        (headers(None, OAUTH, KEY), (b"authorization", f"Bearer {OAUTH}", True)),
        (headers(None, KEY, API_KEY), (b"x-api-key", API_KEY, False)),
        (headers(None, API_KEY, KEY), (b"authorization", f"Bearer {API_KEY}", False)),
        # A deployment that is not Anthropic's may have keys of another form.
        (headers(KEY, None, "other-vendor-key"), (b"x-api-key", "other-vendor-key", False)),
        # A bearer that is nobody's is not the client's own Anthropic credential.
        (headers(KEY, "something"), None),
        (headers(None, "something", KEY), None),
    ],
)
def test_key_is_found_and_own_credential_told_apart(
    raw: RawHeaders, forwarded: tuple[bytes, str, bool] | None
) -> None:
    assert who(raw) == hash_key(KEY)
    found = own(raw)
    if forwarded is None:
        assert found is None
    else:
        assert found == OwnCredential(forwarded[0], forwarded[1].encode(), forwarded[2])


@pytest.mark.parametrize(
    "secret",
    [KEY, OTHER, CUSTOM, MASTER, new_key()],
    ids=["the key", "another key", "a chosen key", "the master key", "a key nobody knows"],
)
@pytest.mark.parametrize("first", [KEY, None], ids=["after the key", "alone"])
def test_no_secret_of_the_gateway_is_ever_a_clients_own_credential(
    secret: str, first: str | None
) -> None:
    """Also a key in our form that nobody knows: it may have been replaced long ago."""
    for raw in (headers(first, secret, secret), headers(first, None, secret)):
        assert own(raw) is None
    assert own(headers(first, KEY, secret)) is None
    assert own(headers(first, secret)) is None


@given(st.lists(st.sampled_from([KEY, OTHER, CUSTOM, MASTER, OAUTH, API_KEY, "x"]), max_size=3))
def test_whatever_is_sent_what_goes_on_is_no_secret_of_the_gateway(sent: list[str]) -> None:
    found = own(headers(*sent))

    if found is not None:
        value = found.value.decode().removeprefix("Bearer ")
        assert value in {OAUTH, API_KEY, "x"}


def test_header_of_the_gateway_comes_first_and_alone() -> None:
    """Given an unknown key there and a known one elsewhere, then the request is refused."""
    assert who(headers(OTHER, KEY, CUSTOM)) == hash_key(OTHER)
    with pytest.raises(Unauthenticated):
        who(headers("sk-unknown", KEY))


def test_authorization_comes_before_x_api_key() -> None:
    assert who(headers(None, OTHER, KEY)) == hash_key(OTHER)


@pytest.mark.parametrize("token", [OAUTH, API_KEY])
def test_anthropic_credential_in_authorization_is_never_taken_for_a_key(token: str) -> None:
    """Even where its hash is that of a key."""
    known = KeyRecord(key_id="k", key_hash=hash_key(token), key_name="n")

    with pytest.raises(Unauthenticated, match="Anthropic credential"):
        identify(
            find_credentials(headers(None, token)),
            {known.key_hash: known}.get,
            hash_key(MASTER),
        )


@pytest.mark.parametrize("raw", [headers(), headers(""), headers("Bearer "), headers(None, "")])
def test_request_without_a_key_is_told_where_to_put_it(raw: RawHeaders) -> None:
    with pytest.raises(Unauthenticated, match="x-litellm-api-key") as refused:
        who(raw)

    assert refused.value.headers == {"x-should-retry": "false"}


@pytest.mark.parametrize(
    "raw", [headers(MASTER), headers(None, MASTER), headers(None, None, MASTER)]
)
def test_master_key_is_no_key_for_the_api(raw: RawHeaders) -> None:
    with pytest.raises(Unauthenticated, match="master key"):
        who(raw)


@pytest.mark.parametrize("name", [b"x-litellm-api-key", b"authorization", b"x-api-key"])
def test_credential_header_that_comes_twice_is_refused(name: bytes) -> None:
    with pytest.raises(BadRequest, match="twice"):
        find_credentials([(name, b"Bearer a"), (b"accept", b"x"), (name, b"Bearer a")])


@pytest.mark.parametrize("value", [b"sk-\x00", b"sk-\xe9", b"a" * 10_000, b"sk-\x7f", b"sk-a\tb"])
def test_credential_that_no_key_can_be_is_refused_without_an_echo(value: bytes) -> None:
    with pytest.raises(Unauthenticated) as refused:
        find_credentials([(b"x-litellm-api-key", value)])

    assert refused.value.headers == {"x-should-retry": "false"}
    assert value.decode("latin-1") not in refused.value.message


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_odd_bytes_are_refused_or_unknown_never_a_fault(first: bytes, second: bytes) -> None:
    raw = [(b"x-litellm-api-key", first), (b"authorization", second)]
    with contextlib.suppress(BadRequest, Unauthenticated):
        who(raw)


def test_look_up_is_by_digest_alone() -> None:
    asked: list[str] = []

    def by_hash(key_hash: str) -> KeyRecord | None:
        asked.append(key_hash)
        return RECORDS.get(key_hash)

    identify(find_credentials(headers(KEY)), by_hash, hash_key(MASTER))

    assert asked == [hashlib.sha256(KEY.encode()).hexdigest()]


def deployment(*, api_key: str | None = None, forward: bool = False) -> Deployment:
    return Deployment(
        deployment_id="d", model_name="m", model="m", api_key=api_key, forward_client_auth=forward
    )


OWN_OAUTH = OwnCredential(b"authorization", b"Bearer sk-ant-oat01-own", is_subscription=True)
OWN_KEY = OwnCredential(b"x-api-key", b"sk-ant-api03-own", is_subscription=False)


@pytest.mark.parametrize(
    ("target", "credential", "there", "expected"),
    [
        (deployment(forward=True), OWN_OAUTH, True, (b"authorization", "subscription")),
        (deployment(forward=True), OWN_KEY, True, (b"x-api-key", "api")),
        (
            deployment(api_key="co", forward=True),
            OWN_OAUTH,
            True,
            (b"authorization", "subscription"),
        ),
        (deployment(api_key="co"), OWN_OAUTH, True, (b"x-api-key", "api")),
        (deployment(api_key="co", forward=True), None, True, (b"x-api-key", "api")),
        (deployment(api_key="co", forward=True), OWN_OAUTH, False, (b"x-api-key", "api")),
    ],
)
def test_own_credential_comes_first_where_it_may_and_the_deployments_else(
    target: Deployment,
    credential: OwnCredential | None,
    *,
    there: bool,
    expected: tuple[bytes, str],
) -> None:
    chosen = upstream_credential(target, credential, own_may_go_there=there)

    assert (chosen.header, chosen.billing) == expected
    if not (there and target.forward_client_auth and credential):
        assert chosen.value == b"co"


@pytest.mark.parametrize(
    ("target", "credential", "there", "named"),
    [
        (deployment(forward=True), None, True, "/login"),
        (deployment(), None, True, "forward_client_headers_to_llm_api: true"),
        (deployment(), OWN_OAUTH, True, "model_group_settings"),
        (deployment(forward=True), OWN_OAUTH, False, "oauth_hosts"),
    ],
)
def test_refusal_without_any_credential_names_the_missing_setting(
    target: Deployment, credential: OwnCredential | None, *, there: bool, named: str
) -> None:
    with pytest.raises(Unauthenticated, match=named) as refused:
        upstream_credential(target, credential, own_may_go_there=there)

    assert "sk-ant" not in refused.value.message
