"""Who asks, and with whose credential the deployment is asked: pure rules over headers.

The virtual key is looked for in `x-litellm-api-key`, then `Authorization: Bearer`, then
`x-api-key` (LiteLLM's order). A value of `Authorization` that is Anthropic's (`sk-ant-…`) is never
taken for a virtual key. What is left beside the virtual key is the client's own credential.
"""

from collections.abc import Callable

import msgspec

from schemas.config import Deployment
from schemas.errors import BadRequest, Unauthenticated
from schemas.events import Billing
from schemas.keys import KEY_LENGTH_MAX, hash_key, looks_like_key
from schemas.registry import KeyRecord
from services.proxy.headers import RawHeaders

__all__ = [
    "Credentials",
    "OwnCredential",
    "UpstreamCredential",
    "find_credentials",
    "identify",
    "own_credential",
    "upstream_credential",
]

_ANTHROPIC = "sk-ant-"
_OAUTH = "sk-ant-oat"

# No message may hold the name of Anthropic's own header for keys: Claude Code takes that for the
# API's "header is required", and shows "Not logged in · Please run /login" in its place (measured).
_SAID = {
    b"x-litellm-api-key": "x-litellm-api-key",
    b"authorization": "Authorization",
    b"x-api-key": "for API keys",
}
WHERE_TO_PUT_THE_KEY = (
    'send it as "x-litellm-api-key: Bearer sk-…" (Claude Code: ANTHROPIC_CUSTOM_HEADERS)'
)


class Credentials(msgspec.Struct, frozen=True):
    """The values of the three headers that may carry credentials, without `Bearer `."""

    gateway: str | None
    bearer: str | None
    api_key: str | None

    def candidates(self) -> list[str]:
        """Return what may be a virtual key, in the order of the look-up."""
        if self.gateway is not None:
            return [self.gateway]
        found = []
        if self.bearer is not None and not self.bearer.startswith(_ANTHROPIC):
            found.append(self.bearer)
        if self.api_key is not None and self.api_key not in found:
            found.append(self.api_key)
        return found


class OwnCredential(msgspec.Struct, frozen=True):
    """A client's own credential: the header it came in and goes on in, and whether it is OAuth."""

    header: bytes
    value: bytes
    is_subscription: bool


def find_credentials(headers: RawHeaders) -> Credentials:
    """Return the credentials that a request carries.

    Raises BadRequest where a header comes twice: two programs could take it for two different
    identities. Raises Unauthenticated where it is too long or holds what no key holds.
    """
    found: dict[bytes, str] = {}
    for name, value in headers:
        if name not in _SAID:
            continue
        if name in found:
            raise BadRequest(f"The header {_SAID[name]} must be sent once, not twice")
        if len(value) > KEY_LENGTH_MAX + 16:
            raise Unauthenticated(
                f"The header {_SAID[name]} is longer than {KEY_LENGTH_MAX} bytes: no key is"
            )
        text = value.decode("latin-1").strip()
        if not text.isascii() or not text.isprintable():
            raise Unauthenticated(
                f"The header {_SAID[name]} holds characters that no key has: copy the key anew"
            )
        found[name] = text
    gateway = found.get(b"x-litellm-api-key")
    authorization = found.get(b"authorization")
    bearer = None
    if authorization is not None and authorization[:7].lower() == "bearer ":
        bearer = authorization[7:].strip()
    return Credentials(
        gateway=_without_bearer(gateway) if gateway else None,
        bearer=bearer or None,
        api_key=found.get(b"x-api-key") or None,
    )


def _without_bearer(value: str) -> str | None:
    scheme, _, rest = value.partition(" ")
    return (rest.strip() or None) if scheme.lower() == "bearer" else value


def identify(
    credentials: Credentials,
    by_hash: Callable[[str], KeyRecord | None],
    master_key_hash: str,
) -> KeyRecord:
    """Return the virtual key that a request was made with.

    Raises Unauthenticated where there is none or it is not known; the message never holds it.
    """
    candidates = credentials.candidates()
    if not candidates and credentials.bearer is None:
        raise Unauthenticated(f"No virtual key: {WHERE_TO_PUT_THE_KEY}")
    for candidate in candidates:
        key_hash = hash_key(candidate)
        record = by_hash(key_hash)
        if record is not None:
            return record
        if key_hash == master_key_hash:
            raise Unauthenticated(
                "The master key manages tallygate and is no key for the API: make a virtual key "
                "with POST /key/generate and use that"
            )
    if all(candidate.startswith(_ANTHROPIC) for candidate in candidates):
        raise Unauthenticated(
            "No virtual key: the request holds an Anthropic credential and no other. Ask your "
            f"administrator for a key and {WHERE_TO_PUT_THE_KEY}"
        )
    raise Unauthenticated(
        "The virtual key is not known: it was mistyped, deleted or replaced, or belongs to "
        "another gateway. Check it with GET /key/info, or ask your administrator for a new one"
    )


def own_credential(
    credentials: Credentials, is_gateway_secret: Callable[[str], bool]
) -> OwnCredential | None:
    """Return the client's own credential for the deployment, or None.

    `is_gateway_secret` tells whether a value is (or was) a virtual key or the master key: such a
    value never leaves the gateway, whichever header it came in. Nor does one that has the form of
    the gateway's own keys: it may be a key that was replaced long ago.
    """
    bearer, api_key = credentials.bearer, credentials.api_key
    if api_key is not None and api_key == bearer and not bearer.startswith(_OAUTH):
        # apiKeyHelper sends one credential in both headers; an API key belongs in x-api-key.
        bearer = None
    if bearer is not None and bearer.startswith(_ANTHROPIC) and not is_gateway_secret(bearer):
        return OwnCredential(
            b"authorization", b"Bearer " + bearer.encode(), bearer.startswith(_OAUTH)
        )
    if api_key is None or is_gateway_secret(api_key):
        return None
    if not api_key.startswith(_ANTHROPIC) and (
        looks_like_key(api_key) or not _is_second_credential(credentials, api_key)
    ):
        return None
    return OwnCredential(b"x-api-key", api_key.encode(), api_key.startswith(_OAUTH))


def _is_second_credential(credentials: Credentials, api_key: str) -> bool:
    """Tell whether x-api-key stands beside a virtual key in another header, not in its place."""
    if credentials.gateway is not None:
        return credentials.gateway != api_key
    return credentials.bearer is not None and credentials.bearer != api_key


class UpstreamCredential(msgspec.Struct, frozen=True):
    """The credential header for the deployment, and who pays: a subscription or the API account.

    `is_own`: it is the client's own one, so its limits are the client's.
    """

    header: bytes
    value: bytes
    billing: Billing
    is_own: bool


def upstream_credential(
    deployment: Deployment, own: OwnCredential | None, *, own_may_go_there: bool
) -> UpstreamCredential:
    """Return the credential for a deployment. Raises Unauthenticated, naming what is missing.

    A client's own credential comes first where forwarding is on for the model and the host may see
    it (`own_may_go_there`); else the deployment's `api_key`.
    """
    if own is not None and deployment.forward_client_auth and own_may_go_there:
        billing: Billing = "subscription" if own.is_subscription else "api"
        return UpstreamCredential(own.header, own.value, billing, is_own=True)
    if deployment.api_key is not None:
        return UpstreamCredential(b"x-api-key", deployment.api_key.encode(), "api", is_own=False)
    name = deployment.model_name
    if own is None:
        missing = "No Anthropic credential came with the request"
        if deployment.forward_client_auth:
            raise Unauthenticated(
                f"{missing} and the model {name} has no api_key: sign in to Claude Code with your "
                "subscription (/login), or let your administrator set litellm_params.api_key"
            )
        raise Unauthenticated(
            f"{missing} and the model {name} has no api_key: your administrator must set "
            "litellm_params.api_key, or general_settings.forward_client_headers_to_llm_api: true "
            "for developers' own subscriptions"
        )
    if not deployment.forward_client_auth:
        raise Unauthenticated(
            f"Your own Anthropic credential is not forwarded for the model {name} and the model "
            "has no api_key: your administrator must set general_settings."
            "forward_client_headers_to_llm_api: true, or list the model in litellm_settings."
            "model_group_settings.forward_client_headers_to_llm_api"
        )
    raise Unauthenticated(
        f"Your own Anthropic credential goes to api.anthropic.com alone, and the model {name} is "
        "served by another host and has no api_key: your administrator must list the host in "
        "tallygate: oauth_hosts, or set litellm_params.api_key"
    )
